/* attach/storm.rs: 16 threads that never rest, each with a sum that must come out right, through
 * functions of its own, libc's, and system calls; a round asks every thread how far it is. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define ROUNDS 20
#include "rounds.h"

enum { THREADS = 16 };

static struct part {
    _Alignas(64) long turns;
    long wrong;
} parts[THREADS];

NOINLINE long triangle(long n) { return n <= 0 ? 0 : n + triangle(n - 1); }
NOINLINE long mixed(long n) { return (n ^ 5) + 3; }

static void *never_rests(void *arg) {
    struct part *part = arg;
    for (;;) {
        char text[32], copy[32];
        long n = part->turns % 50;
        int length = snprintf(text, sizeof text, "%ld", triangle(n));
        memcpy(copy, text, sizeof copy);
        if (strtol(copy, NULL, 10) != n * (n + 1) / 2 || length != (int)strlen(copy)) part->wrong++;
        if (mixed(n) != (n ^ 5) + 3) part->wrong++;
        if (part->turns % 1000 == 0) sched_yield();
        __atomic_add_fetch(&part->turns, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static int check(void) {
    static int begun;
    long before[THREADS];
    for (int i = 0; !begun && i < THREADS; i++) {
        pthread_t thread;
        RIGHT(pthread_create(&thread, NULL, never_rests, &parts[i]) == 0);
    }
    begun = 1;
    for (int i = 0; i < THREADS; i++) before[i] = __atomic_load_n(&parts[i].turns, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) {
        while (__atomic_load_n(&parts[i].turns, __ATOMIC_RELAXED) == before[i]) sched_yield();
        RIGHT(parts[i].wrong == 0);
    }
    return 1;
}
