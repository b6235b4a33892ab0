/* Comes to `hit` over and over, each time by other calls: recursion, frames that are large, that grow,
 * that are aligned, functions inlined into one another, pointers, libc's callbacks, a signal handler.
 * What comes when is the same in every run. */
#include <alloca.h>
#include <search.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

static unsigned seed = 12345;
static volatile int sink;

static unsigned below(unsigned n) {
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % n;
}

NOINLINE void hit(int n) {
    sink += n;
}

static void step(int depth);

static inline void innermost(int depth) {
    step(depth - 1);
    sink++;
}

static inline void middle(int depth) {
    sink++;
    innermost(depth);
    sink++;
}

static inline void outermost(int depth) {
    if (depth & 1)
        middle(depth);
    else
        innermost(depth);
    sink++;
}

NOINLINE static void inlined(int depth) {
    outermost(depth);
    sink += depth;
}

NOINLINE static int recursive(int depth, int more) {
    if (more > 0)
        return recursive(depth, more - 1) + depth;
    step(depth - 1);
    return sink;
}

NOINLINE static void large(int depth) {
    char room[400];
    memset(room, depth, sizeof room);
    step(depth - 1);
    sink += room[depth & 63];
}

NOINLINE static void growing(int depth) {
    char *room = alloca(16 + below(100));
    room[0] = (char)depth;
    step(depth - 1);
    sink += room[0];
}

NOINLINE static void aligned(int depth) {
    _Alignas(64) volatile int room[16];
    room[depth & 15] = depth;
    step(depth - 1);
    sink += room[depth & 15];
}

/* Arguments on the stack, which it must find although it aligns the stack by it knows not how much. */
NOINLINE static int moved(int a, int b, int c, int d, int e, int f, int g) {
    _Alignas(64) volatile int room[16];
    char *more = alloca(16 + 16 * a);
    room[a & 15] = g;
    more[0] = (char)b;
    step(a - 1);
    return sink + room[a & 15] + more[0] + c + d + e + f;
}

NOINLINE static int many(int a, int b, int c, int d, int e, int f, int g, int h) {
    int x = a * b, y = c * d, z = e * f, w = g * h, v = a - h;
    step(a - 1);
    return sink + x * y + z * w + v;
}

static int deeper, calls;

static int compare(const void *a, const void *b) {
    if (++calls == 3)
        step(deeper - 1);
    return *(const int *)a - *(const int *)b;
}

NOINLINE static void sorting(int depth) {
    int numbers[8];
    for (int i = 0; i < 8; i++)
        numbers[i] = (int)below(100);
    deeper = depth, calls = 0;
    qsort(numbers, 8, sizeof *numbers, compare);
    sink += numbers[0];
}

NOINLINE static void searching(int depth) {
    int numbers[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, key = 1;
    deeper = depth, calls = 1;
    sink += bsearch(&key, numbers, 9, sizeof *numbers, compare) != NULL;
}

static void visit(const void *node, VISIT order, int level) {
    (void)node;
    if (level == 0 && order == preorder)
        step(deeper - 1);
    sink++;
}

NOINLINE static void walking(int depth) {
    int numbers[] = {3, 1, 2};
    void *root = NULL;
    calls = 100;
    for (int i = 0; i < 3; i++)
        tsearch(&numbers[i], &root, compare);
    deeper = depth;
    twalk(root, visit);
    calls = 100;
    for (int i = 0; i < 3; i++)
        tdelete(&numbers[i], &root, compare);
}

static void handler(int signal) {
    step(deeper - 1);
    sink += signal;
}

NOINLINE static void signalled(int depth) {
    static int inside;
    if (inside)
        return step(depth - 1);
    inside = 1;
    deeper = depth;
    raise(SIGUSR1);
    inside = 0;
}

static void (*const ways[])(int) = {inlined, large, growing, aligned, sorting, searching, walking, signalled};

NOINLINE static void step(int depth) {
    if (depth <= 0) {
        hit(depth);
        sink++;
        return;
    }
    switch (below(11)) {
    case 0:
        sink += recursive(depth, (int)below(4));
        break;
    case 2:
        sink += moved(depth, 2, 3, 4, 5, 6, 7);
        break;
    case 1:
        sink += many(depth, 2, 3, 4, 5, 6, 7, 8);
        break;
    default:
        ways[below(sizeof ways / sizeof *ways)](depth);
        sink++;
    }
}

int main(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 500; i++)
        step(1 + (int)below(6));
    return 0;
}
