/* Locks, conditions, threads and allocations, in known numbers. Prints the addresses of the lock and of
 * the condition. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
static int told, waiting;

static void *waiter(void *unused)
{
	pthread_mutex_lock(&lock);
	waiting = 1;
	while (!told)
		pthread_cond_wait(&ready, &lock);
	pthread_mutex_unlock(&lock);
	return unused;
}

static void *taker(void *unused)
{
	for (int i = 0; i < 100; i++) {
		pthread_mutex_lock(&lock);
		pthread_mutex_unlock(&lock);
	}
	return unused;
}

int main(void)
{
	pthread_t threads[5];
	void *volatile got;

	pthread_create(&threads[0], NULL, waiter, NULL);
	for (int i = 1; i < 5; i++)
		pthread_create(&threads[i], NULL, taker, NULL);
	for (int i = 1; i < 5; i++)
		pthread_join(threads[i], NULL);
	/* Only when it waits: then it is told once, and has waited once. */
	for (int there = 0; !there;) {
		pthread_mutex_lock(&lock);
		there = waiting;
		if (there) {
			told = 1;
			pthread_cond_signal(&ready);
		}
		pthread_mutex_unlock(&lock);
	}
	pthread_join(threads[0], NULL);
	for (int i = 0; i < 7; i++) {
		got = calloc(3, 1000);
		got = realloc(got, 70000);
		free(got);
	}
	printf("%lld %lld\n", (long long)&lock, (long long)&ready);
	return 0;
}
