/* attach/calls.rs: calls that wait, over and over, each measured by the thread that makes it: whether
 * it failed with EINTR, came back before its time, how much later than its time. What the thread
 * waited for a processor is not counted. A line is answered by `turn` and what each call saw since the
 * last, `NAME:CALLS:EINTR:EARLY:WRONG:LATEST_NS`, when all have been made anew; the end of input ends it.
 * With a name as argument that call is made by the first thread, and there is no other. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "target.h"

enum { NANO = 1000000000, EVERY = 60 };

struct message {
    long kind, none;
};

struct wait {
    const char *name;
    /* Whether it ended as it must when its time is over. */
    int (*call)(struct wait *);
    /* Its time-out; 0 waits for a message, -1 for the end of all. */
    long ms;
    /* What the kernel may lack of it: it keeps the time of sockets in ticks. */
    long coarse;
    long due;
    long calls, interrupted, early, wrong, latest;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t made = PTHREAD_COND_INITIALIZER;
static int epoll, long_epoll, semaphores, messages, datagrams, sockets[2], quiet[2], futex_word, over;

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * NANO + time.tv_nsec;
}

static struct timespec span(const struct wait *wait) {
    return (struct timespec){wait->ms / 1000, wait->ms % 1000 * 1000000};
}

static int in_epoll_wait(struct wait *wait) {
    struct epoll_event got;
    return epoll_wait(epoll, &got, 1, (int)wait->ms) == 0;
}
static int in_poll(struct wait *wait) {
    struct pollfd fd = {.fd = quiet[0], .events = POLLIN};
    return poll(&fd, 1, (int)wait->ms) == 0;
}
static int in_select(struct wait *wait) {
    struct timeval time = {0, wait->ms * 1000};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(quiet[0], &set);
    return select(quiet[0] + 1, &set, NULL, NULL, &time) == 0;
}
static int in_futex(struct wait *wait) {
    struct timespec time = span(wait);
    return syscall(SYS_futex, &futex_word, FUTEX_WAIT, 0, &time) == -1 && errno == ETIMEDOUT;
}
static int in_nanosleep(struct wait *wait) {
    struct timespec time = span(wait);
    return nanosleep(&time, NULL) == 0;
}
static int in_sigtimedwait(struct wait *wait) {
    struct timespec time = span(wait);
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    return sigtimedwait(&set, &info, &time) == -1 && errno == EAGAIN;
}
static int in_semtimedop(struct wait *wait) {
    struct timespec time = span(wait);
    struct sembuf less = {0, -1, 0};
    return semtimedop(semaphores, &less, 1, &time) == -1 && errno == EAGAIN;
}
static int in_recv(struct wait *wait) {
    (void)wait;
    char byte;
    return recv(datagrams, &byte, 1, 0) == -1 && errno == EAGAIN;
}
static int in_recv_stream(struct wait *wait) {
    (void)wait;
    char byte;
    return recv(sockets[0], &byte, 1, 0) == -1 && errno == EAGAIN;
}
static int in_msgrcv(struct wait *wait) {
    struct message message;
    ssize_t got = msgrcv(messages, &message, sizeof message.none, 1, 0);
    /* Its time is when a message comes. */
    wait->due = now();
    return got == sizeof message.none;
}

/* These wait until all is over, longer than anything here takes. */
static int long_epoll_wait(struct wait *wait) {
    (void)wait;
    struct epoll_event got;
    return epoll_wait(long_epoll, &got, 1, -1) == 1;
}
static int long_poll(struct wait *wait) {
    (void)wait;
    struct pollfd fd = {.fd = quiet[0], .events = POLLIN};
    return poll(&fd, 1, 1000000) == 1;
}
static int long_futex(struct wait *wait) {
    (void)wait;
    struct timespec time = {10000, 0};
    return syscall(SYS_futex, &futex_word, FUTEX_WAIT, 0, &time) == 0;
}
static int long_sigtimedwait(struct wait *wait) {
    (void)wait;
    struct timespec time = {10000, 0};
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1);
    return sigtimedwait(&set, &info, &time) == SIGUSR1;
}
static int long_semtimedop(struct wait *wait) {
    (void)wait;
    struct timespec time = {10000, 0};
    struct sembuf less = {1, -1, 0};
    return semtimedop(semaphores, &less, 1, &time) == 0;
}
static int long_recv(struct wait *wait) {
    (void)wait;
    char byte;
    return recv(quiet[0], &byte, 1, MSG_PEEK) == 1;
}
static int long_msgrcv(struct wait *wait) {
    (void)wait;
    struct message message;
    return msgrcv(messages, &message, sizeof message.none, 2, 0) == sizeof message.none;
}

static struct wait waits[] = {
    {.name = "epoll_wait", .call = in_epoll_wait, .ms = 60},
    {.name = "epoll_wait_longer", .call = in_epoll_wait, .ms = 200},
    {.name = "poll", .call = in_poll, .ms = 70},
    {.name = "select", .call = in_select, .ms = 80},
    {.name = "futex", .call = in_futex, .ms = 30},
    {.name = "nanosleep", .call = in_nanosleep, .ms = 40},
    {.name = "sigtimedwait", .call = in_sigtimedwait, .ms = 50},
    {.name = "sigtimedwait_longer", .call = in_sigtimedwait, .ms = 200},
    {.name = "semtimedop", .call = in_semtimedop, .ms = 90},
    {.name = "semtimedop_longer", .call = in_semtimedop, .ms = 200},
    {.name = "recv", .call = in_recv, .ms = 100, .coarse = 10},
    {.name = "recv_stream", .call = in_recv_stream, .ms = 100, .coarse = 10},
    {.name = "msgrcv", .call = in_msgrcv},
    {.name = "long_epoll_wait", .call = long_epoll_wait, .ms = -1},
    {.name = "long_poll", .call = long_poll, .ms = -1},
    {.name = "long_futex", .call = long_futex, .ms = -1},
    {.name = "long_sigtimedwait", .call = long_sigtimedwait, .ms = -1},
    {.name = "long_semtimedop", .call = long_semtimedop, .ms = -1},
    {.name = "long_recv", .call = long_recv, .ms = -1},
    {.name = "long_msgrcv", .call = long_msgrcv, .ms = -1},
};
enum { WAITS = sizeof waits / sizeof *waits };
static pthread_t threads[WAITS];
static pthread_barrier_t begun;

/* How long this thread waited for a processor, where the kernel tells. */
static long delayed(int fd) {
    char text[100] = "";
    long ran, waited;
    if (pread(fd, text, sizeof text - 1, 0) <= 0) return 0;
    return sscanf(text, "%ld %ld", &ran, &waited) == 2 ? waited : 0;
}

static int schedstat(void) { return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC); }

static void once(struct wait *wait, int stat) {
    long before = delayed(stat);
    errno = 0;
    wait->due = now() + wait->ms * 1000000;
    int right = wait->call(wait), error = errno;
    long came = now(), late = came - wait->due - (delayed(stat) - before);
    pthread_mutex_lock(&lock);
    wait->calls++;
    if (!right && error == EINTR)
        wait->interrupted++;
    else if (!right)
        wait->wrong++;
    else if (wait->ms >= 0) {
        wait->early += came < wait->due - wait->coarse * 1000000;
        if (late > wait->latest) wait->latest = late;
    }
    pthread_cond_signal(&made);
    pthread_mutex_unlock(&lock);
}

static int is_over(void) { return __atomic_load_n(&over, __ATOMIC_ACQUIRE); }

static void *waiter(void *arg) {
    struct wait *wait = arg;
    int stat = schedstat();
    pthread_barrier_wait(&begun);
    do once(wait, stat);
    while (!is_over() && wait->ms >= 0);
    close(stat);
    return NULL;
}

static void told(struct wait *wait) {
    printf(" %s:%ld:%ld:%ld:%ld:%ld", wait->name, wait->calls, wait->interrupted, wait->early,
           wait->wrong, wait->latest);
    wait->calls = wait->interrupted = wait->early = wait->wrong = wait->latest = 0;
}

/* A process of its own sends messages: one that waits for them has no time-out. */
static void sends(void) {
    int pid = getpid();
    if (fork() != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (getppid() == pid) {
        struct timespec every = {0, EVERY * 1000000};
        nanosleep(&every, NULL);
        struct message message = {1, 0};
        if (msgsnd(messages, &message, sizeof message.none, IPC_NOWAIT) && errno != EAGAIN) break;
    }
    _exit(0);
}

/* The next line of input, if it is there; `over` at its end. */
static int asked(int patience) {
    char line[64];
    struct pollfd input = {.fd = 0, .events = POLLIN};
    if (poll(&input, 1, patience) != 1) return 0;
    over = read(0, line, sizeof line) <= 0;
    return !over;
}

static void alone(const char *name) {
    struct wait *wait = waits;
    while (strcmp(wait->name, name) != 0) wait++;
    int stat = schedstat(), more = 0;
    ready();
    while (!over) {
        once(wait, stat);
        if (more && --more == 0) {
            printf("turn");
            told(wait);
            puts("");
            fflush(stdout);
        }
        if (asked(0)) more = 3;
    }
}

static void together(void) {
    long calls[WAITS];
    pthread_barrier_init(&begun, NULL, WAITS + 1);
    for (int i = 0; i < WAITS; i++) pthread_create(&threads[i], NULL, waiter, &waits[i]);
    pthread_barrier_wait(&begun);
    ready();
    while (!over) {
        if (!asked(-1)) continue;
        pthread_mutex_lock(&lock);
        for (int i = 0; i < WAITS; i++) calls[i] = waits[i].calls;
        for (int i = 0; i < WAITS; i++)
            /* Two ends: the second call began after we were asked. */
            while (waits[i].ms >= 0 && waits[i].calls < calls[i] + 2) pthread_cond_wait(&made, &lock);
        printf("turn");
        for (int i = 0; i < WAITS; i++) told(&waits[i]);
        puts("");
        fflush(stdout);
        pthread_mutex_unlock(&lock);
    }
    struct message last = {2, 0};
    struct sembuf more = {1, 1, 0};
    char byte = 0;
    if (write(quiet[1], &byte, 1) != 1) exit(1);
    msgsnd(messages, &last, sizeof last.none, 0);
    semop(semaphores, &more, 1);
    __atomic_store_n(&futex_word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &futex_word, FUTEX_WAKE, 100);
    for (int i = 0; i < WAITS; i++) {
        if (waits[i].call == long_sigtimedwait) pthread_kill(threads[i], SIGUSR1);
        if (waits[i].ms < 0) pthread_join(threads[i], NULL);
    }
}

int main(int argc, char **argv) {
    struct timeval recv_time = {0, 100000};
    struct epoll_event wanted = {.events = EPOLLIN};
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    semaphores = semget(IPC_PRIVATE, 2, 0600);
    messages = msgget(IPC_PRIVATE, 0600);
    if (semaphores < 0 || messages < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) return 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, quiet)) return 1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[1], &wanted);
    long_epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(long_epoll, EPOLL_CTL_ADD, quiet[0], &wanted);
    /* A socket that nobody knows: nothing comes. */
    struct sockaddr_in nowhere = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(datagrams, (struct sockaddr *)&nowhere, sizeof nowhere)) return 1;
    setsockopt(datagrams, SOL_SOCKET, SO_RCVTIMEO, &recv_time, sizeof recv_time);
    setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &recv_time, sizeof recv_time);
    sends();
    if (argc > 1)
        alone(argv[1]);
    else
        together();
    semctl(semaphores, 0, IPC_RMID);
    msgctl(messages, IPC_RMID, NULL);
    printf("end");
    for (int i = 0; i < WAITS; i++)
        if (waits[i].ms < 0 && waits[i].calls) told(&waits[i]);
    puts("");
    return 0;
}
