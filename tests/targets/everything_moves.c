/* attach/storm.rs: threads that come and go, a timer at 1 kHz and signals between threads, a library
 * that is opened and closed, a tree of forks: all at once, each with a result that is known. The
 * library is this file, built with LIBRARY. */
#define _GNU_SOURCE
#ifdef LIBRARY
static volatile int opened;
__attribute__((noinline, noclone)) int plugged(int n) { return n * 2 + opened; }
__attribute__((constructor)) static void start(void) { opened = plugged(0) + 1; }
#else
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#define ROUNDS 10
#include "rounds.h"

enum { THREADS = 16, OPENS = 4, DEPTH = 3 };

static volatile long ticks;
NOINLINE long work(long n) { return n * 3 + 1; }
static void on_tick(int signal) {
    (void)signal;
    ticks += work(0);
}

static void *lives(void *arg) {
    long n = (long)arg;
    for (int i = 0; i < 50; i++) n = work(n) & 0xffff;
    pthread_kill(pthread_self(), SIGUSR1);
    return (void *)n;
}

static int threads(void) {
    pthread_t made[THREADS];
    for (long i = 0; i < THREADS; i++)
        RIGHT(pthread_create(&made[i], NULL, lives, (void *)i) == 0);
    for (long i = 0; i < THREADS; i++) {
        void *got;
        long n = i;
        for (int k = 0; k < 50; k++) n = (n * 3 + 1) & 0xffff;
        RIGHT(pthread_join(made[i], &got) == 0 && (long)got == n);
    }
    return 1;
}

static int opens(void) {
    for (int i = 0; i < OPENS; i++) {
        void *library = dlopen(PLUGIN, RTLD_NOW);
        RIGHT(library);
        int (*plugged)(int) = (int (*)(int))dlsym(library, "plugged");
        RIGHT(plugged && plugged(i) == i * 2 + 1);
        RIGHT(dlclose(library) == 0);
    }
    return 1;
}

static int forks(int depth) {
    if (depth == 0) return work(1) == 4;
    pid_t made[2];
    for (int i = 0; i < 2; i++) {
        made[i] = fork();
        if (made[i] == 0) _exit(forks(depth - 1) ? 0 : 1);
        RIGHT(made[i] > 0);
    }
    for (int i = 0; i < 2; i++) {
        int status = -1;
        pid_t got;
        do got = waitpid(made[i], &status, 0);
        while (got < 0);
        RIGHT(got == made[i] && status == 0);
    }
    return 1;
}

static NOINLINE int check(void) {
    static int begun;
    if (!begun) {
        begun = 1;
        struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
        struct itimerval every = {{0, 1000}, {0, 1000}};
        RIGHT(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
        RIGHT(setitimer(ITIMER_REAL, &every, NULL) == 0);
    }
    return threads() && opens() && forks(DEPTH);
}
#endif
