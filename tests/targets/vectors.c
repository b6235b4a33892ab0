/* hazards/sweep.rs: vector registers, the x87 stack, MXCSR, DF and AC stay as they are across
 * calls: what a probe does uses none of them and changes none. */
#include <cpuid.h>
#include <stdint.h>
#include <string.h>

#include "rounds.h"

int leaf(int);
__asm__(
    ".text\n.p2align 4\n.globl leaf\n.type leaf,@function\nleaf:\n"
    "lea 1(%rdi),%eax\n"
    "lea (%rax,%rax),%eax\n"
    "ret\n.size leaf,.-leaf\n");

static int wide(unsigned char *in, unsigned char *out) {
    __asm__ volatile(
        "vmovdqu (%[in]),%%ymm0\nvmovdqu 32(%[in]),%%ymm15\n"
        "mov $4,%%edi\ncall leaf\n"
        "vmovdqu %%ymm0,(%[out])\nvmovdqu %%ymm15,32(%[out])\nvzeroupper"
        :
        : [in] "r"(in), [out] "r"(out)
        : "rax", "rdi", "memory", "cc", "xmm0", "xmm15");
    return memcmp(in, out, 64) == 0;
}

static int check(void) {
    unsigned char in[64], out[64] = {0};
    unsigned a, b, c, d;
    for (int i = 0; i < 64; i++) in[i] = (unsigned char)(i * 7 + 1);
    if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_AVX) && (c & bit_OSXSAVE))
        RIGHT(wide(in, out));
    long double deep = 0;
    uint32_t mxcsr_in = 0x1f80 | 0x6000, mxcsr_out = 0, usual = 0x1f80;
    __asm__ volatile(
        "ldmxcsr %[in]\nfldpi\nfld1\nmov $4,%%edi\ncall leaf\n"
        "faddp\nfstpt %[deep]\nstmxcsr %[out]\nldmxcsr %[usual]"
        : [deep] "=m"(deep), [out] "=m"(mxcsr_out)
        : [in] "m"(mxcsr_in), [usual] "m"(usual)
        : "rax", "rdi", "cc");
    RIGHT(deep > 4.14L && deep < 4.15L);
    RIGHT((mxcsr_out & 0x6000) == 0x6000);
    uint64_t flags;
    int result;
    /* DF and AC: set, call, look, clear. */
    __asm__ volatile(
        "pushfq\norq $0x40400,(%%rsp)\npopfq\n"
        "mov $4,%%edi\ncall leaf\n"
        "pushfq\npop %[flags]\n"
        "pushfq\nandq $~0x40400,(%%rsp)\npopfq\n"
        : [flags] "=r"(flags), "=a"(result)
        :
        : "rdi", "cc", "memory");
    RIGHT((flags & 0x40400) == 0x40400);
    RIGHT(result == 10);
    return 1;
}
