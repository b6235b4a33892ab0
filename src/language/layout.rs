//! How values lie in memory: in scratch memory, keys, map cells and records alike. What lowering
//! writes by this, the tracer reads by this.

use super::typed::Type;
use crate::abi::STR_BYTES;

/// Bytes of a network address with its head.
const INET: u32 = STR_BYTES + 16;

/// Whether a value is one word; others lie in scratch memory.
pub fn is_word(ty: &Type) -> bool {
    !matches!(
        ty,
        Type::Str { .. }
            | Type::Buf { .. }
            | Type::Tuple(_)
            | Type::Whole(_)
            | Type::Inet
            | Type::Ustack { .. }
            | Type::Void
    )
}

/// Bytes that a value takes, a multiple of 8. Strings, bytes and network addresses begin with their
/// length (`u32`) and flags (`u32`), stacks with their number of frames (`u64`).
pub fn size(ty: &Type) -> u32 {
    match ty {
        Type::Void => 0,
        Type::Str { max } | Type::Buf { max } => STR_BYTES + capacity(*max),
        Type::Tuple(parts) => parts.iter().map(size).fold(0, u32::saturating_add),
        Type::Whole(whole) => STR_BYTES + capacity(whole.size),
        Type::Inet => INET,
        Type::Ustack { frames, .. } => 8 + frames.saturating_mul(8),
        _ => 8,
    }
}

/// Room for so many bytes: whole words, at least one.
pub fn capacity(max: u32) -> u32 {
    max.max(1)
        .checked_next_multiple_of(8)
        .unwrap_or(u32::MAX - 7)
}

/// Offset of a part of a tuple.
pub fn part(parts: &[Type], index: usize) -> u32 {
    let before = parts.get(..index).unwrap_or(parts);
    before.iter().map(size).fold(0, u32::saturating_add)
}
