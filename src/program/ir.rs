//! Operations, values and effects. Values are in single assignment: each refers to earlier ones
//! only; effects happen in order. Nothing here knows registers by name, addresses or bytes.

use std::sync::Arc;

use super::table::Table;
use crate::abi;

/// Index of a value in [`Program::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u16);

/// A register of the target machine by its DWARF number (System V ABI, AMD64, figure 3.36).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegId(pub u8);

/// Width of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One byte.
    W8,
    /// Two bytes.
    W16,
    /// Four bytes.
    W32,
    /// Eight bytes.
    W64,
}

impl Width {
    /// Size in bytes.
    pub fn bytes(self) -> u32 {
        self.bits() / 8
    }
    /// Size in bits.
    pub fn bits(self) -> u32 {
        match self {
            Width::W8 => 8,
            Width::W16 => 16,
            Width::W32 => 32,
            Width::W64 => 64,
        }
    }
}

/// An operation on two values, in 64 bits, wrapping. Comparisons give 1 or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b, unsigned; by zero: 0
    Div,
    /// a / b, signed, towards zero; by zero: 0
    SignedDiv,
    /// a % b, unsigned; by zero: a
    Rem,
    /// a % b, signed; by zero: a
    SignedRem,
    /// a & b
    And,
    /// a | b
    Or,
    /// a ^ b
    Xor,
    /// a << b modulo 64
    Shl,
    /// a >> b, unsigned; b modulo 64
    Shr,
    /// a >> b, signed; b modulo 64
    Sar,
    /// a == b
    Equal,
    /// a != b
    NotEqual,
    /// a < b, unsigned
    Less,
    /// a < b, signed
    SignedLess,
    /// a <= b, unsigned
    LessEqual,
    /// a <= b, signed
    SignedLessEqual,
}

/// An operation on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// -a
    Negate,
    /// ~a
    Invert,
    /// a == 0
    Not,
}

/// A variable of 64 bits that lives as long as the hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Local(pub u16);

/// Something that is known at the hit without being in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// The process.
    Pid,
    /// The thread.
    Tid,
    /// The user's number.
    Uid,
    /// The group's number.
    Gid,
    /// The process that `run` started, 0 with `attach`.
    Child,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    Nanos,
    /// The same since the session's start.
    Elapsed,
    /// The processor.
    Cpu,
    /// 32 random bits.
    Random,
    /// The number of the probe's name.
    Probe,
    /// The number of its function's name: one for all probes of functions of that name.
    Func,
    /// The address of the probe.
    Site,
    /// The n-th eight bytes, 0 or 1, of the thread's name; 2 for its length.
    Comm(u8),
}

/// How one value is made; all values are 64 bits wide. A value is computed where it is used, each
/// time: what must be computed once, or before something else happens, is put into a local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inst {
    /// A constant.
    Const(u64),
    /// A register as it was at the hit.
    Reg(RegId),
    /// The n-th integer argument, from 0, by the platform's calling convention; valid at entries.
    Arg(u8),
    /// The low 64 bits of the register of the n-th floating point argument, from 0 to 7.
    FloatArg(u8),
    /// Something that is known.
    Known(Known),
    /// Time stamp counter when the function was entered; at returns.
    Began,
    /// A variable.
    Local(Local),
    /// The word at this offset of the scratch memory.
    Scratch(u32),
    /// An operation on two earlier values.
    Binary(BinaryOp, Value, Value),
    /// An operation on an earlier value.
    Unary(UnaryOp, Value),
    /// An earlier value cut to a width and extended again.
    Extend {
        /// The value.
        value: Value,
        /// What is kept of it.
        width: Width,
        /// Whether to extend the sign.
        signed: bool,
    },
    /// `width` bytes at `base + offset` in the target, zero- or sign-extended. It may fault. In a
    /// record's field, the field then says so, and the program goes on; elsewhere it is 0, and
    /// the fault is counted.
    Load {
        /// Address.
        base: Value,
        /// Displacement.
        offset: i32,
        /// How much to read.
        width: Width,
        /// Whether to extend the sign.
        signed: bool,
    },
}

/// How an integer field is shown. The bits above the width are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntFormat {
    /// `0x2a`
    Hex(Width),
    /// `42`
    Unsigned(Width),
    /// `-42`
    Signed(Width),
    /// `'a'`
    Char,
    /// `true`, `false`; any non-zero byte is true
    Bool,
}

/// What a field of a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// The value itself, in 8 bytes.
    Int {
        /// What is stored.
        value: Value,
        /// How it is shown.
        format: IntFormat,
    },
    /// The NUL-terminated bytes at `pointer`, at most `max`.
    Str {
        /// Where the string is in the target.
        pointer: Value,
        /// Most bytes to copy, a multiple of 8, at most 4096.
        max: u16,
    },
    /// What the caller's frames are found by later: registers, and the stack from the stack pointer on,
    /// where return addresses of thunks are those of the callers.
    Stack {
        /// Most bytes to copy, a multiple of 8.
        most: u16,
        /// Whether the caller's address is on top.
        entry: bool,
    },
    /// How many frames the stack has, and their addresses, as [`Effect::Walk`] finds them.
    Frames {
        /// Most frames.
        most: u32,
        /// Whether the caller's address is on top.
        entry: bool,
    },
    /// Scratch memory as it is.
    Scratch {
        /// Where it begins, a multiple of 8.
        at: u32,
        /// How much, a multiple of 8.
        size: u32,
    },
}

impl FieldKind {
    /// Bytes the field takes in a record; a multiple of 8.
    pub fn size(self) -> u32 {
        match self {
            FieldKind::Int { .. } => 8,
            FieldKind::Str { max, .. } => abi::STR_BYTES + u32::from(max).next_multiple_of(8),
            FieldKind::Stack { most, .. } => abi::STACK_BYTES + u32::from(most),
            FieldKind::Frames { most, .. } => most.saturating_mul(8).saturating_add(8),
            FieldKind::Scratch { size, .. } => size,
        }
    }
}

/// A named field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// What the user called it.
    pub name: String,
    /// What it holds.
    pub kind: FieldKind,
}

/// A record: what a hit leaves in the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Which of its program's records it is.
    pub action: u16,
    /// Whether it carries a time. Reading the clock is the whole cost of a record.
    pub time: bool,
    /// Its fields, at most 32.
    pub fields: Vec<Field>,
}

impl Record {
    /// Offset of each field from the record's start, and the record's size.
    pub fn layout(&self) -> (Vec<u32>, u32) {
        let mut at = abi::REC_FIELDS;
        let offsets = self
            .fields
            .iter()
            .map(|field| {
                let offset = at;
                at += field.kind.size();
                offset
            })
            .collect();
        (offsets, at)
    }
}

/// Bytes put into scratch memory as a string is kept there: length (`u32`), flags (`u32`, see
/// [`abi::STR_TRUNCATED`]), then the bytes, and zeros up to the next multiple of 8. A null pointer is
/// the empty string; where reading faulted otherwise, it is empty, flagged, and the address follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Where in scratch memory, a multiple of 8.
    pub to: u32,
    /// Where in the target.
    pub pointer: Value,
    /// Most bytes, a multiple of 8, at most 4096.
    pub max: u16,
    /// At most so many, when it is there.
    pub limit: Option<Value>,
    /// Whether a NUL ends it.
    pub string: bool,
}

/// Which entry of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// The map has no keys.
    None,
    /// A single word.
    Word(Value),
    /// The parts of the key lie one behind the other in scratch memory.
    Scratch(u32),
}

/// Something a hit does to a map. Words go through locals and values, what is larger through scratch
/// memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MapOp {
    /// Takes a value into an aggregation; of [`super::Cell::Count`] none.
    Aggregate(Option<Value>),
    /// Reads a word, 0 where there is no entry. Of an aggregation, its present value.
    Get(Local),
    /// Reads a larger value, zeros where there is no entry.
    GetScratch(u32),
    /// Whether there is an entry.
    Has(Local),
    /// Stores a word.
    Set(Value),
    /// Stores a larger value.
    SetScratch(u32),
    /// Adds to a word, and leaves what was there.
    Add(Value, Option<Local>),
    /// Takes the entry away; whether there was one.
    Delete(Option<Local>),
    /// How many entries there are; the key is not looked at.
    Len(Local),
}

/// What is done for every entry of a map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Each {
    /// The map.
    pub table: Arc<Table>,
    /// Where in scratch memory an entry's key is put.
    pub key: u32,
    /// Where its cell is put.
    pub cell: u32,
    /// Which slot is next.
    pub cursor: Local,
    /// What is done.
    pub body: Vec<Effect>,
}

/// Something a hit does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Adds one to the probe's hit counter.
    Count,
    /// Leaves a record in the ring, or counts it as lost when there is no room.
    Record(Record),
    /// Tells the tracer that control is here, and waits until it has answered; for a moment only,
    /// since there may be none.
    Ask,
    /// Of an unwinder's function that looks for frames: tells of those of thunks, from this slot of what
    /// unwinders are told. Comes before everything else.
    Answer(u32),
    /// Computes a value into a variable.
    Set(Local, Value),
    /// Computes a value into scratch memory.
    Put(u32, Value),
    /// Copies bytes of the target into scratch memory.
    Copy(Copy),
    /// Constant bytes into scratch memory, filled up with zeros to a multiple of 8.
    Literal(u32, Vec<u8>),
    /// Copies scratch memory: to, from, how much (a multiple of 8). They do not overlap.
    Move(u32, u32, u32),
    /// Walks the stack by frame pointers into scratch memory: how many frames, then their addresses, the
    /// probe's first; at most so many, and zeros for those that are not there. `true`: the probe stands
    /// at a function's entry, so the caller's address is on top of the stack.
    Walk(u32, u32, bool),
    /// Compares two strings in scratch memory, at most so many bytes: 0 when they are equal, else 1.
    Compare(Local, u32, u32, u32),
    /// Looks for the second string in the first, both in scratch memory: 1 when it is in it, else 0.
    Find(Local, u32, u32),
    /// Something done to a map.
    Map(Arc<Table>, Key, MapOp),
    /// The first when the value is not 0, else the second.
    If(Value, Vec<Effect>, Vec<Effect>),
    /// Again and again, at most [`MAX_TURNS`] times; the variable counts them.
    Loop(Local, Vec<Effect>),
    /// Runs the body for every entry of a keyed map of the session.
    Each(Each),
    /// Leaves the innermost loop.
    Break,
    /// Begins the innermost loop's next turn.
    Continue,
    /// Ends the program for this hit.
    Return,
}

/// Turns of one loop at one hit; what would go on is left, and counted.
pub const MAX_TURNS: u32 = 1 << 20;
/// Most variables.
pub const MAX_LOCALS: u16 = 64;
/// Most bytes of scratch memory.
pub const MAX_SCRATCH: u32 = 16 << 10;
/// Most fields of a record; its fault bits are 32.
pub const MAX_FIELDS: usize = 32;

/// When a program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Moment {
    /// When control arrives at the site.
    #[default]
    Arrival,
    /// When the function whose entry the site is returns. Registers are those of the return: the stack
    /// pointer is that of the entry, the return address on top.
    Return {
        /// Whether a record is left, too, when the function ends otherwise, with [`Inst::Began`] as its
        /// only field; its action is that bit of the cause (`abi::END_TAIL`, `abi::END_UNWOUND`).
        ends: bool,
        /// Where calls must come from; of others the return is not seen.
        from: Option<Callers>,
    },
}

/// Code whose calls may be changed: nobody who walks the stack takes a return address into it for his
/// own, and looks there for what he knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Callers {
    /// Where it starts.
    pub start: u64,
    /// Its length.
    pub len: u32,
    /// Code in it that is not: where, and how long.
    pub without: Option<(u64, u32)>,
}

/// What a probe does at a hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Program {
    /// Values; each refers to earlier ones only.
    pub values: Vec<Inst>,
    /// What happens, in order.
    pub effects: Vec<Effect>,
    /// When.
    pub moment: Moment,
    /// How many variables there are; 0 at first.
    pub locals: u16,
    /// Bytes of scratch memory, a multiple of 8. Nothing is read there that was not written. A hit that
    /// finds none free counts, decides by what is there at the hit whether there is more to do, and is
    /// dropped when there is.
    pub scratch: u32,
}

impl Program {
    /// The program that counts and does nothing else.
    pub fn count() -> Program {
        Program {
            effects: vec![Effect::Count],
            ..Program::default()
        }
    }

    /// Whether it counts every hit.
    pub fn counts(&self) -> bool {
        self.effects.contains(&Effect::Count)
    }

    /// The program that asks the tracer and does nothing else.
    pub fn ask() -> Program {
        Program {
            effects: vec![Effect::Ask],
            ..Program::default()
        }
    }

    /// Adds a value and names it. Programs are small: a front end refuses more than 65,535 values
    /// before it lowers them.
    pub fn push(&mut self, inst: Inst) -> Value {
        let value = Value(u16::try_from(self.values.len()).unwrap_or(u16::MAX));
        self.values.push(inst);
        value
    }

    /// How a value is made.
    pub fn inst(&self, value: Value) -> Option<Inst> {
        self.values.get(usize::from(value.0)).copied()
    }

    /// The records this program leaves, in the order they are written down.
    pub fn records(&self) -> Vec<&Record> {
        let mut records = Vec::new();
        visit(&self.effects, &mut |effect| {
            if let Effect::Record(record) = effect {
                records.push(record);
            }
        });
        records
    }

    /// Bytes of the largest record it leaves; 0 when it leaves none.
    pub fn largest_record(&self) -> u32 {
        let sizes = self.records().into_iter().map(|record| record.layout().1);
        sizes.max().unwrap_or(0)
    }

    /// The program of an unwinder's function that looks for frames.
    pub fn answer(slot: u32) -> Program {
        Program {
            effects: vec![Effect::Answer(slot)],
            ..Program::default()
        }
    }

    /// The slot it answers from, if it does.
    pub fn answers(&self) -> Option<u32> {
        match self.effects.first() {
            Some(Effect::Answer(slot)) => Some(*slot),
            _ => None,
        }
    }

    /// Whether it runs at returns.
    pub fn at_return(&self) -> bool {
        matches!(self.moment, Moment::Return { .. })
    }

    /// What is left when a function ends otherwise than by returning: with that bit as its action.
    pub fn end(bit: u32) -> Program {
        let mut program = Program {
            moment: Moment::Return {
                ends: false,
                from: None,
            },
            ..Program::default()
        };
        let value = program.push(Inst::Began);
        program.effects.push(Effect::Record(Record {
            action: u16::try_from(bit).unwrap_or(0),
            time: true,
            fields: vec![Field {
                name: "began".to_owned(),
                kind: FieldKind::Int {
                    value,
                    format: IntFormat::Hex(Width::W64),
                },
            }],
        }));
        program
    }

    /// What is left at ends that are no returns, by cause.
    pub fn ends(&self) -> Vec<Program> {
        match self.moment {
            Moment::Return { ends: true, .. } => {
                vec![Program::end(abi::END_TAIL), Program::end(abi::END_UNWOUND)]
            }
            _ => Vec::new(),
        }
    }

    /// Calls `f` with every effect, those of inner blocks included.
    pub fn visit<'a>(&'a self, mut f: impl FnMut(&'a Effect)) {
        visit(&self.effects, &mut f);
    }
}

fn visit<'a>(effects: &'a [Effect], f: &mut impl FnMut(&'a Effect)) {
    for effect in effects {
        f(effect);
        match effect {
            Effect::If(_, then, otherwise) => {
                visit(then, f);
                visit(otherwise, f);
            }
            Effect::Loop(_, body) | Effect::Each(Each { body, .. }) => visit(body, f),
            _ => {}
        }
    }
}
