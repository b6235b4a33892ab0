/* hazards/sweep.rs: the first thread has ended (pthread_exit in main); another goes on, calls, makes
 * threads and children, and ends the process with status 0 when all was right. With an argument it
 * goes on until a line comes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target.h"

extern char **environ;
NOINLINE long work(long n) { return n * 3 + 1; }
static int endless;
static pthread_t first;

static void *other(void *arg) {
    *(long *)arg = work(4);
    return NULL;
}

static int round_right(void) {
    char *const arguments[] = {(char *)"sh", (char *)"-c", (char *)"exit 3", NULL};
    pthread_t thread;
    long result = 0;
    pid_t child;
    int status = 0;
    if (pthread_create(&thread, NULL, other, &result)) return 0;
    pthread_join(thread, NULL);
    if (result != 13) return 0;
    if (posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ)) return 0;
    if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 3) return 0;
    child = fork();
    if (child == 0) _exit((int)work(1));
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 4)
        return 0;
    for (int i = 0; i < 1000; i++)
        if (work(i) != i * 3 + 1) return 0;
    return 1;
}

static void *go_on(void *arg) {
    struct pollfd go = {.fd = 0, .events = POLLIN};
    (void)arg;
    pthread_join(first, NULL);
    if (endless) ready();
    for (int i = 0; endless ? poll(&go, 1, 0) == 0 : i < 20; i++) {
        if (!round_right()) {
            printf("wrong in round %d\n", i);
            fflush(stdout);
            _exit(1);
        }
    }
    puts("right");
    exit(0);
}

int main(int argc, char **argv) {
    pthread_t thread;
    (void)argv;
    endless = argc > 1;
    first = pthread_self();
    pthread_create(&thread, NULL, go_on, NULL);
    pthread_exit(NULL);
}
