/* control.rs: threads that call functions all the time, and see whether what they return is right. Says
 * `ready`; a line on standard input is answered by `round` once every thread has made calls since; at
 * its end says `right` and how often `steady` was called. The argument is the number of threads. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "target.h"

enum { MOST = 64, CALLS = 64 };

static atomic_int over, wrong;
static struct {
    _Alignas(64) atomic_long rounds;
} made[MOST];

/* Many instructions begin in each other's windows: 2n + 1. */
long crowded(long n);
__asm__(".text\n.globl crowded\n.type crowded,@function\n.p2align 4\ncrowded:\n"
        "push %rbx\n mov %rdi,%rbx\n lea 1(%rbx),%rax\n add %rbx,%rax\n pop %rbx\n ret\n"
        ".size crowded, . - crowded\n");

NOINLINE long steady(long n) { return n * 3 + 1; }
NOINLINE long inner(long n) { return n ^ 0x5a; }
NOINLINE long outer(long n) { return inner(n) + inner(n + 1); }
NOINLINE double scaled(double x, int n) { return x * n + 0.5; }

static void *work(void *arg) {
    long me = (long)arg;
    for (long n = 0; !over; n++) {
        for (long i = n; i < n + CALLS; i++) {
            int bad = crowded(i) != 2 * i + 1 || steady(i) != i * 3 + 1 ||
                      outer(i) != (i ^ 0x5a) + ((i + 1) ^ 0x5a) || scaled(1.5, (int)(i & 7)) != 1.5 * (i & 7) + 0.5;
            if (bad) wrong = 1;
        }
        made[me].rounds++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 4;
    pthread_t all[MOST];
    if (threads > MOST) threads = MOST;
    for (long i = 0; i < threads; i++)
        if (pthread_create(&all[i], NULL, work, (void *)i)) return 2;
    ready();
    char line[64];
    while (read(0, line, sizeof line) > 0) {
        for (int i = 0; i < threads; i++) {
            long before = made[i].rounds;
            while (made[i].rounds < before + 2) usleep(100);
        }
        puts(wrong ? "wrong" : "round");
        fflush(stdout);
    }
    over = 1;
    long calls = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(all[i], NULL);
        calls += made[i].rounds * CALLS;
    }
    printf("%s %ld\n", wrong ? "wrong" : "right", calls);
    return wrong;
}
