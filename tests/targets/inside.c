// Waits inside of nested calls, on its own stack and on that of a coroutine, until a line comes; then all
// of them return. Says what they returned.
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>

#include "target.h"

#define FUNCTION __attribute__((noinline, noclone))

static ucontext_t main_context, coroutine;

FUNCTION long innermost(void)
{
    char line[64];
    long n = read(0, line, sizeof line);
    __asm__ volatile("");
    return n;
}

FUNCTION long nested(int depth)
{
    long below = depth > 0 ? nested(depth - 1) : innermost();
    __asm__ volatile("");
    return below + 1;
}

FUNCTION long suspended(long n)
{
    swapcontext(&coroutine, &main_context);
    __asm__ volatile("");
    return n + 1;
}

static long suspended_result;
static void body(void) { suspended_result = suspended(41); }

int main(void)
{
    ready();
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = malloc(256 << 10);
    coroutine.uc_stack.ss_size = 256 << 10;
    coroutine.uc_link = &main_context;
    makecontext(&coroutine, body, 0);
    for (int round = 0; round < 3; round++) {
        long n = nested(10);
        if (round == 0)
            swapcontext(&main_context, &coroutine);
        printf("round %d %ld\n", round, n);
        fflush(stdout);
    }
    swapcontext(&main_context, &coroutine);
    printf("suspended %ld\n", suspended_result);
    return 0;
}
