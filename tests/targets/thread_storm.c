/* hazards/sweep.rs, attach.rs: threads that are born, work a little and end, all the time. */
#include <pthread.h>

#define ROUNDS 20
#include "rounds.h"

enum { THREADS = 8 };

NOINLINE long work(long n) { return n * 3 + 1; }

static void *thread(void *arg) {
    long *sum = arg;
    for (long i = 0; i < 100; i++) *sum += work(i);
    return sum;
}

static int check(void) {
    pthread_t threads[THREADS];
    long sums[THREADS] = {0};
    void *result;
    for (int i = 0; i < THREADS; i++) RIGHT(pthread_create(&threads[i], NULL, thread, &sums[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        RIGHT(pthread_join(threads[i], &result) == 0);
        RIGHT(result == &sums[i] && sums[i] == 14950);
    }
    return 1;
}
