//! Relocation: displaced instructions, moved to another address, do what they did.
//!
//! A copy is made instruction by instruction. Bytes that do not depend on the instruction's own
//! address are copied as they are, prefixes and all. What depends on it is adjusted: operands
//! relative to the instruction pointer get a new displacement, branches a new target distance,
//! calls become a push of the *original* return address and a jump (invariant 6: no detour address
//! is ever a return address). Then the copy is decoded again and compared with the original; a
//! difference is an error, never a copy.
//!
//! What a copy cannot hide: `syscall` leaves its own next address in `rcx`, and the x87 unit
//! remembers the address of its last instruction. A call through memory reads its target after the
//! return address is pushed: a pointer kept in that very slot, below the stack pointer, would be
//! lost (no compiler puts one there), and when operand and stack both fault, the stack's comes
//! first.

mod encode;
mod refusal;
mod verify;
mod writer;

pub use encode::{
    Copy, MAX_COPY, MAX_DISPLACED, instruction_len, jump, relocate, short_jump, skip,
};
pub use refusal::Unrelocatable;
