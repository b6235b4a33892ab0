//! Stacks as records hold them, and those who know what is on them. Knows no file and no unwind table.

use std::sync::Arc;

use crate::base::Pid;

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
    /// What an address stands for: functions that are inlined there, the innermost first, then the one
    /// that holds it. `returns`: it is one that a call comes back to.
    fn frames(&mut self, pid: Pid, address: u64, returns: bool) -> Arc<[Frame]>;
}
