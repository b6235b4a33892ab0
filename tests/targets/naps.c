/* How long calls take, by the program's own clock: `timed` is called in the middle of `around` and calls
 * `within`, which naps and may begin anew. Prints, for each call of `timed` as it ends, the nanoseconds that
 * passed in the one and in the other: its own time lies between. */
#include <time.h>

#include "target.h"

enum { MOST = 64 };

static long inside[MOST], outside[MOST];
static int calls;

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

int around(int n);

NOINLINE int within(int n) {
    struct timespec nap = {.tv_nsec = 3000000};
    long begun = now();
    nanosleep(&nap, NULL);
    if (n > 0) around(n - 1);
    inside[calls] = now() - begun;
    return n;
}

NOINLINE int timed(int n) {
    int got = within(n);
    __asm__ volatile("" : "+r"(got));
    return got;
}

NOINLINE int around(int n) {
    long begun = now();
    int got = timed(n);
    __asm__ volatile("" : "+r"(got));
    outside[calls++] = now() - begun;
    return got;
}

int main(void) {
    for (int i = 0; i < 5; i++) around(0);
    around(3);
    around(10);
    for (int i = 0; i < calls; i++) printf("%ld %ld\n", inside[i], outside[i]);
    return 0;
}
