/* hazards/sweep.rs, hazards/verdicts.rs, attach/springs.rs: entries that take two bytes of a jump but
 * not five, with padding near by and without. Four threads call all of them. */
#include <pthread.h>

#ifndef ROUNDS
#define ROUNDS 50
#endif
#include "rounds.h"

enum { THREADS = 4, CALLS = 200 };

long label_3(long n, long turns), pushes(long n, long turns), sums(long n);
long calls(long n, long (*function)(long));
void returns(void);
long close_by(long n), neighbour(long n), walled(long n, long turns), label_1(long n);
long early(void), late_in(void);

#define BEGIN(name) ".globl " name "\n.type " name ",@function\n" name ":\n"
#define END(name) ".size " name ",.-" name "\n"

__asm__(
    ".text\n"
    /* As in memcpy: three bytes, then a label. */
    ".p2align 6\n" BEGIN("label_3")
    "mov %rdi,%rax\n"
    "1: add $2,%rax\n"
    "dec %rsi\n"
    "jg 1b\n"
    "ret\n" END("label_3")
    /* Two instructions in three bytes. */
    ".p2align 6\n" BEGIN("pushes")
    "push %rbx\n"
    "push %r12\n"
    "1: lea 1(%rdi),%rdi\n"
    "dec %rsi\n"
    "jg 1b\n"
    "mov %rdi,%rax\n"
    "pop %r12\n"
    "pop %rbx\n"
    "ret\n" END("pushes")
    ".p2align 6\n" BEGIN("sums")
    "xor %eax,%eax\n"
    "1: add %rdi,%rax\n"
    "dec %rdi\n"
    "jg 1b\n"
    "ret\n" END("sums")
    /* A call that returns into the five bytes, and not into the three. */
    ".p2align 6\n" BEGIN("calls")
    "push %rbx\n"
    "call *%rsi\n"
    "1: add $5,%rax\n"
    "pop %rbx\n"
    "ret\n" END("calls")
    /* One byte and one of padding; then the next. */
    ".p2align 6\n" BEGIN("returns") "ret\n" END("returns")
    "nop\n"
    BEGIN("close_by") "mov %edi,%eax\nret\n" END("close_by")
    BEGIN("neighbour") "lea 7(%rdi),%rax\nret\n" END("neighbour")
    ".p2align 6\n"
    /* No padding within reach. */
    BEGIN("early") ".rept 100\nxor %eax,%eax\n.endr\nret\n" END("early")
    BEGIN("walled")
    "mov %rdi,%rax\n"
    "1: add $2,%rax\n"
    "dec %rsi\n"
    "jg 1b\n"
    "ret\n" END("walled")
    BEGIN("late_in") ".rept 100\nxor %eax,%eax\n.endr\nret\n" END("late_in")
    /* A branch to the second byte: nothing but a breakpoint fits. */
    ".p2align 6\n" BEGIN("label_1")
    "push %rbx\n"
    "1: lea 3(%rdi),%rdi\n"
    "cmp $100,%rdi\n"
    "jl 1b\n"
    "mov %rdi,%rax\n"
    "pop %rbx\n"
    "ret\n" END("label_1") ".p2align 6\n");

static long twice(long n) { return 2 * n; }

static void *work(void *unused) {
    (void)unused;
    for (long n = 1; n <= CALLS; n++) {
        long turns = 1 + n % 7;
        returns();
        if (label_3(n, turns) != n + 2 * turns) return "label_3";
        if (pushes(n, turns) != n + turns) return "pushes";
        if (sums(turns) != turns * (turns + 1) / 2) return "sums";
        if (calls(n, twice) != 2 * n + 5) return "calls";
        if (close_by(n) != n || neighbour(n) != n + 7) return "close_by";
        if (walled(n, turns) != n + 2 * turns) return "walled";
        if (early() || late_in()) return "early";
    }
    return label_1(91) == 100 ? NULL : "label_1";
}

static int check(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) RIGHT(!pthread_create(&threads[i], NULL, work, NULL));
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        if (wrong) printf("wrong: %s\n", (char *)wrong);
        RIGHT(!wrong);
    }
    return 1;
}
