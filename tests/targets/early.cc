/* life/early.rs: constructors, a resolver, initialisers of thread-local objects, and a library that
 * is opened, all calling a probed function. Prints how often each `mark` was called so far. */
#define PREFIX program
extern "C" {
#include "early.h"
#ifndef STATIC
extern long linked_marks(void);
extern int linked_chosen(int);
#endif
}
#include <cstdio>
#include <thread>
#include <dlfcn.h>
#include "target.h"

struct Local {
    Local() { mark(); }
    ~Local() { mark(); }
    int n = 1;
};
static thread_local Local local;
static Local global;

static void uses() { local.n++; }

int main(int argc, char **argv) {
    /* Destructors of this module and of the libraries run later: one call each. */
    (void)argc, (void)argv;
    if (argc > 1 && argv[1][0] == 'w') {
        ready();
        printf("%ld\n", marks);
        fflush(stdout);
        wait_for_go();
    }
    uses();
    std::thread(uses).join();
    program_chosen(2);
    long total = 0;
#ifndef STATIC
    linked_chosen(3);
    void *opened = dlopen(argv[argc - 1], RTLD_NOW);
    if (!opened) {
        puts(dlerror());
        return 1;
    }
    auto opened_marks = reinterpret_cast<long (*)()>(dlsym(opened, "opened_marks"));
    total += linked_marks() + opened_marks() + 2;
#endif
    /* Of the program: `local` of this thread, `global` and `last` are still to go. */
    total += marks + 3;
    printf("%ld\n", total);
    return 0;
}
