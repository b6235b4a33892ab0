/* Control flow of every kind a compiler makes of C: dense and sparse switches, computed gotos, tail
 * calls, indirect calls, setjmp, loops to a function's own start, and much of the C library. Ends
 * with status 0 when its sum is the same twice. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

static jmp_buf back;

NOINLINE static unsigned dense(unsigned n) {
    switch (n % 12) {
    case 0: return n * 3;
    case 1: return n ^ 0x55;
    case 2: return n + 17;
    case 3: return n << 3;
    case 4: return ~n;
    case 5: return n / 7;
    case 6: return n % 11;
    case 7: return n - 99;
    case 8: return n | 0x1010;
    case 9: return n & 0xff0;
    default: return n >> 2;
    }
}

NOINLINE static unsigned sparse(unsigned n) {
    switch (n & 0xffff) {
    case 3: return 1;
    case 700: return 2;
    case 9000: return 3;
    case 40000: return 4;
    case 65000: return 5;
    }
    return n;
}

/* A function that is one switch: its cases begin close behind its entry. */
NOINLINE static unsigned at_once(unsigned n) {
    switch (n) {
    case 0: return 7;
    case 1: return 4;
    case 2: return 9;
    case 3: return 1;
    case 4: return 0;
    case 5: return 3;
    }
    return n + 1;
}

NOINLINE static unsigned machine(const unsigned char *code, unsigned n) {
    static const void *const steps[] = {&&add, &&twice, &&flip, &&less, &&stop};
    goto *steps[*code];
add:
    n += 3;
    goto *steps[*++code];
twice:
    n *= 2;
    goto *steps[*++code];
flip:
    n = ~n;
    goto *steps[*++code];
less:
    if (n > 1000)
        n -= 1000;
    goto *steps[*++code];
stop:
    return n;
}

/* The same by distances from a label: no address of a label is stored anywhere. */
NOINLINE static unsigned apart(const unsigned char *code, unsigned n) {
    static const int steps[] = {&&add - &&add, &&twice - &&add, &&flip - &&add, &&less - &&add,
                                &&stop - &&add};
    goto *(&&add + steps[*code]);
add:
    n += 3;
    goto *(&&add + steps[*++code]);
twice:
    n *= 2;
    goto *(&&add + steps[*++code]);
flip:
    n = ~n;
    goto *(&&add + steps[*++code]);
less:
    if (n > 1000)
        n -= 1000;
    goto *(&&add + steps[*++code]);
stop:
    return n;
}

/* At -O2 loops to their own starts and jumps to other functions. */
NOINLINE static unsigned odd(unsigned n);
NOINLINE static unsigned even(unsigned n) { return n == 0 ? 1 : odd(n - 1); }
NOINLINE static unsigned odd(unsigned n) { return n == 0 ? 0 : even(n - 1); }
NOINLINE static unsigned count_down(unsigned *n) {
    if (--*n == 0)
        return 5;
    return count_down(n);
}
NOINLINE static unsigned nothing(void) { return 0; }
NOINLINE static void empty(void) { __asm__ volatile(""); }
NOINLINE static unsigned leave(unsigned n) {
    if (n % 3 == 0)
        longjmp(back, 1);
    return n;
}
NOINLINE static unsigned fill(char *to, int byte, size_t size) {
    memset(to, byte, size);
    return (unsigned)to[size / 2];
}

static int order(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

static unsigned (*const table[])(unsigned) = {dense, sparse, at_once, even, odd, leave};

static unsigned turn(unsigned seed) {
    static const unsigned char code[] = {0, 1, 2, 3, 0, 3, 1, 4};
    char text[256], other[256];
    int numbers[40];
    volatile unsigned sum = seed;
    for (unsigned i = 0; i < 40; i++) {
        sum += dense(i + seed) + sparse(i * 100) + at_once(i % 8);
        sum += machine(code + i % 6, i) + apart(code + i % 6, i);
        sum += even(i) + odd(i + 1) + nothing();
        unsigned n = i + 1;
        sum += count_down(&n);
        empty();
        if (setjmp(back) == 0)
            sum += table[i % 6](i);
        sum += fill(text, 'a' + (int)(i % 26), i * 6 + 1);
        numbers[i] = (int)(sum >> 8);
    }
    qsort(numbers, 40, sizeof *numbers, order);
    for (unsigned size = 1; size < sizeof text; size += size / 2 + 1) {
        memset(text, 'x', size);
        text[size - 1] = 0;
        memmove(other, text, size);
        sum += (unsigned)strlen(other) + (unsigned)(strchr(other, 'y') == NULL);
        sum += (unsigned)(strcmp(text, other) == 0) + (unsigned)(memcmp(text, other, size) == 0);
    }
    snprintf(text, sizeof text, "%d %s %g %x", numbers[3], "text", 1.5 * numbers[4], seed);
    sum += (unsigned)strtoul(text, NULL, 10) + (unsigned)strlen(text);
    char *block = malloc(5000);
    block = realloc(block, 50000);
    sum += block != NULL;
    free(block);
    return sum;
}

int main(void) { return turn(1) == turn(1) ? 0 : 1; }
