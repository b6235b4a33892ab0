//! Keys of maps: a word, or parts one behind the other in scratch memory. Invariant: what is equal to
//! the program has equal bytes, whoever wrote a string.

use super::{Lowering, Result};
use crate::abi;
use crate::language::layout::{is_word, part, size};
use crate::language::typed::{Expr, ExprKind, MapId, Type};
use crate::program::{BinaryOp, Effect, Inst, Key};

impl Lowering<'_> {
    /// The key of a map.
    pub(super) fn key(
        &mut self,
        map: MapId,
        key: &[Expr],
        effects: &mut Vec<Effect>,
    ) -> Result<Key> {
        let types = self
            .maps
            .get(map.0 as usize)
            .map_or(&[][..], |map| &map.key);
        match (key, types) {
            ([], _) => Ok(Key::None),
            ([one], _) if is_word(&one.ty) => Ok(Key::Word(self.word(one, effects)?)),
            ([one], [ty]) if !matches!(one.ty, Type::Tuple(_)) => {
                // Composed anew all the same where it is a variable: it may be longer than the key.
                let at = self.scratch(size(ty).next_multiple_of(16));
                self.put(one, at, ty, effects)?;
                self.disown(one, ty, at, effects);
                Ok(Key::Scratch(at))
            }
            (parts, types) => {
                let all = types.iter().map(size).fold(0, u32::saturating_add);
                let at = self.scratch(all.next_multiple_of(16));
                for (index, (one, ty)) in parts.iter().zip(types).enumerate() {
                    let place = at + part(types, index);
                    self.put(one, place, ty, effects)?;
                    self.disown(one, ty, place, effects);
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
