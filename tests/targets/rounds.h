/* A program that does the same over and over: `check` says whether it came out right. Without an
 * argument it makes ROUNDS rounds; with one it says `ready` and goes on until a line, or the end,
 * comes on standard input. Prints `right` and ends with status 0, or says what was wrong. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "target.h"

#ifndef ROUNDS
#define ROUNDS 300
#endif

static int check(void);

/* For a check inside `check`: says where, and makes it fail. */
#define RIGHT(condition)                                                     \
    do {                                                                     \
        if (!(condition)) {                                                  \
            printf("wrong: %s (line %d)\n", #condition, __LINE__);           \
            return 0;                                                        \
        }                                                                    \
    } while (0)

int main(int argc, char **argv) {
    unsigned long round = 0;
    (void)argv;
    if (argc < 2) {
        while (round < ROUNDS && check()) round++;
        if (round < ROUNDS) return 1;
    } else {
        struct pollfd go = {.fd = 0, .events = POLLIN};
        ready();
        while (poll(&go, 1, 0) == 0) {
            if (!check()) {
                printf("in round %lu\n", round);
                return 1;
            }
            round++;
        }
    }
    puts("right");
    return 0;
}
