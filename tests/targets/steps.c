/* Calls `step` once for each line on standard input and says so; tells how often it was
 * interrupted; at the end of input prints the sum of all steps and ends with status 7. */
#include <signal.h>
#include <unistd.h>

#include "target.h"

static volatile sig_atomic_t interrupts;

static void interrupted(int signal) {
    char text[] = "interrupt N\n";
    (void)signal;
    text[10] = (char)('0' + ++interrupts % 10);
    if (write(1, text, sizeof text - 1) < 0) _exit(1);
}

NOINLINE int step(int n) {
    __asm__ volatile("" ::: "memory");
    return 3 * n + (n & 1);
}

int main(void) {
    struct sigaction action = {.sa_handler = interrupted, .sa_flags = SA_RESTART};
    char line[100];
    int sum = 0, n = 0;
    sigaction(SIGINT, &action, NULL);
    printf("pid %d\n", (int)getpid());
    ready();
    while (fgets(line, sizeof line, stdin)) {
        sum += step(++n);
        printf("step %d\n", n);
        fflush(stdout);
    }
    printf("sum %d\n", sum);
    fprintf(stderr, "steps says good-bye\n");
    return 7;
}
