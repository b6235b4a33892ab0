/* programs/musl.rs: as early.cc, in C: constructors, a thread and what it leaves to be destroyed, and
 * a library that is opened, all calling a probed function. Prints how often each `mark` was called. */
#define PREFIX program
#include "early.h"
#ifndef STATIC
extern long linked_marks(void);
#endif
#include <dlfcn.h>
#include <pthread.h>
#include "target.h"

static pthread_key_t key;

static void destroyed(void *value) {
    (void)value;
    mark();
}

static void *uses(void *argument) {
    pthread_setspecific(key, "");
    mark();
    return argument;
}

int main(int argc, char **argv) {
    if (argc > 1 && argv[1][0] == 'w') {
        ready();
        printf("%ld\n", marks);
        fflush(stdout);
        wait_for_go();
    }
    pthread_t thread;
    if (pthread_key_create(&key, destroyed) || pthread_create(&thread, 0, uses, 0)) return 1;
    pthread_join(thread, 0);
    /* Destructors of this module and of the libraries run later: one call each. */
    long total = 1;
#ifndef STATIC
    void *opened = dlopen(argv[argc - 1], RTLD_NOW);
    if (!opened) {
        puts(dlerror());
        return 1;
    }
    long (*opened_marks)(void) = (long (*)(void))dlsym(opened, "opened_marks");
    total += linked_marks() + opened_marks() + 2;
#endif
    printf("%ld\n", total + marks);
    return 0;
}
