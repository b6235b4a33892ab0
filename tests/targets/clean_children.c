/* hazards/sweep.rs: a forked child compares its text with the files it came from, looks for code
 * that came from none, and says what it found by its exit status; a child of a child too. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>

#define ROUNDS 3
#include "rounds.h"

enum { CLEAN = 42, DIRTY_TEXT = 1, MAPPED = 2 };

NOINLINE int work(int n) { return n * 3 + 1; }

/* System calls of our own, so that no function of libc is needed to look at libc. */
static int look(void) {
    static char maps[1 << 16], page[4096];
    int fd = open("/proc/self/maps", O_RDONLY), verdict = CLEAN;
    size_t len = 0;
    ssize_t got;
    while ((got = read(fd, maps + len, sizeof maps - 1 - len)) > 0) len += (size_t)got;
    close(fd);
    maps[len] = 0;
    for (char *line = maps, *end; (end = strchr(line, '\n')); line = end + 1) {
        unsigned long from, to, offset;
        char access[8], path[512] = "";
        *end = 0;
        if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %511s", &from, &to, access, &offset, path) < 4)
            continue;
        if (strstr(path, "memfd:")) verdict |= MAPPED;
        if (access[2] != 'x' || path[0] == '[') continue;
        if (path[0] != '/' || (fd = open(path, O_RDONLY)) < 0) {
            verdict |= MAPPED;
            continue;
        }
        for (unsigned long at = from; at < to; at += sizeof page) {
            ssize_t size = pread(fd, page, sizeof page, (off_t)(offset + (at - from)));
            if (size > 0 && memcmp(page, (void *)at, (size_t)size)) verdict |= DIRTY_TEXT;
        }
        close(fd);
    }
    return work(2) == 7 ? verdict : 0;
}

static int look_in_child(int depth) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        int verdict = look();
        if (depth && verdict == CLEAN) verdict = look_in_child(depth - 1);
        _exit(verdict);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 0;
    return WEXITSTATUS(status);
}

static int check(void) {
    int found = look_in_child(1);
    if (found != CLEAN) printf("a child found %d\n", found);
    RIGHT(found == CLEAN);
    return 1;
}
