//! Arguments of USDT probes, as their notes write them (`<sys/sdt.h>`): `-4@%edi` is a signed value of
//! four bytes in a register, `8@-16(%rbp)` memory, `8@(%rax,%rbx,8)` memory by an index, `4@$5` a
//! constant. A size of 8 bytes is meant where none is written.

use super::{Lowering, Result, unsupported};
use crate::language::typed::Expr;
use crate::program::{BinaryOp, Inst, RegId, Value, Width};

impl Lowering<'_> {
    pub(super) fn usdt(&mut self, note: &str, e: &Expr) -> Result<Value> {
        let unknown = || unsupported(&e.span, format!("`{note}` is no argument that can be read"));
        let (size, place) = note.split_once('@').unwrap_or(("8", note));
        let signed = size.starts_with('-');
        let width = match size.trim_start_matches('-') {
            "1" => Width::W8,
            "2" => Width::W16,
            "4" => Width::W32,
            "8" => Width::W64,
            _ => return unknown(),
        };
        let value = if let Some(constant) = place.strip_prefix('$') {
            match constant.parse::<i64>() {
                Ok(constant) => self.constant(constant.cast_unsigned()),
                Err(_) => return unknown(),
            }
        } else if let Some(register) = place.strip_prefix('%') {
            match self.register(register) {
                Some((register, shift)) => {
                    let mut value = self.push(Inst::Reg(register));
                    if shift > 0 {
                        let by = self.constant(shift);
                        value = self.push(Inst::Binary(BinaryOp::Shr, value, by));
                    }
                    value
                }
                None => return unknown(),
            }
        } else {
            let Some((base, offset)) = self.address(place) else {
                return unknown();
            };
            return Ok(self.load(base, offset, width, signed));
        };
        Ok(match width {
            Width::W64 => value,
            _ => self.push(Inst::Extend {
                value,
                width,
                signed,
            }),
        })
    }

    /// `-16(%rbp)`, `(%rax,%rbx,8)`, `8(%rsp,%rcx)`.
    fn address(&mut self, place: &str) -> Option<(Value, i64)> {
        let (offset, inner) = place.strip_suffix(')')?.split_once('(')?;
        let offset = if offset.is_empty() {
            0
        } else {
            offset.parse().ok()?
        };
        let mut parts = inner.split(',').map(str::trim);
        let register = |text: &str| text.strip_prefix('%').map(str::to_owned);
        let base = register(parts.next()?)?;
        let (base, _) = self.register(&base)?;
        let mut value = self.push(Inst::Reg(base));
        if let Some(index) = parts.next() {
            let (index, _) = self.register(&register(index)?)?;
            let mut index = self.push(Inst::Reg(index));
            let scale: u64 = parts.next().map_or(Ok(1), str::parse).ok()?;
            if scale != 1 {
                let by = self.constant(u64::from(scale.trailing_zeros()));
                index = self.push(Inst::Binary(BinaryOp::Shl, index, by));
            }
            value = self.push(Inst::Binary(BinaryOp::Add, value, index));
        }
        Some((value, offset))
    }

    /// A register by any of its names, and how far up in it the value stands (`ah`: 8).
    fn register(&self, name: &str) -> Option<(RegId, u64)> {
        if let [letter @ ('a' | 'b' | 'c' | 'd'), 'h'] = name.chars().collect::<Vec<_>>()[..] {
            return Some(((self.regs)(&format!("{letter}x"))?, 8));
        }
        (self.regs)(name).map(|register| (register, 0))
    }
}
