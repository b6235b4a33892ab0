/* Becomes another program, which any process may trace then: what it declares outlasts exec. */
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

int main(int argc, char **argv) {
    prctl(PR_SET_PTRACER, -1L, 0, 0, 0);
    if (argc > 1)
        execvp(argv[1], argv + 1);
    perror("traceable");
    return 127;
}
