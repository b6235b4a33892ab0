/* hazards/sweep.rs: threads made by clone(2) alone, without a TLS of their own: one that has its
 * parent's, one with none. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS 50
#include "rounds.h"

static unsigned char stacks[2][16384] __attribute__((aligned(64)));
static volatile long sums[2];
static volatile int alive[2];

long leaf(long);
__asm__(
    ".text\n.p2align 4\n.globl leaf\n.type leaf,@function\nleaf:\n"
    "lea 1(%rdi,%rdi),%rax\n"
    "ret\n.size leaf,.-leaf\n");

/* No call of libc: errno would be the parent's, or nobody's. */
static void run(int which) {
    long sum = 0;
    for (int i = 0; i < 1000; i++) sum += leaf(i);
    sums[which] = sum;
}

static int with_tls(void *arg) {
    run((int)(intptr_t)arg);
    __asm__ volatile("syscall" : : "a"((long)SYS_exit), "D"(0L) : "rcx", "r11", "memory");
    return 0;
}

static int without_tls(void *arg) {
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_arch_prctl), "D"(0x1002L), "S"(0L)
                     : "rcx", "r11", "memory");
    return with_tls(arg);
}

static int check(void) {
    for (int i = 0; i < 2; i++) {
        alive[i] = 1;
        sums[i] = 0;
        int made = clone(i ? without_tls : with_tls, stacks[i] + sizeof stacks[i],
                         CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                             CLONE_SYSVSEM | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID,
                         (void *)(intptr_t)i, NULL, NULL, (void *)&alive[i]);
        RIGHT(made > 0);
    }
    for (int i = 0; i < 2; i++) {
        int seen;
        while ((seen = alive[i]) != 0) syscall(SYS_futex, &alive[i], FUTEX_WAIT, seen, NULL);
        RIGHT(sums[i] == 1000000);
    }
    return 1;
}
