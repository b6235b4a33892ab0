// Stacks that are left and changed by hand: longjmp out of signal handlers, also from an alternate stack;
// coroutines by a switch in assembly that is a function of its own; stacks that are thrown away with calls
// under way on them. Prints what it computed.
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUNCTION __attribute__((noinline, noclone))

static sigjmp_buf out;
static volatile long handled;

FUNCTION void leave_handler(int signal)
{
    handled += signal;
    siglongjmp(out, signal);
}

FUNCTION void handler(int signal)
{
    leave_handler(signal);
    __asm__ volatile("");
}

FUNCTION long faults(long n)
{
    if (n > 0) {
        long below = faults(n - 1);
        __asm__ volatile("");
        return below + 1;
    }
    return *(volatile long *)8;
}

FUNCTION long raises(long n)
{
    if (n == 0)
        raise(SIGUSR1);
    long below = n > 0 ? raises(n - 1) : 0;
    __asm__ volatile("");
    return below + 1;
}

FUNCTION long leaves_handlers(int rounds)
{
    static char alternate[64 << 10];
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    sigaltstack(&stack, NULL);
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_NODEFER };
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    volatile long sum = 0;
    for (volatile int i = 0; i < rounds; i++) {
        int came = sigsetjmp(out, 1);
        if (came == 0)
            sum += i % 2 ? faults(i % 7) : raises(i % 5);
        else
            sum += came;
    }
    return sum;
}

// switch_stack(long **save, long *load): pushes what a call keeps, changes the stack pointer, pops.
__asm__(".globl switch_stack\n.type switch_stack, @function\nswitch_stack:\n"
        ".cfi_startproc\n"
        "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n"
        ".cfi_endproc\n.size switch_stack, . - switch_stack\n");
void switch_stack(long **save, long *load);

struct coroutine {
    long *sp, *caller;
    long sum;
    long ended;
};

static struct coroutine *current;

FUNCTION long yields(struct coroutine *me, long n)
{
    me->sum += n;
    switch_stack(&me->sp, me->caller);
    __asm__ volatile("");
    return n + me->sum % 3;
}

FUNCTION long deep(struct coroutine *me, long n)
{
    long below = n > 0 ? deep(me, n - 1) : yields(me, 5);
    __asm__ volatile("");
    return below + 1;
}

FUNCTION void coroutine_main(void)
{
    struct coroutine *me = current;
    for (int i = 0; i < 50; i++)
        me->sum += deep(me, i % 9);
    me->ended = 1;
    for (;;)
        switch_stack(&me->sp, me->caller);
}

#define STACK (64 << 10)

FUNCTION void prepare(struct coroutine *c, char *stack)
{
    memset(c, 0, sizeof *c);
    long *sp = (long *)(stack + STACK) - 2;
    *sp = (long)coroutine_main;
    c->sp = sp - 6;
    memset(c->sp, 0, 6 * sizeof(long));
}

FUNCTION void resume(struct coroutine *c)
{
    current = c;
    switch_stack(&c->caller, c->sp);
    __asm__ volatile("");
}

FUNCTION long runs_coroutines(void)
{
    enum { MANY = 4 };
    struct coroutine all[MANY];
    char *stacks[MANY];
    for (int i = 0; i < MANY; i++) {
        stacks[i] = malloc(STACK);
        prepare(&all[i], stacks[i]);
    }
    for (int round = 0; round < 60; round++)
        for (int i = 0; i < MANY; i++)
            resume(&all[i]);
    long sum = 0;
    for (int i = 0; i < MANY; i++)
        sum += all[i].sum + all[i].ended;
    // Begun again and again, in the middle of calls that nobody goes back to.
    for (int round = 0; round < 300; round++) {
        prepare(&all[0], stacks[0]);
        for (int i = 0; i < 1 + round % 9; i++)
            resume(&all[0]);
        sum += all[0].sum;
    }
    return sum;
}

int main(void)
{
    long left = leaves_handlers(400);
    printf("handlers %ld %ld\n", left, handled);
    printf("coroutines %ld\n", runs_coroutines());
    return 0;
}
