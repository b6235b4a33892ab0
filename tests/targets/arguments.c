/* Calls with each kind of argument, at the ends of what can be read too. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "target.h"

struct point {
    int x;
    const char *name;
    struct point *next;
};

enum colour { RED, GREEN = 5 };

NOINLINE int numbers(int8_t a, uint8_t b, int16_t c, uint32_t d, int64_t e, uint64_t f, int g, long h) {
    __asm__ volatile("" ::: "memory");
    return (int)(a + b + c + (int)d + e + (long)f + g + h);
}

NOINLINE int small(char letter, _Bool yes, enum colour colour, double ignored) {
    __asm__ volatile("" ::: "memory");
    return letter + yes + (int)colour + (int)ignored;
}

NOINLINE int text(const char *string) {
    __asm__ volatile("" ::"r"(string) : "memory");
    return string != NULL;
}

NOINLINE int inside(struct point *point) {
    __asm__ volatile("" ::"r"(point) : "memory");
    return point != NULL;
}

int main(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + page, page);
    char *end = pages + page;
    char *longer = malloc(100000);
    memset(longer, 'l', 99999);
    longer[99999] = 0;

    int sum = numbers(-1, 255, -300, 4000000000u, -5000000000, 18446744073709551615u, -7, 8);
    sum += small('A', 1, GREEN, 2.5) + small('\033', 0, RED, 0);

    strcpy(end - 8, "at end.");
    sum += text("plain") + text("") + text(end - 8) + text(NULL) + text((char *)0x1234);
    memcpy(end - 4, "open", 4);
    sum += text(end - 4) + text(longer) + text("tab\there\n\033[31m\xff\xc3\xa9\"") + text((char *)0x8000000000000000);

    struct point second = {-2, "second", NULL}, first = {1, "first", &second};
    struct point broken = {3, (char *)8, (struct point *)16};
    sum += inside(&first) + inside(&broken) + inside(NULL);
    printf("%d\n", sum);
    return 0;
}
