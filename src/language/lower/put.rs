//! Values in scratch memory, as what they are put into lays them out: a variable, a map and its key have
//! the widest of all types they are given, so that the parts of a narrower tuple lie elsewhere in it.

use super::{Lowering, Operand, Result};
use crate::abi;
use crate::language::layout::{part, size};
use crate::language::typed::{Expr, ExprKind, MapId, MapValue, Type};
use crate::program::Effect;

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
        match &e.kind {
            // In place.
            ExprKind::StrAt(pointer, limit) if self.limit_free(e, limit.as_deref()) => {
                let pointer = self.word(pointer, effects)?;
                self.copy_to(at, pointer, None, &e.ty, true, effects);
            }
            ExprKind::Str(text) => self.literal(at, text.as_bytes(), &e.ty, effects),
            ExprKind::Tuple(parts) => {
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
    pub(super) fn limit_free(&self, e: &Expr, limit: Option<&Expr>) -> bool {
        let Type::Str { max } = e.ty else {
            return false;
        };
        let cut = match limit.map(|limit| &limit.kind) {
            None => false,
            Some(ExprKind::Int(n)) => *n < i64::from(max),
            Some(_) => true,
        };
        !cut && max.is_multiple_of(8) && max > 0 && max <= MAX_STRING
    }

    pub(super) fn literal(&mut self, at: u32, text: &[u8], ty: &Type, effects: &mut Vec<Effect>) {
        let most = size(ty).saturating_sub(8) as usize;
        let text = text.get(..most).unwrap_or(text);
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let head = u64::from(length) | u64::from(abi::STR_OWN) << 32;
        let mut bytes = head.to_le_bytes().to_vec();
        bytes.extend_from_slice(text);
        effects.push(Effect::Literal(at, bytes));
        self.literals.insert(text.to_vec());
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
