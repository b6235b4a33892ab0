//! The checked tree to the IR: one program for each block, and what the tracer does with each record
//! that the program leaves. Knows no machine but by the numbers that `regs` gives for registers.
//!
//! Words are values; strings, tuples and stacks lie in scratch memory. What is computed for a
//! statement alone gives its variables and scratch memory back after it.

mod copied;
mod expr;
mod float;
mod keys;
mod maps;
mod put;
mod stmt;
mod usdt;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::layout;
use super::typed::{Attach, Block, Checked, Map, MapId, NameTest, Piece, Type};
use crate::program::{
    Effect, Inst, Known, Local, MAX_LOCALS, MAX_SCRATCH, Moment, Program, RegId, Table, Value,
};

pub use maps::Memory;

/// Why something cannot be compiled, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Bytes of the source.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
}

/// What is done when a record arrives. `values` of the record are read by their types, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Prints the values in a format.
    Printf(Vec<Piece>),
    /// Prints the one value.
    Print,
    /// Prints a map: the largest `top` entries, divided by `div`.
    PrintMap {
        /// Which.
        map: MapId,
        /// Only the largest; 0 for all.
        top: u64,
        /// Divisor; 0 for none.
        div: u64,
    },
    /// Prints one entry; the values are its key.
    PrintEntry(MapId),
    /// Does to a map what its detours do to others; the values are its key, then what is put in.
    Change {
        /// Which.
        map: MapId,
        /// What is done.
        change: Change,
    },
    /// Empties a map.
    Clear(MapId),
    /// Sets a map's values to 0.
    Zero(MapId),
    /// Ends the session; the value, when there is one, is the exit status.
    Exit,
    /// Prints the time in a format.
    Time(String),
    /// Prints the values, which are strings, with this between them.
    Join(String),
    /// Prints the contents of a file.
    Cat(Vec<Piece>),
    /// Runs a shell command.
    System(Vec<Piece>),
}

/// What is done to an entry of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A value is taken in.
    Aggregate,
    /// A value takes the place of what is there.
    Set,
    /// A number is added.
    Add,
    /// It goes away.
    Delete,
}

/// One kind of record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deed {
    /// What is done.
    pub action: Action,
    /// Types of the record's fields.
    pub values: Vec<Type>,
}

/// What [`crate::program::Record::action`] says of the first of a program's deeds; 0 is the record of
/// a probe's arguments,
/// and those that follow are of calls that did not return ([`crate::abi::END_TAIL`]).
pub const FIRST_ACTION: u16 = 3;

/// A program, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lowered {
    /// The maps in memory, by [`MapId`].
    pub tables: Vec<Arc<Table>>,
    /// How much memory they take.
    pub memory: Memory,
    /// What runs at a hit of each block, in source order.
    pub blocks: Vec<Program>,
    /// What runs instead where stacks are copied; of blocks that take none, nothing.
    pub copies: Vec<Option<Program>>,
    /// Why there is nothing to run instead, where some block takes stacks.
    pub uncopied: Option<String>,
    /// What the records of all of them mean, from [`FIRST_ACTION`] on.
    pub deeds: Vec<Deed>,
    /// What its text asks of probes' names: bits above [`NAME_BITS`] of a name's number.
    pub tests: Vec<NameTest>,
    /// The strings that its text has as values.
    pub literals: BTreeSet<Vec<u8>>,
}

/// Where a program asks for them, bits of a name's number that count names, and how many others each say
/// whether one of [`Lowered::tests`] holds: so asking costs no look at a name.
pub const NAME_BITS: u32 = 20;
/// Most such questions of a program.
pub const NAME_TESTS: usize = 12;

impl Lowered {
    /// The number that stands for a name, which is the n-th, in programs.
    pub fn named(&self, number: u32, (function, full): (&str, &str)) -> u32 {
        if self.tests.is_empty() {
            return number;
        }
        let held = self.tests.iter().map(|test| test.holds(function, full));
        let bits = held.enumerate().map(|(n, holds)| u32::from(holds) << n);
        let bits = bits.fold(0, |all, bit| all | bit);
        number.min((1 << NAME_BITS) - 1) | bits << NAME_BITS
    }

    /// Which name such a number stands for.
    pub fn name(&self, number: u64) -> u64 {
        match self.tests.is_empty() {
            true => number,
            false => number & ((1 << NAME_BITS) - 1),
        }
    }

    /// What a record means.
    pub fn deed(&self, action: u16) -> Option<&Deed> {
        self.deeds
            .get(usize::from(action.checked_sub(FIRST_ACTION)?))
    }
}

/// Lowers a program; of what cannot be compiled, everything is told. `regs` gives the number of a
/// register named without `%`.
pub fn lower(
    checked: &Checked,
    regs: &dyn Fn(&str) -> Option<RegId>,
) -> std::result::Result<Lowered, Vec<Unsupported>> {
    let (tables, mut memory) = maps::tables(checked);
    let mut blocks = Vec::new();
    let mut deeds = Vec::new();
    let mut literals = BTreeSet::new();
    let mut tests = Vec::new();
    let mut wrong = Vec::new();
    for block in &checked.blocks {
        let mut lowering = Lowering {
            maps: &checked.maps,
            tables: &tables,
            regs,
            block,
            program: Program::default(),
            deeds: &mut deeds,
            literals: &mut literals,
            tests: &mut tests,
            variables: Vec::new(),
            free_local: 0,
            free_scratch: 0,
            failed: false,
        };
        match lowering.block() {
            Ok(()) => {
                let mut program = lowering.program;
                program.moment = block.attach.first().map(Attach::moment).unwrap_or_default();
                blocks.push(program);
            }
            Err(why) => wrong.push(why),
        }
    }
    let scratch = blocks.iter().map(|program: &Program| program.scratch).max();
    memory.scratch = scratch.unwrap_or(0).next_multiple_of(64);
    if wrong.is_empty() {
        let (copies, uncopied) = match copied::copies(checked, &blocks, &mut deeds) {
            Ok(copies) => (copies, None),
            Err(why) => (vec![None; blocks.len()], Some(why)),
        };
        Ok(Lowered {
            tables,
            memory,
            blocks,
            copies,
            uncopied,
            deeds,
            literals,
            tests,
        })
    } else {
        Err(wrong)
    }
}

impl Attach {
    /// Whether it is at the entry of a function, or its return, where the caller's address is on top of the stack.
    pub fn is_entry(&self) -> bool {
        let (Attach::Entry(point) | Attach::Return(point)) = self else {
            return false;
        };
        matches!(
            point.spec.location,
            crate::spec::Location::Symbol { offset: 0, .. }
        )
    }

    /// When its program runs.
    pub fn moment(&self) -> Moment {
        match self {
            Attach::Return(_) => Moment::Return {
                ends: false,
                from: None,
            },
            _ => Moment::Arrival,
        }
    }

    /// Whether it is hit in the target, rather than in the tracer.
    pub fn is_in_target(&self) -> bool {
        !matches!(self, Attach::Begin | Attach::End | Attach::Interval(_))
    }
}

/// Where a scratch variable of the language lives.
#[derive(Clone, Copy, Debug)]
enum Storage {
    Word(Local),
    Scratch(u32),
}

/// A computed expression.
#[derive(Clone, Copy, Debug)]
enum Operand {
    Word(Value),
    /// Where in scratch memory; its type tells how much.
    Scratch(u32),
}

type Result<T> = std::result::Result<T, Unsupported>;

struct Lowering<'a> {
    maps: &'a [Map],
    tables: &'a [Arc<Table>],
    regs: &'a dyn Fn(&str) -> Option<RegId>,
    block: &'a Block,
    program: Program,
    deeds: &'a mut Vec<Deed>,
    literals: &'a mut BTreeSet<Vec<u8>>,
    tests: &'a mut Vec<NameTest>,
    variables: Vec<Storage>,
    free_local: u16,
    free_scratch: u32,
    /// There was no room for a variable or for scratch memory.
    failed: bool,
}

fn unsupported<T>(span: &Range<usize>, message: impl Into<String>) -> Result<T> {
    Err(Unsupported {
        span: span.clone(),
        message: message.into(),
    })
}

/// Makes a value in scratch memory 0 or empty: the first word of each of its parts.
fn empty(ty: &Type, at: u32, zero: Value, effects: &mut Vec<Effect>) {
    match ty {
        Type::Tuple(parts) => {
            for (index, part) in parts.iter().enumerate() {
                let at = at.saturating_add(layout::part(parts, index));
                empty(part, at, zero, effects);
            }
        }
        Type::Void => {}
        _ => effects.push(Effect::Put(at, zero)),
    }
}

impl Lowering<'_> {
    fn block(&mut self) -> Result<()> {
        for ty in &self.block.locals {
            let storage = if layout::is_word(ty) {
                Storage::Word(self.local())
            } else {
                Storage::Scratch(self.scratch(layout::size(ty)))
            };
            self.variables.push(storage);
        }
        let mut effects = Vec::new();
        // A variable that no path has set is 0 or empty.
        for (storage, ty) in self.variables.clone().into_iter().zip(&self.block.locals) {
            let zero = self.push(Inst::Const(0));
            match storage {
                Storage::Word(local) => effects.push(Effect::Set(local, zero)),
                Storage::Scratch(at) => empty(ty, at, zero, &mut effects),
            }
        }
        match &self.block.predicate {
            Some(predicate) => {
                let mut tested = Vec::new();
                let condition = self.word(predicate, &mut tested)?;
                let mut body = effects;
                self.statements(&self.block.body, &mut body)?;
                tested.push(Effect::If(condition, body, Vec::new()));
                effects = tested;
            }
            None => self.statements(&self.block.body, &mut effects)?,
        }
        self.program.effects = effects;
        let span = &self.block.span;
        if self.failed {
            return unsupported(
                span,
                format!(
                    "its variables and strings take more than {MAX_LOCALS} words or {MAX_SCRATCH} bytes"
                ),
            );
        }
        if self.program.values.len() > usize::from(u16::MAX) {
            return unsupported(span, "it is too long");
        }
        match self.program.check() {
            Ok(()) => Ok(()),
            Err(message) => unsupported(span, message),
        }
    }

    fn push(&mut self, inst: Inst) -> Value {
        // What has no effect and cannot change is made once.
        if let Inst::Const(_) | Inst::Arg(_) | Inst::Reg(_) = inst
            && let Some(index) = self.program.values.iter().position(|v| *v == inst)
            && let Ok(index) = u16::try_from(index)
        {
            return Value(index);
        }
        self.program.push(inst)
    }

    fn constant(&mut self, value: u64) -> Value {
        self.push(Inst::Const(value))
    }

    /// A variable of our own.
    fn local(&mut self) -> Local {
        let local = Local(self.free_local);
        // One word is kept for the scratch memory's own.
        if self.free_local + 1 >= MAX_LOCALS {
            self.failed = true;
            return Local(0);
        }
        self.free_local += 1;
        self.program.locals = self.program.locals.max(self.free_local);
        local
    }

    /// Scratch memory of this size.
    fn scratch(&mut self, size: u32) -> u32 {
        let at = self.free_scratch;
        let end = at.saturating_add(size.next_multiple_of(8));
        if end > MAX_SCRATCH {
            self.failed = true;
            return 0;
        }
        self.free_scratch = end;
        self.program.scratch = self.program.scratch.max(end);
        at
    }

    /// Computes a value now: what follows may change what it is made of.
    fn fix(&mut self, value: Value, effects: &mut Vec<Effect>) -> Value {
        if let Some(Inst::Const(_) | Inst::Arg(_) | Inst::Reg(_)) = self.program.inst(value) {
            return value;
        }
        let local = self.local();
        effects.push(Effect::Set(local, value));
        self.push(Inst::Local(local))
    }

    fn known(&mut self, known: Known, effects: &mut Vec<Effect>) -> Value {
        let value = self.push(Inst::Known(known));
        self.fix(value, effects)
    }
}
