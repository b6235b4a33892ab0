/* hazards/sweep.rs: a thread that blocks SIGTRAP, then ignores it, then has a handler and blocks
 * it: mask and action are the same after functions were called. Breakpoints are signals. */
#include <pthread.h>
#include <signal.h>

#include "rounds.h"

NOINLINE long work(long n) { return n * 3 + 1; }
static void handler(int signal) { (void)signal; }

static int same(const sigset_t *mask, void (*action)(int)) {
    sigset_t now;
    struct sigaction set;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    sigaction(SIGTRAP, NULL, &set);
    for (int signal = 1; signal < 65; signal++)
        if (sigismember(mask, signal) != sigismember(&now, signal)) return 0;
    return set.sa_handler == action;
}

static int check(void) {
    sigset_t all, none, trap;
    sigfillset(&all), sigemptyset(&none), sigemptyset(&trap);
    sigaddset(&trap, SIGTRAP);
    sigdelset(&all, SIGKILL), sigdelset(&all, SIGSTOP), sigdelset(&all, 32), sigdelset(&all, 33);
    void (*const actions[])(int) = {SIG_DFL, SIG_IGN, handler};
    const sigset_t *const masks[] = {&none, &trap, &all};
    for (int a = 0; a < 3; a++) {
        struct sigaction set = {.sa_handler = actions[a]};
        RIGHT(sigaction(SIGTRAP, &set, NULL) == 0);
        for (int m = 0; m < 3; m++) {
            pthread_sigmask(SIG_SETMASK, masks[m], NULL);
            RIGHT(work(2) == 7);
            RIGHT(same(masks[m], actions[a]));
        }
        pthread_sigmask(SIG_SETMASK, &none, NULL);
    }
    return 1;
}
