/* hazards/offsets.rs: a leaf that keeps 120 bytes below its stack pointer while probes are hit
 * inside it, at `red_zone` + 4, + 14 and `flags` + 3, where flags are live too. */
#include <string.h>

#include "rounds.h"

long red_zone(long seed), flags(long a, long b);
__asm__(
    ".text\n.p2align 4\n.globl red_zone\n.type red_zone,@function\nred_zone:\n"
    "mov $15,%ecx\n"                    /* +0 */
    "lea (%rdi,%rcx),%rax\n"            /* +5 */
    "neg %rcx\n"                        /* +9 */
    "1: mov %rax,-8(%rsp,%rcx,8)\n"     /* +12: -128(%rsp)... -16(%rsp) */
    "lea 1(%rax),%rax\n"                /* +17 */
    "inc %rcx\n"                        /* +21 */
    "jnz 1b\n"                          /* +24 */
    "mov $-15,%rcx\n"                   /* +26 */
    "xor %eax,%eax\n"                   /* +33 */
    "2: add -8(%rsp,%rcx,8),%rax\n"     /* +35 */
    "inc %rcx\n"
    "jnz 2b\n"
    "ret\n.size red_zone,.-red_zone\n"
    ".p2align 4\n.globl flags\n.type flags,@function\nflags:\n"
    "cmp %rsi,%rdi\n"                   /* +0 */
    "nopl 0(%rax,%rax)\n"               /* +3 */
    "setl %al\n"
    "movzbl %al,%eax\n"
    "ret\n.size flags,.-flags\n");

static int check(void) {
    /* 15 words, seed + 15 and up. */
    RIGHT(red_zone(100) == 15 * 115 + 105);
    RIGHT(flags(1, 2) == 1 && flags(2, 1) == 0 && flags(2, 2) == 0);
    return 1;
}
