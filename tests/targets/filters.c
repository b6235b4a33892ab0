/* attach/filters.rs, memory.rs: seccomp filters. `one`: the first thread is under a filter that ends the process
 * for memfd_create, another thread is not. `all`: both are. `refuse CMD...`, `unbound CMD...` and
 * `allow CMD...`: become CMD under a filter that refuses memfd_create, bind, or nothing that anybody
 * needs. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "target.h"

static volatile int over;

NOINLINE int work(int n) { return n * 3 + 1; }

static int filter(int number, unsigned action) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static void *worker(void *arg) {
    if (arg && filter(SYS_memfd_create, SECCOMP_RET_KILL_PROCESS)) return arg;
    int sum = 0;
    while (!over) sum = work(sum) & 0xff, usleep(1000);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 2) {
        int number = SYS_kexec_load;
        if (!strcmp(argv[1], "refuse")) number = SYS_memfd_create;
        if (!strcmp(argv[1], "unbound")) number = SYS_bind;
        if (filter(number, SECCOMP_RET_ERRNO | EPERM)) return 126;
        execvp(argv[2], argv + 2);
        return 127;
    }
    pthread_t thread;
    void *wrong;
    int all = argc > 1 && !strcmp(argv[1], "all");
    if (pthread_create(&thread, NULL, worker, all ? argv : NULL)) return 1;
    if (argc > 1 && filter(SYS_memfd_create, SECCOMP_RET_KILL_PROCESS)) return 1;
    ready();
    wait_for_go();
    over = 1;
    pthread_join(thread, &wrong);
    puts(wrong ? "wrong" : "right");
    return wrong != NULL;
}
