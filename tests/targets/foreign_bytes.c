/* attach/foreign.rs: a program that writes into its own functions, once with a byte of its own at
 * an entry, and looks whether it stays. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "target.h"

int patched(int);
__asm__(
    ".text\n.p2align 12\n.globl patched\n.type patched,@function\npatched:\n"
    "mov $1,%eax\nret\n.size patched,.-patched\n"
    ".p2align 4\n.globl neighbour\n.type neighbour,@function\nneighbour:\n"
    "mov $2,%eax\nret\n.size neighbour,.-neighbour\n.p2align 12\n");
int neighbour(void);

int main(void) {
    volatile unsigned char *text = (volatile unsigned char *)(uintptr_t)patched;
    if (mprotect((void *)text, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) return 1;
    ready();
    wait_for_go();
    /* mov $1 becomes mov $9, whatever stands in front of it: `b8 09 00 00 00`. */
    const unsigned char mine[5] = {0xb8, 9, 0, 0, 0};
    memcpy((void *)text, mine, sizeof mine);
    __asm__ volatile("cpuid" : : "a"(0) : "rbx", "rcx", "rdx", "memory");
    printf("wrote %d %d\n", patched(0), neighbour());
    fflush(stdout);
    wait_for_go();
    printf("have %d %d\n", patched(0), neighbour());
    return 0;
}
