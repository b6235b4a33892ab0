/* hazards/sweep.rs, hazards/verdicts.rs: jump tables, as offsets and as addresses, with a case
 * inside the first five bytes of the function. */
#include "rounds.h"

int offsets(long n), addresses(long n);

/* Entry: `case 0` is the dec at +2, reached again through the table until n is 0. */
__asm__(
    ".text\n"
    ".p2align 4\n.globl offsets\n.type offsets,@function\noffsets:\n"
    "xor %eax,%eax\n"
    "0: inc %eax\n"
    "dec %rdi\n"
    "1: cmp $3,%rdi\n"
    "ja 9f\n"
    "lea 8f(%rip),%rdx\n"
    "movslq (%rdx,%rdi,4),%rcx\n"
    "add %rdx,%rcx\n"
    "jmp *%rcx\n"
    "2: add $100,%eax\n"
    "9: ret\n"
    ".size offsets,.-offsets\n"
    ".section .rodata\n.p2align 2\n"
    "8: .long 2b-8b, 0b-8b, 0b-8b, 0b-8b\n"
    ".text\n");

__asm__(
    ".text\n"
    ".p2align 4\n.globl addresses\n.type addresses,@function\naddresses:\n"
    "xor %eax,%eax\n"
    "0: inc %eax\n"
    "dec %rdi\n"
    "cmp $3,%rdi\n"
    "ja 9f\n"
    "lea 8f(%rip),%rdx\n"
    "jmp *(%rdx,%rdi,8)\n"
    "2: add $100,%eax\n"
    "9: ret\n"
    ".size addresses,.-addresses\n"
    ".section .data.rel.ro,\"aw\"\n.p2align 3\n"
    "8: .quad 2b, 0b, 0b, 0b\n"
    ".text\n");

static int check(void) {
    RIGHT(offsets(4) == 104);
    RIGHT(addresses(4) == 104);
    return 1;
}
