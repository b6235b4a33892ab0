//! Kinds of probes by their names, a line each; the kernel's with what to use instead.

/// What a provider's name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    Begin,
    End,
    Uprobe,
    Uretprobe,
    Usdt,
    Interval,
    /// One of the kernel's, with what to use instead.
    Kernel(&'static str),
}

const FUNCTIONS: &str = "the functions of a program or library are uprobe:MODULE:FUNCTION";
const CALLS: &str = "system calls are seen as functions of libc: uprobe:libc:openat";
const SAMPLES: &str = "a block that runs regularly is interval:s:1, outside of the target";
const EVENTS: &str = "events of the kernel cannot be seen from user space";

/// Every provider: short name, long name.
pub(super) const PROVIDERS: &[(&str, &str, Provider)] = &[
    ("BEGIN", "BEGIN", Provider::Begin),
    ("begin", "BEGIN", Provider::Begin),
    ("END", "END", Provider::End),
    ("end", "END", Provider::End),
    ("u", "uprobe", Provider::Uprobe),
    ("uprobe", "uprobe", Provider::Uprobe),
    ("ur", "uretprobe", Provider::Uretprobe),
    ("uretprobe", "uretprobe", Provider::Uretprobe),
    ("U", "usdt", Provider::Usdt),
    ("usdt", "usdt", Provider::Usdt),
    ("i", "interval", Provider::Interval),
    ("interval", "interval", Provider::Interval),
    ("k", "kprobe", Provider::Kernel(FUNCTIONS)),
    ("kprobe", "kprobe", Provider::Kernel(FUNCTIONS)),
    ("kr", "kretprobe", Provider::Kernel(FUNCTIONS)),
    ("kretprobe", "kretprobe", Provider::Kernel(FUNCTIONS)),
    ("f", "fentry", Provider::Kernel(FUNCTIONS)),
    ("fentry", "fentry", Provider::Kernel(FUNCTIONS)),
    ("fr", "fexit", Provider::Kernel(FUNCTIONS)),
    ("fexit", "fexit", Provider::Kernel(FUNCTIONS)),
    ("kfunc", "kfunc", Provider::Kernel(FUNCTIONS)),
    ("kretfunc", "kretfunc", Provider::Kernel(FUNCTIONS)),
    ("t", "tracepoint", Provider::Kernel(CALLS)),
    ("tracepoint", "tracepoint", Provider::Kernel(CALLS)),
    ("rt", "rawtracepoint", Provider::Kernel(CALLS)),
    ("rawtracepoint", "rawtracepoint", Provider::Kernel(CALLS)),
    ("p", "profile", Provider::Kernel(SAMPLES)),
    ("profile", "profile", Provider::Kernel(SAMPLES)),
    ("s", "software", Provider::Kernel(EVENTS)),
    ("software", "software", Provider::Kernel(EVENTS)),
    ("h", "hardware", Provider::Kernel(EVENTS)),
    ("hardware", "hardware", Provider::Kernel(EVENTS)),
    ("w", "watchpoint", Provider::Kernel(EVENTS)),
    ("watchpoint", "watchpoint", Provider::Kernel(EVENTS)),
    ("aw", "asyncwatchpoint", Provider::Kernel(EVENTS)),
    (
        "asyncwatchpoint",
        "asyncwatchpoint",
        Provider::Kernel(EVENTS),
    ),
    ("it", "iter", Provider::Kernel(EVENTS)),
    ("iter", "iter", Provider::Kernel(EVENTS)),
    ("self", "self", Provider::Kernel(EVENTS)),
    ("bench", "bench", Provider::Kernel(EVENTS)),
    ("test", "test", Provider::Kernel(EVENTS)),
];
