/* hazards/sweep.rs: an interpreter by computed goto, and a function whose label, two bytes behind
 * its entry, has its address in a register and in data. */
#include "rounds.h"

long threaded(const unsigned char *code, long value);
long labelled(long n);

__asm__(
    ".text\n"
    ".p2align 4\n.globl labelled\n.type labelled,@function\nlabelled:\n"
    "xor %eax,%eax\n"
    "1: add %rdi,%rax\n"
    "dec %rdi\n"
    "jz 2f\n"
    "lea 1b(%rip),%rcx\n"
    "test $1,%dil\n"
    "jz 3f\n"
    "mov 8f(%rip),%rcx\n"
    "3: jmp *%rcx\n"
    "2: ret\n"
    ".size labelled,.-labelled\n"
    ".section .data.rel.ro,\"aw\"\n.p2align 3\n"
    "8: .quad 1b\n"
    ".text\n");

NOINLINE long threaded(const unsigned char *code, long value) {
    static const void *const what[] = {&&add, &&twice, &&less, &&back, &&end};
    const unsigned char *at = code;
    int turns = 3;
    goto *what[*at];
add:
    value += 5;
    goto *what[*++at];
twice:
    value *= 2;
    goto *what[*++at];
less:
    value -= 3;
    goto *what[*++at];
back:
    at = --turns ? code : at + 1;
    goto *what[*at];
end:
    return value;
}

static int check(void) {
    const unsigned char code[] = {0, 1, 2, 3, 4};
    RIGHT(labelled(100) == 5050);
    RIGHT(threaded(code, 1) == 57);
    return 1;
}
