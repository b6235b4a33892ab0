//! The table of functions: one entry a word. What a function does is with [`Checker`].

use super::Checker;
use crate::language::source::Span;
use crate::language::tree::{self, Name};
use crate::language::typed::{Expr, StmtKind};

/// A call as it was written.
#[derive(Clone, Copy)]
pub(super) struct Call<'c> {
    pub name: &'c Name,
    pub args: &'c [tree::Expr],
    pub span: &'c Span,
}

type Value = fn(&mut Checker<'_, '_>, &Call<'_>) -> Expr;
type Effect = fn(&mut Checker<'_, '_>, &Call<'_>) -> Option<StmtKind>;

/// What a function is.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// It has a value.
    Value(Value),
    /// It does something.
    Effect(Effect),
    /// It does something that takes `--unsafe`.
    Unsafe(Effect),
    /// It stands on the right of `@x =`.
    Aggregate,
    /// It is of the kernel, or not to be had here: what to use instead.
    Refused(&'static str),
}

pub(super) struct Function {
    pub name: &'static str,
    pub how: How,
    /// Least and most arguments.
    pub takes: (usize, usize),
    pub usage: &'static str,
}

/// As many arguments as wanted.
pub(super) const MANY: usize = usize::MAX;

const NAMED: &str = "the target is named by pid, tid and comm";
const KERNEL: &str = "the kernel's memory cannot be read from user space";

/// A line each: the name, what it is, least and most arguments, how it is written.
macro_rules! functions {
    ($($name:ident: $how:ident $(($run:expr))?, $least:expr, $most:expr, $usage:expr;)*) => {
        static FUNCTIONS: &[Function] = &[$(Function {
            name: stringify!($name),
            how: How::$how $(($run))?,
            takes: ($least, $most),
            usage: $usage,
        }),*];
    };
}

functions! {
    printf: Effect(|c, call| c.printf(call)), 1, MANY, "printf(\"format\", value, ...)";
    print: Effect(|c, call| c.print(call)), 1, 3, "print(value), print(@map), print(@map, top, div)";
    clear: Effect(|c, call| c.clear(call)), 1, 1, "clear(@map)";
    zero: Effect(|c, call| c.zero(call)), 1, 1, "zero(@map)";
    delete: Effect(|c, call| c.delete(call)), 1, MANY, "delete(@map, key)";
    exit: Effect(|c, call| c.exit(call)), 0, 1, "exit(), exit(status)";
    time: Effect(|c, call| c.time(call)), 0, 1, "time(\"%H:%M:%S\")";
    join: Effect(|c, call| c.join(call)), 1, 2, "join(array, \"separator\")";
    cat: Unsafe(|c, call| c.cat(call)), 1, MANY, "cat(\"path\", value, ...)";
    system: Unsafe(|c, call| c.system(call)), 1, MANY, "system(\"command\", value, ...)";
    count: Aggregate, 0, 0, "@x = count()";
    sum: Aggregate, 1, 1, "@x = sum(value)";
    avg: Aggregate, 1, 1, "@x = avg(value)";
    min: Aggregate, 1, 1, "@x = min(value)";
    max: Aggregate, 1, 1, "@x = max(value)";
    stats: Aggregate, 1, 1, "@x = stats(value)";
    hist: Aggregate, 1, 2, "@x = hist(value), @x = hist(value, bits)";
    lhist: Aggregate, 4, 4, "@x = lhist(value, min, max, step)";
    str: Value(|c, call| c.str(call)), 1, 2, "str(pointer), str(pointer, length)";
    buf: Value(|c, call| c.buf(call)), 1, 2, "buf(pointer, length)";
    usym: Value(|c, call| c.usym(call)), 1, 1, "usym(address)";
    ustack: Value(|c, call| c.ustack_call(call)), 0, 2, "ustack(), ustack(frames), ustack(perf, frames)";
    ntop: Value(|c, call| c.ntop(call)), 1, 2, "ntop(address), ntop(family, address)";
    reg: Value(|c, call| c.reg(call)), 1, 1, "reg(\"di\")";
    uptr: Value(|c, call| c.uptr(call)), 1, 1, "uptr(pointer)";
    strftime: Value(|c, call| c.strftime(call)), 2, 2, "strftime(\"%H:%M:%S.%f\", nsecs)";
    strncmp: Value(|c, call| c.strncmp(call)), 3, 3, "strncmp(a, b, length)";
    strcontains: Value(|c, call| c.strcontains(call)), 2, 2, "strcontains(text, part)";
    has_key: Value(|c, call| c.has_key(call)), 2, MANY, "has_key(@map, key)";
    find: Value(|c, call| c.find(call)), 3, 3, "find(@map, key, $value)";
    len: Value(|c, call| c.len(call)), 1, 1, "len(@map)";
    nsecs: Value(|c, call| c.nsecs(call)), 0, 1, "nsecs, nsecs(monotonic)";
    getopt: Value(|c, call| c.getopt(call)), 1, 3, "getopt(\"name\", default)";
    is_literal: Value(|c, call| c.is_literal_call(call)), 1, 1, "is_literal(value)";
    kstack: Refused("the target's own stack is ustack"), 0, MANY, "";
    ksym: Refused("an address of the target is usym(address)"), 0, MANY, "";
    kaddr: Refused(KERNEL), 0, MANY, "";
    percpu_kaddr: Refused(KERNEL), 0, MANY, "";
    kptr: Refused("every pointer here is one of the target"), 0, MANY, "";
    cgroupid: Refused(NAMED), 0, MANY, "";
    cgroup_path: Refused(NAMED), 0, MANY, "";
    curtask: Refused(NAMED), 0, MANY, "";
    ppid: Refused(NAMED), 0, MANY, "";
    pcomm: Refused(NAMED), 0, MANY, "";
    path: Refused(KERNEL), 0, MANY, "";
    macaddr: Refused("the bytes can be shown: printf(\"%r\", buf(pointer, 6))"), 0, MANY, "";
    skboutput: Refused(KERNEL), 0, MANY, "";
    socket_cookie: Refused(KERNEL), 0, MANY, "";
    jiffies: Refused("a time is nsecs or elapsed"), 0, MANY, "";
    override: Refused("a function's result cannot be changed"), 0, MANY, "";
    signal: Refused("the target is not changed; --duration and exit() end the tracing"), 0, MANY, "";
    signal_thread: Refused("the target is not changed; --duration and exit() end the tracing"), 0, MANY, "";
    write_user: Refused("the target is not changed"), 0, MANY, "";
    unwatch: Refused("there are no watchpoints"), 0, MANY, "";
    uaddr: Refused("an address can be probed with uprobe:MODULE:ADDRESS"), 0, MANY, "";
    dw_ustack: Refused("the target's stack is ustack"), 0, MANY, "";
    tseries: Refused("a map by time is @[elapsed / 1000000000] = ..."), 0, MANY, "";
    pton: Refused("compare the number: an IPv4 address in memory order"), 0, MANY, "";
    bswap: Refused("shift and mask: ($x & 0xff) << 8 | $x >> 8"), 0, MANY, "";
    strlen: Refused("compare with \"\", or look for a part with strcontains"), 0, MANY, "";
    strstr: Refused("whether a part is in a string is strcontains(text, part)"), 0, MANY, "";
    memcmp: Refused("strings are compared with == or strncmp(a, b, length)"), 0, MANY, "";
    strerror: Refused("the number can be shown: printf(\"%d\", ...)"), 0, MANY, "";
    errorf: Refused("printf(...) shows a message"), 0, MANY, "";
    warnf: Refused("printf(...) shows a message"), 0, MANY, "";
    assert: Refused("if (...) { printf(...); exit(); }"), 0, MANY, "";
}

/// The function of that name.
pub(super) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Names of the functions that can be used.
pub(super) fn function_names() -> impl Iterator<Item = &'static str> {
    let usable = |f: &&Function| !matches!(f.how, How::Refused(_));
    FUNCTIONS.iter().filter(usable).map(|f| f.name)
}

pub(super) fn is_function(name: &str) -> bool {
    function(name).is_some()
}

/// Whether it may be written without parentheses.
pub(super) fn takes_nothing(name: &str) -> bool {
    function(name).is_some_and(|f| f.takes.0 == 0 && f.name != "count")
}

/// How it is written.
pub(super) fn usage(name: &str) -> String {
    match function(name) {
        Some(Function {
            how: How::Refused(instead),
            ..
        }) => (*instead).to_owned(),
        Some(f) => format!("as in: {}", f.usage),
        None => String::new(),
    }
}

pub(super) fn is_aggregate(name: &str) -> bool {
    function(name).is_some_and(|f| matches!(f.how, How::Aggregate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_unique_and_take_what_their_usage_shows() {
        for (at, function) in FUNCTIONS.iter().enumerate() {
            let rest = FUNCTIONS.iter().skip(at + 1);
            assert!(rest.into_iter().all(|f| f.name != function.name));
            let shown = function.usage.contains(function.name);
            assert!(shown || matches!(function.how, How::Refused(_)));
        }
    }
}
