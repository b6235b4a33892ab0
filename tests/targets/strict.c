/* command_line/ends.rs: enters strict seccomp, where every call but read, write and exit ends it,
 * then waits for a line. */
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((noinline)) int work(int n) { return n * 3 + 1; }

int main(void) {
    char line[8];
    int sum = work(1);
    if (prctl(PR_SET_SECCOMP, 1) != 0) return 3;
    sum += work(2);
    if (write(1, "strict\n", 7) != 7 || read(0, line, sizeof line) <= 0) return 1;
    sum += work(3);
    if (write(1, sum == 21 ? "right\n" : "wrong\n", 6) != 6) return 1;
    syscall(SYS_exit, sum == 21 ? 0 : 2);
}
