/* remote.rs: threads of every kind that a call may be made in: one at work, which keeps all its
 * registers, and one in each kind of call that waits. Prints a line `thread NAME TID` for each. A
 * line on standard input ends the waits; then every thread says whether it got what it waited for,
 * still has its signal mask and its alternate stack, and `right` is printed if all have. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "target.h"

static int event, from_pipe[2], futex_word;
static volatile int wrong, over;

static void told(const char *what, int right) {
    if (right) return;
    printf("wrong: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    wrong = 1;
}

/* One turn: registers, flags, SSE and x87 state have what they had before a long loop. */
static void turn(void) {
    static uint64_t vectors[8] __attribute__((aligned(64)));
    /* Static: the stack pointer moves meanwhile. */
    static uint64_t out[8], general, flags, mxcsr_in = 0x7f80, mxcsr_out;
    static uint32_t usual = 0x1f80;
    static long double deep;
    general = flags = mxcsr_out = 0, deep = 0;
    memset(out, 0, sizeof out);
    for (int i = 0; i < 8; i++) vectors[i] = 0x0123456789abcdefu * (i + 1);
    int avx = __builtin_cpu_supports("avx");
#define LOOP \
    "ldmxcsr %[in]\nfldpi\nfld1\nstd\n" \
    "mov $0x11,%%rax\nmov $0x22,%%rdx\nmov $0x33,%%rsi\nmov $0x44,%%rdi\n" \
    "mov $0x55,%%r8\nmov $0x66,%%r9\nmov $0x77,%%r10\nmov $0x88,%%r11\nmov $0x99,%%r12\n" \
    "mov $0xaa,%%r13\nmov $2000000,%%ecx\n1: dec %%ecx\njnz 1b\n" \
    "pushfq\ncld\n" \
    "add %%rdx,%%rax\nadd %%rsi,%%rax\nadd %%rdi,%%rax\nadd %%r8,%%rax\nadd %%r9,%%rax\n" \
    "add %%r10,%%rax\nadd %%r11,%%rax\nadd %%r12,%%rax\nadd %%r13,%%rax\nadd %%rcx,%%rax\n" \
    "mov %%rax,%[general]\npop %[flags]\nfaddp\nfstpt %[deep]\nstmxcsr %[out]\nldmxcsr %[usual]\n"
#define LEFT [general] "=m"(general), [flags] "=m"(flags), [deep] "=m"(deep), [out] "=m"(mxcsr_out)
#define GONE "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "cc", "memory"
    if (avx)
        __asm__ volatile("sub $256,%%rsp\nvmovdqu (%[v]),%%ymm1\nvmovdqu 32(%[v]),%%ymm14\n" LOOP
                         "vmovdqu %%ymm1,(%[o])\nvmovdqu %%ymm14,32(%[o])\nvzeroupper\n"
                         "add $256,%%rsp"
                         : LEFT
                         : [v] "r"(vectors), [o] "r"(out), [in] "m"(mxcsr_in), [usual] "m"(usual)
                         : GONE, "xmm1", "xmm14");
    else
        __asm__ volatile("sub $256,%%rsp\nmovdqu (%[v]),%%xmm1\nmovdqu 32(%[v]),%%xmm14\n" LOOP
                         "movdqu %%xmm1,(%[o])\nmovdqu %%xmm14,32(%[o])\nadd $256,%%rsp"
                         : LEFT
                         : [v] "r"(vectors), [o] "r"(out), [in] "m"(mxcsr_in), [usual] "m"(usual)
                         : GONE, "xmm1", "xmm14");
    told("general registers", general == 0x11 + 0x22 + 0x33 + 0x44 + 0x55 + 0x66 + 0x77 + 0x88 + 0x99 + 0xaa);
    told("flags", (flags & 0x400) && (flags & 0x40));
    told("x87", deep > 4.14L && deep < 4.15L);
    told("MXCSR", (mxcsr_out & 0x6000) == 0x6000);
    told("vectors", !memcmp(vectors, out, 16) && !memcmp(vectors + 4, out + 4, 16) &&
                        (!avx || !memcmp(vectors, out, 64)));
}

static void at_work(void) {
    do turn();
    while (!over);
}
static void in_read(void) {
    char byte = 0;
    told("read", read(from_pipe[0], &byte, 1) == 1 && byte == 'x');
}
static void in_nanosleep(void) {
    struct timespec before, after, time = {0, 500000000}, rest;
    while (!over) {
        clock_gettime(CLOCK_MONOTONIC, &before);
        told("nanosleep", nanosleep(&time, &rest) == 0);
        clock_gettime(CLOCK_MONOTONIC, &after);
        long slept = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
        told("the time of nanosleep", slept >= 500000000);
    }
}
static void in_futex(void) {
    told("futex", syscall(SYS_futex, &futex_word, FUTEX_WAIT, 0, NULL) == 0);
}
static void in_futex_timed(void) {
    struct timespec long_time = {10000, 0};
    told("futex with a time", syscall(SYS_futex, &futex_word, FUTEX_WAIT, 0, &long_time) == 0);
}
static void in_epoll(void) {
    struct epoll_event wanted = {.events = EPOLLIN}, got;
    int fd = epoll_create1(0);
    epoll_ctl(fd, EPOLL_CTL_ADD, event, &wanted);
    told("epoll_wait", epoll_wait(fd, &got, 1, 1000000) == 1);
}

struct kind {
    const char *name;
    void (*does)(void);
};
static const struct kind kinds[] = {
    {"work", at_work},           {"read", in_read},   {"nanosleep", in_nanosleep},
    {"futex", in_futex},         {"timed", in_futex_timed}, {"epoll", in_epoll},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Does what its kind does, with a mask and an alternate stack of its own. */
static void *thread(void *arg) {
    int index = (int)(intptr_t)arg;
    sigset_t mask, now;
    stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16}, stack_now;
    sigemptyset(&mask), sigaddset(&mask, SIGRTMIN + 1 + index), sigaddset(&mask, SIGUSR1);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    sigaltstack(&stack, NULL);
    printf("thread %s %ld\n", kinds[index].name, syscall(SYS_gettid));
    fflush(stdout);
    kinds[index].does();
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    for (int signal = 1; signal < SIGRTMAX; signal++)
        if (sigismember(&mask, signal) != sigismember(&now, signal)) {
            printf("wrong: mask of %s: signal %d\n", kinds[index].name, signal);
            wrong = 1;
        }
    sigaltstack(NULL, &stack_now);
    told("the alternate stack", stack_now.ss_sp == stack.ss_sp && stack_now.ss_size == stack.ss_size &&
                                    stack_now.ss_flags == 0);
    return NULL;
}

int main(void) {
    pthread_t threads[KINDS];
    event = eventfd(0, 0);
    if (event < 0 || pipe(from_pipe)) return 1;
    for (int i = 0; i < KINDS; i++) pthread_create(&threads[i], NULL, thread, (void *)(intptr_t)i);
    ready();
    wait_for_go();
    over = 1;
    told("write", write(from_pipe[1], "x", 1) == 1);
    eventfd_write(event, 1);
    /* A wait that begins after the wake would never end: until both have come. */
    for (int woken = 0; woken < 2;) woken += syscall(SYS_futex, &futex_word, FUTEX_WAKE, 100);
    for (int i = 0; i < KINDS; i++) pthread_join(threads[i], NULL);
    if (!wrong) puts("right");
    return wrong;
}
