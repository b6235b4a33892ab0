//! The words that are values: `pid`, `comm`, `arg0`. One entry a word; knows neither functions nor
//! probes, only where a word may stand.

use super::typed::{Builtin, Type};
use crate::program::Width;

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Known everywhere.
    Value(Builtin, Shape),
    /// Known at probes of the target only.
    AtProbe(Builtin, Shape),
    /// `retval`
    Retval,
    /// `argN`
    Arg(u8),
    /// `fargN`
    FloatArg(u8),
    /// `sargN`
    StackArg(u8),
    /// `args`
    Args,
    /// `ustack`
    Ustack,
    /// `probetype`
    ProbeType,
    /// Of the kernel, with what to use instead.
    Kernel(&'static str),
}

/// The type of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    U32,
    U64,
    /// A thread's name.
    Comm,
    Username,
    Func,
    Probe,
}

impl Shape {
    pub fn ty(self) -> Type {
        match self {
            Shape::U32 => Type::Int {
                width: Width::W32,
                signed: false,
            },
            Shape::U64 => Type::Int {
                width: Width::W64,
                signed: false,
            },
            Shape::Comm => Type::Str { max: 15 },
            Shape::Username => Type::Username,
            Shape::Func => Type::Func,
            Shape::Probe => Type::ProbeName,
        }
    }
}

const WORDS: &[(&str, Word)] = &[
    ("pid", Word::Value(Builtin::Pid, Shape::U32)),
    ("tid", Word::Value(Builtin::Tid, Shape::U32)),
    ("comm", Word::Value(Builtin::Comm, Shape::Comm)),
    ("nsecs", Word::Value(Builtin::Nsecs, Shape::U64)),
    ("elapsed", Word::Value(Builtin::Elapsed, Shape::U64)),
    ("cpid", Word::Value(Builtin::Cpid, Shape::U32)),
    ("uid", Word::Value(Builtin::Uid, Shape::U32)),
    ("gid", Word::Value(Builtin::Gid, Shape::U32)),
    ("username", Word::Value(Builtin::Username, Shape::Username)),
    ("cpu", Word::Value(Builtin::Cpu, Shape::U32)),
    ("rand", Word::Value(Builtin::Rand, Shape::U32)),
    ("probe", Word::Value(Builtin::Probe, Shape::Probe)),
    ("func", Word::AtProbe(Builtin::Func, Shape::Func)),
    ("retval", Word::Retval),
    ("args", Word::Args),
    ("ustack", Word::Ustack),
    ("probetype", Word::ProbeType),
    ("kstack", Word::Kernel("the target's own stack is ustack")),
    (
        "curtask",
        Word::Kernel("the target is named by pid, tid and comm"),
    ),
    (
        "cgroup",
        Word::Kernel("the target is named by pid, tid and comm"),
    ),
    (
        "ctx",
        Word::Kernel("arguments are arg0, arg1, ... and args.NAME"),
    ),
    ("ncpus", Word::Kernel("the processor a hit was on is cpu")),
    ("numaid", Word::Kernel("the processor a hit was on is cpu")),
    ("jiffies", Word::Kernel("a time is nsecs or elapsed")),
    (
        "usermode",
        Word::Kernel("every probe here is of user space"),
    ),
    (
        "ppid",
        Word::Kernel("the target is named by pid, tid and comm"),
    ),
    (
        "pcomm",
        Word::Kernel("the target is named by pid, tid and comm"),
    ),
];

/// What a word means.
pub(super) fn word(name: &str) -> Option<Word> {
    if let Some((_, word)) = WORDS.iter().find(|(known, _)| *known == name) {
        return Some(*word);
    }
    let number = |prefix: &str| {
        let digits = name.strip_prefix(prefix)?;
        let plain = digits == "0" || !digits.starts_with('0');
        let number = digits.bytes().all(|b| b.is_ascii_digit()) && plain;
        digits.parse::<u8>().ok().filter(|_| number)
    };
    number("arg")
        .map(Word::Arg)
        .or_else(|| number("farg").map(Word::FloatArg))
        .or_else(|| number("sarg").map(Word::StackArg))
}

/// Whether it is one.
pub(super) fn is_word(name: &str) -> bool {
    word(name).is_some()
}

/// All of them that can be used, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let usable = WORDS.iter().filter(|(_, w)| !matches!(w, Word::Kernel(_)));
    usable.map(|(name, _)| *name).chain(["arg0", "arg1"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_numbered_ones_are_read() {
        for (at, (name, _)) in WORDS.iter().enumerate() {
            assert!(WORDS.iter().skip(at + 1).all(|(other, _)| other != name));
        }
        assert_eq!(word("arg12"), Some(Word::Arg(12)));
        assert_eq!(word("farg0"), Some(Word::FloatArg(0)));
        for name in ["arg", "arg01", "arg999", "argx", "sarg-1"] {
            assert_eq!(word(name), None, "{name}");
        }
    }
}
