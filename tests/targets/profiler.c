/* hazards/sweep.rs: a profiler that takes a backtrace a thousand times a second, in the midst of
 * small functions that are called all the time. Every stack that begins in code of a file must
 * lead to `main`; one that begins in a detour is not known to the unwinder, and harms nobody. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>
#include <ucontext.h>

#define ROUNDS 20
#include "rounds.h"

static volatile sig_atomic_t samples, lost;
static void *volatile main_frame;

NOINLINE long tiny(long n) { return n * 3 + 1; }
NOINLINE long small(long n) { return n > 0 ? tiny(n) + tiny(n - 1) : 0; }

static void sample(int signal, siginfo_t *info, void *context) {
    void *found[64], *at = (void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int count = backtrace(found, 64), there = 0;
    Dl_info file;
    (void)signal;
    (void)info;
    samples++;
    if (!dladdr(at, &file)) return;
    for (int i = 0; i < count; i++) there |= found[i] == main_frame;
    lost += !there;
}

static int check(void) {
    struct sigaction action = {.sa_sigaction = sample, .sa_flags = SA_RESTART | SA_SIGINFO};
    struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    void *found[4];
    RIGHT(backtrace(found, 4) >= 2);
    main_frame = __builtin_return_address(0);
    samples = lost = 0;
    RIGHT(sigaction(SIGPROF, &action, NULL) == 0);
    RIGHT(setitimer(ITIMER_PROF, &every, NULL) == 0);
    long sum = 0, n = 0;
    while (samples < 10) {
        sum += small(n % 1000);
        n++;
    }
    RIGHT(setitimer(ITIMER_PROF, &never, NULL) == 0);
    RIGHT(sum > 0);
    RIGHT(lost == 0);
    return 1;
}
