/* Threads that do nothing but call `hot`; says how often it was called in all. Arguments: threads,
 * calls of each. */
#include <pthread.h>
#include <stdlib.h>

#include "target.h"

static long calls;

NOINLINE void hot(long n) { __asm__ volatile("" ::"r"(n) : "memory"); }

static void *thread(void *arg) {
    (void)arg;
    for (long i = 0; i < calls; i++) hot(i);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[64];
    int count = argc > 1 ? atoi(argv[1]) : 1;
    calls = argc > 2 ? atol(argv[2]) : 1000;
    for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, thread, NULL);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    printf("made %ld\n", count * calls);
    fflush(stdout);
    wait_for_go();
    return 0;
}
