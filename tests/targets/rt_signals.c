/* hazards/sweep.rs: real-time signals with values, in order and none lost, and glibc's setuid,
 * which uses one of its own to change every thread. */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#define ROUNDS 20
#include "rounds.h"

static volatile int next, wrong;
static sem_t begun, end;

static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    wrong += info->si_value.sival_int != next++ || info->si_code != SI_QUEUE;
}

static void *waits(void *arg) {
    sem_post(&begun);
    while (sem_wait(&end)) {
    }
    return arg;
}

static int check(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigset_t set, before;
    pthread_t threads[3];
    RIGHT(sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    sigemptyset(&set), sigaddset(&set, SIGRTMIN + 3);
    next = wrong = 0;
    sigprocmask(SIG_BLOCK, &set, &before);
    for (int i = 0; i < 10; i++)
        RIGHT(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i}) == 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    RIGHT(next == 10 && wrong == 0);
    sem_init(&begun, 0, 0), sem_init(&end, 0, 0);
    for (int i = 0; i < 3; i++) RIGHT(pthread_create(&threads[i], NULL, waits, NULL) == 0);
    for (int i = 0; i < 3; i++) sem_wait(&begun);
    RIGHT(setuid(getuid()) == 0);
    for (int i = 0; i < 3; i++) sem_post(&end);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    return 1;
}
