// Calls that return in many ways: recursion, sibling calls, longjmp, coroutines that other threads go on
// with, a fork in the middle, nine arguments. Prints what it computed.
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define FUNCTION __attribute__((noinline, noclone))

FUNCTION long down(long n)
{
    long below = n > 0 ? down(n - 1) : 0;
    __asm__ volatile("");
    return below + n;
}

FUNCTION long end_of_chain(long n)
{
    __asm__ volatile("");
    return n * 3;
}

// Built to end in a jump.
FUNCTION long chain(long n) { return end_of_chain(n + 1); }

FUNCTION long even(long n);
FUNCTION long odd(long n) { return n == 0 ? 0 : even(n - 1); }
FUNCTION long even(long n) { return n == 0 ? 1 : odd(n - 1); }

FUNCTION long many(long a, long b, long c, long d, long e, long f, long g, long h, double i)
{
    __asm__ volatile("");
    return a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 + (long)(i * 9);
}

struct wide {
    long words[6];
};
FUNCTION struct wide by_memory(long n)
{
    struct wide w = { { n, n + 1, n + 2, n + 3, n + 4, n + 5 } };
    __asm__ volatile("");
    return w;
}

static jmp_buf out;
FUNCTION long jumps(long n)
{
    if (n == 0)
        longjmp(out, 1);
    long below = jumps(n - 1);
    __asm__ volatile("");
    return below + 1;
}

// Two coroutines, each gone on with by either of two threads in turn.
#define SWITCHES 2000
static ucontext_t mains[2], coroutines[2];
static pthread_barrier_t both;
static long progress[2];
static int carrier[2];

FUNCTION long step(int which, long n)
{
    progress[which] += n;
    // Away, in the middle of a probed function; back on another thread, perhaps.
    swapcontext(&coroutines[which], &mains[carrier[which]]);
    __asm__ volatile("");
    return n + 1;
}

FUNCTION void body(int which)
{
    long sum = 0;
    for (long i = 0; i < SWITCHES; i++)
        sum += step(which, i);
    progress[which] += sum;
    for (;;)
        swapcontext(&coroutines[which], &mains[carrier[which]]);
}

static void *carry(void *argument)
{
    int me = (int)(long)argument;
    for (int round = 0; round < SWITCHES + 1; round++) {
        int which = (me + round) % 2;
        carrier[which] = me;
        swapcontext(&mains[me], &coroutines[which]);
        pthread_barrier_wait(&both);
    }
    return NULL;
}

static void run_coroutines(void)
{
    pthread_barrier_init(&both, NULL, 2);
    for (int i = 0; i < 2; i++) {
        getcontext(&coroutines[i]);
        coroutines[i].uc_stack.ss_sp = malloc(256 << 10);
        coroutines[i].uc_stack.ss_size = 256 << 10;
        makecontext(&coroutines[i], (void (*)(void))body, 1, i);
    }
    pthread_t threads[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, carry, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

FUNCTION long forks(long n)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        return -n;
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

int main(void)
{
    long sum = 0;
    for (int i = 0; i < 100; i++)
        sum += down(i) + chain(i) + even(i) + many(i, 2, 3, 4, 5, 6, 7, 8, 9.0) + by_memory(i).words[5];
    printf("calls %ld\n", sum);
    long jumped = 0;
    for (int i = 0; i < 50; i++) {
        if (setjmp(out) == 0)
            jumped += jumps(10);
        else
            jumped += 1000;
    }
    printf("jumped %ld\n", jumped);
    run_coroutines();
    printf("coroutines %ld %ld\n", progress[0], progress[1]);
    long forked = forks(7);
    if (forked < 0) {
        printf("child %ld\n", down(3));
        return 42;
    }
    printf("parent %ld\n", forked);
    return 0;
}
