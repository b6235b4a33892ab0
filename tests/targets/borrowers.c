/* hazards/sweep.rs: children that share the memory until they exec or end: vfork, posix_spawn,
 * clone(CLONE_VM). With an argument `late`, after the first thread has ended (pthread_exit). */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#define ROUNDS 20
#include "rounds.h"

extern char **environ;
static unsigned char stack[1 << 16] __attribute__((aligned(64)));
static volatile long shared;

NOINLINE long work(long n) { return n * 3 + 1; }

static int in_clone(void *arg) {
    (void)arg;
    for (int i = 0; i < 100; i++) shared += work(i);
    return 9;
}

static int ended(pid_t child, int code) {
    int status = 0;
    return waitpid(child, &status, __WALL) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == code;
}

static int check(void) {
    char *const arguments[] = {(char *)"sh", (char *)"-c", (char *)"exit 3", NULL};
    pid_t child;
    RIGHT(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0);
    RIGHT(ended(child, 3));
    child = vfork();
    if (child == 0) {
        shared = work(3);
        execve("/bin/sh", arguments, environ);
        _exit(1);
    }
    RIGHT(ended(child, 3) && shared == 10);
    child = vfork();
    if (child == 0) _exit((int)work(1));
    RIGHT(ended(child, 4));
    shared = 0;
    child = clone(in_clone, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    RIGHT(child > 0 && ended(child, 9) && shared == 14950);
    for (int i = 0; i < 100; i++) RIGHT(work(i) == i * 3 + 1);
    return 1;
}
