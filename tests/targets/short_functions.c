/* hazards/sweep.rs, hazards/verdicts.rs: functions of one to four bytes, with padding behind them
 * and with another function there at once; entries one to four bytes apart that fall through. */
#include "rounds.h"

int padded_1(int), padded_2(void), padded_3(int), padded_4(int);
int tight_1(int), tight_2(void), tight_3(int), tight_4(int), tight_end(int);
int apart_0(int), apart_1(int), apart_3(int), apart_6(int), apart_10(int);

#define BEGIN(name) ".globl " name "\n.type " name ",@function\n" name ":\n"
#define END(name) ".size " name ",.-" name "\n"

__asm__(
    ".text\n"
    ".p2align 4\n" BEGIN("padded_1") "ret\n" END("padded_1")
    ".p2align 4\n" BEGIN("padded_2") "push $3\n.size padded_2,.-padded_2\npop %rax\nret\n"
    ".p2align 4\n" BEGIN("padded_3") "mov %edi,%eax\nret\n" END("padded_3")
    ".p2align 4\n" BEGIN("padded_4") "lea (%rdi),%rax\nret\n" END("padded_4")
    ".p2align 4\n" BEGIN("tight_1") "ret\n" END("tight_1")
    BEGIN("tight_2") "xor %eax,%eax\n.byte 0xc3\n" END("tight_2")
    BEGIN("tight_3") "mov %edi,%eax\nret\n" END("tight_3")
    BEGIN("tight_4") "lea (%rdi),%rax\nret\n" END("tight_4")
    BEGIN("tight_end") "lea 1(%rdi),%eax\nret\n" END("tight_end")
    ".p2align 4\n"
    BEGIN("apart_0") "nop\n" END("apart_0")
    BEGIN("apart_1") "inc %edi\n" END("apart_1")
    BEGIN("apart_3") "add $2,%edi\n" END("apart_3")
    BEGIN("apart_6") "lea 3(%rdi,%rdi),%edi\n" END("apart_6")
    BEGIN("apart_10") "lea 100(%rdi),%eax\nret\n" END("apart_10"));

static int keeps_rax(int (*function)(int)) {
    long rax = 77;
    __asm__ volatile("call *%1" : "+a"(rax) : "r"(function) : "memory", "cc", "rdi");
    return rax == 77;
}

static int check(void) {
    RIGHT(keeps_rax(padded_1));
    RIGHT(padded_2() == 3);
    RIGHT(padded_3(8) == 8);
    RIGHT(padded_4(9) == 9);
    RIGHT(keeps_rax(tight_1));
    RIGHT(tight_2() == 0);
    RIGHT(tight_3(8) == 8);
    RIGHT(tight_4(9) == 9);
    RIGHT(tight_end(9) == 10);
    RIGHT(apart_10(1) == 101);
    RIGHT(apart_6(1) == 105);
    RIGHT(apart_3(1) == 109);
    RIGHT(apart_1(1) == 111);
    RIGHT(apart_0(1) == 111);
    return 1;
}
