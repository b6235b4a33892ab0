/* A lock that is waited for, for 20 ms and more, three times; and one that nobody waits for. Prints for each
 * of both its address and how long taking it took in all, in nanoseconds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t wanted = PTHREAD_MUTEX_INITIALIZER, idle = PTHREAD_MUTEX_INITIALIZER;
static volatile int waiter;
static long waited, free_time;

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void *wait(void *unused) {
    waiter = (int)syscall(SYS_gettid);
    long begun = now();
    pthread_mutex_lock(&wanted);
    waited += now() - begun;
    pthread_mutex_unlock(&wanted);
    return unused;
}

/* Whether a thread waits in futex(2), which is what it does in pthread_mutex_lock. */
static int waits(int tid) {
    char path[64];
    int call = -1;
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    int got = fscanf(file, "%d", &call);
    fclose(file);
    return got == 1 && call == SYS_futex;
}

int main(void) {
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        struct timespec nap = {.tv_nsec = 20000000};
        pthread_mutex_lock(&wanted);
        waiter = 0;
        pthread_create(&thread, NULL, wait, NULL);
        while (waiter == 0 || !waits(waiter)) sched_yield();
        nanosleep(&nap, NULL);
        pthread_mutex_unlock(&wanted);
        pthread_join(thread, NULL);
    }
    for (int i = 0; i < 100; i++) {
        long begun = now();
        pthread_mutex_lock(&idle);
        free_time += now() - begun;
        pthread_mutex_unlock(&idle);
    }
    printf("%lu %ld\n%lu %ld\n", (unsigned long)&wanted, waited, (unsigned long)&idle, free_time);
    return 0;
}
