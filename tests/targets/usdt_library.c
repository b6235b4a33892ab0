/* Used by tests/life/usdt.rs: a library with USDT probes, in a constructor too. */
#include "usdt.h"

USDT_SEMAPHORE(mall_visit_semaphore);
static int seen;

__attribute__((noinline)) int visit(int n) {
    USDT1("mall", "passed", "0", n);
    if (__builtin_expect(mall_visit_semaphore, 0)) {
        seen++;
        USDT2("mall", "visit", "mall_visit_semaphore", n, seen);
    }
    return seen;
}

__attribute__((constructor)) static void opened(void) {
    visit(77);
}
