/* hazards/sweep.rs: a jump that skips a LOCK prefix, into the middle of an instruction, within and
 * behind the first five bytes of a function. */
#include "rounds.h"

int inside(int *word, int locked), behind(int *word, int locked);

__asm__(
    ".text\n"
    ".p2align 4\n.globl inside\n.type inside,@function\ninside:\n"
    "jrcxz 1f\n"
    ".byte 0xf0\n"
    "1: addl %esi,(%rdi)\n"
    "mov (%rdi),%eax\n"
    "ret\n.size inside,.-inside\n"
    ".p2align 4\n.globl behind\n.type behind,@function\nbehind:\n"
    "mov $5,%eax\n"
    "test %esi,%esi\n"
    "je 1f\n"
    ".byte 0xf0\n"
    "1: cmpxchgl %esi,(%rdi)\n"
    "sete %al\n"
    "movzbl %al,%eax\n"
    "ret\n.size behind,.-behind\n");

static int with_rcx(int *word, int add, long rcx) {
    int result;
    __asm__ volatile("call inside"
                     : "=a"(result), "+c"(rcx)
                     : "D"(word), "S"(add)
                     : "memory", "cc");
    return result;
}

static int check(void) {
    int word = 1;
    RIGHT(with_rcx(&word, 4, 0) == 5);
    RIGHT(with_rcx(&word, 4, 1) == 9);
    word = 5;
    RIGHT(behind(&word, 0) == 1 && word == 0);
    word = 5;
    RIGHT(behind(&word, 9) == 1 && word == 9);
    RIGHT(behind(&word, 3) == 0 && word == 9);
    return 1;
}
