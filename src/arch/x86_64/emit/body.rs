//! One program's effects: control flow, variables, counters. What needs more than a few instructions
//! has a file of its own.

use iced_x86::code_asm::registers::gpr32::eax;
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, CodeAssembler, CodeLabel, ptr, qword_ptr};

use super::assembler::{Assembler, Mark, Patch};
use super::needs::{Costs, Gate, Step, is_comparison, small_constant};
use super::registers::TEMPORARIES;
use super::template::{Environment, Frame, Unsupported};
use super::unset::unset;
use crate::abi;
use crate::base::ProbeId;
use crate::program::{BinaryOp, Effect, Inst, Local, MAX_TURNS, Program, UnaryOp, Value};

/// Which block a copy of the code writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// The thread's own, through gs, without locks.
    Own,
    /// The shared one, by its address, with locks.
    Shared,
}

impl Space {
    /// For an instruction that changes memory of this space: where others write too, it takes a lock.
    pub(super) fn changing(self, out: &mut Assembler) -> &mut CodeAssembler {
        match self {
            Space::Own => &mut out.asm,
            Space::Shared => out.asm.lock(),
        }
    }
}

/// An operand in the block's memory. The size is given by the register or by a `_ptr` cast.
pub(super) fn in_block(space: Space, operand: AsmMemoryOperand) -> AsmMemoryOperand {
    match space {
        Space::Own => operand.gs(),
        Space::Shared => operand,
    }
}

/// The program being emitted, and where.
pub(super) struct Body<'a> {
    pub(super) frame: &'a mut Frame,
    pub(super) program: &'a Program,
    pub(super) costs: Costs,
    /// Its probe's index in the template.
    pub(super) index: usize,
    pub(super) environment: &'a Environment,
    pub(super) space: Space,
    /// Where the program ends for this hit.
    pub(super) end: Mark,
    /// Where the loops around begin their next turn, and where they end.
    loops: Vec<(Mark, Mark)>,
}

/// Where and for which space code is emitted.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) environment: &'a Environment,
    pub(super) space: Space,
}

impl<'a> Body<'a> {
    fn new(
        frame: &'a mut Frame,
        program: &'a Program,
        index: usize,
        site: Site<'a>,
        end: Mark,
    ) -> Body<'a> {
        Body {
            frame,
            program,
            costs: Costs::of(program, &[]),
            index,
            environment: site.environment,
            space: site.space,
            end,
            loops: Vec::new(),
        }
    }
}

/// Emits a program: what it does without variables and scratch memory, then the rest.
pub(super) fn emit(
    frame: &mut Frame,
    program: &Program,
    index: usize,
    site: Site,
) -> Result<(), Unsupported> {
    let gate = Gate::of(program);
    let end = frame.out.mark();
    emit_gate(frame, &gate, index, site, end)?;
    let mut body = Body::new(frame, &gate.rest, index, site, end);
    body.clear(&unset(&gate.rest))?;
    if program.scratch == 0 {
        body.effects(&gate.rest.effects)?;
        return Ok(frame.out.here(end)?);
    }
    body.end = body.frame.out.mark();
    body.take_scratch(end)?;
    body.effects(&gate.rest.effects)?;
    body.frame.out.here(body.end)?;
    body.give_scratch()?;
    Ok(frame.out.here(end)?)
}

/// Emits what a program does first; when that ends it, it goes on at `leave`.
pub(super) fn emit_gate(
    frame: &mut Frame,
    gate: &Gate,
    index: usize,
    site: Site,
    leave: Mark,
) -> Result<(), Unsupported> {
    let mut body = Body::new(frame, &gate.rest, index, site, leave);
    for &step in &gate.steps {
        match step {
            Step::Count => body.effect(&Effect::Count)?,
            Step::Unless(value) => body.branch(value, false, leave)?,
        }
    }
    Ok(())
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
        Ok(self.space.changing(&mut self.frame.out).inc(word)?)
    }

    /// Adds one to a counter of the probe; `at` is that of probe 0.
    pub(super) fn count(&mut self, at: u32) -> Result<(), Unsupported> {
        let counter = self.word(at);
        self.frame.out.patch_next(Patch::Counter(self.index));
        self.increment(counter)
    }

    /// Variables are 0 at first.
    fn clear(&mut self, locals: &[Local]) -> Result<(), Unsupported> {
        if let &[local] = locals {
            let slot = self.local(local);
            return Ok(self.frame.out.asm.mov(slot, 0)?);
        }
        if !locals.is_empty() {
            self.frame.out.asm.xor(eax, eax)?;
        }
        for &local in locals {
            let slot = self.local(local);
            self.frame.out.asm.mov(slot, rax)?;
        }
        Ok(())
    }

    /// Puts a value into memory. What is known is in `rax`, and needs no temporary.
    fn store(&mut self, value: Value, to: AsmMemoryOperand) -> Result<(), Unsupported> {
        if let Some(constant) = small_constant(self.program, value) {
            return Ok(self.frame.out.asm.mov(qword_ptr(to), constant)?);
        }
        let result = match self.program.inst(value) {
            Some(Inst::Known(known)) => self.known(known, 0)?,
            _ => self.evaluate(value, 0)?,
        };
        Ok(self.frame.out.asm.mov(to, result)?)
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
            // Done before everything else.
            Effect::Answer(_) => {}
            Effect::Record(record) => self.leave_record(record)?,
            Effect::Set(local, value) => self.store(*value, self.local(*local))?,
            Effect::Put(at, value) => self.store(*value, self.scratch(*at))?,
            Effect::Copy(copy) => self.copy(copy)?,
            Effect::Literal(at, bytes) => self.literal(*at, bytes)?,
            Effect::Move(to, from, size) => self.shift(*to, *from, *size)?,
            Effect::Walk(at, frames, entry) => self.walk(*at, *frames, *entry)?,
            Effect::Compare(local, a, b, most) => self.compare(*local, (*a, *b), *most)?,
            Effect::Find(local, a, b) => self.find_string(*local, *a, *b)?,
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
        self.branch(value, false, not)?;
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

    /// Jumps to `mark` when the value is 0, or, when `sense` is set, when it is not.
    fn branch(&mut self, value: Value, sense: bool, mark: Mark) -> Result<(), Unsupported> {
        let to = self.frame.out.to(mark);
        match self.program.inst(value) {
            Some(Inst::Unary(UnaryOp::Not, inner)) => self.branch(inner, !sense, mark),
            Some(Inst::Binary(op, a, b)) if is_comparison(op) => {
                self.compared(a, b, 0)?;
                self.jump_when(op, sense, to)
            }
            _ => {
                let result = self.evaluate(value, 0)?;
                self.frame.out.asm.test(result, result)?;
                if sense {
                    self.frame.out.asm.jne(to)?;
                } else {
                    self.frame.out.asm.je(to)?;
                }
                Ok(())
            }
        }
    }

    /// Jumps when what was just compared is so, or is not.
    fn jump_when(&mut self, op: BinaryOp, sense: bool, to: CodeLabel) -> Result<(), Unsupported> {
        let asm = &mut self.frame.out.asm;
        match (op, sense) {
            (BinaryOp::Equal, true) | (BinaryOp::NotEqual, false) => asm.je(to)?,
            (BinaryOp::Equal, false) | (BinaryOp::NotEqual, true) => asm.jne(to)?,
            (BinaryOp::Less, true) => asm.jb(to)?,
            (BinaryOp::Less, false) => asm.jae(to)?,
            (BinaryOp::LessEqual, true) => asm.jbe(to)?,
            (BinaryOp::LessEqual, false) => asm.ja(to)?,
            (BinaryOp::SignedLess, true) => asm.jl(to)?,
            (BinaryOp::SignedLess, false) => asm.jge(to)?,
            (_, true) => asm.jle(to)?,
            (_, false) => asm.jg(to)?,
        }
        Ok(())
    }

    /// Compares two values and leaves the result in the flags.
    pub(super) fn compared(&mut self, a: Value, b: Value, depth: usize) -> Result<(), Unsupported> {
        let left = self.evaluate(a, depth)?;
        match small_constant(self.program, b) {
            Some(0) => self.frame.out.asm.test(left, left)?,
            Some(constant) => self.frame.out.asm.cmp(left, constant)?,
            None => {
                // The left one may still be in its own register.
                let taken = TEMPORARIES.get(depth) == Some(&left);
                let right = self.evaluate(b, depth + usize::from(taken))?;
                self.frame.out.asm.cmp(left, right)?;
            }
        }
        Ok(())
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
            space.changing(&mut frame.out).inc(dropped)?;
            let to_after = frame.out.to(after);
            Ok(frame.out.asm.jmp(to_after)?)
        });
    }

    /// The variable behind the program's own: which bit of [`abi::IN_USE`] is ours.
    fn scratch_bit(&self) -> AsmMemoryOperand {
        self.local(Local(self.program.locals))
    }

    /// Takes a place of scratch memory: `rbx` is its offset. Without one the hit is dropped, and goes on
    /// at `without`.
    fn take_scratch(&mut self, without: Mark) -> Result<(), Unsupported> {
        let in_use = self.word(abi::IN_USE);
        let bit = self.scratch_bit();
        let [again, none] = std::array::from_fn(|_| self.frame.out.mark());
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
        let changing = self.space.changing(&mut self.frame.out);
        changing.cmpxchg(in_use, rcx)?;
        let asm = &mut self.frame.out.asm;
        asm.jne(to_again)?;
        asm.mov(bit, rdx)?;
        asm.imul_3(rbx, rbx, size)?;
        self.drop_hit(none, without);
        Ok(())
    }

    fn give_scratch(&mut self) -> Result<(), Unsupported> {
        let in_use = self.word(abi::IN_USE);
        let bit = self.scratch_bit();
        self.frame.out.asm.mov(rax, bit)?;
        Ok(self.space.changing(&mut self.frame.out).sub(in_use, rax)?)
    }
}
