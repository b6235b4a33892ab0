/* hazards/sweep.rs: a handler of SIGSEGV that decides by where the fault was, as virtual machines
 * do: functions whose first instructions fault, and others that fault after a push. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#define ROUNDS 50
#include "rounds.h"

int load_first(int *), load_second(int *), push_memory(long *);
extern char fault_0[], fault_1[], fault_2[], recover[];

__asm__(
    ".text\n"
    ".p2align 4\n.globl load_first\n.type load_first,@function\nload_first:\n"
    "fault_0: mov (%rdi),%eax\nlea 1(%rax),%eax\nret\n.size load_first,.-load_first\n"
    ".p2align 4\n.globl load_second\n.type load_second,@function\nload_second:\n"
    "xor %eax,%eax\nfault_1: add (%rdi),%eax\nnop\nret\n.size load_second,.-load_second\n"
    ".p2align 4\n.globl push_memory\n.type push_memory,@function\npush_memory:\n"
    "push %rbx\nfault_2: mov (%rdi),%rbx\nmov %ebx,%eax\npop %rbx\nret\n"
    ".size push_memory,.-push_memory\n"
    ".p2align 4\n.type recover,@function\nrecover: mov $-5,%eax\nret\n.size recover,.-recover\n");

static volatile uintptr_t seen;
static volatile int faults;

static void handler(int signal, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)signal;
    (void)info;
    faults++;
    seen = (uintptr_t)regs[REG_RIP];
    if (seen == (uintptr_t)fault_2) {
        regs[REG_RSP] += 8;
    } else if (seen != (uintptr_t)fault_0 && seen != (uintptr_t)fault_1) {
        printf("wrong: a fault at %p, which is not ours\n", (void *)seen);
        fflush(stdout);
        _exit(1);
    }
    regs[REG_RIP] = (greg_t)(uintptr_t)recover;
}

static int check(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    int one = 1;
    long two = 2;
    RIGHT(sigaction(SIGSEGV, &action, NULL) == 0);
    RIGHT(load_first(&one) == 2 && load_second(&one) == 1 && push_memory(&two) == 2);
    faults = 0;
    RIGHT(load_first((int *)8) == -5 && seen == (uintptr_t)fault_0);
    RIGHT(load_second((int *)8) == -5 && seen == (uintptr_t)fault_1);
    RIGHT(push_memory((long *)8) == -5 && seen == (uintptr_t)fault_2);
    RIGHT(faults == 3);
    RIGHT(load_first(&one) == 2 && load_second(&one) == 1 && push_memory(&two) == 2);
    return 1;
}
