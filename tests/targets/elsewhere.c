/* tools/elsewhere.rs: answers each line with how often it has called `asked`, a function of its library.
 * The library is this file, built with LIBRARY; with OTHER its functions lie elsewhere, and it has one
 * more. */
#include "target.h"

#ifdef LIBRARY
#ifdef OTHER
NOINLINE int only_here(int n) {
    static volatile int kept[64];
    for (int i = 0; i < 64; i++) kept[i] += n * i;
    return kept[n & 63];
}
#endif
NOINLINE int asked(int n) {
#ifdef OTHER
    only_here(n);
#endif
    return n + 1;
}
#else
int asked(int n);

int main(void) {
    char line[64];
    int calls = 0;
    ready();
    while (fgets(line, sizeof line, stdin)) {
        calls = asked(calls);
        printf("asked %d\n", calls);
        fflush(stdout);
    }
    puts("right");
    return 0;
}
#endif
