/* hazards/sweep.rs: coroutines on 2 KiB of stack that switch by hand, and a handler on the
 * smallest alternate stack: a probe takes little of a stack. */
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "rounds.h"

enum { STACK = 2048, COROUTINES = 8, GUARD = 512 };

static struct {
    unsigned char guard[GUARD];
    _Alignas(16) unsigned char stack[STACK];
} rooms[COROUTINES];
static void *sps[COROUTINES], *main_sp;
static long total;

/* switch_to(&save, load): pushes what is callee-saved and changes stacks. */
void switch_to(void **save, void *load);
__asm__(
    ".text\n.p2align 4\n.globl switch_to\n.type switch_to,@function\nswitch_to:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\n"
    "ret\n.size switch_to,.-switch_to\n");

NOINLINE long step(long n) { return n * 3 + 1; }

static int current;

NOINLINE void body(void) {
    for (long n = 0;; n++) {
        total += step(n + current);
        switch_to(&sps[current], main_sp);
    }
}

static volatile sig_atomic_t handled;
NOINLINE void in_handler(int signal) { handled += signal > 0; }
static void handler(int signal) { in_handler(signal); }

static int check(void) {
    static unsigned char alternate[8192];
    long expected = 0;
    total = 0;
    memset(rooms, 0x5a, sizeof rooms);
    for (int i = 0; i < COROUTINES; i++) {
        void **top = (void **)(rooms[i].stack + STACK - 16);
        top[0] = (void *)body;
        sps[i] = top - 6;
    }
    for (long n = 0; n < 20; n++) {
        for (current = 0; current < COROUTINES; current++) {
            expected += (n + current) * 3 + 1;
            switch_to(&main_sp, sps[current]);
        }
    }
    RIGHT(total == expected);
    for (int i = 0; i < COROUTINES; i++)
        for (int k = 0; k < GUARD; k++) RIGHT(rooms[i].guard[k] == 0x5a);

    memset(alternate, 0x5a, sizeof alternate);
    long least = sysconf(_SC_MINSIGSTKSZ);
    if (least < 0) least = 2048;
    if (least > 7168) return 1;
    stack_t stack = {.ss_sp = alternate + sizeof alternate - (size_t)((least + 15) & ~15L),
                     .ss_size = (size_t)least};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    RIGHT(sigaltstack(&stack, NULL) == 0);
    RIGHT(sigaction(SIGUSR1, &action, NULL) == 0);
    handled = 0;
    raise(SIGUSR1);
    RIGHT(handled == 1);
    return 1;
}
