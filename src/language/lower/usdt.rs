//! Arguments of USDT probes, as their notes write them (`<sys/sdt.h>`): `-4@%edi` is a signed value of
//! four bytes in a register, `8@-16(%rbp)` memory, `8@(%rax,%rbx,8)` memory by an index, `4@$5` a
//! constant. A size of 8 bytes is meant where none is written. `%site` is the place of the probe: what
//! lies at a symbol lies at a distance from it.

use super::{Lowering, Result, unsupported};
use crate::language::typed::Expr;
use crate::program::{BinaryOp, Effect, Inst, Known, RegId, Value, Width};

/// What stands for the probe's own address.
const SITE: &str = "site";

impl Lowering<'_> {
    pub(super) fn usdt(
        &mut self,
        note: &str,
        e: &Expr,
        effects: &mut Vec<Effect>,
    ) -> Result<Value> {
        let unknown = |why: String| {
            unsupported(
                &e.span,
                format!("the argument `{note}` cannot be read: {why}"),
            )
        };
        let (size, place) = note.split_once('@').unwrap_or(("8", note));
        let signed = size.starts_with('-');
        let width = match size.trim_start_matches('-') {
            "1" => Width::W8,
            "2" => Width::W16,
            "4" => Width::W32,
            "8" => Width::W64,
            size if size.ends_with('f') => return unknown("it is a floating-point number".into()),
            size => return unknown(format!("there are no integers of size `{size}`")),
        };
        let value = if let Some(constant) = place.strip_prefix('$') {
            let number = constant.parse::<i64>();
            let number = number.or_else(|error| {
                let unsigned = constant.parse::<u64>();
                unsigned.map(u64::cast_signed).map_err(|_| error)
            });
            match (number, self.address(constant, effects)) {
                (Ok(number), _) => self.constant(number.cast_unsigned()),
                (Err(_), Ok((base, offset))) => {
                    let offset = self.constant(offset.cast_unsigned());
                    self.push(Inst::Binary(BinaryOp::Add, base, offset))
                }
                (Err(_), Err(why)) => return unknown(why),
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
                None => return unknown(no_register(register)),
            }
        } else {
            return match self.address(place, effects) {
                Ok((base, offset)) => Ok(self.load(base, offset, width, signed)),
                Err(why) => unknown(why),
            };
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

    /// `-16(%rbp)`, `(%rax,%rbx,8)`, `8(%rsp,%rcx)`, `4(,%rcx,4)`.
    fn address(
        &mut self,
        place: &str,
        effects: &mut Vec<Effect>,
    ) -> std::result::Result<(Value, i64), String> {
        let inner = place
            .strip_suffix(')')
            .and_then(|place| place.split_once('('));
        let Some((offset, inner)) = inner else {
            return Err(match place.parse::<i64>() {
                Ok(_) => "it lies at a fixed address".to_owned(),
                Err(_) => format!("`{place}` is no place that is known"),
            });
        };
        let offset = match offset {
            "" => 0,
            number => match number.parse() {
                Ok(number) => number,
                Err(_) => return Err(format!("`{number}` has no symbol in its file")),
            },
        };
        let mut parts = inner.split(',').map(str::trim);
        let mut value = match parts.next().unwrap_or_default() {
            "" => self.constant(0),
            base => self.part(base, effects)?,
        };
        if let Some(index) = parts.next() {
            let mut index = self.part(index, effects)?;
            let scale = match parts.next().unwrap_or("1") {
                "1" => 0,
                "2" => 1,
                "4" => 2,
                "8" => 3,
                other => return Err(format!("`{other}` is no scale")),
            };
            if scale != 0 {
                let by = self.constant(scale);
                index = self.push(Inst::Binary(BinaryOp::Shl, index, by));
            }
            value = self.push(Inst::Binary(BinaryOp::Add, value, index));
        }
        Ok((value, offset))
    }

    /// `%rax` as a part of an address.
    fn part(
        &mut self,
        text: &str,
        effects: &mut Vec<Effect>,
    ) -> std::result::Result<Value, String> {
        let name = text.strip_prefix('%').ok_or_else(|| no_register(text))?;
        if name == SITE {
            return Ok(self.known(Known::Site, effects));
        }
        match self.register(name) {
            Some((register, 0)) => Ok(self.push(Inst::Reg(register))),
            _ => Err(no_register(name)),
        }
    }

    /// A register by any of its names, and how far up in it the value stands (`ah`: 8).
    fn register(&self, name: &str) -> Option<(RegId, u64)> {
        if let [letter @ ('a' | 'b' | 'c' | 'd'), 'h'] = name.chars().collect::<Vec<_>>()[..] {
            return Some(((self.regs)(&format!("{letter}x"))?, 8));
        }
        (self.regs)(name).map(|register| (register, 0))
    }
}

fn no_register(name: &str) -> String {
    format!("`{name}` is no integer register")
}
