/* hazards/sweep.rs, hazards/verdicts.rs: a return, or a jump away, among the first five bytes, with
 * more of the function behind it. */
#include "rounds.h"

int returns(int n), jumps(int n);

__asm__(
    ".text\n"
    ".p2align 4\n.globl returns\n.type returns,@function\nreturns:\n"
    "test %edi,%edi\n"
    "jne 1f\n"
    "ret\n"
    "1: lea 1(%rdi),%eax\n"
    "ret\n.size returns,.-returns\n"
    ".p2align 4\n.globl jumps\n.type jumps,@function\njumps:\n"
    "xor %eax,%eax\n"
    "jmp 2f\n"
    "1: add %edi,%eax\n"
    "dec %edi\n"
    "2: test %edi,%edi\n"
    "jg 1b\n"
    "ret\n.size jumps,.-jumps\n");

static int check(void) {
    RIGHT(returns(6) == 7);
    returns(0);
    RIGHT(jumps(4) == 10);
    RIGHT(jumps(0) == 0);
    return 1;
}
