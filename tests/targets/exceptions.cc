// hazards/sweep.rs: exceptions thrown through functions whose first instructions contain a call,
// destructors on the way, rethrown; a backtrace from a callee that shows no address but text.
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>

#include <stdexcept>
#include <string>

#define ROUNDS 50
#include "rounds.h"

static int destroyed;
struct Counted {
    ~Counted() { destroyed++; }
};

extern "C" {
void call_at_once(void);
void thrower(void);
// `sub $8,%rsp; call` is nine bytes: the call is displaced.
__asm__(
    ".text\n.p2align 4\n.globl call_at_once\n.type call_at_once,@function\ncall_at_once:\n"
    ".cfi_startproc\n"
    "sub $8,%rsp\n.cfi_def_cfa_offset 16\n"
    "call thrower\n"
    "add $8,%rsp\n.cfi_def_cfa_offset 8\n"
    "ret\n.cfi_endproc\n.size call_at_once,.-call_at_once\n");

static int mode, frames, foreign;

NOINLINE void look(void) {
    void *found[64];
    frames = backtrace(found, 64);
    foreign = 0;
    for (int i = 0; i < frames; i++) {
        Dl_info info;
        if (!dladdr(found[i], &info) || !info.dli_fname) foreign++;
    }
}

NOINLINE void thrower(void) {
    Counted counted;
    if (mode == 0) look();
    if (mode == 1) throw std::runtime_error("one");
}
}

NOINLINE static int through(int depth) {
    Counted counted;
    if (depth == 0) {
        call_at_once();
        return 0;
    }
    try {
        return through(depth - 1) + 1;
    } catch (std::runtime_error &) {
        throw;
    }
}

static int check(void) {
    mode = 0;
    destroyed = 0;
    RIGHT(through(5) == 5 && destroyed == 7);
    RIGHT(frames > 8 && foreign == 0);
    mode = 1;
    destroyed = 0;
    try {
        through(10);
        RIGHT(false);
    } catch (std::exception &caught) {
        RIGHT(std::string(caught.what()) == "one");
    }
    RIGHT(destroyed == 12);
    return 1;
}
