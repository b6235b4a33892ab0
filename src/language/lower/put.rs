//! Values in scratch memory, as what they are put into lays them out: a variable, a map and its key have
//! the widest of all types they are given, so that the parts of a narrower tuple lie elsewhere in it.

use super::{Lowering, Operand, Result};
use crate::language::layout::{is_word, part, size};
use crate::language::typed::{Expr, ExprKind, MapId, MapValue, Type};
use crate::program::{Effect, Inst, Key};

/// Most bytes of one string in memory.
const MAX_STRING: u32 = 4096;

impl<'a> Lowering<'a> {
    /// What a map of plain values holds.
    pub(super) fn held(&self, map: MapId) -> Option<&'a Type> {
        match &self.maps.get(map.0 as usize)?.value {
            MapValue::Plain(ty) => Some(ty),
            _ => None,
        }
    }

    /// Puts an expression's value into scratch memory, as a value of this type lies there.
    pub(super) fn put(
        &mut self,
        e: &Expr,
        at: u32,
        ty: &Type,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        match (&e.kind, self.limit_free(e)) {
            // In place.
            (ExprKind::StrAt(pointer, None), true) => {
                let pointer = self.word(pointer, effects)?;
                self.copy_to(at, pointer, None, &e.ty, true, effects);
            }
            (ExprKind::Str(text), _) => self.literal(at, text.as_bytes(), &e.ty, effects),
            (ExprKind::Tuple(parts), _) => {
                for (index, one) in parts.iter().enumerate() {
                    let (offset, ty) = match ty {
                        Type::Tuple(types) => (part(types, index), types.get(index)),
                        _ => (0, None),
                    };
                    self.put(one, at + offset, ty.unwrap_or(&one.ty), effects)?;
                }
            }
            _ => match self.expr(e, effects)? {
                Operand::Word(value) => effects.push(Effect::Put(at, value)),
                Operand::Scratch(from) => shift(&e.ty, from, ty, at, effects),
            },
        }
        Ok(())
    }

    /// Whether a string's room ends at whole words, so that nothing cuts it but its size.
    pub(super) fn limit_free(&self, e: &Expr) -> bool {
        matches!(e.ty, Type::Str { max } if max.is_multiple_of(8) && max > 0 && max <= MAX_STRING)
    }

    pub(super) fn literal(&mut self, at: u32, text: &[u8], ty: &Type, effects: &mut Vec<Effect>) {
        let most = size(ty).saturating_sub(8) as usize;
        let text = text.get(..most).unwrap_or(text);
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let mut bytes = u64::from(length).to_le_bytes().to_vec();
        bytes.extend_from_slice(text);
        effects.push(Effect::Literal(at, bytes));
    }

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
                Ok(Key::Scratch(at))
            }
            (parts, types) => {
                let all = types.iter().map(size).fold(0, u32::saturating_add);
                let at = self.scratch(all.next_multiple_of(16));
                for (index, (one, ty)) in parts.iter().zip(types).enumerate() {
                    self.put(one, at + part(types, index), ty, effects)?;
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
}

/// Moves a value in scratch memory to where one of a type as wide, or wider, lies.
fn shift(narrow: &Type, from: u32, wide: &Type, to: u32, effects: &mut Vec<Effect>) {
    if let (Type::Tuple(mine), Type::Tuple(its)) = (narrow, wide)
        && size(narrow) != size(wide)
    {
        for (index, (narrow, wide)) in mine.iter().zip(its).enumerate() {
            let from = from.saturating_add(part(mine, index));
            let to = to.saturating_add(part(its, index));
            shift(narrow, from, wide, to, effects);
        }
        return;
    }
    let (less, all) = (size(narrow).min(size(wide)), size(wide));
    if from != to && less > 0 {
        effects.push(Effect::Move(to, from, less));
    }
    if let Type::Ustack { .. } = wide
        && all > less
    {
        // Keys that are stacks are compared to their end.
        let rest = vec![0; (all - less) as usize];
        effects.push(Effect::Literal(to.saturating_add(less), rest));
    }
}
