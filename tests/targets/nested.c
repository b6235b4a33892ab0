/* Calls whose nesting is known: recursion, a call in the place of another, a nap, several threads.
 * Build with -O2: `sibling` then ends in `leaf`. */
#include <pthread.h>
#include <unistd.h>

#include "target.h"

enum { THREADS = 3, ROUNDS = 100 };

NOINLINE int leaf(int n) {
    __asm__ volatile("" : "+r"(n));
    return n + 1;
}

NOINLINE int sibling(int n) {
    __asm__ volatile("" : "+r"(n));
    return leaf(n);
}

NOINLINE int middle(int n) {
    int sum = leaf(n);
    __asm__ volatile("" : "+r"(sum));
    sum += sibling(n + 1);
    __asm__ volatile("" : "+r"(sum));
    return sum;
}

NOINLINE int factorial(int n) {
    int below = n < 2 ? 1 : factorial(n - 1);
    __asm__ volatile("" : "+r"(below));
    return n * below;
}

NOINLINE int nap(int n) {
    usleep(20000);
    return n;
}

NOINLINE int outer(int n) {
    int sum = middle(n) + factorial(3);
    __asm__ volatile("" : "+r"(sum));
    return sum;
}

NOINLINE void *thread(void *arg) {
    for (int i = 0; i < ROUNDS; i++) *(int *)arg += outer(i);
    return arg;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    int sums[THREADS] = {0};
    (void)argv;
    printf("%d\n", outer(argc) + nap(argc));
    if (argc > 1) {
        for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, thread, &sums[i]);
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    }
    return sums[0] != sums[THREADS - 1];
}
