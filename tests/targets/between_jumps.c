/* attach/springs.rs: a function whose entry takes two bytes of a jump, with padding behind it. When
 * a line has come it steps itself through the function; a handler that finds itself in the padding
 * says `between`, stays until another line comes, and returns there. With an argument a child is
 * forked in that handler; it returns there too, and its exit status says how that came out. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "target.h"

long spring(long n, long turns);
/* Nothing may name the padding, or it is none. */
enum { SIZE = 13, ALIGNED = 64 };
__asm__(
    /* No padding before it. */
    ".text\n.p2align 6\n.type wall,@function\nwall:\n"
    ".rept 63\nxor %eax,%eax\n.endr\nnop\nret\n.size wall,.-wall\n"
    ".globl spring\n.type spring,@function\nspring:\n"
    "mov %rdi,%rax\n"
    "1: add $2,%rax\n"
    "dec %rsi\n"
    "jg 1b\n"
    "ret\n.size spring,.-spring\n"
    ".p2align 6\n");

static volatile int stayed, forks, child = -1;

static void step(int signal, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    uintptr_t at = (uintptr_t)regs[REG_RIP] - (uintptr_t)spring;
    (void)signal;
    (void)info;
    if (at < SIZE || at >= ALIGNED || stayed) return;
    stayed = 1;
    regs[REG_EFL] &= ~0x100L;
    if (forks && (child = fork()) == 0) return;
    puts("between");
    fflush(stdout);
    wait_for_go();
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
    long result;
    int status = 0;
    (void)argv;
    forks = argc > 1;
    sigaction(SIGTRAP, &action, NULL);
    ready();
    wait_for_go();
    /* The trap flag: a SIGTRAP behind each instruction until the handler clears it. */
    __asm__ volatile(
        "mov $20,%%edi\nmov $3,%%esi\npushfq\norl $0x100,(%%rsp)\npopfq\ncall spring\n"
        "pushfq\nandl $~0x100,(%%rsp)\npopfq"
        : "=a"(result)
        :
        : "rdi", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
    if (forks && child == 0) _exit(stayed && result == 26 && spring(1, 1) == 3 ? 42 : 1);
    if (forks && (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 42)) {
        printf("wrong: the child ended with %#x\n", status);
        return 1;
    }
    long again = 0;
    for (int i = 0; i < 1000; i++) again = spring(4, 1);
    if (!stayed || result != 26 || again != 6) {
        printf("wrong: %d %ld %ld\n", stayed, result, again);
        return 1;
    }
    puts("right");
    fflush(stdout);
    wait_for_go();
    return 0;
}
