/* hazards/sweep.rs: every short conditional branch in the displaced bytes, taken and not taken,
 * with the flags that come in: Jcc, JRCXZ, JECXZ, LOOP, LOOPE, LOOPNE. */
#define ROUNDS 10
#include "rounds.h"

/* The branch is the first instruction; 1 is the result where it was taken, 2 where not. */
#define BRANCH(name, instruction)                                                          \
    long name(void);                                                                       \
    __asm__(".text\n.p2align 4\n.globl " #name "\n.type " #name ",@function\n" #name ":\n" \
            instruction " 1f\nmov $2,%eax\nret\n1: mov $1,%eax\nret\n.size " #name ",.-" #name "\n")

BRANCH(b_jo, "jo"); BRANCH(b_jno, "jno"); BRANCH(b_jb, "jb"); BRANCH(b_jae, "jae");
BRANCH(b_je, "je"); BRANCH(b_jne, "jne"); BRANCH(b_jbe, "jbe"); BRANCH(b_ja, "ja");
BRANCH(b_js, "js"); BRANCH(b_jns, "jns"); BRANCH(b_jp, "jp"); BRANCH(b_jnp, "jnp");
BRANCH(b_jl, "jl"); BRANCH(b_jge, "jge"); BRANCH(b_jle, "jle"); BRANCH(b_jg, "jg");
BRANCH(b_jrcxz, "jrcxz"); BRANCH(b_jecxz, "jecxz");
BRANCH(b_loop, "loop"); BRANCH(b_loope, "loope"); BRANCH(b_loopne, "loopne");

enum { CF = 1, PF = 4, ZF = 0x40, SF = 0x80, OF = 0x800 };

static long went(long (*branch)(void), unsigned long flags, long *rcx) {
    long result;
    __asm__ volatile(
        "push %[flags]\npopfq\ncall *%[branch]"
        : "=a"(result), "+c"(*rcx)
        : [flags] "r"(flags), [branch] "r"(branch)
        : "cc", "memory");
    return result;
}

static int check(void) {
    long (*const conditions[])(void) = {b_jo, b_jno, b_jb, b_jae, b_je, b_jne, b_jbe, b_ja,
                                        b_js, b_jns, b_jp, b_jnp, b_jl, b_jge, b_jle, b_jg};
    for (int bits = 0; bits < 32; bits++) {
        unsigned long flags = (bits & 1 ? CF : 0) | (bits & 2 ? PF : 0) | (bits & 4 ? ZF : 0) |
                              (bits & 8 ? SF : 0) | (bits & 16 ? OF : 0);
        int cf = bits & 1, pf = !!(bits & 2), zf = !!(bits & 4), sf = !!(bits & 8),
            of = !!(bits & 16);
        const int held[] = {of, cf, zf, cf | zf, sf, pf, sf != of, zf | (sf != of)};
        long rcx = 9;
        for (int i = 0; i < 16; i++)
            RIGHT(went(conditions[i], 0x202 | flags, &rcx) == ((held[i / 2] ^ (i & 1)) ? 1 : 2));
        RIGHT(rcx == 9);
        for (long count = 0; count < 3; count++) {
            rcx = count;
            RIGHT(went(b_jrcxz, 0x202 | flags, &rcx) == (count ? 2 : 1));
            RIGHT(went(b_jecxz, 0x202 | flags, &rcx) == (count ? 2 : 1) && rcx == count);
            RIGHT(went(b_loop, 0x202 | flags, &rcx) == (count == 1 ? 2 : 1) && rcx == count - 1);
            rcx = count;
            RIGHT(went(b_loope, 0x202 | flags, &rcx) == (count != 1 && zf ? 1 : 2));
            RIGHT(rcx == count - 1);
            rcx = count;
            RIGHT(went(b_loopne, 0x202 | flags, &rcx) == (count != 1 && !zf ? 1 : 2));
            RIGHT(rcx == count - 1);
        }
    }
    return 1;
}
