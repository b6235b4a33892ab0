// Exceptions, cancellation and pthread_exit through functions of which many are under way.
#include <cstdio>
#include <pthread.h>
#include <stdexcept>
#include <unistd.h>

#define FUNCTION extern "C" __attribute__((noinline, noclone))

static int destroyed;
struct Counts {
    ~Counts() { destroyed++; }
};

FUNCTION long leaf(long x)
{
    Counts here;
    if (x < 0)
        throw std::runtime_error("thrown");
    asm volatile("");
    return x + 1;
}

FUNCTION long nested(long x, int depth)
{
    Counts here;
    long result = depth == 0 ? leaf(x) : nested(x, depth - 1);
    asm volatile("");
    return result + 1;
}

FUNCTION long again(long x)
{
    try {
        return nested(x, 20);
    } catch (std::exception &) {
        asm volatile("");
        throw;
    }
}

FUNCTION void cancelled(int *pipe)
{
    char byte;
    for (;;)
        (void)!read(pipe[0], &byte, 1);
}

FUNCTION void leaves() { pthread_exit((void *)5); }

static int pipes[2];
static void *is_cancelled(void *)
{
    Counts here;
    cancelled(pipes);
    return nullptr;
}
static void *exits(void *)
{
    Counts here;
    leaves();
    return nullptr;
}

int main()
{
    long sum = 0;
    int caught = 0;
    for (int i = 0; i < 3000; i++) {
        try {
            sum += again(i % 3 == 0 ? -1 : i);
        } catch (std::exception &) {
            caught++;
        }
    }
    (void)!pipe(pipes);
    pthread_t thread;
    void *first, *second;
    pthread_create(&thread, nullptr, is_cancelled, nullptr);
    pthread_cancel(thread);
    pthread_join(thread, &first);
    pthread_create(&thread, nullptr, exits, nullptr);
    pthread_join(thread, &second);
    printf("%ld %d %d %d %ld\n", sum, caught, destroyed, first == PTHREAD_CANCELED, (long)second);
}
