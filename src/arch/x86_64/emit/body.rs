//! One program's effects: control flow, variables, counters. What needs more than a few instructions
//! has a file of its own.

use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, AsmRegister64, ptr, qword_ptr};

use super::assembler::{Mark, Patch};
use super::template::{Environment, Frame, Unsupported};
use super::value::Simple;
use crate::abi;
use crate::base::ProbeId;
use crate::program::{
    BinaryOp, Cell, Effect, FieldKind, Home, Inst, Key, Local, MAX_TURNS, MapOp, Program,
};
use crate::program::{UnaryOp, Value};

/// Which block a copy of the code writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// The thread's own, through gs, without locks.
    Own,
    /// The shared one, by its address, with locks.
    Shared,
}

/// An operand in the block's memory. The size is given by the register or by a `_ptr` cast.
pub(super) fn in_block(space: Space, operand: AsmMemoryOperand) -> AsmMemoryOperand {
    match space {
        Space::Own => operand.gs(),
        Space::Shared => operand,
    }
}

/// The x86-64 register with this DWARF number.
pub(super) fn register(number: u8) -> Option<AsmRegister64> {
    const REGISTERS: [AsmRegister64; 16] = [
        rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15,
    ];
    REGISTERS.get(usize::from(number)).copied()
}

/// The program being emitted, and where.
pub(super) struct Body<'a> {
    pub(super) frame: &'a mut Frame,
    pub(super) program: &'a Program,
    /// Its probe's index in the template.
    pub(super) index: usize,
    pub(super) environment: &'a Environment,
    pub(super) space: Space,
    /// Where the program ends for this hit.
    end: Mark,
    /// Where the loops around begin their next turn, and where they end.
    loops: Vec<(Mark, Mark)>,
}

/// Emits a program's effects in order.
pub(super) fn emit(
    frame: &mut Frame,
    program: &Program,
    index: usize,
    environment: &Environment,
    space: Space,
) -> Result<(), Unsupported> {
    let end = frame.out.mark();
    let mut body = Body {
        frame,
        program,
        index,
        environment,
        space,
        end,
        loops: Vec::new(),
    };
    if program.scratch == 0 {
        body.effects(&program.effects)?;
        return Ok(frame.out.here(end)?);
    }
    let without = body.take_scratch()?;
    body.effects(&program.effects)?;
    body.frame.out.here(end)?;
    body.give_scratch()?;
    Ok(frame.out.here(without)?)
}

impl Body<'_> {
    /// A word of the block.
    pub(super) fn word(&self, offset: u32) -> AsmMemoryOperand {
        let at = u64::from(self.environment.shared_block + offset);
        in_block(self.space, qword_ptr(at))
    }

    /// A variable's slot on the stack.
    pub(super) fn local(&self, local: Local) -> AsmMemoryOperand {
        qword_ptr(rsp + 8 * i32::from(local.0))
    }

    /// Scratch memory.
    pub(super) fn scratch(&self, at: u32) -> AsmMemoryOperand {
        in_block(self.space, ptr(rbx + self.scratch_base(at)))
    }

    /// What stands in the displacement of an operand in scratch memory.
    pub(super) fn scratch_base(&self, at: u32) -> u64 {
        let base = self.environment.shared_block + self.environment.layout.scratch();
        u64::from(base + at)
    }

    /// Adds one to a word of the block.
    pub(super) fn increment(&mut self, word: AsmMemoryOperand) -> Result<(), Unsupported> {
        match self.space {
            Space::Own => self.frame.out.asm.inc(word)?,
            Space::Shared => self.frame.out.asm.lock().inc(word)?,
        }
        Ok(())
    }

    /// Adds one to a counter of the probe; `at` is that of probe 0.
    pub(super) fn count(&mut self, at: u32) -> Result<(), Unsupported> {
        let counter = self.word(at);
        self.frame.out.patch_next(Patch::Counter(self.index));
        self.increment(counter)
    }

    fn effects(&mut self, effects: &[Effect]) -> Result<(), Unsupported> {
        effects.iter().try_for_each(|effect| self.effect(effect))
    }

    pub(super) fn jump(&mut self, mark: Mark) -> Result<(), Unsupported> {
        let to = self.frame.out.to(mark);
        Ok(self.frame.out.asm.jmp(to)?)
    }

    fn effect(&mut self, effect: &Effect) -> Result<(), Unsupported> {
        match effect {
            Effect::Count => self.count(self.environment.layout.hits(ProbeId(0)))?,
            Effect::Ask => self.ask()?,
            Effect::Record(record) => self.leave_record(record)?,
            Effect::Set(local, value) => {
                let slot = self.local(*local);
                match self.program.inst(*value) {
                    Some(Inst::Const(n)) if i32::try_from(n.cast_signed()).is_ok() => {
                        self.frame.out.asm.mov(slot, n.cast_signed() as i32)?;
                    }
                    Some(Inst::Known(known)) => {
                        let result = self.known(known)?;
                        self.frame.out.asm.mov(slot, result)?;
                    }
                    _ => {
                        let result = self.evaluate(*value, 0)?;
                        self.frame.out.asm.mov(slot, result)?;
                    }
                }
            }
            Effect::Put(at, value) => {
                let result = self.evaluate(*value, 0)?;
                let word = self.scratch(*at);
                self.frame.out.asm.mov(word, result)?;
            }
            Effect::Copy(copy) => self.copy(copy)?,
            Effect::Literal(at, bytes) => self.literal(*at, bytes)?,
            Effect::Move(to, from, size) => self.shift(*to, *from, *size)?,
            Effect::Compare(local, a, b, most) => self.compare(*local, (*a, *b), *most)?,
            Effect::Map(table, key, op) => self.map(table, *key, op)?,
            Effect::If(value, then, otherwise) => self.choose(*value, then, otherwise)?,
            Effect::Loop(turns, body) => self.turns(*turns, body)?,
            Effect::Each(each) => self.each(each)?,
            Effect::Break => {
                let (_, end) = self.innermost()?;
                self.jump(end)?;
            }
            Effect::Continue => {
                let (next, _) = self.innermost()?;
                self.jump(next)?;
            }
            Effect::Return => self.jump(self.end)?,
        }
        Ok(())
    }

    fn innermost(&self) -> Result<(Mark, Mark), Unsupported> {
        let none = || Unsupported("no loop to leave".to_owned());
        self.loops.last().copied().ok_or_else(none)
    }

    fn choose(
        &mut self,
        value: Value,
        then: &[Effect],
        otherwise: &[Effect],
    ) -> Result<(), Unsupported> {
        let not = self.frame.out.mark();
        self.unless(value, not)?;
        self.effects(then)?;
        if otherwise.is_empty() {
            return Ok(self.frame.out.here(not)?);
        }
        let after = self.frame.out.mark();
        self.jump(after)?;
        self.frame.out.here(not)?;
        self.effects(otherwise)?;
        Ok(self.frame.out.here(after)?)
    }

    /// Jumps to `not` when the value is 0.
    fn unless(&mut self, value: Value, not: Mark) -> Result<(), Unsupported> {
        let to = self.frame.out.to(not);
        let inst = self.program.inst(value);
        if let Some(Inst::Unary(UnaryOp::Not, inner)) = inst {
            let inner = self.evaluate(inner, 0)?;
            self.frame.out.asm.test(inner, inner)?;
            return Ok(self.frame.out.asm.jne(to)?);
        }
        let Some(Inst::Binary(op, a, b)) = inst.filter(is_comparison) else {
            let result = self.evaluate(value, 0)?;
            self.frame.out.asm.test(result, result)?;
            return Ok(self.frame.out.asm.je(to)?);
        };
        self.compared(a, b, 0)?;
        let asm = &mut self.frame.out.asm;
        match op {
            BinaryOp::Equal => asm.jne(to)?,
            BinaryOp::NotEqual => asm.je(to)?,
            BinaryOp::Less => asm.jae(to)?,
            BinaryOp::SignedLess => asm.jge(to)?,
            BinaryOp::LessEqual => asm.ja(to)?,
            _ => asm.jg(to)?,
        }
        Ok(())
    }

    /// Compares two values and leaves the result in the flags.
    pub(super) fn compared(&mut self, a: Value, b: Value, depth: usize) -> Result<(), Unsupported> {
        let left = self.evaluate(a, depth)?;
        match self.small_constant(b) {
            Some(0) => self.frame.out.asm.test(left, left)?,
            Some(constant) => self.frame.out.asm.cmp(left, constant)?,
            None => {
                let right = self.evaluate(b, depth + 1)?;
                self.frame.out.asm.cmp(left, right)?;
            }
        }
        Ok(())
    }

    /// A constant that an instruction can carry.
    pub(super) fn small_constant(&self, value: Value) -> Option<i32> {
        match self.program.inst(value)? {
            Inst::Const(n) => i32::try_from(n.cast_signed()).ok(),
            _ => None,
        }
    }

    fn turns(&mut self, turns: Local, body: &[Effect]) -> Result<(), Unsupported> {
        let slot = self.local(turns);
        let [next, end, often] = std::array::from_fn(|_| self.frame.out.mark());
        self.frame.out.asm.mov(slot, 0)?;
        self.frame.out.here(next)?;
        self.frame.out.asm.cmp(slot, MAX_TURNS.cast_signed())?;
        let to_often = self.frame.out.to(often);
        self.frame.out.asm.jae(to_often)?;
        self.frame.out.asm.inc(slot)?;
        self.repeat(next, end, body)?;
        self.drop_hit(often, end);
        Ok(())
    }

    /// A loop's body, the jump back, and its end.
    pub(super) fn repeat(
        &mut self,
        next: Mark,
        end: Mark,
        body: &[Effect],
    ) -> Result<(), Unsupported> {
        self.loops.push((next, end));
        self.effects(body)?;
        self.loops.pop();
        self.jump(next)?;
        Ok(self.frame.out.here(end)?)
    }

    /// Out of line, at `mark`: counts what is not done, and goes on at `after`.
    fn drop_hit(&mut self, mark: Mark, after: Mark) {
        let space = self.space;
        let dropped = self.word(abi::DROPPED);
        self.frame.later(move |frame| {
            frame.out.here(mark)?;
            match space {
                Space::Own => frame.out.asm.inc(dropped)?,
                Space::Shared => frame.out.asm.lock().inc(dropped)?,
            }
            let to_after = frame.out.to(after);
            Ok(frame.out.asm.jmp(to_after)?)
        });
    }

    /// The variable behind the program's own: which bit of [`abi::IN_USE`] is ours.
    fn scratch_bit(&self) -> AsmMemoryOperand {
        self.local(Local(self.program.locals))
    }

    /// Takes a place of scratch memory: `rbx` is its offset. Without one the hit is dropped: what is
    /// returned is where it goes on then.
    fn take_scratch(&mut self) -> Result<Mark, Unsupported> {
        let in_use = self.word(abi::IN_USE);
        let bit = self.scratch_bit();
        let [again, none, without] = std::array::from_fn(|_| self.frame.out.mark());
        let size = i32::try_from(self.environment.layout.scratch);
        let size = size.map_err(|_| Unsupported("too much scratch memory".to_owned()))?;
        let (to_again, to_none) = (self.frame.out.to(again), self.frame.out.to(none));
        self.frame.out.asm.mov(rax, in_use)?;
        self.frame.out.here(again)?;
        let asm = &mut self.frame.out.asm;
        // The lowest bit that is clear, set.
        asm.lea(rcx, qword_ptr(rax + 1))?;
        asm.or(rcx, rax)?;
        asm.mov(rdx, rcx)?;
        asm.sub(rdx, rax)?;
        asm.bsf(rbx, rdx)?;
        asm.cmp(rbx, abi::SCRATCHES.cast_signed())?;
        asm.jae(to_none)?;
        match self.space {
            Space::Own => asm.cmpxchg(in_use, rcx)?,
            Space::Shared => asm.lock().cmpxchg(in_use, rcx)?,
        }
        asm.jne(to_again)?;
        asm.mov(bit, rdx)?;
        asm.imul_3(rbx, rbx, size)?;
        self.drop_hit(none, without);
        Ok(without)
    }

    fn give_scratch(&mut self) -> Result<(), Unsupported> {
        let in_use = self.word(abi::IN_USE);
        let bit = self.scratch_bit();
        let asm = &mut self.frame.out.asm;
        asm.mov(rax, bit)?;
        match self.space {
            Space::Own => asm.sub(in_use, rax)?,
            Space::Shared => asm.lock().sub(in_use, rax)?,
        }
        Ok(())
    }
}

fn is_comparison(inst: &Inst) -> bool {
    use BinaryOp::{Equal, Less, LessEqual, NotEqual, SignedLess, SignedLessEqual};
    matches!(
        inst,
        Inst::Binary(
            Equal | NotEqual | Less | SignedLess | LessEqual | SignedLessEqual,
            ..
        )
    )
}

/// Whether a program does nothing but add one to words of its block.
pub(super) fn counts_only(program: &Program) -> bool {
    program.effects.iter().all(|effect| match effect {
        Effect::Count => true,
        Effect::Map(table, Key::None, MapOp::Aggregate(None)) => {
            table.home == Home::Thread && table.cell == Cell::Count
        }
        _ => false,
    })
}

/// What a program uses beside `rax`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    /// How many of [`super::value::TEMPORARIES`].
    pub(super) temporaries: usize,
    /// `rcx` and `rdx`.
    pub(super) wide: bool,
    /// `rsi` and `rdi`.
    pub(super) index: bool,
    /// `rbx`, for scratch memory.
    pub(super) scratch: bool,
    /// Words on the stack.
    pub(super) locals: u16,
}

impl Needs {
    /// What a program uses.
    pub(super) fn of(program: &Program) -> Needs {
        let simple = Simple::of(program);
        let mut needs = Needs {
            scratch: program.scratch > 0,
            wide: program.scratch > 0,
            locals: program.locals + u16::from(program.scratch > 0),
            ..Needs::default()
        };
        program.visit(|effect| needs.add(effect, &simple));
        needs.temporaries = needs.temporaries.min(super::value::TEMPORARIES.len());
        needs
    }

    fn add(&mut self, effect: &Effect, simple: &Simple) {
        let all = super::value::TEMPORARIES.len();
        match effect {
            Effect::Set(_, value) | Effect::Put(_, value) | Effect::If(value, ..) => {
                self.takes(*value, simple);
            }
            Effect::Record(record) => {
                for field in &record.fields {
                    match field.kind {
                        FieldKind::Int { value, .. } => self.takes(value, simple),
                        _ => self.temporaries = all,
                    }
                }
                self.wide = true;
            }
            Effect::Copy(_) | Effect::Compare(..) | Effect::Move(..) | Effect::Literal(..) => {
                self.temporaries = all;
                self.wide = true;
            }
            Effect::Map(table, key, op) => {
                if let Key::Word(value) = key {
                    self.takes(*value, simple);
                }
                match op {
                    MapOp::Aggregate(Some(value)) | MapOp::Set(value) | MapOp::Add(value, _) => {
                        self.takes(*value, simple);
                    }
                    _ => {}
                }
                let plain = matches!(
                    table.cell,
                    Cell::Count | Cell::Sum | Cell::Average | Cell::Powers { bits: 0 }
                );
                let aggregates = matches!(op, MapOp::Aggregate(_));
                self.wide |= table.is_keyed() || !plain || !aggregates;
                self.index |= table.is_keyed() || !aggregates;
                if table.is_keyed() || !plain || !aggregates {
                    self.temporaries = all;
                }
            }
            Effect::Each(_) => {
                self.temporaries = all;
                self.wide = true;
                self.index = true;
            }
            Effect::Ask => self.wide = true,
            Effect::Count
            | Effect::Loop(..)
            | Effect::Break
            | Effect::Continue
            | Effect::Return => {}
        }
    }

    fn takes(&mut self, value: Value, simple: &Simple) {
        self.temporaries = self.temporaries.max(simple.depth(value));
        self.wide |= !simple.is_simple(value);
    }

    /// What two programs of one site use.
    pub(super) fn union(self, other: Needs) -> Needs {
        Needs {
            temporaries: self.temporaries.max(other.temporaries),
            wide: self.wide || other.wide,
            index: self.index || other.index,
            scratch: self.scratch || other.scratch,
            locals: self.locals.max(other.locals),
        }
    }
}
