/* hazards/sweep.rs: functions with conventions of their own. One takes its argument in the carry
 * flag; around the other every general register and flag must be what it was. */
#include <stdint.h>
#include <string.h>

#include "rounds.h"

__asm__(
    ".text\n.p2align 4\n.globl carry_in\n.type carry_in,@function\ncarry_in:\n"
    "adc $0,%r11\n"
    "nopl (%rax)\n"
    "ret\n.size carry_in,.-carry_in\n"
    ".p2align 4\n.globl untouched\n.type untouched,@function\nuntouched:\n"
    "nopl 0(%rax,%rax)\n"
    "ret\n.size untouched,.-untouched\n"
    ".p2align 4\n.globl first_flags\n.type first_flags,@function\nfirst_flags:\n"
    "mov %rax,%rax\n"
    "mov %rbx,%rbx\n"
    "ret\n.size first_flags,.-first_flags\n");

/* rax rbx rcx rdx rsi rdi rbp r8..r15, flags */
struct registers {
    uint64_t r[16];
};

/* Loads all registers, calls, stores all. */
#define THROUGH(name, callee)                                                               \
    void name(struct registers *in, struct registers *out);                                 \
    __asm__(".text\n.p2align 4\n.type " #name ",@function\n" #name ":\n"                     \
            "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\npush %rsi\n" \
            "pushq 120(%rdi)\npopfq\n"                                                      \
            "mov (%rdi),%rax\nmov 8(%rdi),%rbx\nmov 16(%rdi),%rcx\nmov 24(%rdi),%rdx\n"     \
            "mov 32(%rdi),%rsi\nmov 48(%rdi),%rbp\nmov 56(%rdi),%r8\nmov 64(%rdi),%r9\n"    \
            "mov 72(%rdi),%r10\nmov 80(%rdi),%r11\nmov 88(%rdi),%r12\nmov 96(%rdi),%r13\n"  \
            "mov 104(%rdi),%r14\nmov 112(%rdi),%r15\nmov 40(%rdi),%rdi\n"                   \
            "call " #callee "\n"                                                            \
            "xchg %rax,(%rsp)\n" /* rax saved, out in rax */                                \
            "mov %rbx,8(%rax)\nmov %rcx,16(%rax)\nmov %rdx,24(%rax)\nmov %rsi,32(%rax)\n"   \
            "mov %rdi,40(%rax)\nmov %rbp,48(%rax)\nmov %r8,56(%rax)\nmov %r9,64(%rax)\n"    \
            "mov %r10,72(%rax)\nmov %r11,80(%rax)\nmov %r12,88(%rax)\nmov %r13,96(%rax)\n"  \
            "mov %r14,104(%rax)\nmov %r15,112(%rax)\n"                                      \
            "pushfq\npopq 120(%rax)\n"                                                      \
            "pop %rcx\nmov %rcx,(%rax)\n"                                                   \
            "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"             \
            ".size " #name ",.-" #name "\n")

THROUGH(through_untouched, untouched);
THROUGH(through_first, first_flags);
THROUGH(through_carry, carry_in);

static int check(void) {
    /* CF PF AF ZF SF OF, one by one and together */
    static const uint64_t flags[] = {0, 1, 4, 0x10, 0x40, 0x80, 0x800, 0x8d5};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct registers in, out;
        for (int r = 0; r < 15; r++) in.r[r] = 0x0101010101010101u * (unsigned)(r + 1) + i;
        in.r[15] = 0x202 | flags[i];
        memset(&out, 0, sizeof out);
        through_untouched(&in, &out);
        RIGHT(memcmp(&in, &out, sizeof in) == 0);
        memset(&out, 0, sizeof out);
        through_first(&in, &out);
        RIGHT(memcmp(&in, &out, sizeof in) == 0);
        through_carry(&in, &out);
        RIGHT(out.r[10] == in.r[10] + (flags[i] & 1));
        out.r[10] = in.r[10], out.r[15] = in.r[15];
        RIGHT(memcmp(&in, &out, sizeof in) == 0);
    }
    return 1;
}
