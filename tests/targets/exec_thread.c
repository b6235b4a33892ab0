/* hazards/sweep.rs: a thread that is not the first one executes another program, which goes on with
 * the process number; before that the program becomes a daemon by two forks, in a child. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target.h"

NOINLINE long work(long n) { return n * 3 + 1; }

static void *busy(void *arg) {
    volatile long *sum = arg;
    while (*sum >= 0) *sum = work(*sum & 1);
    return arg;
}

static void *executes(void *arg) {
    char before[32];
    (void)arg;
    snprintf(before, sizeof before, "%d", getpid());
    execlp("sh", "sh", "-c", "test $$ = $0 && echo right", before, (char *)NULL);
    return NULL;
}

int main(void) {
    int ends[2];
    long answer = 0, sum = 0;
    pthread_t threads[2];
    if (pipe(ends)) return 1;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork()) _exit(0);
        answer = work(7);
        if (write(ends[1], &answer, sizeof answer) != sizeof answer) _exit(1);
        _exit(0);
    }
    close(ends[1]);
    waitpid(child, NULL, 0);
    if (read(ends[0], &answer, sizeof answer) != sizeof answer || answer != 22) return 1;
    pthread_create(&threads[0], NULL, busy, &sum);
    pthread_create(&threads[1], NULL, executes, NULL);
    pthread_join(threads[1], NULL);
    return 1;
}
