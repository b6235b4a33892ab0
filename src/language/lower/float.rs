//! Floating-point numbers as integers, without the processor's own conversion: that would leave marks in
//! the target's floating-point state.

use super::{Lowering, Result};
use crate::language::typed::{Expr, Type};
use crate::program::{BinaryOp, Effect, Inst, UnaryOp, Value, Width};

impl Lowering<'_> {
    /// Towards zero; what no 64 bits hold is the least number, as the processor has it.
    pub(super) fn truncated(
        &mut self,
        e: &Expr,
        to: &Type,
        effects: &mut Vec<Effect>,
    ) -> Result<Value> {
        let bits = self.word(e, effects)?;
        let mut bits = self.fix(bits, effects);
        // Bits of the fraction, largest exponent, its bias.
        let (fraction, most, bias) = match e.ty {
            Type::Single => (23_u64, 0xff_u64, 127_u64),
            _ => (52, 0x7ff, 1023),
        };
        let mut op = |lowering: &mut Self, op, a, b| {
            let b = lowering.constant(b);
            let value = lowering.push(Inst::Binary(op, a, b));
            lowering.fix(value, effects)
        };
        if e.ty == Type::Single {
            bits = op(self, BinaryOp::And, bits, 0xffff_ffff);
        }
        let exponent = op(self, BinaryOp::Shr, bits, fraction);
        let exponent = op(self, BinaryOp::And, exponent, most);
        let digits = op(self, BinaryOp::And, bits, (1 << fraction) - 1);
        let digits = op(self, BinaryOp::Or, digits, 1 << fraction);
        let sign = op(
            self,
            BinaryOp::Shr,
            bits,
            if e.ty == Type::Single { 31 } else { 63 },
        );
        let right = op(self, BinaryOp::Sub, exponent, bias + fraction);
        let result = self.local();
        let less = |lowering: &mut Self, bound: u64| {
            let bound = lowering.constant(bound);
            lowering.push(Inst::Binary(BinaryOp::Less, exponent, bound))
        };
        let (none, down, held) = (
            less(self, bias),
            less(self, bias + fraction),
            less(self, bias + 63),
        );
        let (zero, least) = (self.constant(0), self.constant(1 << 63));
        let left = self.push(Inst::Unary(UnaryOp::Negate, right));
        let fewer = self.push(Inst::Binary(BinaryOp::Shr, digits, left));
        let more = self.push(Inst::Binary(BinaryOp::Shl, digits, right));
        let now = self.push(Inst::Local(result));
        let negative = self.push(Inst::Unary(UnaryOp::Negate, now));
        let set = |value| vec![Effect::Set(result, value)];
        let choose = |value, then, otherwise| vec![Effect::If(value, then, otherwise)];
        let shifted = choose(down, set(fewer), set(more));
        let held = choose(held, shifted, set(least));
        effects.extend(choose(none, set(zero), held));
        effects.push(Effect::If(sign, set(negative), Vec::new()));
        let value = self.push(Inst::Local(result));
        Ok(match *to {
            Type::Int { width, signed } if width != Width::W64 => self.push(Inst::Extend {
                value,
                width,
                signed,
            }),
            _ => value,
        })
    }
}
