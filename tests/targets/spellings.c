/* Calls a library and functions of its own, each a known number of times: see main. */
#include "target.h"

int library_call(int);
int library_alias(int);
int thing(int);
int shelved(int);

NOINLINE int own_first(int n) {
    __asm__ volatile("" ::: "memory");
    return n + 1; /* LINE */
}

NOINLINE int own_second(int n) {
    __asm__ volatile("" ::: "memory");
    return n + 2;
}

NOINLINE int library_call_not(int n) {
    __asm__ volatile("" ::: "memory");
    return n + 3;
}

static NOINLINE int chosen_one(int n) {
    __asm__ volatile("" ::: "memory");
    return n + 100;
}
static int (*choose(void))(int) { return chosen_one; }
int chosen(int n) __attribute__((ifunc("choose")));

__asm__(".text\n"
        ".type split, @function\n"
        "split: mov %edi, %eax\n test %edi, %edi\n js split.cold\n ret\n"
        ".size split, .-split\n"
        ".type split.cold, @function\n"
        "split.cold: neg %eax\n nop\n nop\n nop\n ret\n"
        ".size split.cold, .-split.cold\n");
int split(int);

int main(void) {
    int sum = 0;
    for (int i = 0; i < 2; i++) sum += own_first(i);
    for (int i = 0; i < 3; i++) sum += own_second(i);
    for (int i = 0; i < 4; i++) sum += library_call(i);
    for (int i = 0; i < 5; i++) sum += library_alias(i);
    for (int i = 0; i < 6; i++) sum += thing(i);
    for (int i = 0; i < 7; i++) sum += chosen(i);
    for (int i = 0; i < 8; i++) sum += split(-i);
    sum += library_call_not(1) + shelved(1);
    printf("%d\n", sum);
    return 0;
}
