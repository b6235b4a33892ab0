//! What a program means, in plain Rust: the reference that generated code is compared with. It knows
//! the IR's words and the search in a table (`program/table.rs`), nothing of registers, locks or
//! instructions. What the IR leaves undefined, such as what lies behind a string in scratch memory, is
//! `None` here; a program that looks at it is refused.

use std::collections::HashSet;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use kptrace::abi::{self, Layout};
use kptrace::program::{
    BinaryOp, Cell, Copy, Effect, FieldKind, Inst, Known, Local, MAX_TURNS, MapOp, Program, Record,
    Table, UnaryOp, Value, Width,
};

#[path = "evaluator/maps.rs"]
mod maps;
pub use maps::spread;

/// A word that may be undefined.
pub type Word = Option<u64>;

/// What is there at a hit.
pub struct World<'a> {
    pub general: [u64; 16],
    pub floats: [u64; 8],
    /// The words above the return address.
    pub above: &'a [u64],
    /// What can be read of the target, and where it is.
    pub memory: (u64, &'a [u8]),
    /// Whether pointers are followed.
    pub loads: bool,
    pub known: Facts,
    /// Which half of minima and maxima is written.
    pub epoch: u64,
    /// Whether all places of scratch memory are taken.
    pub no_scratch: bool,
}

/// What is known at a hit, of what is the same each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    pub pid: u64,
    pub tid: u64,
    pub uid: u64,
    pub gid: u64,
    pub child: u64,
    pub comm: [u64; 2],
}

/// A slot of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The words of the key that count.
    pub key: Option<Vec<u64>>,
    pub cell: Vec<Word>,
    /// Its life, and its tag, where keys leave.
    pub life: u32,
    pub tag: u64,
}

/// A table's contents.
#[derive(Clone, Debug)]
pub struct Map {
    pub table: Arc<Table>,
    pub slots: Vec<Slot>,
    /// The words of the homes, where keys leave.
    pub homes: Vec<u64>,
    pub full: u64,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    Word(u64),
    Fault(u64),
    Str(Vec<u8>, u32),
    Words(Vec<Word>),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub probe: u32,
    pub action: u16,
    pub time: bool,
    pub fields: Vec<Left>,
}

/// What was evaluated: each kind at least once.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub effects: HashSet<Discriminant<Effect>>,
    pub values: HashSet<Discriminant<Inst>>,
    pub binary: HashSet<BinaryOp>,
    pub known: HashSet<Known>,
    /// Operations on maps, by the cell.
    pub maps: HashSet<(Discriminant<MapOp>, Discriminant<Cell>)>,
}

impl Seen {
    pub fn take(&mut self, other: &Seen) {
        self.effects.extend(&other.effects);
        self.values.extend(&other.values);
        self.binary.extend(&other.binary);
        self.known.extend(&other.known);
        self.maps.extend(&other.maps);
    }
}

/// What hits leave behind.
#[derive(Clone, Debug)]
pub struct State {
    pub seen: Seen,
    pub maps: Vec<Map>,
    pub hits: Vec<u64>,
    pub lost: Vec<u64>,
    pub faults: u64,
    pub dropped: u64,
    pub head: u64,
    pub tail: u64,
    pub records: Vec<Leaf>,
}

/// The program cannot be compared: it looks at something undefined, or takes too long.
#[derive(Debug)]
pub struct Refused(pub &'static str);

/// Why a value is not there.
enum Halt {
    Fault(u64),
    Refused(Refused),
}

impl From<Refused> for Halt {
    fn from(refused: Refused) -> Halt {
        Halt::Refused(refused)
    }
}

/// How control goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
    Return,
}

impl State {
    pub fn new(tables: &[Arc<Table>], probes: u32, head: u64) -> State {
        let maps = tables.iter().map(|table| Map {
            table: table.clone(),
            slots: vec![
                Slot {
                    key: None,
                    cell: vec![Some(0); table.cell.words() as usize],
                    life: 0,
                    tag: 0,
                };
                table.slots as usize
            ],
            homes: vec![0; table.slots as usize],
            full: 0,
        });
        State {
            seen: Seen::default(),
            maps: maps.collect(),
            hits: vec![0; probes as usize],
            lost: vec![0; probes as usize],
            faults: 0,
            dropped: 0,
            head,
            tail: head,
            records: Vec::new(),
        }
    }

    /// One hit of one probe.
    pub fn hit(
        &mut self,
        program: &Program,
        probe: u32,
        world: &World,
        layout: &Layout,
    ) -> Result<(), Refused> {
        let mut hit = Hit {
            state: self,
            program,
            probe,
            world,
            layout,
            locals: vec![0; usize::from(program.locals)],
            scratch: vec![None; program.scratch as usize / 8],
            steps: 0,
        };
        let mut effects = program.effects.as_slice();
        if program.scratch == 0 || !world.no_scratch {
            return hit.effects(effects).map(|_| ());
        }
        // What can be done without scratch memory is.
        loop {
            match effects {
                [Effect::Count, rest @ ..] => {
                    hit.state.hits[probe as usize] += 1;
                    effects = rest;
                }
                [Effect::If(value, then, otherwise)]
                    if otherwise.is_empty() && hit.reads_the_hit(*value) =>
                {
                    if hit.plain(*value)? == 0 {
                        return Ok(());
                    }
                    effects = then;
                }
                _ => {
                    hit.state.dropped += 1;
                    return Ok(());
                }
            }
        }
    }
}

struct Hit<'a> {
    state: &'a mut State,
    program: &'a Program,
    probe: u32,
    world: &'a World<'a>,
    layout: &'a Layout,
    locals: Vec<u64>,
    scratch: Vec<Word>,
    steps: usize,
}

/// Most effects of one hit.
const STEPS: usize = 1 << 23;

fn extend(value: u64, width: Width, signed: bool) -> u64 {
    let by = 64 - width.bits();
    if signed {
        ((value << by).cast_signed() >> by).cast_unsigned()
    } else {
        value << by >> by
    }
}

fn binary(op: BinaryOp, a: u64, b: u64) -> u64 {
    let (s, t) = (a.cast_signed(), b.cast_signed());
    let by = (b & 63) as u32;
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div => a.checked_div(b).unwrap_or(0),
        BinaryOp::SignedDiv if t == 0 => 0,
        BinaryOp::SignedDiv => s.wrapping_div(t).cast_unsigned(),
        BinaryOp::Rem => a.checked_rem(b).unwrap_or(a),
        BinaryOp::SignedRem if t == 0 => a,
        BinaryOp::SignedRem => s.wrapping_rem(t).cast_unsigned(),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl => a << by,
        BinaryOp::Shr => a >> by,
        BinaryOp::Sar => (s >> by).cast_unsigned(),
        BinaryOp::Equal => u64::from(a == b),
        BinaryOp::NotEqual => u64::from(a != b),
        BinaryOp::Less => u64::from(a < b),
        BinaryOp::SignedLess => u64::from(s < t),
        BinaryOp::LessEqual => u64::from(a <= b),
        BinaryOp::SignedLessEqual => u64::from(s <= t),
    }
}

/// A word that must be defined.
fn defined(word: Word) -> Result<u64, Refused> {
    word.ok_or(Refused("an undefined word"))
}

impl Hit<'_> {
    /// Whether a value is made of what is there at the hit.
    fn reads_the_hit(&self, value: Value) -> bool {
        match self.program.inst(value).expect("checked") {
            Inst::Local(_) | Inst::Scratch(_) => false,
            Inst::Binary(_, a, b) => self.reads_the_hit(a) && self.reads_the_hit(b),
            Inst::Unary(_, value) | Inst::Extend { value, .. } | Inst::Load { base: value, .. } => {
                self.reads_the_hit(value)
            }
            _ => true,
        }
    }

    fn byte(&self, at: u64) -> Result<u8, u64> {
        let (start, bytes) = self.world.memory;
        let byte = usize::try_from(at.wrapping_sub(start)).ok();
        byte.and_then(|at| bytes.get(at).copied()).ok_or(at)
    }

    /// `strict`: the first load that faults ends it.
    fn value(&mut self, value: Value, strict: bool) -> Result<u64, Halt> {
        let world = self.world;
        let inst = self.program.inst(value).expect("checked");
        self.state.seen.values.insert(discriminant(&inst));
        Ok(match inst {
            Inst::Began => return Err(Refused("no call has begun").into()),
            Inst::Const(n) => n,
            Inst::Reg(reg) => world.general[usize::from(reg.0)],
            Inst::Arg(n) => match [5, 4, 1, 2, 8, 9].get(usize::from(n)) {
                Some(&register) => world.general[register],
                None => world.above[usize::from(n) - 6],
            },
            Inst::FloatArg(n) => world.floats[usize::from(n)],
            Inst::Known(known) => {
                self.state.seen.known.insert(known);
                self.known(known)
            }
            Inst::Local(local) => self.locals[usize::from(local.0)],
            Inst::Scratch(at) => defined(self.scratch[at as usize / 8])?,
            Inst::Binary(op, a, b) => {
                self.state.seen.binary.insert(op);
                let a = self.value(a, strict)?;
                binary(op, a, self.value(b, strict)?)
            }
            Inst::Unary(op, a) => {
                let a = self.value(a, strict)?;
                match op {
                    UnaryOp::Negate => a.wrapping_neg(),
                    UnaryOp::Invert => !a,
                    UnaryOp::Not => u64::from(a == 0),
                }
            }
            Inst::Extend {
                value,
                width,
                signed,
            } => extend(self.value(value, strict)?, width, signed),
            Inst::Load { .. } if !world.loads => 0,
            Inst::Load {
                base,
                offset,
                width,
                signed,
            } => {
                let at = self.value(base, strict)?;
                let at = at.wrapping_add_signed(i64::from(offset));
                let bytes: Result<Vec<u8>, u64> = (0..u64::from(width.bytes()))
                    .map(|byte| self.byte(at.wrapping_add(byte)))
                    .collect();
                match bytes {
                    Ok(bytes) => {
                        let mut word = [0; 8];
                        word[..bytes.len()].copy_from_slice(&bytes);
                        extend(u64::from_le_bytes(word), width, signed)
                    }
                    Err(_) if strict => return Err(Halt::Fault(at)),
                    Err(_) => {
                        self.state.faults += 1;
                        0
                    }
                }
            }
        })
    }

    /// What differs from hit to hit is used only where any value does as well as this one.
    fn known(&self, known: Known) -> u64 {
        let facts = self.world.known;
        match known {
            Known::Pid => facts.pid,
            Known::Tid => facts.tid,
            Known::Uid => facts.uid,
            Known::Gid => facts.gid,
            Known::Child => facts.child,
            Known::Comm(half) => facts.comm[usize::from(half)],
            Known::Probe | Known::Func => u64::from(self.probe >> u32::from(known == Known::Func)),
            Known::Cpu | Known::Random | Known::Site => 0,
            Known::Nanos | Known::Elapsed => 1 << 40,
        }
    }

    fn plain(&mut self, value: Value) -> Result<u64, Refused> {
        match self.value(value, false) {
            Ok(value) => Ok(value),
            Err(Halt::Refused(refused)) => Err(refused),
            Err(Halt::Fault(_)) => unreachable!("only of fields"),
        }
    }

    fn local(&mut self, local: Local) -> &mut u64 {
        &mut self.locals[usize::from(local.0)]
    }

    fn effects(&mut self, effects: &[Effect]) -> Result<Flow, Refused> {
        for effect in effects {
            let flow = self.effect(effect)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn effect(&mut self, effect: &Effect) -> Result<Flow, Refused> {
        self.steps += 1;
        if self.steps > STEPS {
            return Err(Refused("too many steps"));
        }
        self.state.seen.effects.insert(discriminant(effect));
        match effect {
            Effect::Count => self.state.hits[self.probe as usize] += 1,
            // Nobody is there to answer.
            Effect::Ask => return Err(Refused("nobody to ask")),
            Effect::Answer(_) => return Err(Refused("no unwinder to answer")),
            Effect::Walk(..) => return Err(Refused("no stack to walk")),
            Effect::Record(record) => self.record(record)?,
            Effect::Set(local, value) => {
                let value = self.plain(*value)?;
                *self.local(*local) = value;
            }
            Effect::Put(at, value) => {
                let value = self.plain(*value)?;
                self.scratch[*at as usize / 8] = Some(value);
            }
            Effect::Copy(copy) => self.copy(copy)?,
            Effect::Literal(at, bytes) => {
                for (index, chunk) in bytes.chunks(8).enumerate() {
                    let mut word = [0; 8];
                    word[..chunk.len()].copy_from_slice(chunk);
                    self.scratch[*at as usize / 8 + index] = Some(u64::from_le_bytes(word));
                }
            }
            Effect::Move(to, from, size) => {
                let (to, from, size) = (*to as usize / 8, *from as usize / 8, *size as usize / 8);
                self.scratch.copy_within(from..from + size, to);
            }
            Effect::Compare(local, a, b, most) => {
                let a = self.string(*a, *most)?;
                let b = self.string(*b, *most)?;
                *self.local(*local) = u64::from(a != b);
            }
            Effect::Find(local, a, b) => {
                let (a, b) = (self.string(*a, u32::MAX)?, self.string(*b, u32::MAX)?);
                let found = b.is_empty() || a.windows(b.len()).any(|part| part == b);
                *self.local(*local) = u64::from(found);
            }
            Effect::Map(table, key, op) => self.map(table, *key, op)?,
            Effect::If(value, then, otherwise) => {
                let body = if self.plain(*value)? != 0 {
                    then
                } else {
                    otherwise
                };
                return self.effects(body);
            }
            Effect::Loop(turns, body) => {
                *self.local(*turns) = 0;
                loop {
                    if *self.local(*turns) >= u64::from(MAX_TURNS) {
                        self.state.dropped += 1;
                        break;
                    }
                    *self.local(*turns) += 1;
                    match self.effects(body)? {
                        Flow::Next | Flow::Continue => {}
                        Flow::Break => break,
                        Flow::Return => return Ok(Flow::Return),
                    }
                }
            }
            Effect::Each(each) => {
                let map = each.table.map as usize;
                for slot in 0..self.state.maps[map].slots.len() {
                    let entry = self.state.maps[map].slots[slot].clone();
                    let Some(key) = &entry.key else { continue };
                    if !self.present(each.table.cell, &entry.cell) {
                        continue;
                    }
                    self.spread(&each.table, key, each.key);
                    let at = each.cell as usize / 8;
                    self.scratch[at..at + entry.cell.len()].copy_from_slice(&entry.cell);
                    match self.effects(&each.body)? {
                        Flow::Next | Flow::Continue => {}
                        Flow::Break => break,
                        Flow::Return => return Ok(Flow::Return),
                    }
                }
            }
            Effect::Break => return Ok(Flow::Break),
            Effect::Continue => return Ok(Flow::Continue),
            Effect::Return => return Ok(Flow::Return),
        }
        Ok(Flow::Next)
    }

    /// The bytes of a string in scratch memory, at most so many.
    fn string(&self, at: u32, most: u32) -> Result<Vec<u8>, Refused> {
        let at = at as usize / 8;
        let length = (defined(self.scratch[at])? as u32).min(most) as usize;
        let mut bytes = Vec::new();
        for word in 0..length.div_ceil(8) {
            let word = self.scratch.get(at + 1 + word).copied().flatten();
            bytes.extend(defined(word)?.to_le_bytes());
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// What reading a string or bytes gives, or where it faults, and whether it was cut.
    fn read(&self, at: u64, most: u64, string: bool) -> Result<(Vec<u8>, bool), u64> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < most {
            let byte = self.byte(at.wrapping_add(bytes.len() as u64))?;
            if string && byte == 0 {
                return Ok((bytes, false));
            }
            bytes.push(byte);
        }
        Ok((bytes, string))
    }

    fn copy(&mut self, copy: &Copy) -> Result<(), Refused> {
        let to = copy.to as usize / 8;
        let words = usize::from(copy.max) / 8;
        if !self.world.loads {
            self.scratch[to..=to + words].fill(None);
            self.scratch[to] = Some(0);
            return Ok(());
        }
        let pointer = self.plain(copy.pointer)?;
        let mut most = u64::from(copy.max);
        if let Some(limit) = copy.limit {
            most = most.min(self.plain(limit)?);
        }
        self.scratch[to..=to + words].fill(None);
        if pointer == 0 {
            self.scratch[to] = Some(0);
            return Ok(());
        }
        match self.read(pointer, most, copy.string) {
            Ok((bytes, cut)) => {
                let flags = if cut { abi::STR_TRUNCATED } else { 0 };
                let head = bytes.len() as u64 | u64::from(flags) << 32;
                self.scratch[to] = Some(head);
                for (index, chunk) in bytes.chunks(8).enumerate() {
                    let mut word = [0; 8];
                    word[..chunk.len()].copy_from_slice(chunk);
                    self.scratch[to + 1 + index] = Some(u64::from_le_bytes(word));
                }
            }
            Err(at) => {
                self.state.faults += 1;
                self.scratch[to] = Some(u64::from(abi::STR_FAULT) << 32);
                self.scratch[to + 1] = Some(at);
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<(), Refused> {
        let size = u64::from(record.layout().1);
        let free = u64::from(self.layout.ring_size - self.layout.slack());
        if self.state.head.wrapping_sub(self.state.tail) > free - size {
            self.state.lost[self.probe as usize] += 1;
            return Ok(());
        }
        self.state.head = self.state.head.wrapping_add(size);
        let mut fields = Vec::new();
        for field in &record.fields {
            fields.push(match field.kind {
                FieldKind::Int { value, .. } => match self.value(value, true) {
                    Ok(value) => Left::Word(value),
                    Err(Halt::Fault(at)) => Left::Fault(at),
                    Err(Halt::Refused(refused)) => return Err(refused),
                },
                FieldKind::Str { .. } if !self.world.loads => Left::Str(Vec::new(), 0),
                FieldKind::Str { pointer, max } => match self.value(pointer, true) {
                    Ok(pointer) => match self.read(pointer, u64::from(max), true) {
                        Ok((bytes, cut)) => Left::Str(bytes, u32::from(cut)),
                        Err(at) => Left::Fault(at),
                    },
                    Err(Halt::Fault(at)) => Left::Fault(at),
                    Err(Halt::Refused(refused)) => return Err(refused),
                },
                FieldKind::Stack { .. } | FieldKind::Frames { .. } => Err(Refused("a stack"))?,
                FieldKind::Scratch { at, size } => {
                    let at = at as usize / 8;
                    Left::Words(self.scratch[at..at + size as usize / 8].to_vec())
                }
            });
        }
        self.state.records.push(Leaf {
            probe: self.probe,
            action: record.action,
            time: record.time,
            fields,
        });
        Ok(())
    }
}
