/* hazards/sweep.rs: a program with breakpoints of its own, `int3` in its code and raise(SIGTRAP),
 * and a handler that counts them. They reach it, with what the kernel says about them. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#include "rounds.h"

void with_int3(void);
extern char behind_int3[];
__asm__(
    ".text\n.p2align 4\n.globl with_int3\n.type with_int3,@function\nwith_int3:\n"
    "int3\nbehind_int3: nop\nnopl (%rax)\nret\n.size with_int3,.-with_int3\n"
    ".p2align 4\n.globl later_int3\n.type later_int3,@function\nlater_int3:\n"
    "nopl 0(%rax,%rax)\nint3\nret\n.size later_int3,.-later_int3\n");
void later_int3(void);

static volatile int by_kernel, by_user;
static volatile uintptr_t where;
NOINLINE void count(int code) { *(code == 0x80 ? &by_kernel : &by_user) += 1; }

static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal;
    where = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    count(info->si_code);
}

static int check(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    RIGHT(sigaction(SIGTRAP, &action, NULL) == 0);
    by_kernel = by_user = 0;
    with_int3();
    RIGHT(by_kernel == 1 && where == (uintptr_t)behind_int3);
    later_int3();
    RIGHT(by_kernel == 2 && by_user == 0);
    raise(SIGTRAP);
    RIGHT(by_kernel == 2 && by_user == 1);
    return 1;
}
