/* A few functions with parameters, for tests that damage the file. */
#include "target.h"

struct pair {
    int first;
    const char *second;
};

NOINLINE int add(int a, struct pair *b) {
    __asm__ volatile("" ::"r"(b) : "memory");
    return a + b->first;
}

NOINLINE int twice(int n) {
    __asm__ volatile("" ::: "memory");
    return 2 * n;
}

int main(void) {
    struct pair pair = {2, "two"};
    printf("%d\n", twice(add(1, &pair)));
    return 0;
}
