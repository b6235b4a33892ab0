/* memory.rs: two threads, a forked child and the program that it becomes take STEPS steps each. Then
 * it looks at the clock, takes another name, and says so until it is told to end. With a number: so
 * many descriptors are free. With `alone`: the child does nothing but wait. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "target.h"

enum { STEPS = 20000 };

NOINLINE long step(long n) { return (n ^ 5) + 3; }
NOINLINE long look(long n) { return (n ^ 6) + 3; }
NOINLINE long named(long n) { return (n ^ 7) + 3; }

static volatile long sum;

static void *steps(void *unused) {
    for (long n = 0; n < STEPS; n++) sum = step(n);
    return unused;
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void leave_free(int number) {
    struct rlimit limit = {64, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    int last = -1, fd;
    while ((fd = dup(0)) >= 0) last = fd;
    while (number-- > 0) close(last--);
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    if (!strcmp(how, "again")) {
        steps(NULL);
        return 0;
    }
    if (*how && strcmp(how, "alone")) leave_free(atoi(how));
    ready();
    wait_for_go();

    int born[2] = {-1, -1};
    char byte = 0;
    int alone = !strcmp(how, "alone") && pipe(born) == 0;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, steps, NULL);
    int child = fork();
    if (child == 0 && alone) {
        if (write(born[1], &byte, 1) != 1) _exit(1);
        for (;;) pause();
    }
    if (child == 0) {
        steps(NULL);
        execl(argv[0], argv[0], "again", NULL);
        _exit(1);
    }
    int status = 0;
    if (!alone) waitpid(child, &status, 0);
    if (alone && read(born[0], &byte, 1) != 1) return 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);

    long long before = now();
    sum = look(1);
    printf("clock %lld %lld\n", before, now());
    printf("done %d\n", child);
    fflush(stdout);

    prctl(PR_SET_NAME, "renamed");
    struct pollfd in = {0, POLLIN, 0};
    while (poll(&in, 1, 1) == 0) sum = named(1);
    wait_for_go();
    if (alone) kill(child, 9);
    puts(status ? "wrong" : "right");
    return status != 0;
}
