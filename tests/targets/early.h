/* A module of the early test: `mark` is called by everything that runs before, while and after the
 * program does; `PREFIX_marks` says how often it was in this module. */
#include <stdlib.h>

#define GLUE(a, b) a##b
#define NAME(a, b) GLUE(a, b)

static volatile long marks;
static __attribute__((noinline, noclone)) void mark(void) { marks++; }
long NAME(PREFIX, _marks)(void) { return marks; }

static int implementation(int n) {
    mark();
    return n + 1;
}
#ifdef __GLIBC__
/* Runs while the loader relocates this module. */
static int (*resolver(void))(int) {
    mark();
    mark();
    return implementation;
}
__attribute__((ifunc("resolver"))) int NAME(PREFIX, _chosen)(int n);
#else
int NAME(PREFIX, _chosen)(int n) { return implementation(n); }
#endif

__attribute__((constructor)) static void first(void) {
    for (int i = 0; i < 3; i++) mark();
    NAME(PREFIX, _chosen)(1);
}
__attribute__((destructor)) static void last(void) { mark(); }
