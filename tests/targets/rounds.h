/* A program that does the same over and over: `check` says whether it came out right. Without an
 * argument it makes ROUNDS rounds; with one it says `ready` and goes on until the end of standard
 * input; a line there is answered by `round` after one more round. Prints `right` and ends with
 * status 0, or says what was wrong. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "target.h"

#ifndef ROUNDS
#define ROUNDS 300
#endif

static NOINLINE int check(void);

/* Whether the round was asked for. */
static volatile int asked;

/* What is told before `round`. */
#ifndef TOLD
#define TOLD()
#endif

/* For use inside `check`: says what is not so, and makes it fail. */
#define RIGHT(condition)                                           \
    do {                                                           \
        if (!(condition)) {                                        \
            printf("wrong: %s (line %d)\n", #condition, __LINE__); \
            return 0;                                              \
        }                                                          \
    } while (0)

int main(int argc, char **argv) {
    unsigned long round = 0;
    int open = 1;
    (void)argv;
    if (argc > 1) ready();
    while (argc > 1 ? open : round < ROUNDS) {
        if (!check()) {
            printf("in round %lu\n", round);
            return 1;
        }
        round++;
        if (asked) {
            asked = 0;
            TOLD();
            puts("round");
            fflush(stdout);
        }
        struct pollfd input = {.fd = 0, .events = POLLIN};
        if (argc > 1 && poll(&input, 1, 0) > 0) {
            char line[64];
            open = read(0, line, sizeof line) > 0;
            asked = open;
        }
    }
    puts("right");
    return 0;
}
