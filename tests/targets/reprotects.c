/* Takes the right to execute from its own text and gives it back, over and over, also with the right
 * to write in between; and from all text of a library, while another one is opened. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define ROUNDS 100
#include "rounds.h"

int guarded(int);
__asm__(
    ".text\n.p2align 12\n.globl guarded\n.type guarded,@function\nguarded:\n"
    "lea 3(%rdi),%eax\nadd %edi,%eax\nret\n.size guarded,.-guarded\n.p2align 12\n");

/* The text of a file that is mapped. */
static int text_of(const char *name, uintptr_t *start, uintptr_t *end) {
    char line[512], access[8];
    FILE *maps = fopen("/proc/self/maps", "r");
    int found = 0;
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, name) && sscanf(line, "%lx-%lx %7s", start, end, access) == 3)
            if ((found = access[2] == 'x')) break;
    if (maps) fclose(maps);
    return found;
}

static NOINLINE int check(void) {
    static double (*root)(double);
    static uintptr_t start, end;
    static const int rights[] = {PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE};
    for (unsigned i = 0; i < sizeof rights / sizeof *rights; i++) {
        RIGHT(guarded(i) == 3 + 2 * (int)i);
        RIGHT(mprotect((void *)(uintptr_t)guarded, 4096, rights[i]) == 0);
        RIGHT(mprotect((void *)(uintptr_t)guarded, 4096, PROT_READ | PROT_EXEC) == 0);
        RIGHT(guarded(i) == 3 + 2 * (int)i);
    }
    if (!root) {
        void *library = dlopen("libm.so.6", RTLD_NOW);
        RIGHT(library != NULL && text_of("libm.so.6", &start, &end));
        root = (double (*)(double))dlsym(library, "cbrt");
    }
    RIGHT(mprotect((void *)start, end - start, PROT_READ) == 0);
    void *other = dlopen("libresolv.so.2", RTLD_NOW);
    RIGHT(other != NULL && dlclose(other) == 0);
    RIGHT(mprotect((void *)start, end - start, PROT_READ | PROT_EXEC) == 0);
    RIGHT(root(27) > 2.9 && root(27) < 3.1);
    return 1;
}
