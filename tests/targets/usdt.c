/* Used by tests/life/usdt.rs and tests/probes/usdt.rs: USDT probes in a program that does what the
   lines on its standard input say, and answers each with one line.
     r     a round: `shop:sold` is passed at three places, ten times each
     v     arguments of every format, at `shop:formats` and `shop:written`
     t     four threads with a round each
     f     a child with a round, which answers too
     u     raises the semaphore, as another tracer would
     x     begins this program anew
     o P   opens the library P and calls its `visit` five times; c closes it
     q     ends
   An answer is the semaphore of `shop:sold` and how often arguments were prepared for it. */
#define _GNU_SOURCE
#include "usdt.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

USDT_SEMAPHORE(shop_sold_semaphore);
static int prepared;
int table[4] = {11, -22, 33, -44};
static volatile signed char small = -5;
static volatile unsigned short middle = 65000;

/* At a place of its own, with its arguments elsewhere, in each function it becomes part of. */
static inline __attribute__((always_inline)) void sold(int piece, unsigned long price) {
    if (__builtin_expect(shop_sold_semaphore, 0)) {
        __atomic_add_fetch(&prepared, 1, __ATOMIC_RELAXED);
        USDT2("shop", "sold", "shop_sold_semaphore", piece, price);
    }
}

__attribute__((noinline)) static void by_register(int n) {
    sold(n, 100ul + n);
}
__attribute__((noinline)) static void by_constant(void) {
    sold(-7, 7000000000ul);
}
__attribute__((noinline)) static void by_memory(volatile int *n) {
    sold(*n, *(volatile unsigned long *)(n + 2));
}

static void round_of_ten(void) {
    volatile int both[4] = {0};
    for (int i = 0; i < 10; i++) {
        both[0] = 1000 + i;
        both[2] = 50 + i;
        by_register(i);
        by_constant();
        by_memory(both);
        USDT0("shop", "tick", "0");
    }
}

__attribute__((noinline)) static void formats(signed char a, unsigned char b, short c, unsigned short d,
                                              int e, unsigned f, long g, unsigned long h) {
    USDT4("shop", "formats", "0", a, b, c, d);
    USDT4("shop", "wide", "0", e, f, g, h);
    USDT4("shop", "stored", "0", small, middle, table[1], table[2]);
    /* What compilers may write, by hand. */
    __asm__ volatile("mov $0x1234f6, %%eax\n"
                     "mov $2, %%ecx\n"
                     "lea table(%%rip), %%rbx\n"
                     "990: nop\n" USDT_NOTE("shop", "written", "0",
                                            "1@%%ah -1@%%al 4@(%%rbx,%%rcx,4) -4@-4(%%rbx,%%rcx,4) "
                                            "-8@$-3 4@$-1 %%rcx -4@12+table(%%rip) "
                                            "-4@table(,%%rcx,2) -4@(%%rbx, %%rcx, 2) 8f@%%xmm0")
                     : : : "rax", "rcx", "rbx");
}

static void *thread(void *unused) {
    round_of_ten();
    return unused;
}

static void answer(const char *who) {
    printf("%s %d %d\n", who, shop_sold_semaphore, prepared);
    fflush(stdout);
}

int main(void) {
    char line[4096];
    void *library = NULL;
    setvbuf(stdin, NULL, _IONBF, 0); /* What is not read yet is there after `x`. */
    answer("ready");
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        switch (line[0]) {
        case 'r':
            round_of_ten();
            break;
        case 'v':
            formats(-1, 255, -300, 65535, -70000, 4000000000u, -5000000000l, 18000000000000000000ul);
            break;
        case 't': {
            pthread_t all[4];
            for (int i = 0; i < 4; i++)
                if (pthread_create(&all[i], NULL, thread, NULL))
                    return 1;
            for (int i = 0; i < 4; i++)
                pthread_join(all[i], NULL);
            break;
        }
        case 'f': {
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                round_of_ten();
                answer("child");
                _exit(0);
            }
            int status = 1;
            if (waitpid(child, &status, 0) != child || status)
                return 1;
            break;
        }
        case 'o': {
            library = dlopen(line + 2, RTLD_NOW);
            if (!library)
                return puts(dlerror()), 1;
            int (*visit)(int) = (int (*)(int))dlsym(library, "visit");
            for (int i = 0; i < 5; i++)
                visit(i);
            unsigned short *semaphore = dlsym(library, "mall_visit_semaphore");
            printf("visited %d %d\n", *semaphore, visit(0));
            break;
        }
        case 'u':
            shop_sold_semaphore++;
            break;
        case 'x':
            execl("/proc/self/exe", "usdt", NULL);
            return 1;
        case 'c':
            dlclose(library);
            break;
        case 'q':
            return 0;
        }
        answer("done");
    }
    return 0;
}
