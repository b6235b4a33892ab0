/* attach/foreign.rs: does what it is told, one letter a line: `c` calls a function of its own, `p`
 * writes a jump of its own at its entry, `f` puts there what its file has, `s` sums its text. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "target.h"

int patched(void), other(void);
__asm__(
    ".text\n.p2align 12\n.globl patched\n.type patched,@function\npatched:\n"
    "mov $1,%eax\nret\n.size patched,.-patched\n"
    ".p2align 4\n.globl other\n.type other,@function\nother:\n"
    "mov $2,%eax\nret\n.size other,.-other\n.p2align 12\n");

static void put(const unsigned char bytes[5]) {
    memcpy((void *)(uintptr_t)patched, bytes, 5);
    __asm__ volatile("cpuid" : : "a"(0) : "rbx", "rcx", "rdx", "memory");
}

int main(void) {
    static const unsigned char file[5] = {0xb8, 1, 0, 0, 0};
    unsigned char jump[5] = {0xe9};
    int distance = (int)((intptr_t)other - (intptr_t)patched - 5);
    memcpy(jump + 1, &distance, 4);
    if (mprotect((void *)(uintptr_t)patched, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) return 1;
    ready();
    for (int c; (c = getchar()) != EOF;) {
        if (c == 'p') put(jump);
        if (c == 'f') put(file);
        if (c == 'c') printf("called %d\n", patched());
        if (c == 's') {
            unsigned sum = 0;
            const volatile unsigned char *text = (const volatile unsigned char *)(uintptr_t)patched;
            for (int i = 0; i < 4096; i++) sum = sum * 31 + text[i];
            printf("sum %08x\n", sum);
        }
        if (c == '\n') {
            puts("done");
            fflush(stdout);
        }
    }
    return 0;
}
