/* attach/many.rs: threads that hardly rest, and a first one that does what the lines of its input ask
 * for: `work N` calls work N times, `fork N` has a child do so, `exec` runs this program again, `crash`
 * ends it by SIGSEGV. Each is answered by `did` and the line. Ends with its input. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target.h"

NOINLINE long work(long n) {
    __asm__ volatile("" : "+r"(n));
    return n * 3;
}

NOINLINE long idle(long n) {
    __asm__ volatile("" : "+r"(n));
    return n + 1;
}

#ifdef ALONE
NOINLINE long alone(long n) {
    __asm__ volatile("" : "+r"(n));
    return n - 1;
}
#endif

static void *hardly_rests(void *arg) {
    for (long n = 0;; n++) {
        if (idle(n) != n + 1) abort();
        /* Several of these share few processors. */
        if (n % 1000 == 0) usleep(100);
    }
    return arg;
}

static void work_often(long count) {
    for (long n = 0; n < count; n++) {
        if (work(n) != n * 3) abort();
#ifdef ALONE
        if (alone(n) != n - 1) abort();
#endif
    }
}

int main(int argc, char **argv) {
    char line[64];
    (void)argc;
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, hardly_rests, NULL) != 0) return 2;
    }
    ready();
    while (fgets(line, sizeof line, stdin)) {
        if (!strncmp(line, "work ", 5)) work_often(atol(line + 5));
        if (!strncmp(line, "fork ", 5)) {
            int status;
            pid_t child = fork();
            if (child == 0) {
                work_often(atol(line + 5));
                _exit(0);
            }
            if (waitpid(child, &status, 0) != child || status != 0) return 3;
        }
        if (!strncmp(line, "exec", 4)) execv("/proc/self/exe", argv);
        if (!strncmp(line, "crash", 5)) raise(SIGSEGV);
        printf("did %s", line);
        fflush(stdout);
    }
    puts("right");
    return 0;
}
