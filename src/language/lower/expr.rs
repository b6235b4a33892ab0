//! Expressions. Words become values, computed where they are used; whatever must happen in order
//! (effects, reads of maps, what is short-circuited) becomes an effect and a variable.

use super::{Lowering, NAME_BITS, NAME_TESTS, Operand, Result, Storage, unsupported};
use crate::language::layout::{self, is_word, size};
use crate::language::typed::{Attach, Binary, Builtin, Expr, ExprKind, Step, Type, Unary};
use crate::program::{
    BinaryOp, Cell, Copy, Effect, Inst, Key, Known, Local, MapOp, RegId, UnaryOp, Value, Width,
};

/// `AF_INET6` (`<bits/socket.h>`).
const AF_INET6: u64 = 10;
/// "Return address column" in DWARF: where control is.
const INSTRUCTION_POINTER: RegId = RegId(16);
/// DWARF number of the stack pointer.
const STACK_POINTER: RegId = RegId(7);
/// Most frames of a stack: what `ustack` takes.
const MAX_FRAMES: u32 = 127;
/// Most bytes of one string in memory.
const MAX_STRING: u32 = 4096;

impl Lowering<'_> {
    /// An expression whose value is one word.
    pub(super) fn word(&mut self, e: &Expr, effects: &mut Vec<Effect>) -> Result<Value> {
        match self.expr(e, effects)? {
            Operand::Word(value) => Ok(value),
            Operand::Scratch(_) => unsupported(&e.span, "a number is needed here"),
        }
    }

    /// An expression whose value lies in scratch memory.
    pub(super) fn bytes(&mut self, e: &Expr, effects: &mut Vec<Effect>) -> Result<u32> {
        match self.expr(e, effects)? {
            Operand::Scratch(at) => Ok(at),
            Operand::Word(_) => unsupported(&e.span, "a string is needed here"),
        }
    }

    pub(super) fn expr(&mut self, e: &Expr, effects: &mut Vec<Effect>) -> Result<Operand> {
        let word = Operand::Word;
        Ok(match &e.kind {
            ExprKind::Int(n) => word(self.constant(n.cast_unsigned())),
            ExprKind::Str(text) => {
                let at = self.scratch(size(&e.ty));
                self.literal(at, text.as_bytes(), &e.ty, effects);
                Operand::Scratch(at)
            }
            ExprKind::Builtin(builtin) => return self.builtin(*builtin, e, effects),
            ExprKind::Arg(n) => word(self.push(Inst::Arg(*n))),
            ExprKind::FloatArg(n) => word(self.push(Inst::FloatArg(*n))),
            ExprKind::StackArg(n) => {
                let base = self.push(Inst::Reg(STACK_POINTER));
                word(self.load(base, 8 * (i64::from(*n) + 1), Width::W64, false))
            }
            ExprKind::Reg(name) => match (self.regs)(name) {
                Some(INSTRUCTION_POINTER) => word(self.known(Known::Site, effects)),
                Some(reg) => word(self.push(Inst::Reg(reg))),
                None => return unsupported(&e.span, format!("there is no register `{name}`")),
            },
            ExprKind::Usdt(note) => word(self.usdt(note, e, effects)?),
            ExprKind::Local(local) => match self.variables.get(local.0 as usize) {
                Some(Storage::Word(local)) => {
                    let local = *local;
                    word(self.push(Inst::Local(local)))
                }
                Some(Storage::Scratch(at)) => Operand::Scratch(*at),
                None => return unsupported(&e.span, "there is no such variable"),
            },
            ExprKind::Map(map, key) => {
                let table = &self.tables[map.0 as usize];
                let (table, wide) = (table.clone(), matches!(table.cell, Cell::Wide(_)));
                let key = self.key(*map, key, effects)?;
                if wide {
                    let at = self.scratch(size(&e.ty));
                    effects.push(Effect::Map(table, key, MapOp::GetScratch(at)));
                    Operand::Scratch(at)
                } else {
                    let local = self.local();
                    effects.push(Effect::Map(table, key, MapOp::Get(local)));
                    word(self.push(Inst::Local(local)))
                }
            }
            ExprKind::HasKey(map, key) => {
                let table = self.tables[map.0 as usize].clone();
                let key = self.key(*map, key, effects)?;
                let local = self.local();
                effects.push(Effect::Map(table, key, MapOp::Has(local)));
                word(self.push(Inst::Local(local)))
            }
            ExprKind::Len(map) => {
                let table = self.tables[map.0 as usize].clone();
                let local = self.local();
                effects.push(Effect::Map(table, Key::None, MapOp::Len(local)));
                word(self.push(Inst::Local(local)))
            }
            ExprKind::StepMap(map, key, step) => {
                let table = self.tables[map.0 as usize].clone();
                let key = self.key(*map, key, effects)?;
                let by = self.constant(i64::from(step.by).cast_unsigned());
                let old = self.local();
                effects.push(Effect::Map(table, key, MapOp::Add(by, Some(old))));
                let old = self.push(Inst::Local(old));
                word(if step.new {
                    self.push(Inst::Binary(BinaryOp::Add, old, by))
                } else {
                    old
                })
            }
            ExprKind::StepLocal(local, step) => match self.variables.get(local.0 as usize) {
                Some(Storage::Word(local)) => word(self.step(*local, *step, effects)),
                _ => return unsupported(&e.span, "only a number can be counted up"),
            },
            ExprKind::Unary(op, a) => {
                let a = self.word(a, effects)?;
                let op = match op {
                    Unary::Negate => UnaryOp::Negate,
                    Unary::Invert => UnaryOp::Invert,
                    Unary::Not => UnaryOp::Not,
                };
                word(self.push(Inst::Unary(op, a)))
            }
            ExprKind::Binary(op, a, b) => word(self.binary(*op, [a, b], effects)?),
            ExprKind::And(a, b) => word(self.shortcut([a, b], true, effects)?),
            ExprKind::Or(a, b) => word(self.shortcut([a, b], false, effects)?),
            ExprKind::Ternary(condition, a, b) => {
                return self.ternary(e, condition, [a, b], effects);
            }
            ExprKind::Cast(a) if matches!(a.ty, Type::Float | Type::Single) => {
                word(self.truncated(a, &e.ty, effects)?)
            }
            ExprKind::Cast(a) => {
                let inner = self.expr(a, effects)?;
                match (inner, &e.ty) {
                    (Operand::Word(value), Type::Int { width, signed })
                        if *width != Width::W64 && a.ty != e.ty =>
                    {
                        word(self.push(Inst::Extend {
                            value,
                            width: *width,
                            signed: *signed,
                        }))
                    }
                    (inner, _) => inner,
                }
            }
            ExprKind::Load {
                address,
                offset,
                bits,
            } => return self.memory(e, address, *offset, *bits, effects),
            ExprKind::Tuple(_) => {
                let at = self.scratch(size(&e.ty));
                self.put(e, at, &e.ty, effects)?;
                Operand::Scratch(at)
            }
            ExprKind::Part(tuple, index) => {
                let at = self.bytes(tuple, effects)?;
                let Type::Tuple(parts) = &tuple.ty else {
                    return unsupported(&e.span, "only a tuple has parts");
                };
                let at = at + layout::part(parts, *index as usize);
                if is_word(&e.ty) {
                    let value = self.push(Inst::Scratch(at));
                    word(self.fix(value, effects))
                } else {
                    Operand::Scratch(at)
                }
            }
            ExprKind::StrAt(pointer, limit) => {
                Operand::Scratch(self.copy(e, pointer, limit.as_deref(), true, effects)?)
            }
            ExprKind::BufAt(pointer, limit) => {
                Operand::Scratch(self.copy(e, pointer, limit.as_deref(), false, effects)?)
            }
            ExprKind::Ntop(family, address) => {
                let at = self.scratch(size(&e.ty));
                self.network(family.as_deref(), address, at, effects)?;
                Operand::Scratch(at)
            }
            ExprKind::Usym(a) | ExprKind::Strftime(a) => word(self.word(a, effects)?),
            ExprKind::Strncmp(a, b, most) => {
                let (a, b) = (self.bytes(a, effects)?, self.bytes(b, effects)?);
                let local = self.local();
                effects.push(Effect::Compare(local, a, b, *most));
                word(self.push(Inst::Local(local)))
            }
            ExprKind::Ustack => {
                let Type::Ustack { frames, .. } = e.ty else {
                    return unsupported(&e.span, "a stack is needed here");
                };
                if !self.block.attach.iter().all(Attach::is_in_target) {
                    return unsupported(&e.span, "there is no stack of the target here");
                }
                let frames = frames.min(MAX_FRAMES);
                let at = self.scratch(size(&e.ty));
                let entry = self.block.attach.iter().all(Attach::is_entry);
                effects.push(Effect::Walk(at, frames, entry));
                Operand::Scratch(at)
            }
            ExprKind::Strcontains(a, b) => {
                let (a, b) = (self.bytes(a, effects)?, self.bytes(b, effects)?);
                let local = self.local();
                effects.push(Effect::Find(local, a, b));
                word(self.push(Inst::Local(local)))
            }
            ExprKind::Called(test) => {
                let known = self.tests.iter().position(|other| other == test);
                let index = known.unwrap_or(self.tests.len());
                if index >= NAME_TESTS {
                    let most = format!("names are compared with more than {NAME_TESTS} texts");
                    return unsupported(&e.span, most);
                }
                if known.is_none() {
                    self.tests.push(test.clone());
                }
                let number = self.known(Known::Probe, effects);
                let bit = self.constant((NAME_BITS as usize + index) as u64);
                let one = self.constant(1);
                let bit = self.push(Inst::Binary(BinaryOp::Shr, number, bit));
                word(self.push(Inst::Binary(BinaryOp::And, bit, one)))
            }
        })
    }

    fn copy(
        &mut self,
        e: &Expr,
        pointer: &Expr,
        limit: Option<&Expr>,
        string: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<u32> {
        let pointer = self.word(pointer, effects)?;
        let limit = limit.map(|limit| self.word(limit, effects)).transpose()?;
        let at = self.scratch(size(&e.ty));
        self.copy_to(at, pointer, limit, &e.ty, string, effects);
        Ok(at)
    }

    pub(super) fn copy_to(
        &mut self,
        to: u32,
        pointer: Value,
        limit: Option<Value>,
        ty: &Type,
        string: bool,
        effects: &mut Vec<Effect>,
    ) {
        let max = match ty {
            Type::Str { max } | Type::Buf { max } => *max,
            Type::Whole(whole) => whole.size,
            _ => return,
        };
        let max = max.min(MAX_STRING);
        let limit = limit.or_else(|| {
            let exact = max.is_multiple_of(8) && max > 0;
            (!exact).then(|| self.constant(u64::from(max)))
        });
        // A limit that is computed may be beyond what the type has room for.
        let limit = match limit.map(|limit| (limit, self.program.inst(limit))) {
            Some((_, Some(Inst::Const(n)))) => Some(self.constant(n.min(u64::from(max)))),
            other => other.map(|(limit, _)| limit),
        };
        effects.push(Effect::Copy(Copy {
            to,
            pointer,
            max: u16::try_from(layout::capacity(max)).unwrap_or(!7),
            limit,
            string,
        }));
    }

    fn builtin(
        &mut self,
        builtin: Builtin,
        e: &Expr,
        effects: &mut Vec<Effect>,
    ) -> Result<Operand> {
        let known = match builtin {
            Builtin::Pid => Known::Pid,
            Builtin::Tid => Known::Tid,
            Builtin::Nsecs => Known::Nanos,
            Builtin::Elapsed => Known::Elapsed,
            Builtin::Func => Known::Func,
            Builtin::Probe => Known::Probe,
            Builtin::Cpid => Known::Child,
            Builtin::Uid | Builtin::Username => Known::Uid,
            Builtin::Gid => Known::Gid,
            Builtin::Cpu => Known::Cpu,
            Builtin::Rand => Known::Random,
            Builtin::Retval => {
                let Some(register) = (self.regs)("ax") else {
                    return unsupported(&e.span, "this machine has no register for it");
                };
                let value = self.push(Inst::Reg(register));
                return Ok(Operand::Word(self.fix(value, effects)));
            }
            Builtin::Comm => {
                let at = self.scratch(size(&e.ty).max(24));
                for (word, known) in [(0, 2), (8, 0), (16, 1)] {
                    let value = self.push(Inst::Known(Known::Comm(known)));
                    let value = self.fix(value, effects);
                    effects.push(Effect::Put(at + word, value));
                }
                return Ok(Operand::Scratch(at));
            }
        };
        Ok(Operand::Word(self.known(known, effects)))
    }

    fn step(&mut self, local: Local, step: Step, effects: &mut Vec<Effect>) -> Value {
        let now = self.push(Inst::Local(local));
        let old = if step.new {
            now
        } else {
            let old = self.local();
            effects.push(Effect::Set(old, now));
            self.push(Inst::Local(old))
        };
        let by = self.constant(i64::from(step.by).cast_unsigned());
        let new = self.push(Inst::Binary(BinaryOp::Add, now, by));
        effects.push(Effect::Set(local, new));
        old
    }

    fn binary(
        &mut self,
        op: Binary,
        [a, b]: [&Expr; 2],
        effects: &mut Vec<Effect>,
    ) -> Result<Value> {
        let op = match op {
            Binary::Add => BinaryOp::Add,
            Binary::Sub => BinaryOp::Sub,
            Binary::Mul => BinaryOp::Mul,
            Binary::Div { signed: false } => BinaryOp::Div,
            Binary::Div { signed: true } => BinaryOp::SignedDiv,
            Binary::Rem { signed: false } => BinaryOp::Rem,
            Binary::Rem { signed: true } => BinaryOp::SignedRem,
            Binary::And => BinaryOp::And,
            Binary::Or => BinaryOp::Or,
            Binary::Xor => BinaryOp::Xor,
            Binary::Shl => BinaryOp::Shl,
            Binary::Shr { signed: false } => BinaryOp::Shr,
            Binary::Shr { signed: true } => BinaryOp::Sar,
            Binary::Equal => BinaryOp::Equal,
            Binary::NotEqual => BinaryOp::NotEqual,
            Binary::Less { signed: false } => BinaryOp::Less,
            Binary::Less { signed: true } => BinaryOp::SignedLess,
            Binary::LessEqual { signed: false } => BinaryOp::LessEqual,
            Binary::LessEqual { signed: true } => BinaryOp::SignedLessEqual,
        };
        let mut left = self.word(a, effects)?;
        if b.kind.has_effects() {
            left = self.fix(left, effects);
        }
        let mut right = self.word(b, effects)?;
        // Expressions lean to the left: the right side takes one register.
        if let Some(Inst::Binary(..) | Inst::Unary(..) | Inst::Extend { .. } | Inst::Load { .. }) =
            self.program.inst(right)
        {
            left = self.fix(left, effects);
            right = self.fix(right, effects);
        }
        let value = self.push(Inst::Binary(op, left, right));
        Ok(self.folded(value, op, left, right))
    }

    /// The constant that an operation on constants is.
    fn folded(&mut self, value: Value, op: BinaryOp, left: Value, right: Value) -> Value {
        let (Some(Inst::Const(a)), Some(Inst::Const(b))) =
            (self.program.inst(left), self.program.inst(right))
        else {
            return value;
        };
        let result = match op {
            BinaryOp::Add => a.wrapping_add(b),
            BinaryOp::Sub => a.wrapping_sub(b),
            BinaryOp::Mul => a.wrapping_mul(b),
            BinaryOp::And => a & b,
            BinaryOp::Or => a | b,
            BinaryOp::Xor => a ^ b,
            BinaryOp::Shl => a << (b & 63),
            BinaryOp::Shr => a >> (b & 63),
            _ => return value,
        };
        self.constant(result)
    }

    /// `a && b`, `a || b`: 1 or 0.
    fn shortcut(
        &mut self,
        [a, b]: [&Expr; 2],
        and: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<Value> {
        let result = self.local();
        let (zero, one) = (self.constant(0), self.constant(1));
        effects.push(Effect::Set(result, if and { zero } else { one }));
        let first = self.word(a, effects)?;
        let mut inner = Vec::new();
        let second = self.word(b, &mut inner)?;
        let (then, otherwise) = if and { (one, None) } else { (zero, Some(())) };
        let set = vec![Effect::Set(result, then)];
        inner.push(match otherwise {
            None => Effect::If(second, set, Vec::new()),
            Some(()) => Effect::If(second, Vec::new(), set),
        });
        effects.push(match otherwise {
            None => Effect::If(first, inner, Vec::new()),
            Some(()) => Effect::If(first, Vec::new(), inner),
        });
        Ok(self.push(Inst::Local(result)))
    }

    fn ternary(
        &mut self,
        e: &Expr,
        condition: &Expr,
        [a, b]: [&Expr; 2],
        effects: &mut Vec<Effect>,
    ) -> Result<Operand> {
        let condition = self.word(condition, effects)?;
        let (mut then, mut otherwise) = (Vec::new(), Vec::new());
        if is_word(&e.ty) || e.ty == Type::Void {
            let result = self.local();
            for (side, into) in [(a, &mut then), (b, &mut otherwise)] {
                let value = self.word(side, into)?;
                into.push(Effect::Set(result, value));
            }
            effects.push(Effect::If(condition, then, otherwise));
            return Ok(Operand::Word(self.push(Inst::Local(result))));
        }
        // Both sides may have less room than the result.
        let at = self.scratch(size(&e.ty));
        self.put(a, at, &e.ty, &mut then)?;
        self.put(b, at, &e.ty, &mut otherwise)?;
        effects.push(Effect::If(condition, then, otherwise));
        Ok(Operand::Scratch(at))
    }

    pub(super) fn load(&mut self, base: Value, offset: i64, width: Width, signed: bool) -> Value {
        let (base, offset) = match i32::try_from(offset) {
            Ok(offset) => (base, offset),
            Err(_) => (self.plus(base, offset), 0),
        };
        self.push(Inst::Load {
            base,
            offset,
            width,
            signed,
        })
    }

    fn plus(&mut self, base: Value, offset: i64) -> Value {
        if offset == 0 {
            return base;
        }
        let offset = self.constant(offset.cast_unsigned());
        self.push(Inst::Binary(BinaryOp::Add, base, offset))
    }

    fn memory(
        &mut self,
        e: &Expr,
        address: &Expr,
        offset: i64,
        bits: Option<(u8, u8)>,
        effects: &mut Vec<Effect>,
    ) -> Result<Operand> {
        let base = self.word(address, effects)?;
        let (width, signed) = match &e.ty {
            Type::Struct(_) | Type::Array { .. } => {
                return Ok(Operand::Word(self.plus(base, offset)));
            }
            Type::Int { width, signed } => (*width, *signed),
            Type::Str { .. } | Type::Buf { .. } => {
                let pointer = self.plus(base, offset);
                let at = self.scratch(size(&e.ty));
                let string = matches!(e.ty, Type::Str { .. });
                self.copy_to(at, pointer, None, &e.ty, string, effects);
                return Ok(Operand::Scratch(at));
            }
            Type::Single => (Width::W32, false),
            ty if is_word(ty) => (Width::W64, false),
            _ => return unsupported(&e.span, "this is not read from memory"),
        };
        let Some((first, count)) = bits else {
            return Ok(Operand::Word(self.load(base, offset, width, signed)));
        };
        let mut value = self.load(base, offset, width, false);
        // Up to the top, then down again with or without the sign.
        let (first, count) = (u64::from(first), u64::from(count).clamp(1, 64));
        let up = self.constant(64_u64.saturating_sub(first + count));
        let down = self.constant(64 - count);
        value = self.push(Inst::Binary(BinaryOp::Shl, value, up));
        let shift = if signed { BinaryOp::Sar } else { BinaryOp::Shr };
        value = self.push(Inst::Binary(shift, value, down));
        Ok(Operand::Word(value))
    }

    /// A network address: length, then its bytes as they are sent.
    fn network(
        &mut self,
        family: Option<&Expr>,
        address: &Expr,
        at: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let by_value = matches!(address.ty, Type::Int { .. });
        let from = self.word(address, effects)?;
        if by_value {
            let four = self.constant(4);
            effects.push(Effect::Put(at, four));
            let value = self.push(Inst::Extend {
                value: from,
                width: Width::W32,
                signed: false,
            });
            effects.push(Effect::Put(at + 8, value));
            let zero = self.constant(0);
            effects.push(Effect::Put(at + 16, zero));
            return Ok(());
        }
        let (four, sixteen) = (self.constant(4), self.constant(16));
        let length = match (family, &address.ty) {
            (Some(family), _) => {
                let family = self.word(family, effects)?;
                let six = self.constant(AF_INET6);
                let is_six = self.push(Inst::Binary(BinaryOp::Equal, family, six));
                let length = self.local();
                effects.push(Effect::If(
                    is_six,
                    vec![Effect::Set(length, sixteen)],
                    vec![Effect::Set(length, four)],
                ));
                self.push(Inst::Local(length))
            }
            (None, Type::Array { len: 16, .. }) => sixteen,
            (None, _) => four,
        };
        effects.push(Effect::Copy(Copy {
            to: at,
            pointer: from,
            max: 16,
            limit: Some(length),
            string: false,
        }));
        Ok(())
    }
}
