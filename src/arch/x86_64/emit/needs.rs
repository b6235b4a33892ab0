//! What is known of a program before it is emitted: the registers it uses, the variables it may read
//! before it sets them, the conditions on which it does anything at all.
//!
//! Invariant: emission uses no register that is not counted here; where it would, it refuses.

use iced_x86::code_asm::AsmRegister64;
use iced_x86::code_asm::registers::gpr64::*;

use super::copy::UNROLLED;
use super::plan::Numbered;
use super::registers::{ARGUMENTS, TEMPORARIES, register};
use crate::program::{
    BinaryOp, Cell, Each, Effect, FieldKind, Inst, Key, Known, MapOp, Program, Table, UnaryOp,
    Value,
};

/// What a value takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// How many temporaries; none when it is still in a register that nobody writes.
    pub(super) depth: usize,
    /// Whether it uses `rcx` and `rdx`.
    wide: bool,
    /// Whether it leaves `rax` alone, too.
    pub(super) plain: bool,
}

/// What the values of a program take.
#[derive(Clone, Debug)]
pub(super) struct Costs(Vec<Cost>);

impl Costs {
    /// `saved`: the registers that the code around may write.
    pub(super) fn of(program: &Program, saved: &[AsmRegister64]) -> Costs {
        // Values refer backwards, so one pass does.
        let mut costs = Costs(Vec::with_capacity(program.values.len()));
        for inst in &program.values {
            let cost = costs.inst(program, inst, saved);
            costs.0.push(cost);
        }
        costs
    }

    fn inst(&self, program: &Program, inst: &Inst, saved: &[AsmRegister64]) -> Cost {
        let leaf = |number: Option<u8>| {
            let whole = number.and_then(register);
            let stays =
                whole.is_some_and(|whole| whole != rsp && whole != rax && !saved.contains(&whole));
            Cost {
                depth: usize::from(!stays),
                wide: false,
                plain: true,
            }
        };
        // Computed into a temporary from one value.
        let from = |value: Value| {
            let cost = self.cost(value);
            Cost {
                depth: cost.depth.max(1),
                ..cost
            }
        };
        match *inst {
            Inst::Reg(reg) => leaf(Some(reg.0)),
            Inst::Arg(n) => leaf(ARGUMENTS.get(usize::from(n)).copied()),
            Inst::Const(_)
            | Inst::FloatArg(_)
            | Inst::Local(_)
            | Inst::Scratch(_)
            | Inst::Began => leaf(None),
            Inst::Known(known) => Cost {
                depth: 1,
                wide: is_wide(known),
                plain: false,
            },
            Inst::Load { base: value, .. } | Inst::Extend { value, .. } => from(value),
            Inst::Unary(op, value) => {
                let cost = from(value);
                let plain = op != UnaryOp::Not && cost.plain;
                Cost { plain, ..cost }
            }
            Inst::Binary(op, a, b) => {
                let constant = match op {
                    BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => {
                        matches!(program.inst(b), Some(Inst::Const(_)))
                    }
                    BinaryOp::Add
                    | BinaryOp::Sub
                    | BinaryOp::And
                    | BinaryOp::Or
                    | BinaryOp::Xor
                    | BinaryOp::Mul => small_constant(program, b).is_some(),
                    _ => false,
                };
                let (a_cost, b_cost) = (from(a), self.cost(b));
                match op {
                    op if is_comparison(op) => Cost {
                        depth: self.compared(program, a, b).depth.max(1),
                        wide: a_cost.wide || b_cost.wide,
                        plain: false,
                    },
                    _ if constant => a_cost,
                    _ => {
                        let wide = matches!(
                            op,
                            BinaryOp::Shl
                                | BinaryOp::Shr
                                | BinaryOp::Sar
                                | BinaryOp::Div
                                | BinaryOp::SignedDiv
                                | BinaryOp::Rem
                                | BinaryOp::SignedRem
                        );
                        Cost {
                            depth: a_cost.depth.max(1 + b_cost.depth),
                            wide: wide || a_cost.wide || b_cost.wide,
                            plain: !wide && a_cost.plain && b_cost.plain,
                        }
                    }
                }
            }
        }
    }

    /// Two values side by side, as for a comparison.
    fn compared(&self, program: &Program, a: Value, b: Value) -> Cost {
        let (a, b_cost) = (self.cost(a), self.cost(b));
        let right = match small_constant(program, b) {
            Some(_) => 0,
            None => b_cost.depth + usize::from(a.depth > 0),
        };
        Cost {
            depth: a.depth.max(right),
            wide: a.wide || b_cost.wide,
            plain: a.plain && b_cost.plain,
        }
    }

    pub(super) fn cost(&self, value: Value) -> Cost {
        let cost = self.0.get(usize::from(value.0));
        cost.copied().unwrap_or_default()
    }

    /// What it takes to jump by a value.
    fn condition(&self, program: &Program, value: Value) -> Cost {
        match program.inst(value) {
            Some(Inst::Unary(UnaryOp::Not, inner)) => self.condition(program, inner),
            Some(Inst::Binary(op, a, b)) if is_comparison(op) => self.compared(program, a, b),
            _ => self.cost(value),
        }
    }
}

/// Whether it takes more than `rax`.
fn is_wide(known: Known) -> bool {
    use Known::{Cpu, Elapsed, Nanos, Random, Tid};
    matches!(known, Tid | Nanos | Elapsed | Cpu | Random)
}

/// Whether the result is 1 or 0 by the flags.
pub(super) fn is_comparison(op: BinaryOp) -> bool {
    use BinaryOp::{Equal, Less, LessEqual, NotEqual, SignedLess, SignedLessEqual};
    matches!(
        op,
        Equal | NotEqual | Less | SignedLess | LessEqual | SignedLessEqual
    )
}

/// A constant that an instruction can carry.
pub(super) fn small_constant(program: &Program, value: Value) -> Option<i32> {
    match program.inst(value)? {
        Inst::Const(n) => i32::try_from(n.cast_signed()).ok(),
        _ => None,
    }
}

/// Whether a program does nothing but add one to words of its block.
pub(super) fn counts_only(program: &Program) -> bool {
    program.effects.iter().all(|effect| match effect {
        Effect::Count => true,
        Effect::Map(table, Key::None, MapOp::Aggregate(None)) => {
            table.home == crate::program::Home::Thread && table.cell == Cell::Count
        }
        _ => false,
    })
}

/// What programs use beside `rax`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// How many of [`TEMPORARIES`].
    temporaries: usize,
    /// `rcx` and `rdx`.
    wide: bool,
    /// `r14` and `r15`, which hold no arguments: keys and values often are.
    index: bool,
    /// `rbx`, for scratch memory.
    scratch: bool,
}

impl Needs {
    /// What these programs use, beside what they need for these conditions.
    pub(super) fn of(programs: &[Numbered], conditions: Needs) -> Needs {
        let mut needs = conditions;
        // A value that stays in its register costs nothing unless something else uses the register.
        loop {
            let saved = needs.registers();
            let mut more = needs;
            for (_, program) in programs {
                let costs = Costs::of(program, &saved);
                more.scratch |= program.scratch > 0;
                more.wide |= program.scratch > 0;
                program.visit(|effect| more.add(effect, program, &costs));
            }
            more.temporaries = more.temporaries.min(TEMPORARIES.len());
            if more == needs {
                return needs;
            }
            needs = more;
        }
    }

    /// What it takes to begin and to end an activation.
    pub(super) fn of_calls() -> Needs {
        Needs {
            wide: true,
            ..Needs::default()
        }
    }

    /// What it takes to decide.
    pub(super) fn of_gate(gate: &Gate) -> Needs {
        let program = &gate.rest;
        let mut needs = Needs::default();
        loop {
            let mut more = needs;
            let costs = Costs::of(program, &needs.registers());
            for value in gate.conditions() {
                more.take(costs.condition(program, value));
            }
            more.temporaries = more.temporaries.min(TEMPORARIES.len());
            if more == needs {
                return needs;
            }
            needs = more;
        }
    }

    /// The registers, in the order they are saved.
    pub(super) fn registers(self) -> Vec<AsmRegister64> {
        let mut registers = Vec::new();
        if self.wide {
            registers.extend([rdx, rcx]);
        }
        registers.extend(TEMPORARIES.iter().take(self.temporaries));
        if self.index {
            registers.extend([r14, r15]);
        }
        if self.scratch {
            registers.push(rbx);
        }
        registers
    }

    fn take(&mut self, cost: Cost) {
        self.temporaries = self.temporaries.max(cost.depth);
        self.wide |= cost.wide;
    }

    /// To copy so many words.
    fn words(&mut self, count: u32) {
        self.wide = true;
        if count > UNROLLED {
            self.temporaries = self.temporaries.max(2);
        }
    }

    fn add(&mut self, effect: &Effect, program: &Program, costs: &Costs) {
        match effect {
            Effect::Set(_, value) | Effect::Put(_, value) => {
                if small_constant(program, *value).is_none() {
                    self.take(costs.cost(*value));
                }
            }
            Effect::If(value, ..) => self.take(costs.condition(program, *value)),
            Effect::Record(record) => {
                self.wide = true;
                for field in &record.fields {
                    match field.kind {
                        FieldKind::Int { value, .. } => self.take(costs.cost(value)),
                        FieldKind::Str { .. }
                        | FieldKind::Stack { .. }
                        | FieldKind::Frames { .. } => self.temporaries = TEMPORARIES.len(),
                        FieldKind::Scratch { size, .. } => self.words(size / 8),
                    }
                }
            }
            Effect::Copy(copy) => {
                self.temporaries = TEMPORARIES.len();
                self.take(costs.cost(copy.pointer));
                if let Some(limit) = copy.limit {
                    self.take(costs.cost(limit));
                }
                self.wide = true;
            }
            Effect::Walk(..) => {
                self.temporaries = TEMPORARIES.len();
                self.wide = true;
            }
            Effect::Compare(..) | Effect::Find(..) => {
                self.temporaries = TEMPORARIES.len();
                self.wide = true;
            }
            Effect::Move(_, _, size) => self.words(size / 8),
            Effect::Literal(..) => self.temporaries = self.temporaries.max(1),
            Effect::Map(table, key, op) => self.map(table, *key, op, costs),
            Effect::Each(Each { table, .. }) => {
                self.index = true;
                self.words(table.cell.words().max(table.key_size() / 8));
            }
            Effect::Ask => self.wide = true,
            Effect::Count
            | Effect::Answer(_)
            | Effect::Loop(..)
            | Effect::Break
            | Effect::Continue
            | Effect::Return => {}
        }
    }

    fn map(&mut self, table: &Table, key: Key, op: &MapOp, costs: &Costs) {
        if let MapOp::Len(_) = op {
            self.index = true;
            self.wide = true;
            return;
        }
        if table.is_keyed() {
            self.wide = true;
            self.index = true;
        }
        if table.is_reused() {
            // Who puts a key in clears the cell.
            self.words(table.cell.words());
        }
        match key {
            Key::Word(value) => self.take(costs.cost(value)),
            Key::Scratch(_) => self.words(table.key_size() / 8),
            Key::None => {}
        }
        match op {
            MapOp::Aggregate(Some(value)) => {
                self.take(costs.cost(*value));
                self.wide |= !matches!(
                    table.cell,
                    Cell::Sum | Cell::Average | Cell::Powers { bits: 0 }
                );
            }
            MapOp::Set(value) | MapOp::Add(value, _) => self.take(costs.cost(*value)),
            MapOp::Get(_) | MapOp::Has(_) => {
                self.wide |= !matches!(table.cell, Cell::Count | Cell::Sum | Cell::Word);
            }
            MapOp::Delete(_) => self.words(table.cell.words()),
            MapOp::GetScratch(_) | MapOp::SetScratch(_) => {
                self.index = true;
                self.words(table.cell.words());
            }
            MapOp::Aggregate(None) | MapOp::Len(_) => {}
        }
    }
}

/// What a program does before it needs variables or scratch memory: it counts, and ends unless its
/// conditions hold.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) steps: Vec<Step>,
    /// What it does behind that.
    pub(super) rest: Program,
}

/// A step of a [`Gate`].
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Counts the hit.
    Count,
    /// Ends the program when the value is 0. It reads what is there at the hit, nothing that the
    /// program has written.
    Unless(Value),
}

impl Gate {
    pub(super) fn of(program: &Program) -> Gate {
        let mut rest = program.effects.as_slice();
        let mut steps = Vec::new();
        loop {
            match rest {
                [Effect::Count, behind @ ..] => {
                    steps.push(Step::Count);
                    rest = behind;
                }
                [Effect::If(value, then, otherwise)]
                    if otherwise.is_empty() && reads_the_hit(program, *value) =>
                {
                    steps.push(Step::Unless(*value));
                    rest = then;
                }
                _ => break,
            }
        }
        Gate {
            steps,
            rest: Program {
                effects: rest.to_vec(),
                ..program.clone()
            },
        }
    }

    /// The values that decide.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Value> {
        self.steps.iter().filter_map(|step| match step {
            Step::Unless(value) => Some(*value),
            Step::Count => None,
        })
    }
}

/// Whether a value depends on neither variables nor scratch memory.
fn reads_the_hit(program: &Program, value: Value) -> bool {
    let reads = |value| reads_the_hit(program, value);
    match program.inst(value) {
        None | Some(Inst::Local(_) | Inst::Scratch(_)) => false,
        Some(Inst::Const(_) | Inst::Reg(_) | Inst::Arg(_) | Inst::FloatArg(_)) => true,
        Some(Inst::Known(_) | Inst::Began) => true,
        Some(Inst::Binary(_, a, b)) => reads(a) && reads(b),
        Some(Inst::Unary(_, value) | Inst::Extend { value, .. }) => reads(value),
        Some(Inst::Load { base, .. }) => reads(base),
    }
}
