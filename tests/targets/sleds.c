/* hazards/sweep.rs, hazards/verdicts.rs: what compilers leave at entries for other tools: a row of
 * no-ops before and behind the entry (-fpatchable-function-entry), XRay's sleds at entry and return
 * with their table, no-ops behind endbr64. Functions that would need such bytes to jump through;
 * -DNO_TABLES leaves out what says that they are not free. */
#include "rounds.h"

long nop5(long n), nops(long n), endbr_nops(long n), patchable(long n), sled(long n);
long endbr_sled(long n);
long wants_nops(long n, long turns), wants_sled(long n, long turns);

#define BEGIN(name) ".globl " name "\n.type " name ",@function\n" name ":\n"
#define END(name) ".size " name ",.-" name "\n"
#define WALL ".rept 70\nxor %eax,%eax\n.endr\n"
#define STRAGGLER "mov %rdi,%rax\n1: add $2,%rax\ndec %rsi\njg 1b\nret\n"
#ifdef NO_TABLES
#define TABLE(text)
#else
#define TABLE(text) text
#endif
/* jmp +9; nopw 512(%rax,%rax) */
#define SLED ".byte 0xeb,9,0x66,0x0f,0x1f,0x84,0,0,2,0,0\n"

__asm__(
    ".text\n"
    ".p2align 4\n" BEGIN("nop5") ".byte 0x0f,0x1f,0x44,0,0\nlea 1(%rdi),%rax\nret\n" END("nop5")
    ".p2align 4\n" BEGIN("nops") ".rept 7\nnop\n.endr\nlea 2(%rdi),%rax\nret\n" END("nops")
    ".p2align 4\n" BEGIN("endbr_nops")
    "endbr64\n.rept 4\nnop\n.endr\nlea 3(%rdi),%rax\nret\n" END("endbr_nops")
    ".p2align 4\n" BEGIN("endbr_sled")
    "endbr64\n" SLED "lea 4(%rdi),%rax\nret\n" END("endbr_sled")
    /* Nothing is unused near these but the no-ops before `patchable`. */
    ".p2align 4\nwall_1: .type wall_1,@function\n" WALL "ret\n" END("wall_1")
    BEGIN("wants_nops") STRAGGLER END("wants_nops")
    ".Lbefore: .rept 8\nnop\n.endr\n"
    BEGIN("patchable") ".rept 8\nnop\n.endr\nlea 5(%rdi),%rax\n"
    ".rept 70\ninc %ecx\n.endr\nret\n" END("patchable")
    TABLE(".section __patchable_function_entries,\"aw\",@progbits\n"
          ".p2align 3\n.quad .Lbefore\n.text\n")
    /* Nothing is unused near this but the sled at the return of `sled`. */
    ".p2align 4\nwall_2: .type wall_2,@function\n" WALL "ret\n" END("wall_2")
    BEGIN("wants_sled") STRAGGLER END("wants_sled")
    BEGIN("sled") ".Lin: " SLED "lea 6(%rdi),%rax\n"
    ".Lout: ret\n.byte 0x2e,0x66,0x0f,0x1f,0x84,0,0,2,0,0\n"
    ".rept 70\ninc %ecx\n.endr\nret\n" END("sled")
    TABLE(".section xray_instr_map,\"a\",@progbits\n.p2align 3\n"
          "2: .quad .Lin-2b\n.quad sled-2b-8\n.byte 0,0,2\n.zero 13\n"
          "3: .quad .Lout-3b\n.quad sled-3b-8\n.byte 1,0,2\n.zero 13\n.text\n"));

static int check(void) {
    RIGHT(nop5(1) == 2);
    RIGHT(nops(1) == 3);
    RIGHT(endbr_nops(1) == 4);
    RIGHT(endbr_sled(1) == 5);
    RIGHT(patchable(1) == 6);
    RIGHT(sled(1) == 7);
    RIGHT(wants_nops(1, 3) == 7);
    RIGHT(wants_sled(1, 4) == 9);
    return 1;
}
