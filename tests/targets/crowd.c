/* control.rs, bench: threads that call a thousand small functions in turn, and see whether what each returns is
 * right. Says `ready`; a line on standard input is answered by `round` once every thread has been round
 * since; says `right` at its end. The argument is the number of threads. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "target.h"

enum { MOST = 64, FUNCTIONS = 1000 };

#define F(n) NOINLINE long small_##n(long x) { return x * 3 + n; }
/* One for each level: a macro is not expanded inside itself. */
#define F10(p) F(p##0) F(p##1) F(p##2) F(p##3) F(p##4) F(p##5) F(p##6) F(p##7) F(p##8) F(p##9)
#define F100(p) F10(p##0) F10(p##1) F10(p##2) F10(p##3) F10(p##4) \
                F10(p##5) F10(p##6) F10(p##7) F10(p##8) F10(p##9)
#define N(n) small_##n,
#define N10(p) N(p##0) N(p##1) N(p##2) N(p##3) N(p##4) N(p##5) N(p##6) N(p##7) N(p##8) N(p##9)
#define N100(p) N10(p##0) N10(p##1) N10(p##2) N10(p##3) N10(p##4) \
                N10(p##5) N10(p##6) N10(p##7) N10(p##8) N10(p##9)
/* From 1000 on: a number that begins with 0 is another. */
F100(10) F100(11) F100(12) F100(13) F100(14) F100(15) F100(16) F100(17) F100(18) F100(19)

static long (*const all[])(long) = {N100(10) N100(11) N100(12) N100(13) N100(14)
                                    N100(15) N100(16) N100(17) N100(18) N100(19)};

static atomic_int over, wrong;
static struct {
    _Alignas(64) atomic_long rounds;
} made[MOST];

static void *work(void *arg) {
    long me = (long)arg;
    for (long n = 0; !over; n++) {
        for (long i = 0; i < FUNCTIONS; i++)
            if (all[i](n) != n * 3 + 1000 + i) wrong = 1;
        made[me].rounds++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 4;
    pthread_t ids[MOST];
    if (threads > MOST || sizeof all / sizeof *all != FUNCTIONS) return 2;
    for (long i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)i)) return 2;
#ifdef SAYS_PID
    printf("ready %d\n", getpid());
    fflush(stdout);
#endif
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
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    puts(wrong ? "wrong" : "right");
    return wrong;
}
