/* Calls step() with its number, then in a child by vfork, with that one's, before it executes another
 * program. Prints "parent PID child PID". */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile long kept;

__attribute__((noinline, noclone)) void step(long pid)
{
	kept = pid;
}

int main(void)
{
	step(getpid());
	pid_t child = vfork();
	if (child == 0) {
		step(getpid());
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	waitpid(child, NULL, 0);
	printf("parent %d child %d\n", getpid(), child);
	return 0;
}
