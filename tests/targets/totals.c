/* Calls step() a known number of times: from THREADS threads, from a handler of a signal that comes at
 * any time, in children, and after exec. Each process prints what it made, in one write:
 * "made PID STEPS SUM", with those of the handler in it. Arguments: ROUNDS, GENERATIONS. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8

static atomic_ulong steps, sum, marks;
static long rounds;
static volatile long kept;

__attribute__((noinline, noclone)) void step(long key, long value)
{
	kept = key + value;
}

__attribute__((noinline, noclone)) void mark(long number)
{
	kept = number;
}

static void made(long key, long value)
{
	step(key, value);
	steps++;
	sum += (unsigned long)value;
}

static void interrupt(int number)
{
	made(THREADS, number);
}

static void *worker(void *argument)
{
	long key = (long)argument;
	for (long round = 1; round <= rounds; round++) {
		made(key, round);
		if (round % 10 == 0) {
			mark(round);
			marks++;
		}
	}
	return NULL;
}

static void work(void)
{
	struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { { 0, 0 }, { 0, 0 } };
	pthread_t threads[THREADS];

	steps = sum = marks = 0;
	setitimer(ITIMER_REAL, &often, NULL);
	for (long i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, worker, (void *)i))
			abort();
	for (long i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	setitimer(ITIMER_REAL, &never, NULL);

	/* One that is still on its way. */
	sigset_t all;
	sigemptyset(&all);
	sigaddset(&all, SIGALRM);
	sigprocmask(SIG_BLOCK, &all, NULL);
	char line[128];
	int length = snprintf(line, sizeof line, "made %d %lu %lu %lu\n", getpid(), steps, sum, marks);
	if (write(1, line, length) != length)
		abort();
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	rounds = atol(argv[1]);
	int generations = atoi(argv[2]);

	/* Not inherited by what comes after exec: blocked there until the handler is there. */
	struct sigaction action = { .sa_handler = interrupt, .sa_flags = SA_RESTART };
	sigaction(SIGALRM, &action, NULL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	pid_t child = generations > 1 ? fork() : -1;
	work();
	if (child == 0) {
		char text[16];
		snprintf(text, sizeof text, "%d", generations - 1);
		execl("/proc/self/exe", argv[0], argv[1], text, NULL);
		return 3;
	}
	if (child > 0) {
		int status;
		while (waitpid(child, &status, 0) < 0)
			;
		return status != 0;
	}
	return 0;
}
