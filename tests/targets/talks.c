/* tests/command_line/{bpftrace,programs}.rs: calls work(1) to work(5) and says what came of it; ends
 * with status 3. With two arguments it goes on calling until it is ended; if the second of them is
 * "regardless" it says that it was asked to end, and stays. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "target.h"

#define KEPT(x) __asm__ volatile("" : : "g"(x) : "memory")

NOINLINE long work(long n, const char *word)
{
	KEPT(word);
	return n * 2;
}

static void asked(int signal)
{
	(void)signal;
	static const char said[] = "asked to end\n";
	if (write(2, said, sizeof said - 1) < 0)
		_exit(9);
}

int main(int argc, char **argv)
{
	long sum = 0;
	if (argc > 2 && !strcmp(argv[2], "regardless"))
		signal(SIGTERM, asked);
	for (long n = 1; n <= 5; n++)
		sum += work(n, argc > 1 ? argv[argc - 1] : "none");
	printf("sum %ld\n", sum);
	fflush(stdout);
	if (argc > 2) {
		ready();
		for (long n = 6;; n++) {
			work(n, argv[2]);
			usleep(1000);
		}
	}
	return 3;
}
