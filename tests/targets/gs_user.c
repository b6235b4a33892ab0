/* hazards/sweep.rs: a program that keeps data behind gs, set by arch_prctl and by wrgsbase. It is
 * the same after every call. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rounds.h"

NOINLINE long work(long n) { return n * 3 + 1; }

static uint64_t mine[64], other[64];

static uint64_t behind_gs(void) {
    uint64_t word;
    __asm__ volatile("mov %%gs:16,%0" : "=r"(word));
    return word;
}

static int check(void) {
    uint64_t base = 0;
    mine[2] = 77, other[2] = 88;
    RIGHT(syscall(SYS_arch_prctl, 0x1001, mine) == 0);
    for (int i = 0; i < 20; i++) RIGHT(work(i) == i * 3 + 1 && behind_gs() == 77);
    if (getauxval(AT_HWCAP2) & 2) {
        __asm__ volatile("wrgsbase %0" : : "r"(other));
        for (int i = 0; i < 20; i++) RIGHT(work(i) == i * 3 + 1 && behind_gs() == 88);
    }
    usleep(10);
    RIGHT(syscall(SYS_arch_prctl, 0x1004, &base) == 0);
    RIGHT(base == (uint64_t)(uintptr_t)other || base == (uint64_t)(uintptr_t)mine);
    return 1;
}
