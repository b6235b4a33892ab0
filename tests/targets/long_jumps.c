/* hazards/sweep.rs: setjmp and longjmp over many frames, out of a signal handler too. */
#include <setjmp.h>
#include <signal.h>

#include "rounds.h"

static jmp_buf back;
static sigjmp_buf back_from_signal;

NOINLINE int deep(int n) {
    if (n == 0) longjmp(back, 42);
    return deep(n - 1) + 1;
}

static void handler(int signal) { siglongjmp(back_from_signal, signal); }

static int check(void) {
    volatile int turns = 0;
    int value = setjmp(back);
    turns++;
    if (value == 0) deep(20);
    RIGHT(value == 42 && turns == 2);
    signal(SIGUSR1, handler);
    value = sigsetjmp(back_from_signal, 1);
    if (value == 0) raise(SIGUSR1);
    RIGHT(value == SIGUSR1);
    return 1;
}
