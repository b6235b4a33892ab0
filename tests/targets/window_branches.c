/* hazards/sweep.rs, hazards/verdicts.rs: branches back to 1, 2, 4 and 5 bytes behind an entry. A
 * loop runs through its label several times, so a torn instruction there is seen. */
#include "rounds.h"

int at_1(int n), at_2(int n), at_4(int n), at_5(int n);

__asm__(
    ".text\n"
    /* push; 1: two instructions; loop to 1 */
    ".p2align 4\n.globl at_1\n.type at_1,@function\nat_1:\n"
    "push %rbx\n"
    "1: lea (%rdi,%rdi),%eax\n"
    "dec %edi\n"
    "jg 1b\n"
    "pop %rbx\n"
    "ret\n.size at_1,.-at_1\n"
    ".p2align 4\n.globl at_2\n.type at_2,@function\nat_2:\n"
    "xor %eax,%eax\n"
    "1: add %edi,%eax\n"
    "dec %edi\n"
    "jg 1b\n"
    "ret\n.size at_2,.-at_2\n"
    ".p2align 4\n.globl at_4\n.type at_4,@function\nat_4:\n"
    "xor %eax,%eax\n"
    "xor %ecx,%ecx\n"
    "1: add %edi,%eax\n"
    "inc %ecx\n"
    "dec %edi\n"
    "jg 1b\n"
    "ret\n.size at_4,.-at_4\n"
    ".p2align 4\n.globl at_5\n.type at_5,@function\nat_5:\n"
    "mov $7,%eax\n"
    "1: add %edi,%eax\n"
    "dec %edi\n"
    "jg 1b\n"
    "ret\n.size at_5,.-at_5\n");

static int check(void) {
    RIGHT(at_1(5) == 2);
    RIGHT(at_2(5) == 15);
    RIGHT(at_4(5) == 15);
    RIGHT(at_5(5) == 22);
    return 1;
}
