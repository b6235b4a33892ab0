//! The checked tree: every name resolved, every expression typed, macros and positional parameters
//! gone, `sizeof` and constants folded. What stands here can be lowered without further questions.
//! Plain data. Invariant: a map has one key type and one kind of value throughout.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::program::Width;
use crate::spec::ProbeSpec;

/// A whole program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What `config = { ... }` said.
    pub config: Config,
    /// Maps in the order in which they first appear.
    pub maps: Vec<Map>,
    /// Blocks in source order.
    pub blocks: Vec<Block>,
}

/// What a probe that resolves to nothing means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// Nothing is said.
    Ignore,
    /// It is said.
    Warn,
    /// The program is refused. bpftrace's default.
    #[default]
    Error,
}

/// Settings of a program; `None` where nothing was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `missing_probes`.
    pub missing: Option<Missing>,
    /// `print_maps_on_exit`.
    pub print_maps_on_exit: Option<bool>,
    /// `max_strlen`: most bytes of a string.
    pub max_strlen: Option<u32>,
    /// `max_map_keys`: most entries of a map.
    pub max_map_keys: Option<u32>,
    /// Most entries of single maps: `let @a = hash(100)`.
    pub sizes: BTreeMap<String, u32>,
}

/// Index of a map in [`Checked::maps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub u32);

/// Index of a scratch variable in [`Block::locals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Local(pub u32);

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// With its `@`; `@` alone is a name too.
    pub name: String,
    /// Types of the parts of its key; empty for a map without keys. A tuple as key is its parts.
    pub key: Vec<Type>,
    /// What it holds.
    pub value: MapValue,
    /// Whether a block at a probe of the target reads it (a predicate, a cast of `@count`, `for`).
    pub read: bool,
}

/// What a map holds. `signed`: whether the values that were put in are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the language's own")]
pub enum MapValue {
    /// A plain value.
    Plain(Type),
    Count,
    Sum {
        signed: bool,
    },
    Avg {
        signed: bool,
    },
    Min {
        signed: bool,
    },
    Max {
        signed: bool,
    },
    Stats {
        signed: bool,
    },
    /// `hist(x, bits)`
    Hist {
        /// Each power of two is cut into 2^bits, 0 to 5.
        bits: u8,
    },
    /// `lhist(x, min, max, step)`
    Lhist {
        /// Start of the first bucket.
        min: i64,
        /// End of the last.
        max: i64,
        /// Width of one; there are at most 1,000.
        step: i64,
    },
}

/// The type of an expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// No value: a statement.
    Void,
    /// An integer; arithmetic is done in 64 bits.
    Int {
        /// Its width.
        width: Width,
        /// Whether it is signed.
        signed: bool,
    },
    /// `farg0`: a double, in 64 bits as IEEE 754 stores it.
    Float,
    /// A floating-point number of 32 bits, in the low half of a word.
    Single,
    /// The address of something in the target.
    Pointer(Box<Type>),
    /// A structure in the target, by its address. Named, so that one may point to itself.
    Struct(String),
    /// An array in the target, by its address.
    Array {
        /// Of what.
        of: Box<Type>,
        /// How many.
        len: u64,
    },
    /// The bytes up to a NUL, at most `max`.
    Str {
        /// Most bytes, the NUL not counted.
        max: u32,
    },
    /// Bytes, at most `max`.
    Buf {
        /// Most bytes.
        max: u32,
    },
    /// Several values.
    Tuple(Vec<Type>),
    /// A copy of a structure or an array.
    Whole(Box<Whole>),
    /// A code or data address, shown as a symbol. 64 bits.
    Usym,
    /// A stack of return addresses.
    Ustack {
        /// Most frames.
        frames: u32,
        /// How it is shown.
        mode: StackMode,
    },
    /// A network address, as `ntop` shows it: 4 or 16 bytes.
    Inet,
    /// A time, as `strftime` shows it: 64 bits of nanoseconds, with the format.
    Time(String),
    /// A user's number, shown as a name.
    Username,
    /// The number of the probe, shown as its function (`func`).
    Func,
    /// The number of the probe, shown as its full name (`probe`).
    ProbeName,
}

/// What the bytes of a structure or an array mean.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Whole {
    /// Whether it is an array: its members have no names.
    pub list: bool,
    /// How many bytes there are.
    pub size: u32,
    /// Its members.
    pub members: Vec<Part>,
}

/// A member of a [`Whole`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Its name in a structure.
    pub name: Option<String>,
    /// An integer, a pointer, a floating-point number, a string that lies there, or a whole.
    pub ty: Type,
    /// Its first byte.
    pub offset: u32,
    /// First bit above the lowest, and how many, of a bit field.
    pub bits: Option<(u8, u8)>,
}

/// How a stack is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StackMode {
    /// `name+offset`
    #[default]
    Bpftrace,
    /// `address name+offset (module)`
    Perf,
    /// Addresses.
    Raw,
}

/// Something that runs at its probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where. All of one block are typed alike; a block whose types differ by probe is split.
    pub attach: Vec<Attach>,
    /// Runs only when this is not 0.
    pub predicate: Option<Expr>,
    /// What it does.
    pub body: Vec<Stmt>,
    /// Types of its scratch variables.
    pub locals: Vec<Type>,
    /// Its place in the source.
    pub span: Range<usize>,
}

/// Where a block runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Before the first probe is armed.
    Begin,
    /// After the last is disarmed.
    End,
    /// Each time this many nanoseconds have passed.
    Interval(u64),
    /// At a function's entry, or an instruction.
    Entry(Point),
    /// At its return.
    Return(Point),
    /// At a USDT probe; its [`Point::spec`] names the module and, as symbol, `PROVIDER:NAME`.
    Usdt(Point),
}

/// A probe of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where, as `-p` takes it.
    pub spec: ProbeSpec,
    /// As the source has it, in long form: `uprobe:/bin/bash:readline`.
    pub text: String,
    /// Its place in the source.
    pub span: Range<usize>,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stmt {
    /// What it does.
    pub kind: StmtKind,
    /// Its place in the source.
    pub span: Range<usize>,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StmtKind {
    /// Computes and drops a value (for `$x++` and other effects within).
    Expr(Expr),
    /// `$x = value`
    SetLocal(Local, Expr),
    /// `@m[key] = value`, a plain map.
    SetMap(MapId, Vec<Expr>, Expr),
    /// `@m[key] = count()` and the others, with the value of those that take one.
    Aggregate(MapId, Vec<Expr>, Option<Expr>),
    /// `if`
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    /// `for ($i : from..to)`: `to` is not reached. Both are evaluated once.
    Range(Local, Expr, Expr, Vec<Stmt>),
    /// `for ($kv : @m)`: the local is a tuple of key and value. A key of several parts is a tuple.
    Each(Local, MapId, Vec<Stmt>),
    /// `while (condition)`: the back end bounds it.
    While(Expr, Vec<Stmt>),
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `return`
    Return,
    /// `delete(@m, key)`
    Delete(MapId, Vec<Expr>),
    /// `printf(format, ...)`
    Printf(Vec<Piece>, Vec<Expr>),
    /// `print(@m, top, div)`
    PrintMap {
        /// Which.
        map: MapId,
        /// Only the largest of them; 0 for all.
        top: u64,
        /// Divides what is shown; 0 and 1 for not at all.
        div: u64,
    },
    /// `print(@m[key])`: also of an aggregation.
    PrintEntry(MapId, Vec<Expr>),
    /// `print(value)`
    Print(Expr),
    /// `clear(@m)`
    Clear(MapId),
    /// `zero(@m)`
    Zero(MapId),
    /// `exit()`, `exit(code)`
    Exit(Option<Expr>),
    /// `time(format)`
    Time(String),
    /// `join(array, separator)`: the array of strings in the target.
    Join(Expr, String),
    /// `cat(path)`, only with `--unsafe`.
    Cat(Vec<Piece>, Vec<Expr>),
    /// `system(command)`, only with `--unsafe`.
    System(Vec<Piece>, Vec<Expr>),
}

/// Part of a format: text, or the next argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// As it stands, escapes resolved.
    Text(String),
    /// The next argument.
    Arg(Conversion),
}

/// One `%` conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversion {
    /// `-`
    pub left: bool,
    /// `0`
    pub zeros: bool,
    /// `+`
    pub plus: bool,
    /// ` `
    pub space: bool,
    /// `#`
    pub alternate: bool,
    /// Least characters.
    pub width: Option<u32>,
    /// Precision.
    pub precision: Option<u32>,
    /// In what width an integer is taken: `hh` 8, `h` 16; with `l`, `ll`, `j`, `z`, nothing 64.
    pub size: Width,
    /// `d` (also for `i`), `u`, `x`, `X`, `o`, `c`, `p`, `s`, `r` (escaped bytes; with `alternate`
    /// all of them as `\xNN`, with `space` as `NN NN`), `f` (a float).
    pub kind: char,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr {
    /// What it computes.
    pub kind: ExprKind,
    /// Its type.
    pub ty: Type,
    /// Its place in the source.
    pub span: Range<usize>,
}

/// What an expression computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExprKind {
    /// A number.
    Int(i64),
    /// A string.
    Str(String),
    /// Something that is known at the hit.
    Builtin(Builtin),
    /// `argN`, and `args.NAME` by where it is passed, from 0.
    Arg(u8),
    /// `fargN`, from 0.
    FloatArg(u8),
    /// `sargN`: the n-th word above the return address.
    StackArg(u8),
    /// `reg("ax")`
    Reg(String),
    /// An argument of a USDT probe, as its note writes it: `-4@%edi`, `8@8(%rsp)`, `4@$5`.
    Usdt(String),
    /// A scratch variable.
    Local(Local),
    /// `@m[key]`: 0, or an empty string, where there is no such key.
    Map(MapId, Vec<Expr>),
    /// `has_key(@m, key)`
    HasKey(MapId, Vec<Expr>),
    /// `len(@m)`
    Len(MapId),
    /// `@m[key]++` and the like: changes a plain map, and is the old or the new value.
    StepMap(MapId, Vec<Expr>, Step),
    /// `$x++` and the like.
    StepLocal(Local, Step),
    /// One operand.
    Unary(Unary, Box<Expr>),
    /// Two operands.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `a && b`: the second only when it matters.
    And(Box<Expr>, Box<Expr>),
    /// `a || b`: the second only when it matters.
    Or(Box<Expr>, Box<Expr>),
    /// `a ? b : c`
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    /// To the type of the expression: integers are cut and extended, pointers renamed.
    Cast(Box<Expr>),
    /// What lies in the target at `address + offset`, read in the type of the expression. A
    /// structure or an array stays an address. With bits: cut out of it.
    Load {
        /// The address.
        address: Box<Expr>,
        /// Displacement.
        offset: i64,
        /// First bit, and how many.
        bits: Option<(u8, u8)>,
    },
    /// Several values.
    Tuple(Vec<Expr>),
    /// Part of a tuple, from 0.
    Part(Box<Expr>, u32),
    /// `str(pointer, length)`: at most `length` bytes when it is there.
    StrAt(Box<Expr>, Option<Box<Expr>>),
    /// `buf(pointer, length)`
    BufAt(Box<Expr>, Option<Box<Expr>>),
    /// `ntop(address)` and `ntop(family, address)`: an IPv4 address as an integer, or bytes there.
    Ntop(Option<Box<Expr>>, Box<Expr>),
    /// `usym(address)`
    Usym(Box<Expr>),
    /// `ustack`, `ustack(n)`: type [`Type::Ustack`].
    Ustack,
    /// `strftime(format, nanoseconds)`: type [`Type::Time`].
    Strftime(Box<Expr>),
    /// `strncmp(a, b, n)`: 0 when the first n bytes are equal, else 1; `a == b` of strings is its
    /// negation with n the longer of both.
    Strncmp(Box<Expr>, Box<Expr>, u32),
    /// `strcontains(a, b)`
    Strcontains(Box<Expr>, Box<Expr>),
    /// Whether the probe is called so: `func == "malloc"`, known when the probe is armed.
    Called(NameTest),
}

/// What is asked of a probe's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameTest {
    /// Of its full name, rather than its function's.
    pub full: bool,
    /// How it is held against the text.
    pub how: Match,
    /// The text.
    pub text: String,
}

impl NameTest {
    /// Whether a probe with this function and full name is called so.
    pub fn holds(&self, function: &str, full: &str) -> bool {
        let name = if self.full { full } else { function };
        match self.how {
            Match::Equal => name == self.text,
            Match::Begin(n) => {
                let cut = |text: &str| {
                    let bytes = text.as_bytes();
                    bytes.get(..n as usize).unwrap_or(bytes).to_vec()
                };
                cut(name) == cut(&self.text)
            }
            Match::Contain => name.contains(&self.text),
        }
    }
}

/// How a name is held against a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// They are equal.
    Equal,
    /// Their first bytes are.
    Begin(u32),
    /// The text is part of the name.
    Contain,
}

/// A step, and which value the expression has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// `+1` or `-1`.
    pub by: i8,
    /// Whether the value is the new one (`++x`).
    pub new: bool,
}

/// Something that is known at the hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// The process.
    Pid,
    /// The thread.
    Tid,
    /// The thread's name.
    Comm,
    /// Nanoseconds since boot, as `CLOCK_MONOTONIC` counts.
    Nsecs,
    /// Nanoseconds since the program's start.
    Elapsed,
    /// The function.
    Func,
    /// The full name of the probe.
    Probe,
    /// The value that is returned.
    Retval,
    /// Process id of the command that `run` started.
    Cpid,
    /// The user's number.
    Uid,
    /// The group's number.
    Gid,
    /// The user's name.
    Username,
    /// The processor.
    Cpu,
    /// A random number of 32 bits.
    Rand,
}

/// One operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    /// `-`
    Negate,
    /// `~`
    Invert,
    /// `!`
    Not,
}

/// Two operands, both evaluated. `signed`: the checker has decided by the operands' types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of C")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    /// By zero it gives 0.
    Div {
        signed: bool,
    },
    /// By zero it gives the left operand.
    Rem {
        signed: bool,
    },
    And,
    Or,
    Xor,
    Shl,
    Shr {
        signed: bool,
    },
    Equal,
    NotEqual,
    Less {
        signed: bool,
    },
    LessEqual {
        signed: bool,
    },
}
