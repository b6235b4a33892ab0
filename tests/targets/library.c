/* A library with an alias, two versions of one name, and an IFUNC that only others call. */
#include "target.h"

NOINLINE int library_call(int n) {
    __asm__ volatile("" ::: "memory");
    return n + 1;
}

int library_alias(int n) __attribute__((alias("library_call")));

NOINLINE int old_thing(int n) {
    __asm__ volatile("" ::: "memory");
    return n + 10;
}
NOINLINE int new_thing(int n) {
    __asm__ volatile("" ::: "memory");
    return n + 20;
}
__asm__(".symver old_thing, thing@SHELF_1");
__asm__(".symver new_thing, thing@@SHELF_2");

static NOINLINE int shelved_one(int n) {
    __asm__ volatile("" ::: "memory");
    return n + 100;
}
static int (*shelve(void))(int) { return shelved_one; }
int shelved(int n) __attribute__((ifunc("shelve")));
