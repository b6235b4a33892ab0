/* death.rs: threads that never rest, each with sums that must come out right, through functions of
 * its own, one that can only be a breakpoint, libc's, and calls that block; a timer's handler; a
 * round asks every thread how far it is and, without ALONE, makes a child that computes too; with
 * OPENS it opens a library and closes it again. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>

#define ROUNDS 20
#include "only_trap.h"
#include "rounds.h"

enum { THREADS = 4 };

static struct part {
    _Alignas(64) long turns;
    long wrong;
    int pipe[2];
} parts[THREADS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long locked, counted, ticks;

NOINLINE long triangle(long n) { return n <= 0 ? 0 : n + triangle(n - 1); }
NOINLINE long mixed(long n) { return (n ^ 5) + 3; }
NOINLINE void tick(int signal) { ticks += signal == SIGALRM; }

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

NOINLINE int sums(long n) {
    char text[32], copy[32];
    int length = snprintf(text, sizeof text, "%ld", triangle(n)), numbers[16];
    memcpy(copy, text, sizeof copy);
    for (int i = 0; i < 16; i++) numbers[i] = (int)((n + 7 * i) % 16);
    qsort(numbers, 16, sizeof *numbers, compare);
    for (int i = 0; i < 16; i++)
        if (numbers[i] != i) return 0;
    return strtol(copy, NULL, 10) == n * (n + 1) / 2 && length == (int)strlen(copy) &&
           mixed(n) == (n ^ 5) + 3;
}

static void *never_rests(void *arg) {
    struct part *part = arg;
    for (;;) {
        long n = part->turns % 50;
        if (!sums(n)) part->wrong++;
        if (part->turns % 64 == 0 && only_trap((int)n + 1) != 2 * ((int)n + 1)) part->wrong++;
        pthread_mutex_lock(&lock);
        locked++;
        __atomic_add_fetch(&counted, 1, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&lock);
        if (part->turns % 8 == 0) {
            long back = 0;
            if (write(part->pipe[1], &n, sizeof n) != sizeof n) part->wrong++;
            if (read(part->pipe[0], &back, sizeof back) != sizeof back || back != n) part->wrong++;
        }
        if (part->turns % 100 == 0) sched_yield();
        __atomic_add_fetch(&part->turns, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static int check(void) {
    static int begun;
    long before[THREADS];
    if (!begun) {
        struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
        struct itimerval every = {{0, 3000}, {0, 3000}};
        RIGHT(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &every, NULL) == 0);
        for (int i = 0; i < THREADS; i++) {
            pthread_t thread;
            RIGHT(pipe(parts[i].pipe) == 0);
            RIGHT(pthread_create(&thread, NULL, never_rests, &parts[i]) == 0);
        }
    }
    begun = 1;
    for (int i = 0; i < THREADS; i++) before[i] = __atomic_load_n(&parts[i].turns, __ATOMIC_RELAXED);
#ifndef ALONE
    pid_t child = fork();
    if (child == 0) _exit(sums(33) && only_trap(20) == 40 ? 7 : 8);
    int status = 0;
    pid_t ended;
    do ended = waitpid(child, &status, 0);
    while (ended == -1);
    if (status != 7 << 8) printf("the child's status is %#x\n", status);
    RIGHT(ended == child && status == 7 << 8);
#endif
#ifdef OPENS
    void *library = dlopen("libm.so.6", RTLD_NOW);
    RIGHT(library != NULL);
    double (*root)(double) = (double (*)(double))dlsym(library, "cbrt");
    RIGHT(root != NULL && root(27) > 2.9 && root(27) < 3.1);
    RIGHT(dlclose(library) == 0);
#endif
    for (int i = 0; i < THREADS; i++) {
        while (__atomic_load_n(&parts[i].turns, __ATOMIC_RELAXED) == before[i]) sched_yield();
        RIGHT(parts[i].wrong == 0);
    }
    RIGHT(pthread_mutex_lock(&lock) == 0 && locked == counted);
    RIGHT(pthread_mutex_unlock(&lock) == 0);
    return 1;
}
