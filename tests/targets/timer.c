/* Works under a timer that fires every few hundred microseconds, until a line comes; then says
 * whether every call did its work. */
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "target.h"

static volatile long fired, calls, sum;
static volatile int over;

static void tick(int signal) {
    (void)signal;
    fired++;
}

NOINLINE long work(long n) {
    __asm__ volatile("" ::: "memory");
    return n + 1;
}

int main(void) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    struct itimerval timer = {{0, 200}, {0, 200}};
    fd_set ready_set;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    ready();
    do {
        struct timeval none = {0, 0};
        for (int i = 0; i < 10000; i++) sum = work(sum), calls++;
        FD_ZERO(&ready_set);
        FD_SET(0, &ready_set);
        over = select(1, &ready_set, NULL, NULL, &none);
    } while (over < 1);
    puts(sum == calls && fired > 0 ? "all work done" : "work was lost");
    return 0;
}
