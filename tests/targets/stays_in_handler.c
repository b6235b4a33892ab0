/* attach.rs: a handler, on an alternate stack when there is an argument, that interrupted a
 * function inside its first five bytes, stays until a line comes, and then returns there. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "target.h"

long inside(long n);
extern char second[];
__asm__(
    ".text\n.p2align 4\n.globl inside\n.type inside,@function\ninside:\n"
    "push %rbx\n"
    "second: mov %rdi,%rbx\n"
    "lea 1(%rbx,%rbx),%rax\n"
    "pop %rbx\n"
    "ret\n.size inside,.-inside\n");

static volatile int stayed;

static void step(int signal, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)signal;
    (void)info;
    if (regs[REG_RIP] == (greg_t)(uintptr_t)second && !stayed) {
        stayed = 1;
        regs[REG_EFL] &= ~0x100L;
        ready();
        wait_for_go();
    }
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
    long result;
    (void)argv;
    if (argc > 1) {
        stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
        sigaltstack(&stack, NULL);
        action.sa_flags |= SA_ONSTACK;
    }
    sigaction(SIGTRAP, &action, NULL);
    /* The trap flag: a SIGTRAP behind each instruction until the handler clears it. */
    __asm__ volatile(
        "mov $20,%%edi\npushfq\norl $0x100,(%%rsp)\npopfq\ncall inside"
        : "=a"(result)
        :
        : "rdi", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
    long again = inside(4);
    for (int i = 0; i < 1000; i++) again = inside(4);
    if (!stayed || result != 41 || again != 9) {
        printf("wrong: %d %ld %ld\n", stayed, result, again);
        return 1;
    }
    puts("right");
    return 0;
}
