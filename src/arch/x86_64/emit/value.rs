//! Values: registers as they were at the hit, variables, arithmetic, loads that may fault.
//!
//! A value is computed into one of the temporaries from its depth on, unless it is in a register that
//! nobody writes. Outside of records `rax` is free for what takes it, and `rcx` and `rdx` where
//! [`super::needs`] counts them; in a record only values that leave them alone can stand.

use iced_x86::code_asm::registers::gpr8::{al, cl};
use iced_x86::code_asm::registers::gpr32::edx;
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::registers::xmm::*;
use iced_x86::code_asm::{
    AsmMemoryOperand, AsmRegister64, byte_ptr, dword_ptr, ptr, qword_ptr, word_ptr,
};

use super::assembler::Mark;
use super::body::{Body, in_block};
use super::copy::copy_words;
use super::needs::{is_comparison, small_constant};
use super::record::{record_base, record_field};
use super::registers::{ARGUMENTS, TEMPORARIES, low_byte, low_half, low_word, register};
use super::template::{Frame, RED_ZONE, Saved, Unsupported};
use crate::abi;
use crate::program::{BinaryOp, FieldKind, Inst, UnaryOp, Value, Width};

/// What becomes of a load that faults.
#[derive(Clone, Copy)]
enum OnFault {
    /// It gives 0, and is counted.
    Zero,
    /// A record's field holds the address, is marked, and is done.
    Field {
        field: AsmMemoryOperand,
        faults: AsmMemoryOperand,
        bit: i32,
        after: Mark,
    },
}

impl Body<'_> {
    /// Fills field `number` of the record, at `offset` from its start.
    pub(super) fn field(
        &mut self,
        kind: FieldKind,
        number: usize,
        offset: u32,
    ) -> Result<(), Unsupported> {
        let after = self.frame.out.mark();
        let (environment, space) = (self.environment, self.space);
        let at = |offset| record_field(environment, space, offset);
        let on_fault = OnFault::Field {
            field: at(offset),
            faults: at(abi::REC_FAULTS),
            bit: (1_u32 << (number & 31)).cast_signed(),
            after,
        };
        match kind {
            FieldKind::Int { value, .. } => {
                if let Some(constant) = small_constant(self.program, value) {
                    self.frame.out.asm.mov(qword_ptr(at(offset)), constant)?;
                } else {
                    self.plain(value)?;
                    let result = self.value(value, 0, on_fault)?;
                    self.frame.out.asm.mov(at(offset), result)?;
                }
            }
            FieldKind::Str { .. } if !self.environment.loads => {
                self.frame.out.asm.mov(qword_ptr(at(offset)), 0)?;
            }
            FieldKind::Str { pointer, max } => {
                self.plain(pointer)?;
                let source = self.value(pointer, 0, on_fault)?;
                if source != r11 {
                    self.frame.out.asm.mov(r11, source)?;
                }
                let stub = self.frame.out.mark();
                self.string(i32::from(max), offset, stub)?;
                self.frame.later(move |frame| {
                    frame.out.here(stub)?;
                    frame.out.asm.add(r11, r10)?;
                    fault(frame, r11, on_fault)
                });
            }
            FieldKind::Stack { most, .. } => self.copy_stack(i32::from(most), offset)?,
            FieldKind::Frames { most, entry } => self.walk_record(offset, most, entry)?,
            FieldKind::Scratch { at: from, size } => {
                let from = self.scratch_base(from);
                let to = record_base(environment, offset);
                copy_words(self.frame, size / 8, |index| match index {
                    None => (
                        in_block(space, ptr(rbx + r10 * 8 + from)),
                        in_block(space, ptr(rcx + r10 * 8 + to)),
                    ),
                    Some(index) => (
                        in_block(space, ptr(rbx + (from + 8 * u64::from(index)))),
                        in_block(space, ptr(rcx + (to + 8 * u64::from(index)))),
                    ),
                })?;
            }
        }
        Ok(self.frame.out.here(after)?)
    }

    /// Refuses what would write the registers that a record is filled with.
    fn plain(&self, value: Value) -> Result<(), Unsupported> {
        if self.costs.cost(value).plain {
            Ok(())
        } else {
            Err(Unsupported(
                "a field that is to be computed first".to_owned(),
            ))
        }
    }

    /// Computes a value and says which register holds it: one of the temporaries from `depth` on, or
    /// the target's own register where it still has its value. A load that faults gives 0.
    pub(super) fn evaluate(
        &mut self,
        value: Value,
        depth: usize,
    ) -> Result<AsmRegister64, Unsupported> {
        self.value(value, depth, OnFault::Zero)
    }

    fn value(
        &mut self,
        value: Value,
        depth: usize,
        on_fault: OnFault,
    ) -> Result<AsmRegister64, Unsupported> {
        let deep = || Unsupported("an expression is too deep".to_owned());
        let inst = self.program.inst(value).ok_or_else(deep)?;
        if let Some(register) = self.in_place(inst)? {
            return Ok(register);
        }
        let target = TEMPORARIES.get(depth).copied().ok_or_else(deep)?;
        if !self.frame.pushed.contains(&Saved::Register(target)) {
            return Err(deep());
        }
        match inst {
            Inst::Const(constant) => self.constant(target, constant)?,
            Inst::Reg(reg) => self.frame.original(reg.0, target)?,
            Inst::Arg(n) => match ARGUMENTS.get(usize::from(n)) {
                Some(&number) => self.frame.original(number, target)?,
                None => {
                    // At an entry the return address is on top, the seventh argument above it.
                    let slot = 8 * (i32::from(n) - 5) + self.frame.to_stack_pointer();
                    self.frame.out.asm.mov(target, qword_ptr(rsp + slot))?;
                }
            },
            Inst::FloatArg(n) => {
                let registers = [xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7];
                let from = registers.get(usize::from(n)).ok_or_else(deep)?;
                self.frame.out.asm.movq(target, *from)?;
            }
            Inst::Began => {
                let slot = self.frame.pushed_at(Saved::Activation).ok_or_else(deep)?;
                let asm = &mut self.frame.out.asm;
                asm.mov(target, qword_ptr(rsp + slot))?;
                asm.mov(target, qword_ptr(target + abi::ACT_TIME))?;
            }
            Inst::Known(known) => {
                let result = self.known(known, depth)?;
                self.frame.out.asm.mov(target, result)?;
            }
            Inst::Local(local) => {
                let slot = self.local(local);
                self.frame.out.asm.mov(target, slot)?;
            }
            Inst::Scratch(at) => {
                let word = self.scratch(at);
                self.frame.out.asm.mov(target, word)?;
            }
            Inst::Binary(op, a, b) => self.binary(op, [a, b], depth, on_fault)?,
            Inst::Unary(op, a) => {
                let from = self.value(a, depth, on_fault)?;
                let asm = &mut self.frame.out.asm;
                if op == UnaryOp::Not {
                    asm.test(from, from)?;
                    asm.sete(al)?;
                    asm.movzx(low_half(target), al)?;
                    return Ok(target);
                }
                if from != target {
                    asm.mov(target, from)?;
                }
                match op {
                    UnaryOp::Negate => asm.neg(target)?,
                    UnaryOp::Invert | UnaryOp::Not => asm.not(target)?,
                }
            }
            Inst::Extend {
                value,
                width,
                signed,
            } => {
                let from = self.value(value, depth, on_fault)?;
                self.extend(target, from, width, signed)?;
            }
            Inst::Load {
                base,
                offset,
                width,
                signed,
            } => {
                if !self.environment.loads {
                    self.constant(target, 0)?;
                    return Ok(target);
                }
                let base = self.value(base, depth, on_fault)?;
                self.load(base, target, offset, (width, signed), on_fault)?;
            }
        }
        Ok(target)
    }

    pub(super) fn constant(
        &mut self,
        target: AsmRegister64,
        constant: u64,
    ) -> Result<(), Unsupported> {
        match u32::try_from(constant) {
            Ok(small) => self.frame.out.asm.mov(low_half(target), small)?,
            Err(_) => self.frame.out.asm.mov(target, constant)?,
        }
        Ok(())
    }

    fn extend(
        &mut self,
        target: AsmRegister64,
        from: AsmRegister64,
        width: Width,
        signed: bool,
    ) -> Result<(), Unsupported> {
        let asm = &mut self.frame.out.asm;
        match (width, signed) {
            (Width::W64, _) if from == target => {}
            (Width::W64, _) => asm.mov(target, from)?,
            (Width::W32, false) => asm.mov(low_half(target), low_half(from))?,
            (Width::W32, true) => asm.movsxd(target, low_half(from))?,
            (Width::W16, false) => asm.movzx(low_half(target), low_word(from))?,
            (Width::W16, true) => asm.movsx(target, low_word(from))?,
            (Width::W8, false) => asm.movzx(low_half(target), low_byte(from))?,
            (Width::W8, true) => asm.movsx(target, low_byte(from))?,
        }
        Ok(())
    }

    fn binary(
        &mut self,
        op: BinaryOp,
        [a, b]: [Value; 2],
        depth: usize,
        on_fault: OnFault,
    ) -> Result<(), Unsupported> {
        let target = TEMPORARIES[depth];
        if is_comparison(op) {
            self.compared(a, b, depth)?;
            let asm = &mut self.frame.out.asm;
            match op {
                BinaryOp::Equal => asm.sete(al)?,
                BinaryOp::NotEqual => asm.setne(al)?,
                BinaryOp::Less => asm.setb(al)?,
                BinaryOp::SignedLess => asm.setl(al)?,
                BinaryOp::LessEqual => asm.setbe(al)?,
                _ => asm.setle(al)?,
            }
            return Ok(asm.movzx(low_half(target), al)?);
        }
        let left = self.value(a, depth, on_fault)?;
        if left != target {
            self.frame.out.asm.mov(target, left)?;
        }
        if let Some(Inst::Const(constant)) = self.program.inst(b)
            && self.by_constant(op, target, constant)?
        {
            return Ok(());
        }
        let right = self.value(b, depth + 1, on_fault)?;
        let asm = &mut self.frame.out.asm;
        match op {
            BinaryOp::Add => asm.add(target, right)?,
            BinaryOp::Sub => asm.sub(target, right)?,
            BinaryOp::Mul => asm.imul_2(target, right)?,
            BinaryOp::And => asm.and(target, right)?,
            BinaryOp::Or => asm.or(target, right)?,
            BinaryOp::Xor => asm.xor(target, right)?,
            BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => {
                asm.mov(rcx, right)?;
                match op {
                    BinaryOp::Shl => asm.shl(target, cl)?,
                    BinaryOp::Shr => asm.shr(target, cl)?,
                    _ => asm.sar(target, cl)?,
                }
            }
            BinaryOp::Div | BinaryOp::Rem | BinaryOp::SignedDiv | BinaryOp::SignedRem => {
                self.divide(op, target, right)?;
            }
            _ => return Err(Unsupported("a comparison among sums".to_owned())),
        }
        Ok(())
    }

    /// The short forms; false when there is none.
    fn by_constant(
        &mut self,
        op: BinaryOp,
        target: AsmRegister64,
        constant: u64,
    ) -> Result<bool, Unsupported> {
        let asm = &mut self.frame.out.asm;
        let by = (constant & 63) as i32;
        match op {
            BinaryOp::Shl => asm.shl(target, by)?,
            BinaryOp::Shr => asm.shr(target, by)?,
            BinaryOp::Sar => asm.sar(target, by)?,
            _ => {}
        }
        if let BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar = op {
            return Ok(true);
        }
        let Ok(constant) = i32::try_from(constant.cast_signed()) else {
            return Ok(false);
        };
        match op {
            BinaryOp::Add => asm.add(target, constant)?,
            BinaryOp::Sub => asm.sub(target, constant)?,
            BinaryOp::Mul => asm.imul_3(target, target, constant)?,
            BinaryOp::And => asm.and(target, constant)?,
            BinaryOp::Or => asm.or(target, constant)?,
            BinaryOp::Xor => asm.xor(target, constant)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// By zero a quotient is 0 and a remainder the dividend. By -1 nothing is divided: the least
    /// number has no quotient, and the processor would say so.
    fn divide(
        &mut self,
        op: BinaryOp,
        target: AsmRegister64,
        by: AsmRegister64,
    ) -> Result<(), Unsupported> {
        let [zero, minus_one, after] = std::array::from_fn(|_| self.frame.out.mark());
        let signed = matches!(op, BinaryOp::SignedDiv | BinaryOp::SignedRem);
        let quotient = matches!(op, BinaryOp::Div | BinaryOp::SignedDiv);
        let (to_zero, to_minus) = (self.frame.out.to(zero), self.frame.out.to(minus_one));
        let asm = &mut self.frame.out.asm;
        asm.test(by, by)?;
        asm.je(to_zero)?;
        if signed {
            asm.cmp(by, -1)?;
            asm.je(to_minus)?;
        }
        asm.mov(rax, target)?;
        if signed {
            asm.cqo()?;
            asm.idiv(by)?;
        } else {
            asm.xor(edx, edx)?;
            asm.div(by)?;
        }
        asm.mov(target, if quotient { rax } else { rdx })?;
        self.frame.out.here(after)?;
        self.frame.later(move |frame| {
            let to_after = frame.out.to(after);
            frame.out.here(zero)?;
            if quotient {
                frame.out.asm.xor(low_half(target), low_half(target))?;
            }
            frame.out.asm.jmp(to_after)?;
            frame.out.here(minus_one)?;
            if !signed {
                return Ok(());
            }
            if quotient {
                frame.out.asm.neg(target)?;
            } else {
                frame.out.asm.xor(low_half(target), low_half(target))?;
            }
            Ok(frame.out.asm.jmp(to_after)?)
        });
        Ok(())
    }

    fn load(
        &mut self,
        base: AsmRegister64,
        target: AsmRegister64,
        offset: i32,
        (width, signed): (Width, bool),
        on_fault: OnFault,
    ) -> Result<(), Unsupported> {
        let stub = self.frame.out.mark();
        self.frame.out.next_may_fault(stub);
        let asm = &mut self.frame.out.asm;
        match (width, signed) {
            (Width::W8, false) => asm.movzx(target, byte_ptr(base + offset))?,
            (Width::W8, true) => asm.movsx(target, byte_ptr(base + offset))?,
            (Width::W16, false) => asm.movzx(target, word_ptr(base + offset))?,
            (Width::W16, true) => asm.movsx(target, word_ptr(base + offset))?,
            (Width::W32, false) => asm.mov(low_half(target), dword_ptr(base + offset))?,
            (Width::W32, true) => asm.movsxd(target, dword_ptr(base + offset))?,
            (Width::W64, _) => asm.mov(target, qword_ptr(base + offset))?,
        }
        match on_fault {
            OnFault::Field { .. } => self.frame.later(move |frame| {
                frame.out.here(stub)?;
                // The load has not written its target: the base still makes the address.
                frame.out.asm.lea(target, qword_ptr(base + offset))?;
                fault(frame, target, on_fault)
            }),
            OnFault::Zero => {
                let after = self.frame.out.mark();
                self.frame.out.here(after)?;
                self.count_fault(stub, after, Some(target));
            }
        }
        Ok(())
    }

    /// Out of line, at `stub`: counts a fault, and goes on at `after`, with 0 in a register.
    pub(super) fn count_fault(&mut self, stub: Mark, after: Mark, zero: Option<AsmRegister64>) {
        let (space, faults) = (self.space, self.word(abi::FAULTS));
        self.frame.later(move |frame| {
            frame.out.here(stub)?;
            space.changing(&mut frame.out).inc(faults)?;
            if let Some(register) = zero {
                frame.out.asm.xor(low_half(register), low_half(register))?;
            }
            let to_after = frame.out.to(after);
            Ok(frame.out.asm.jmp(to_after)?)
        });
    }
}

impl Frame {
    /// Distance from the stack pointer to where the target's was.
    pub(super) fn to_stack_pointer(&self) -> i32 {
        let words = self.pushed.len() + self.locals;
        RED_ZONE + 8 * i32::try_from(words).unwrap_or(0)
    }

    /// Where a register that was saved lies on the stack.
    fn saved(&self, register: AsmRegister64) -> Option<i32> {
        self.pushed_at(Saved::Register(register))
    }

    /// Where a word that was pushed lies.
    pub(super) fn pushed_at(&self, word: Saved) -> Option<i32> {
        let index = self.pushed.iter().position(|pushed| *pushed == word)?;
        let above = self.pushed.len() - 1 - index + self.locals;
        i32::try_from(8 * above).ok()
    }

    /// Brings a register as it was at the hit into `target`.
    pub(super) fn original(
        &mut self,
        number: u8,
        target: AsmRegister64,
    ) -> Result<(), Unsupported> {
        let wanted = whole(number)?;
        if wanted == rsp {
            let distance = self.to_stack_pointer();
            return Ok(self.out.asm.lea(target, qword_ptr(rsp + distance))?);
        }
        match self.saved(wanted) {
            Some(slot) => self.out.asm.mov(target, qword_ptr(rsp + slot))?,
            None => self.out.asm.mov(target, wanted)?,
        }
        Ok(())
    }
}

impl Body<'_> {
    /// The register that a value is still in.
    fn in_place(&self, inst: Inst) -> Result<Option<AsmRegister64>, Unsupported> {
        let number = match inst {
            Inst::Reg(reg) => reg.0,
            Inst::Arg(n) => match ARGUMENTS.get(usize::from(n)) {
                Some(&number) => number,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let register = whole(number)?;
        let lost = register == rsp || self.frame.saved(register).is_some();
        Ok((!lost).then_some(register))
    }
}

fn whole(number: u8) -> Result<AsmRegister64, Unsupported> {
    let none = || Unsupported(format!("register {number} cannot be read at a probe"));
    register(number).ok_or_else(none)
}

/// Leaves the address in the field, marks the field, goes on behind it.
fn fault(frame: &mut Frame, address: AsmRegister64, on_fault: OnFault) -> Result<(), Unsupported> {
    let OnFault::Field {
        field,
        faults,
        bit,
        after,
    } = on_fault
    else {
        return Err(Unsupported("a fault outside of a record".to_owned()));
    };
    frame.out.asm.mov(field, address)?;
    frame.out.asm.or(dword_ptr(faults), bit)?;
    let to_after = frame.out.to(after);
    Ok(frame.out.asm.jmp(to_after)?)
}
