/* hazards/sweep.rs, hazards/verdicts.rs: what stands at entries: endbr64 (-fcf-protection), a
 * five-byte nop, a row of nops, `call __fentry__`; names for one address. */
#include "rounds.h"

int nop5(int), fentry(int), real(int), alias(int), other_alias(int), tail(int);
void __fentry__(void);

#define BEGIN(name) ".p2align 4\n.globl " name "\n.type " name ",@function\n" name ":\n"
#define END(name) ".size " name ",.-" name "\n"

__asm__(
    ".text\n"
    BEGIN("nop5") ".byte 0x0f,0x1f,0x44,0,0\nlea 1(%rdi),%eax\nret\n" END("nop5")
    BEGIN("__fentry__") "incl fentries(%rip)\nret\n" END("__fentry__")
    BEGIN("fentry") "call __fentry__\nlea 2(%rdi),%eax\nret\n" END("fentry")
    BEGIN("real") ".globl alias\n.type alias,@function\nalias:\n"
    ".weak other_alias\n.type other_alias,@function\nother_alias:\n"
    "lea 3(%rdi),%eax\nret\n" END("real") END("alias") END("other_alias")
    BEGIN("tail") "inc %edi\njmp real\n" END("tail"));

int fentries;

__attribute__((noinline, patchable_function_entry(16, 8))) int patchable(int n) { return n * 5; }

NOINLINE int in_c(int n) { return n * 7; }

static int check(void) {
    int before = fentries;
    RIGHT(nop5(1) == 2);
    RIGHT(fentry(1) == 3 && fentries == before + 1);
    RIGHT(real(1) == 4 && alias(2) == 5 && other_alias(3) == 6);
    RIGHT(tail(1) == 5);
    RIGHT(patchable(2) == 10);
    RIGHT(in_c(2) == 14);
    return 1;
}
