/* Functions that count their own calls: recursion, several threads, a loop. Prints the counts,
 * `NAME COUNT` a line, and ends with status 7. A loop made of a recursion would run through an
 * entry without a call: build with -fno-optimize-sibling-calls. */
#include <pthread.h>

#include "target.h"

enum { THREADS = 4, CALLS = 10000, LOOP = 1000 };

static unsigned long fib_calls, in_thread_calls, twice_calls;

NOINLINE int fib(int n) {
    fib_calls++;
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

NOINLINE void in_thread(volatile int *sum, int n) {
    __atomic_add_fetch(&in_thread_calls, 1, __ATOMIC_RELAXED);
    *sum += n;
}

NOINLINE int twice(int n) {
    twice_calls++;
    return 2 * n;
}

NOINLINE int never(int n) { return fib_calls > twice_calls ? 3 * n + 1 : 7 * n; }

static void *thread(void *arg) {
    volatile int sum = 0;
    for (int i = 0; i < CALLS; i++) in_thread(&sum, i);
    *(int *)arg = sum;
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    int sums[THREADS], sum = argc > 1000 ? never(argc) : 0;
    (void)argv;
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, thread, &sums[i]);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < LOOP; i++) sum += twice(i);
    printf("result %d\nsum %d\n", fib(20) + sums[0], sum);
    printf("fib %lu\nin_thread %lu\ntwice %lu\n", fib_calls, in_thread_calls, twice_calls);
    return 7;
}
