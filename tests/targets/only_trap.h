/* A function that can only be a breakpoint, and gives 2n: a branch to its second byte leaves no room
 * even for a springboard. */
int only_trap(int n);
__asm__(
    ".text\n.p2align 4\n.globl only_trap\n.type only_trap,@function\nonly_trap:\n"
    "clc\n"
    "1: lea (%rdi,%rdi),%eax\n"
    "jc 2f\n"
    "stc\n"
    "jmp 1b\n"
    "2: ret\n.size only_trap,.-only_trap\n");
