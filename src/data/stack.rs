//! Stacks as records hold them, and those who know what is on them. Knows no file and no unwind table.

use std::sync::Arc;

use super::record;
use crate::abi;
use crate::base::Pid;
use crate::language::layout;
use crate::language::typed::Type;

/// Registers and stack at a hit. All of it is untrusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Stack pointer: where `stack` begins.
    pub stack_pointer: u64,
    /// Frame pointer.
    pub frame_pointer: u64,
    /// Whether the caller's address is on top.
    pub entry: bool,
    /// The stack from there on.
    pub stack: &'a [u8],
}

/// What a record holds of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackRecord<'a> {
    /// Addresses: the probe's, then return addresses.
    Walked(Vec<u64>),
    /// What they are found by.
    Copied(Sample<'a>),
}

/// A frame, or what is inlined in one. All text comes from untrusted files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Where control is, or comes back to.
    pub address: u64,
    /// The function, demangled.
    pub function: Option<String>,
    /// How far behind its start, where that is known.
    pub offset: Option<u64>,
    /// File name of the module.
    pub module: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// Whether the function's code is part of that of the next frame's.
    pub inlined: bool,
}

/// Who knows the code of processes.
pub trait Stacks: Send {
    /// The addresses on a stack, at most so many: `address`, where the probe is, then return addresses.
    fn unwind(&mut self, pid: Pid, address: u64, sample: &Sample<'_>, most: usize) -> Vec<u64>;
    /// What an address of a stack stands for: functions that are inlined there, the innermost first, then
    /// the one that holds it. `below` is the address before it: a call there comes back to this one.
    fn frames(&mut self, pid: Pid, address: u64, below: Option<u64>) -> Arc<[Frame]>;
}

/// Most frames of a stack in a value.
pub(super) const MOST_FRAMES: usize = 127;

/// Puts a stack's frames where values of these types, one behind the other, have the mark of one.
pub(super) fn put(types: &[Type], bytes: &mut [u8], frames: &[u64]) {
    let mut at = 0;
    for ty in types {
        let size = layout::size(ty) as usize;
        let Some(bytes) = bytes.get_mut(at..) else {
            return;
        };
        match ty {
            Type::Tuple(parts) => put(parts, bytes, frames),
            Type::Ustack { frames: most, .. }
                if record::word(bytes, 0) == Some(abi::STACK_MARK) =>
            {
                let count = frames.len().min(*most as usize);
                let words = std::iter::once(count as u64);
                let words = words.chain(frames.iter().take(count).copied());
                let words = words.chain(std::iter::repeat(0));
                let room = bytes.get_mut(..size).unwrap_or_default();
                for (to, word) in room.chunks_exact_mut(8).zip(words) {
                    to.copy_from_slice(&word.to_le_bytes());
                }
            }
            _ => {}
        }
        at += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::typed::StackMode;

    #[test]
    fn frames_take_the_place_of_the_mark_and_zeros_the_rest() {
        let stack = Type::Ustack {
            frames: 3,
            mode: StackMode::Raw,
        };
        let types = [Type::Usym, Type::Tuple(vec![stack.clone(), stack])];
        let mut words = [5, abi::STACK_MARK, 9, 9, 9, 1, 9, 9, 9];
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        put(&types, &mut bytes, &[7, 8]);
        words[1..5].copy_from_slice(&[2, 7, 8, 0]);
        let wanted: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(bytes, wanted);
        put(&types, &mut bytes[..12], &[7, 8]);
    }
}
