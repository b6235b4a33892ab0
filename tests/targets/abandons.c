/* returns/reclaim.rs: calls that longjmp leaves, a few every millisecond until a line comes. Meanwhile
 * one call waits on another thread, and one on a stack that was copied away and is nowhere else. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "target.h"

#define FUNCTION __attribute__((noinline, noclone, noipa, visibility("default")))

static jmp_buf out;

FUNCTION long leaves(long n) {
    if (n == 0) longjmp(out, 1);
    long below = leaves(n - 1);
    __asm__ volatile("");
    return below + 1;
}

#define STACK (64 << 10)
static char stack[STACK] __attribute__((aligned(16)));
static ucontext_t main_context, coroutine;
static long answer;

FUNCTION long suspends(long n) {
    swapcontext(&coroutine, &main_context);
    __asm__ volatile("");
    return n + 1;
}

FUNCTION long nested(long n) {
    long below = suspends(n);
    __asm__ volatile("");
    return below * 2;
}

static void body(void) { answer = nested(20); }

static int ends[2];

FUNCTION long waits(long n) {
    char byte;
    long got = read(ends[0], &byte, 1);
    __asm__ volatile("");
    return n + got;
}

static void *other(void *unused) {
    (void)unused;
    return (void *)waits(6);
}

int main(void) {
    pthread_t thread;
    if (pipe(ends)) return 1;
    ready();
    wait_for_go();
    pthread_create(&thread, NULL, other, NULL);
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = STACK;
    coroutine.uc_link = &main_context;
    makecontext(&coroutine, body, 0);
    swapcontext(&main_context, &coroutine);
    char *kept = malloc(STACK);
    memcpy(kept, stack, STACK);
    memset(stack, 0, STACK);

    struct pollfd input = {.fd = 0, .events = POLLIN};
    for (long rounds = 1; poll(&input, 1, 1) == 0; rounds++) {
        for (int i = 0; i < 5; i++)
            if (!setjmp(out)) leaves(1);
        if (rounds % 100 == 0) {
            printf("left %ld\n", 10 * rounds);
            fflush(stdout);
        }
    }
    memcpy(stack, kept, STACK);
    swapcontext(&main_context, &coroutine);
    if (write(ends[1], "x", 1) != 1) return 1;
    void *got;
    pthread_join(thread, &got);
    printf("returned %ld %ld\n", answer, (long)got);
    return 0;
}
