/* attach/storm.rs: threads that come and go, a timer at 1 kHz and signals between threads, a library
 * that is opened and closed, a tree of forks, a chain of programs: all at once, each with a result that
 * is known. Before `round` it tells how often `counted` was called in it, and what was made in all. The
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
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#define ROUNDS 10
#define TOLD tell
static void tell(void);
#include "rounds.h"

enum { THREADS = 16, OPENS = 4, LEVELS = 5, CHAIN = 40, RARELY = 10 };

/* Calls of `counted` in rounds that are asked for: of this process, and of those it makes. */
static struct {
    long own, others;
} *made;
static int in_child;
static long threads_made, opened, trees, chains;

static volatile long ticks;
NOINLINE long work(long n) { return n * 3 + 1; }
NOINLINE long counted(long n) { return n * 5 + 2; }

static void count(long n) {
    if (!asked) return;
    ticks += counted(n) == 0;
    __atomic_add_fetch(in_child ? &made->others : &made->own, 1, __ATOMIC_RELAXED);
}

static void on_tick(int signal) {
    (void)signal;
    ticks += work(0);
    count(1);
}

static void tell(void) {
    printf("made %ld %ld threads %ld opened %ld trees %ld chains %ld\n", made->own, made->others,
           threads_made, opened, trees, chains);
    made->own = made->others = 0;
}

static void *lives(void *arg) {
    long n = (long)arg;
    for (int i = 0; i < 50; i++) n = work(n) & 0xffff, count(n);
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
    threads_made += THREADS;
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
    opened += OPENS;
    return 1;
}

static int ends_well(pid_t child) {
    int status = -1;
    pid_t got;
    RIGHT(child > 0);
    do got = waitpid(child, &status, 0);
    while (got < 0);
    RIGHT(got == child && status == 0);
    return 1;
}

/* A tree of 2 to the power of `levels` processes, this one among them. */
static int forks(int levels) {
    pid_t made[LEVELS];
    for (int i = 0; i < levels; i++) {
        made[i] = fork();
        if (made[i] == 0) {
            in_child = 1;
            count(i);
            _exit(forks(levels - i - 1) && work(1) == 4 ? 0 : 1);
        }
    }
    for (int i = 0; i < levels; i++) RIGHT(ends_well(made[i]));
    return 1;
}

static void become(int left, int counts) {
    char links[16], counting[16];
    snprintf(links, sizeof links, "%d", left);
    snprintf(counting, sizeof counting, "%d", counts);
    setenv("CHAIN", links, 1);
    setenv("COUNTS", counting, 1);
    execl("/proc/self/exe", "everything_moves", NULL);
    _exit(9);
}

/* Programs that begin each other in one process; each counts once. */
__attribute__((constructor)) static void link_of_a_chain(void) {
    const char *left = getenv("CHAIN");
    if (!left) return;
    if (atoi(getenv("COUNTS"))) ticks += counted(1);
    if (atoi(left) == 0) _exit(0);
    become(atoi(left) - 1, atoi(getenv("COUNTS")));
}

static int chain(void) {
    pid_t child = fork();
    if (child == 0) become(CHAIN - 1, asked);
    RIGHT(ends_well(child));
    if (asked) made->others += CHAIN;
    chains++;
    return 1;
}

static NOINLINE int check(void) {
    static int begun;
    static long round;
    if (!begun) {
        begun = 1;
        made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        RIGHT(made != MAP_FAILED);
        struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
        struct itimerval every = {{0, 1000}, {0, 1000}};
        RIGHT(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
        RIGHT(setitimer(ITIMER_REAL, &every, NULL) == 0);
    }
    RIGHT(threads() && opens());
    if (round++ % RARELY && !asked) return 1;
    RIGHT(forks(LEVELS));
    trees++;
    return chain();
}
#endif
