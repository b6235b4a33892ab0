/* What targets share: `ready` lets any process trace this one, and says on standard output that
 * it may begin; `wait_for_go` returns when a line comes on standard input, or its end. */
#include <stdio.h>
#include <sys/prctl.h>

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

#define NOINLINE __attribute__((noinline, noclone))

__attribute__((unused)) static void ready(void) {
    prctl(PR_SET_PTRACER, -1L, 0, 0, 0);
    puts("ready");
    fflush(stdout);
}

__attribute__((unused)) static void wait_for_go(void) {
    int c;
    while ((c = getchar()) != '\n' && c != EOF) {
    }
}
