//! The stack into a record, for a walk by unwind tables later: stack pointer, frame pointer, and the bytes
//! from the stack pointer on.
//!
//! Invariant: nothing behind the end of the stack's mapping is read twice. Where reading faulted is kept
//! in the block, and a copy from below it ends there: a thread's next hits cost no fault. Return
//! addresses into thunks are replaced by those of the callers while it is known whose they are.

use iced_x86::code_asm::registers::gpr32::{r8d, r9d, r10d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::registers::xmm::{xmm0, xmm1};
use iced_x86::code_asm::{AsmMemoryOperand, dword_ptr, ptr, qword_ptr, xmmword_ptr};

use super::body::{Body, in_block};
use super::record::{record_base, record_field};
use super::run::KEPT;
use super::template::Unsupported;
use crate::abi;

/// DWARF number of the frame pointer.
const FRAME_POINTER: u8 = 6;
/// Bytes that are copied in one turn.
const TURN: i32 = 64;

impl Body<'_> {
    /// Copies at most `most` bytes into the record's field at `offset`.
    pub(super) fn copy_stack(&mut self, most: i32, offset: u32) -> Result<(), Unsupported> {
        let (environment, space) = (self.environment, self.space);
        let at = |offset: u32| qword_ptr(record_field(environment, space, offset));
        let base = record_base(environment, offset + abi::STACK_BYTES);
        let to = |more: u64| in_block(space, ptr(rcx + r10 + (base + more)));
        let end = self.word(abi::STACK_END);
        let top = self.frame.to_stack_pointer();
        self.frame.original(FRAME_POINTER, r8)?;
        let [word, limited, full, done] = std::array::from_fn(|_| self.frame.out.mark());
        let [to_word, to_limited, to_done] =
            [word, limited, done].map(|mark| self.frame.out.to(mark));
        let asm = &mut self.frame.out.asm;
        asm.mov(at(offset + abi::STACK_FRAME), r8)?;
        asm.lea(r11, qword_ptr(rsp + top))?;
        asm.mov(at(offset + abi::STACK_POINTER), r11)?;
        asm.xor(r10d, r10d)?;
        if environment.loads {
            // How much there is to the end, if that is near.
            asm.mov(r8, end)?;
            asm.sub(r8, r11)?;
            asm.and(r8, -8)?;
            asm.cmp(r8, most)?;
            asm.jbe(to_limited)?;
            asm.mov(r8d, most)?;
            self.frame.out.here(limited)?;
        } else {
            // The caller's address is there.
            asm.mov(r8d, 8)?;
        }
        if environment.activations.is_none() && environment.loads {
            self.wide_turns(&to)?;
        }
        self.frame.out.here(word)?;
        self.frame.out.asm.cmp(r10, r8)?;
        self.frame.out.asm.jae(to_done)?;
        if environment.loads {
            self.frame.out.next_may_fault(full);
        }
        self.frame.out.asm.mov(rdx, qword_ptr(r11 + r10))?;
        self.thunk_to_caller()?;
        let asm = &mut self.frame.out.asm;
        asm.mov(to(0), rdx)?;
        asm.add(r10, 8)?;
        asm.jmp(to_word)?;
        self.frame.out.here(done)?;
        self.frame
            .out
            .asm
            .mov(at(offset + abi::STACK_LENGTH), r10)?;
        if environment.loads {
            self.frame.later(move |frame| {
                frame.out.here(full)?;
                let asm = &mut frame.out.asm;
                asm.lea(rdx, qword_ptr(r11 + r10))?;
                asm.mov(end, rdx)?;
                Ok(asm.jmp(to_done)?)
            });
        }
        Ok(())
    }

    /// Copies from `r10` on while there is a whole turn and reading does not fault. Loses `r9`.
    fn wide_turns(&mut self, to: &impl Fn(u64) -> AsmMemoryOperand) -> Result<(), Unsupported> {
        let [turn, end] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_turn, to_end) = (self.frame.out.to(turn), self.frame.out.to(end));
        let kept = KEPT.map(|at| xmmword_ptr(rsp + at));
        let out = &mut self.frame.out;
        out.asm.movups(kept[0], xmm0)?;
        out.asm.movups(kept[1], xmm1)?;
        out.here(turn)?;
        out.asm.lea(r9, qword_ptr(r10 + TURN))?;
        out.asm.cmp(r9, r8)?;
        out.asm.ja(to_end)?;
        for half in [0, TURN / 2] {
            for (register, at) in [(xmm0, half), (xmm1, half + 16)] {
                out.next_may_fault(end);
                out.asm.movups(register, xmmword_ptr(r11 + r10 + at))?;
            }
            for (register, at) in [(xmm0, half), (xmm1, half + 16)] {
                out.asm
                    .movups(xmmword_ptr(to(u64::from(at.unsigned_abs()))), register)?;
            }
        }
        out.asm.mov(r10, r9)?;
        out.asm.jmp(to_turn)?;
        out.here(end)?;
        out.asm.movups(xmm0, kept[0])?;
        out.asm.movups(xmm1, kept[1])?;
        Ok(())
    }

    /// Where the address in `rdx` is a thunk's, the caller's takes its place. Loses `r9`.
    fn thunk_to_caller(&mut self) -> Result<(), Unsupported> {
        let Some(activations) = self.environment.activations else {
            return Ok(());
        };
        let [thunk, after] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_thunk, to_after) = (self.frame.out.to(thunk), self.frame.out.to(after));
        let asm = &mut self.frame.out.asm;
        asm.lea(r9, qword_ptr(rdx - activations.thunks.cast_signed()))?;
        asm.cmp(r9, activations.size().cast_signed())?;
        asm.jb(to_thunk)?;
        self.frame.out.here(after)?;
        self.frame.later(move |frame| {
            frame.out.here(thunk)?;
            let asm = &mut frame.out.asm;
            asm.lea(r9d, dword_ptr(rdx + activations.distance()))?;
            asm.and(r9d, -abi::ACTIVATION.cast_signed())?;
            asm.mov(rdx, qword_ptr(r9 + abi::ACT_RETURN))?;
            Ok(asm.jmp(to_after)?)
        });
        Ok(())
    }
}
