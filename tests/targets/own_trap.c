/* death/landing.rs: calls a function that can only be a breakpoint until a line comes on standard
 * input, then does what the argument says: `int3`, `raise`, `handler` and `ignore` (before the
 * start), `blocked` (a thread that blocks SIGTRAP), `later` (its own handler, while it is traced),
 * or ends. Says `ready` and its sum, which is right when it is a multiple of 40. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "only_trap.h"
#include "target.h"

static volatile sig_atomic_t handled;
static void handler(int signal) { handled += signal == SIGTRAP; }

static void *blocks(void *arg) {
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGTRAP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (;;) pause();
    return arg;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    long sum = 0;
    pthread_t thread;
    if (!strcmp(what, "handler")) signal(SIGTRAP, handler);
    if (!strcmp(what, "ignore")) signal(SIGTRAP, SIG_IGN);
    if (!strcmp(what, "blocked")) pthread_create(&thread, NULL, blocks, NULL);
    ready();
    for (;;) {
        char line[16];
        struct pollfd input = {.fd = 0, .events = POLLIN};
        sum += only_trap(20);
        if (poll(&input, 1, 0) == 0) continue;
        if (read(0, line, sizeof line) <= 0) break;
        if (!strcmp(what, "int3")) __asm__ volatile("int3");
        if (!strcmp(what, "raise")) raise(SIGTRAP);
        if (!strcmp(what, "later")) {
            signal(SIGTRAP, handler);
            raise(SIGTRAP);
        }
        printf("sum %s, handled %d\n", sum % 40 ? "wrong" : "right", (int)handled);
        fflush(stdout);
    }
    return 0;
}
