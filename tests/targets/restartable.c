/* attach.rs: a thread for each call that waits: it must come back with what it waited for, never
 * with EINTR, and not before its time. Prints `waiting` when all wait; a line ends the waits. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "target.h"

static int event, semaphores, sockets[2], futex_word;
static volatile int wrong;

static void told(const char *what, int right) {
    if (right) return;
    printf("wrong: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    wrong = 1;
}

static void *in_epoll(void *arg) {
    struct epoll_event wanted = {.events = EPOLLIN}, got;
    int fd = epoll_create1(0);
    epoll_ctl(fd, EPOLL_CTL_ADD, event, &wanted);
    told("epoll_wait", epoll_wait(fd, &got, 1, -1) == 1);
    return arg;
}
static void *in_poll(void *arg) {
    struct pollfd fd = {.fd = event, .events = POLLIN};
    told("poll", poll(&fd, 1, 1000000) == 1);
    return arg;
}
static void *in_select(void *arg) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(event, &set);
    told("select", select(event + 1, &set, NULL, NULL, NULL) == 1);
    return arg;
}
static void *in_semtimedop(void *arg) {
    struct sembuf less = {0, -1, 0};
    struct timespec long_time = {10000, 0};
    told("semtimedop", semtimedop(semaphores, &less, 1, &long_time) == 0);
    return arg;
}
static void *in_sigtimedwait(void *arg) {
    sigset_t set;
    siginfo_t info;
    struct timespec long_time = {10000, 0};
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    told("sigtimedwait", sigtimedwait(&set, &info, &long_time) == SIGUSR2);
    return arg;
}
static void *in_recv(void *arg) {
    char byte;
    struct timeval long_time = {10000, 0};
    setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof long_time);
    told("recv", recv(sockets[0], &byte, 1, 0) == 1);
    return arg;
}
static void *in_futex(void *arg) {
    struct timespec long_time = {10000, 0};
    told("futex", syscall(SYS_futex, &futex_word, FUTEX_WAIT, 0, &long_time) == 0);
    return arg;
}
static void *in_nanosleep(void *arg) {
    struct timespec before, after, time = {0, 200000000}, rest;
    while (!futex_word) {
        clock_gettime(CLOCK_MONOTONIC, &before);
        told("nanosleep", nanosleep(&time, &rest) == 0);
        clock_gettime(CLOCK_MONOTONIC, &after);
        long slept = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
        told("the time of nanosleep", slept >= 200000000);
    }
    return arg;
}

static int asleep(const char *tid) {
    char path[300], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", tid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[got] = 0;
    char *after = strrchr(text, ')');
    return after && after[2] == 'S';
}

int main(void) {
    void *(*const waits[])(void *) = {in_epoll, in_poll,  in_select, in_semtimedop,
                                      in_recv,  in_futex, in_nanosleep, in_sigtimedwait};
    enum { WAITS = sizeof waits / sizeof *waits };
    pthread_t threads[WAITS];
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    event = eventfd(0, 0);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    if (event < 0 || semaphores < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) return 1;
    for (int i = 0; i < WAITS; i++) pthread_create(&threads[i], NULL, waits[i], NULL);
    for (int sleeping = 0; sleeping < WAITS;) {
        DIR *tasks = opendir("/proc/self/task");
        sleeping = 0;
        for (struct dirent *task; (task = readdir(tasks));)
            if (task->d_name[0] != '.' && asleep(task->d_name)) sleeping++;
        closedir(tasks);
    }
    ready();
    wait_for_go();
    eventfd_write(event, 1);
    struct sembuf more = {0, 1, 0};
    semop(semaphores, &more, 1);
    told("write", write(sockets[1], "x", 1) == 1);
    pthread_kill(threads[WAITS - 1], SIGUSR2);
    futex_word = 1;
    syscall(SYS_futex, &futex_word, FUTEX_WAKE, 100);
    for (int i = 0; i < WAITS; i++) pthread_join(threads[i], NULL);
    semctl(semaphores, 0, IPC_RMID);
    if (!wrong) puts("right");
    return wrong;
}
