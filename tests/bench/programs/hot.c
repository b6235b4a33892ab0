// Calls `hot` and its equal `twin` in alternating slices and prints what each call cost; with -d it
// patches `hot` itself, to show what a detour costs at least.
//
//   hot [-b] [-i] [-n CALLS] [-r PAIRS] [-t 1|2] [-p CPU] [-s BYTES] [-F FRAMES] [-d DETOUR | -f CODE]
//
// -b: below eight nested calls, which return well or not. -i: one pair for each line read, until the end of
// the input. -f: a file with code for the address CODE_AT. -s: length of the text that the calls are given.
// -F: calls come from below so many more frames, of 256 bytes and more. A pair is a line: "pair TWIN_CPU
// HOT_CPU TWIN_WALL HOT_WALL", in ns a call.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SHARED = 0x20000000, ALIVE = 0x1fff0000, OWNER = 0, HEAD = 8, TAIL = 0x40 };
enum { RING_SIZE = 0x800000, BLOCK = RING_SIZE + 0x100000, CODE_AT = 0x30000000, CODE_SIZE = 0x4000 };

typedef uint64_t u64;
typedef u64 Loop(u64 calls, const char *text);
extern Loop loop_hot, loop_twin, loop_deep_hot, loop_deep_twin;
extern char hot[];
extern char floor_empty[], floor_count[], floor_count_flags[], floor_count_shared[], floor_record[],
    floor_record_notime[], floor_predicate[], floor_hist[], floor_keyed[], floor_record_arguments[],
    floor_record_string[], floor_pair[], floor_pair_record[];
static const struct { const char *name; char *code; } floors[] = {
    {"empty", floor_empty},
    {"count", floor_count},
    {"count_flags", floor_count_flags},
    {"count_shared", floor_count_shared},
    {"record", floor_record},
    {"record_notime", floor_record_notime},
    {"predicate", floor_predicate},
    {"hist", floor_hist},
    {"keyed", floor_keyed},
    {"record_arguments", floor_record_arguments},
    {"record_string", floor_record_string},
    {"pair", floor_pair},
    {"pair_record", floor_pair_record},
};
static _Alignas(4096) char text[4096];

static u64 calls = 1000000;
static int threads = 1, cpu, floor_mode, deep;
static pthread_barrier_t together;
static struct { double twin_cpu, hot_cpu, twin_wall, hot_wall; } result[2];

static void fail(const char *what) { perror(what); exit(1); }

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static void pin(int to) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(to, &set);
  if (sched_setaffinity(0, sizeof set, &set)) fail("sched_setaffinity");
}

static char *block(int thread) { return (char *)(u64)SHARED + (u64)BLOCK * (thread + 1); }

static void *fixed(u64 at, u64 size, int fd, int prot) {
  int flags = MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE : MAP_PRIVATE);
  void *p = mmap((void *)at, size, prot, flags, fd, 0);
  if (p == MAP_FAILED) fail("mmap");
  return p;
}

static void own_block(int thread) {
  u64 fs;
  __asm__ volatile("rdfsbase %0" : "=r"(fs));
  *(volatile u64 *)(block(thread) + OWNER) = fs;
  __asm__ volatile("wrgsbase %0" ::"r"((u64)(block(thread) - (u64)SHARED)));
}

// The address is hidden from the compiler: `hot+1` as a constant would look like a branch target.
static void patch(const char *code) {
  char *volatile hidden = hot, *at = hidden;
  if (mprotect(at, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) fail("mprotect");
  int32_t distance = code - (at + 5);
  at[0] = 0xe9;
  memcpy(at + 1, &distance, 4);
}

// Makes room in the floor's rings. A reader on another processor would take the lines with it; that
// is no cost of the detour.
static void empty_rings(void) {
  for (int t = 0; t < threads; t++) {
    volatile u64 *at = (u64 *)block(t);
    at[TAIL / 8] = at[HEAD / 8];
  }
}

static void slice(Loop *loop, double *cpu_time, double *wall) {
  if (threads > 1) pthread_barrier_wait(&together);
  double w = now(CLOCK_MONOTONIC), c = now(CLOCK_THREAD_CPUTIME_ID);
  loop(calls, text);
  *cpu_time = (now(CLOCK_THREAD_CPUTIME_ID) - c) / calls;
  *wall = (now(CLOCK_MONOTONIC) - w) / calls;
}

static void pair(int t) {
  slice(deep ? loop_deep_twin : loop_twin, &result[t].twin_cpu, &result[t].twin_wall);
  slice(deep ? loop_deep_hot : loop_hot, &result[t].hot_cpu, &result[t].hot_wall);
}

// Not compiled into a loop: it is called again before it ends.
static __attribute__((noinline)) void nested(int frames, int t) {
  volatile char room[256];
  room[0] = 0;
  if (frames > 0) nested(frames - 1, t);
  else pair(t);
  room[1] = 0;
}

static void *second(void *unused) {
  (void)unused;
  pin(cpu ? 0 : 1);
  if (floor_mode) own_block(1);
  for (;;) {
    pthread_barrier_wait(&together);
    pair(1);
    pthread_barrier_wait(&together);
  }
  return 0;
}

int main(int argc, char **argv) {
  int option, interactive = 0, pairs = 9, bytes = 20, frames = 0;
  const char *detour = 0, *code = 0;
  char line[64];
  pthread_t thread;
  while ((option = getopt(argc, argv, "bin:r:t:p:s:F:d:f:")) != -1) switch (option) {
    case 'b': deep = 1; break;
    case 'i': interactive = 1; break;
    case 'n': calls = strtoull(optarg, 0, 0); break;
    case 'r': pairs = atoi(optarg); break;
    case 't': threads = atoi(optarg) > 1 ? 2 : 1; break;
    case 'p': cpu = atoi(optarg); break;
    case 's': bytes = atoi(optarg); break;
    case 'F': frames = atoi(optarg); break;
    case 'd': detour = optarg; break;
    case 'f': code = optarg; break;
    default: return 2;
    }
  for (int i = 0; i < bytes && i < (int)sizeof text - 1; i++) text[i] = "/usr/lib/x86_64/libc"[i % 20];
  setvbuf(stdout, 0, _IOLBF, 0);
  pin(cpu);
  pthread_barrier_init(&together, 0, 2);
  if (detour || code) {
    floor_mode = 1;
    fixed(ALIVE, 4096, -1, PROT_READ | PROT_WRITE);
    *(char *)ALIVE = 1;
    fixed(SHARED, (u64)BLOCK * 3, -1, PROT_READ | PROT_WRITE);
    own_block(0);
  }
  if (code) {
    int fd = open(code, O_RDONLY);
    if (fd < 0) fail(code);
    patch(fixed(CODE_AT, CODE_SIZE, fd, PROT_READ | PROT_EXEC));
  } else if (detour) {
    for (unsigned i = 0; i < sizeof floors / sizeof *floors; i++)
      if (!strcmp(floors[i].name, detour)) patch(floors[i].code);
  }
  if (threads > 1) pthread_create(&thread, 0, second, 0);
  loop_twin(calls, text);
  printf("ready %d\n", getpid());
  while (interactive ? fgets(line, sizeof line, stdin) != 0 : pairs-- > 0) {
    if (floor_mode) empty_rings();
    if (threads > 1) pthread_barrier_wait(&together);
    nested(frames, 0);
    if (threads > 1) pthread_barrier_wait(&together);
    for (int t = 1; t < threads; t++) {
      result[0].twin_cpu = (result[0].twin_cpu + result[t].twin_cpu) / 2;
      result[0].hot_cpu = (result[0].hot_cpu + result[t].hot_cpu) / 2;
      result[0].twin_wall = (result[0].twin_wall + result[t].twin_wall) / 2;
      result[0].hot_wall = (result[0].hot_wall + result[t].hot_wall) / 2;
    }
    printf("pair %.4f %.4f %.4f %.4f\n", result[0].twin_cpu, result[0].hot_cpu, result[0].twin_wall, result[0].hot_wall);
  }
  return 0;
}
