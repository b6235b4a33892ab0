//! Keys of maps: a word, or parts one behind the other in scratch memory. Invariant: what is equal to
//! the program has equal bytes, whoever wrote a string.

use super::{Lowering, Result};
use crate::abi;
use crate::language::layout::{is_word, size};
use crate::language::typed::{Expr, ExprKind, Type};
use crate::program::{BinaryOp, Effect, Inst, Key};

impl Lowering<'_> {
    /// The key of a map.
    pub(super) fn key(&mut self, key: &[Expr], effects: &mut Vec<Effect>) -> Result<Key> {
        match key {
            [] => Ok(Key::None),
            [one] if is_word(&one.ty) => Ok(Key::Word(self.word(one, effects)?)),
            [one] if !matches!(one.ty, Type::Tuple(_)) => {
                // Composed anew all the same where it is a variable: it may be longer than the key.
                let at = self.scratch(size(&one.ty).next_multiple_of(16));
                self.put(one, at, effects)?;
                self.disown(one, &one.ty, at, effects);
                Ok(Key::Scratch(at))
            }
            parts => {
                let all = parts.iter().map(|part| size(&part.ty)).sum::<u32>();
                let at = self.scratch(all.next_multiple_of(16));
                let mut offset = at;
                for part in parts {
                    self.put(part, offset, effects)?;
                    self.disown(part, &part.ty, offset, effects);
                    offset += size(&part.ty);
                }
                if all % 16 != 0 {
                    // What fills the key up is copied with it.
                    let zero = self.constant(0);
                    effects.push(Effect::Put(at + all, zero));
                }
                // A tuple of one word is a word.
                match parts {
                    [one] if all == 8 && matches!(one.ty, Type::Tuple(_)) => {
                        let value = self.push(Inst::Scratch(at));
                        Ok(Key::Word(self.fix(value, effects)))
                    }
                    _ => Ok(Key::Scratch(at)),
                }
            }
        }
    }

    /// Strings are equal as keys whoever wrote them: takes the mark off those of the program's text.
    fn disown(&mut self, e: &Expr, ty: &Type, at: u32, effects: &mut Vec<Effect>) {
        match ty {
            Type::Str { .. } => {
                let unmarked = matches!(e.kind, ExprKind::StrAt(..) | ExprKind::Builtin(_));
                if !unmarked {
                    let head = self.push(Inst::Scratch(at));
                    let mask = self.constant(!(u64::from(abi::STR_OWN) << 32));
                    let head = self.push(Inst::Binary(BinaryOp::And, head, mask));
                    effects.push(Effect::Put(at, head));
                }
            }
            Type::Tuple(parts) => {
                let mut at = at;
                for part in parts {
                    self.disown(e, part, at, effects);
                    at += size(part);
                }
            }
            _ => {}
        }
    }
}
