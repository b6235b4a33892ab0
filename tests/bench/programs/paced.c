// Calls `paced` a given number of times a second, evenly to a millisecond, for a given time.
//
//   paced CALLS_PER_SECOND MILLISECONDS
//
// Prints "made CALLS in NS".
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

__attribute__((noinline)) unsigned long paced(unsigned long n) {
  __asm__ volatile("" : "+r"(n));
  return n * 3 + 1;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  uint64_t rate = strtoull(argv[1], 0, 10), end = strtoull(argv[2], 0, 10);
  uint64_t start = now(), made = 0, r = 1;
  for (uint64_t ms = 1; ms <= end; ms++) {
    uint64_t due = start + ms * 1000000, until = rate * ms / 1000;
    for (; made < until; made++) r = paced(r);
    uint64_t t = now();
    if (t < due) nanosleep(&(struct timespec){0, (long)(due - t)}, 0);
  }
  printf("made %llu in %llu\n", (unsigned long long)made, (unsigned long long)(now() - start));
  return r == 0;
}
