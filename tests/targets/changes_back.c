/* attach/foreign.rs: a program that wrote into one of its functions and puts the bytes back when a
 * line comes; then it calls the function once for each line. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "target.h"

int patched(int);
__asm__(
    ".text\n.p2align 12\n.globl patched\n.type patched,@function\npatched:\n"
    "mov $1,%eax\nret\n.size patched,.-patched\n.p2align 12\n");

static void put(unsigned char byte) {
    *((volatile unsigned char *)(uintptr_t)patched + 1) = byte;
    __asm__ volatile("cpuid" : : "a"(0) : "rbx", "rcx", "rdx", "memory");
}

int main(void) {
    if (mprotect((void *)(uintptr_t)patched, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) return 1;
    put(9);
    ready();
    wait_for_go();
    printf("was %d\n", patched(0));
    put(1);
    fflush(stdout);
    while (wait_for_go(), !feof(stdin)) {
        printf("called %d\n", patched(0));
        fflush(stdout);
    }
    return 0;
}
