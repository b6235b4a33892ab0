/* hazards/sweep.rs: entries one to four bytes before the end of a cache line and of a page. */
#include "rounds.h"

/* Each begins at BEFORE bytes before a multiple of ALIGN. */
#define CROSSING(name, align, before, value)                                          \
    int name(int);                                                                    \
    __asm__(".text\n.p2align " #align "\n.skip (1 << " #align ") - " #before ", 0x90\n" \
            ".globl " #name "\n.type " #name ",@function\n" #name ":\n"               \
            "push %rbx\npush %rbp\nlea " #value "(%rdi),%eax\npop %rbp\npop %rbx\nret\n"  \
            ".size " #name ",.-" #name "\n")

CROSSING(line_1, 6, 1, 1);
CROSSING(line_2, 6, 2, 2);
CROSSING(line_3, 6, 3, 3);
CROSSING(line_4, 6, 4, 4);
CROSSING(page_1, 12, 1, 5);
CROSSING(page_2, 12, 2, 6);
CROSSING(page_3, 12, 3, 7);
CROSSING(page_4, 12, 4, 8);

static int check(void) {
    RIGHT(line_1(1) + line_2(1) + line_3(1) + line_4(1) == 14);
    RIGHT(page_1(1) + page_2(1) + page_3(1) + page_4(1) == 30);
    return 1;
}
