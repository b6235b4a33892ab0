/* hazards/sweep.rs, attach.rs: `syscall` among the first five bytes of functions; a thread waits in
 * one of them for most of its life. */
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rounds.h"

long raw_getpid(void), raw_read(int fd, void *to, long size);
__asm__(
    ".text\n.p2align 4\n.globl raw_getpid\n.type raw_getpid,@function\nraw_getpid:\n"
    "push $39\npop %rax\nsyscall\nret\n.size raw_getpid,.-raw_getpid\n"
    ".p2align 4\n.globl raw_read\n.type raw_read,@function\nraw_read:\n"
    "xor %eax,%eax\nsyscall\nret\n.size raw_read,.-raw_read\n");

static int ends[2];
static pthread_t reader;

/* Answers what it reads, one more. */
static void *reads(void *arg) {
    int value;
    while (raw_read(ends[1], &value, sizeof value) == sizeof value) {
        value++;
        if (write(ends[1], &value, sizeof value) != sizeof value) break;
    }
    return arg;
}

static int check(void) {
    static int begun, value;
    int back = 0;
    if (!begun) {
        RIGHT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        RIGHT(pthread_create(&reader, NULL, reads, NULL) == 0);
        begun = 1;
    }
    RIGHT(raw_getpid() == getpid());
    value++;
    RIGHT(write(ends[0], &value, sizeof value) == sizeof value);
    RIGHT(read(ends[0], &back, sizeof back) == sizeof back && back == value + 1);
    return 1;
}
