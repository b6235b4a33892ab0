//! Random programs that check out: every kind of value, effect, cell and key. They look only at
//! scratch memory that was written, follow pointers into the target's memory or where nothing can be
//! mapped, and end. What differs from run to run is used so that it makes no difference.

use std::sync::Arc;

use kptrace::program::{
    BinaryOp, Cell, Effect, Home, Inst, KeyPart, Known, Local, Program, RegId, Table, UnaryOp,
    Value, Width,
};

use crate::support::Rng;

#[path = "random/effects.rs"]
mod effects;

/// Variables that programs use freely; behind them are those that count turns.
const FREE: u16 = 6;
/// Values in one expression.
const NODES: usize = 24;
/// Bytes of the largest record.
pub const LARGEST: u32 = 3072;
/// Most bytes of scratch memory.
pub const SCRATCH: u32 = 4032;

/// Where the target's memory is, so many bytes, of which the first are pointers into it; and what the
/// machine can do.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub at: u64,
    pub len: u64,
    pub pointers: u64,
    /// Whether threads can have blocks of their own.
    pub own_blocks: bool,
}

/// A number that is likely to be a limit of something.
pub fn number(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => rng.below(4) as u64,
        1 => rng.below(300) as u64,
        2 => (rng.below(300) as u64).wrapping_neg(),
        3 => 1_u64 << rng.below(64),
        4 => (1_u64 << rng.below(64)).wrapping_sub(1),
        5 => rng.next() >> rng.below(64),
        6 => (1_u64 << 63).wrapping_sub(rng.below(3) as u64),
        _ => rng.next(),
    }
}

fn any<T: std::marker::Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len())]
}

/// Tables that lie one behind the other, with a gap behind each.
pub fn tables(rng: &mut Rng, gap: u32) -> Vec<Arc<Table>> {
    let (mut own, mut session) = (gap, gap);
    (0..1 + rng.below(5) as u32)
        .map(|map| {
            let home = any(rng, &[Home::Thread, Home::Session]);
            let parts = rng.below(4);
            let key = (0..parts)
                .map(|_| match rng.below(3) {
                    0 => KeyPart::Bytes(any(rng, &[16, 24, 40, 72])),
                    _ => KeyPart::Word,
                })
                .collect::<Vec<_>>();
            let slots = if key.is_empty() { 1 } else { 1 << rng.below(4) };
            let place = match home {
                Home::Thread => &mut own,
                Home::Session => &mut session,
            };
            let table = Table {
                map,
                home,
                offset: *place,
                slots,
                key,
                cell: cell(rng),
            };
            *place += u32::try_from(table.size()).expect("small") + gap;
            Arc::new(table)
        })
        .collect()
}

fn cell(rng: &mut Rng) -> Cell {
    let signed = rng.below(2) == 0;
    match rng.below(10) {
        0 => Cell::Count,
        1 => Cell::Sum,
        2 => Cell::Average,
        3 => Cell::Least { signed },
        4 => Cell::Greatest { signed },
        5 => Cell::Powers {
            bits: rng.below(6) as u8,
        },
        6 => {
            let min = any(rng, &[0, -100, 7, i64::MIN, -(1 << 40)]);
            let step = any(rng, &[1, 3, 8, 10, 1 << 20, 1_000_003]);
            let span = step * (1 + rng.below(30) as i64) - rng.below(step.min(5) as usize) as i64;
            Cell::Steps {
                min,
                max: min + span,
                step,
            }
        }
        7 | 8 => Cell::Word,
        _ => Cell::Wide(any(rng, &[8, 16, 40, 64, 72, 136, 256])),
    }
}

/// A place in scratch memory.
#[derive(Clone, Copy)]
struct Place {
    at: u32,
    size: u32,
}

/// What a value takes.
#[derive(Clone, Copy)]
struct Cost {
    depth: usize,
    nodes: usize,
    simple: bool,
}

struct Generator<'a> {
    rng: &'a mut Rng,
    target: Target,
    tables: &'a [Arc<Table>],
    program: Program,
    costs: Vec<Cost>,
    /// Variables whose value means something to a program.
    readable: Vec<Local>,
    words: Vec<Place>,
    strings: Vec<Place>,
    /// Where the key of each table is put together, and its larger values.
    keys: Vec<Option<Place>>,
    wides: Vec<Option<Place>>,
    /// Whether scratch memory was written.
    written: bool,
    actions: u16,
    effects_left: usize,
}

/// A program over these tables.
pub fn program(rng: &mut Rng, target: Target, tables: &[Arc<Table>]) -> Program {
    if rng.below(20) == 0 {
        return Program::count();
    }
    let mut generator = Generator {
        effects_left: 4 + rng.below(40),
        rng,
        target,
        tables,
        program: Program {
            locals: FREE,
            ..Program::default()
        },
        costs: Vec::new(),
        readable: (0..FREE).map(Local).collect(),
        words: Vec::new(),
        strings: Vec::new(),
        keys: Vec::new(),
        wides: Vec::new(),
        written: false,
        actions: 0,
    };
    generator.run();
    generator.program
}

impl Generator<'_> {
    fn chance(&mut self, of: usize) -> bool {
        self.rng.below(of) == 0
    }

    fn run(&mut self) {
        if !self.chance(4) {
            self.lay_out();
        }
        let mut effects = self.first();
        self.written = true;
        effects.extend(self.effects(0, false));
        self.program.effects = effects;
        if self.chance(3) {
            self.gate();
        }
    }

    /// Puts all of it behind conditions.
    fn gate(&mut self) {
        for _ in 0..1 + self.rng.below(3) {
            let value = self.value(4, NODES, false);
            let effects = std::mem::take(&mut self.program.effects);
            self.program.effects = vec![Effect::If(value, effects, Vec::new())];
            if self.chance(2) {
                self.program.effects.insert(0, Effect::Count);
            }
        }
    }

    fn place(&mut self, size: u32) -> Option<Place> {
        let at = self.program.scratch;
        let end = at + size.next_multiple_of(8);
        (end <= SCRATCH).then(|| {
            self.program.scratch = end;
            Place { at, size }
        })
    }

    /// Decides what lies where in scratch memory.
    fn lay_out(&mut self) {
        for _ in 0..self.rng.below(4) {
            let place = self.place(8);
            self.words.extend(place);
        }
        for _ in 0..self.rng.below(4) {
            let max = any(self.rng, &[8, 16, 24, 32, 64, 128]);
            let place = self.place(8 + max);
            self.strings.extend(place);
        }
        let tables = self.tables;
        for table in tables {
            let key = table.is_keyed().then(|| self.place(table.key_size()));
            let key = key.flatten();
            if let Some(key) = key {
                let mut at = key.at;
                for part in &table.key {
                    let place = Place {
                        at,
                        size: part.size(),
                    };
                    match part {
                        KeyPart::Word => self.words.push(place),
                        KeyPart::Bytes(_) => self.strings.push(place),
                    }
                    at += part.size();
                }
            }
            self.keys.push(key);
            let wide = match table.cell {
                Cell::Wide(size) => self.place(size),
                _ => None,
            };
            self.words
                .extend(wide.map(|wide| Place { size: 8, ..wide }));
            self.wides.push(wide);
        }
    }

    /// Adds a value made of these.
    fn push(&mut self, inst: Inst, of: &[Value]) -> Value {
        let costs: Vec<Cost> = of.iter().map(|v| self.costs[usize::from(v.0)]).collect();
        let (depth, simple) = match inst {
            Inst::Known(_) | Inst::Unary(UnaryOp::Not, _) => (1, false),
            Inst::Binary(op, _, _) => {
                use BinaryOp::{Add, And, Mul, Or, Sub, Xor};
                let simple = matches!(op, Add | Sub | Mul | And | Or | Xor);
                (costs[1].depth + 1, simple)
            }
            _ => (1, true),
        };
        self.costs.push(Cost {
            depth: costs.first().map_or(1, |cost| cost.depth).max(depth),
            nodes: 1 + costs.iter().map(|cost| cost.nodes).sum::<usize>(),
            simple: simple && costs.iter().all(|cost| cost.simple),
        });
        self.program.push(inst)
    }

    fn constant(&mut self, n: u64) -> Value {
        self.push(Inst::Const(n), &[])
    }

    fn leaf(&mut self, room: usize, simple: bool) -> Value {
        let inst = match self.rng.below(12) {
            0 | 1 => Inst::Const(number(self.rng)),
            2 | 3 => Inst::Arg(self.rng.below(10) as u8),
            4 => Inst::Reg(RegId(self.rng.below(16) as u8)),
            5 => Inst::FloatArg(self.rng.below(8) as u8),
            6 if self.written && !self.words.is_empty() => {
                Inst::Scratch(any(self.rng, &self.words).at)
            }
            7 | 8 if !simple && room > 1 => return self.known(),
            _ => Inst::Local(any(self.rng, &self.readable)),
        };
        self.push(inst, &[])
    }

    fn known(&mut self) -> Value {
        let known = match self.rng.below(12) {
            0 => Known::Pid,
            1 | 2 => Known::Tid,
            3 => Known::Uid,
            4 => Known::Gid,
            5 => Known::Child,
            6 => any(self.rng, &[Known::Probe, Known::Func]),
            7 | 8 => Known::Comm(self.rng.below(2) as u8),
            9 => Known::Cpu,
            10 => Known::Random,
            _ => any(self.rng, &[Known::Nanos, Known::Elapsed]),
        };
        let value = self.push(Inst::Known(known), &[]);
        let (op, than) = match known {
            Known::Cpu => (BinaryOp::Less, 0x1000),
            Known::Random => (BinaryOp::LessEqual, u64::from(u32::MAX)),
            Known::Nanos | Known::Elapsed => (BinaryOp::NotEqual, 0),
            _ => return value,
        };
        let than = self.constant(than);
        let made = self.push(Inst::Binary(op, value, than), &[value, than]);
        // It is not used again: nobody knows what it is.
        self.costs[usize::from(value.0)].nodes = usize::MAX;
        made
    }

    /// A value of at most so many temporaries.
    fn value(&mut self, room: usize, nodes: usize, simple: bool) -> Value {
        if nodes < 2 || self.chance(3) {
            return self.leaf(room, simple);
        }
        if self.chance(6) && self.written {
            let fits =
                |cost: &Cost| cost.depth <= room && cost.nodes <= nodes && (cost.simple || !simple);
            let fitting: Vec<u16> = (0_u16..)
                .zip(&self.costs)
                .filter_map(|(index, cost)| fits(cost).then_some(index))
                .collect();
            if !fitting.is_empty() {
                return Value(any(self.rng, &fitting));
            }
        }
        match self.rng.below(8) {
            0 => {
                let of = self.value(room, nodes - 1, simple);
                let op = match self.rng.below(3) {
                    0 => UnaryOp::Negate,
                    1 if !simple => UnaryOp::Not,
                    _ => UnaryOp::Invert,
                };
                self.push(Inst::Unary(op, of), &[of])
            }
            1 => {
                let value = self.value(room, nodes - 1, simple);
                let inst = Inst::Extend {
                    value,
                    width: self.width(),
                    signed: self.chance(2),
                };
                self.push(inst, &[value])
            }
            2 | 3 => self.load(room, nodes - 1, simple),
            _ if room > 1 => self.binary(room, nodes - 1, simple),
            _ => self.leaf(room, simple),
        }
    }

    fn binary(&mut self, room: usize, nodes: usize, simple: bool) -> Value {
        use BinaryOp::*;
        let ops: &[BinaryOp] = if simple {
            &[Add, Sub, And, Or, Xor, Mul]
        } else {
            &[
                Add,
                Sub,
                And,
                Or,
                Xor,
                Mul,
                Div,
                SignedDiv,
                Rem,
                SignedRem,
                Shl,
                Shr,
                Sar,
                Equal,
                NotEqual,
                Less,
                SignedLess,
                LessEqual,
                SignedLessEqual,
            ]
        };
        let op = any(self.rng, ops);
        let a = self.value(room, nodes / 2, simple);
        if simple && self.chance(6) {
            // By a constant a shift leaves the other registers alone.
            let by = number(self.rng);
            let by = self.constant(by);
            let op = any(self.rng, &[Shl, Shr, Sar]);
            let value = self.push(Inst::Binary(op, a, by), &[a, by]);
            let of = self.costs[usize::from(a.0)].simple;
            self.costs[usize::from(value.0)].simple = of;
            return value;
        }
        let b = self.value(room - 1, nodes / 2, simple);
        self.push(Inst::Binary(op, a, b), &[a, b])
    }

    fn width(&mut self) -> Width {
        any(self.rng, &[Width::W8, Width::W16, Width::W32, Width::W64])
    }

    fn load(&mut self, room: usize, nodes: usize, simple: bool) -> Value {
        let base = self.pointer(room, nodes, simple);
        let inst = Inst::Load {
            base,
            offset: self.rng.below(64) as i32 - 32,
            width: self.width(),
            signed: self.chance(2),
        };
        self.push(inst, &[base])
    }

    /// An address that is in the target's memory or at its edge, or where nothing is ever mapped.
    fn pointer(&mut self, room: usize, nodes: usize, simple: bool) -> Value {
        let target = self.target;
        let inside = match self.rng.below(4) {
            // Around the start and the end, where it faults.
            0 => target.len - self.rng.below(80) as u64,
            1 => self.rng.below(80) as u64,
            _ => self.rng.below(target.len as usize) as u64,
        };
        match self.rng.below(8) {
            0 | 1 => self.constant(target.at + inside),
            // The register that holds one.
            2 | 3 => self.push(Inst::Arg(0), &[]),
            4 if nodes > 3 => {
                let slot = self.rng.below(target.pointers as usize / 8) as u64;
                let base = self.constant(target.at + 8 * slot);
                let inst = Inst::Load {
                    base,
                    offset: 0,
                    width: Width::W64,
                    signed: false,
                };
                self.push(inst, &[base])
            }
            5 if nodes > 4 && room > 1 => {
                let value = self.value(room - 1, nodes - 3, simple);
                let mask = self.constant(target.len / 2 - 1);
                let within = self.push(Inst::Binary(BinaryOp::And, value, mask), &[value, mask]);
                let base = self.constant(target.at + 64);
                // The constant on the left: on the right it would take no temporary.
                self.push(Inst::Binary(BinaryOp::Add, base, within), &[base, within])
            }
            6 if nodes > 2 && room > 1 => {
                let value = self.value(room, nodes - 2, simple);
                let high = self.constant(1 << 63);
                self.push(Inst::Binary(BinaryOp::Or, value, high), &[value, high])
            }
            _ => {
                let low = self.rng.below(2000) as u64 + 64;
                let n = if self.chance(4) {
                    low
                } else {
                    target.at + inside
                };
                self.constant(n)
            }
        }
    }
}
