//! The stack by frame pointers: `rbp` leads to the caller's, the return address lies above it. Code that
//! uses `rbp` for something else makes such a walk end early, or tell nonsense: that is what users of
//! frame pointers know.

use iced_x86::code_asm::registers::gpr32::{edx, r10d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, ptr, qword_ptr};

use super::assembler::Patch;
use super::body::{Body, in_block};
use super::record::record_base;
use super::template::Unsupported;
use crate::abi;

impl Body<'_> {
    /// Walks at most `frames` frames, the probe's own the first, into scratch memory at `to`.
    pub(super) fn walk(&mut self, to: u32, frames: u32, entry: bool) -> Result<(), Unsupported> {
        let count = self.scratch(to);
        let slot = in_block(self.space, qword_ptr(rbx + r10 * 8 + self.scratch_base(to)));
        let most = self.walk_to(slot, frames, entry)?;
        let [fill, done] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_fill, to_done) = (self.frame.out.to(fill), self.frame.out.to(done));
        let asm = &mut self.frame.out.asm;
        asm.lea(r8, qword_ptr(r10 - 1))?;
        asm.mov(count, r8)?;
        // Keys are compared whole.
        self.frame.out.here(fill)?;
        let asm = &mut self.frame.out.asm;
        asm.cmp(r10, most)?;
        asm.ja(to_done)?;
        asm.mov(slot, 0)?;
        asm.inc(r10)?;
        asm.jmp(to_fill)?;
        Ok(self.frame.out.here(done)?)
    }

    /// The same into the record's field at `offset`; what lies behind the last is anything.
    pub(super) fn walk_record(
        &mut self,
        offset: u32,
        frames: u32,
        entry: bool,
    ) -> Result<(), Unsupported> {
        let base = record_base(self.environment, offset);
        let slot = in_block(self.space, qword_ptr(rcx + r10 * 8 + base));
        let count = in_block(self.space, ptr(rcx + base));
        self.walk_to(slot, frames, entry)?;
        self.frame.out.asm.dec(r10)?;
        Ok(self.frame.out.asm.mov(count, r10)?)
    }

    /// Walks into `slot` for each `r10` from 1 on, which is one more than there are frames at the end;
    /// says the most that there may be. Loses `rdx` and the temporaries.
    fn walk_to(
        &mut self,
        slot: AsmMemoryOperand,
        frames: u32,
        entry: bool,
    ) -> Result<i32, Unsupported> {
        let most = i32::try_from(frames);
        let most = most.map_err(|_| Unsupported("a stack of too many frames".to_owned()))?;
        let [next, end] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_next, to_end) = (self.frame.out.to(next), self.frame.out.to(end));
        // r10 counts the words that are filled, the number of frames among them.
        self.frame.out.asm.mov(r10d, 1)?;
        self.frame.out.asm.cmp(r10, most)?;
        self.frame.out.asm.ja(to_end)?;
        self.frame.out.patch_next(Patch::Site);
        // Some address in the code: the site's is put in for each site.
        self.frame.out.asm.lea(rdx, ptr(to_end))?;
        self.frame.out.asm.mov(slot, rdx)?;
        self.frame.out.asm.inc(r10)?;
        let top = self.frame.to_stack_pointer();
        self.frame.out.asm.lea(r9, qword_ptr(rsp + top))?;
        if entry {
            self.frame.out.asm.cmp(r10, most)?;
            self.frame.out.asm.ja(to_end)?;
            self.frame.out.asm.mov(r8, qword_ptr(rsp + top))?;
            self.caller()?;
            self.frame.out.asm.mov(slot, r8)?;
            self.frame.out.asm.inc(r10)?;
        }
        if self.environment.loads {
            self.frame.out.asm.mov(r11, rbp)?;
            self.frame.out.here(next)?;
            let asm = &mut self.frame.out.asm;
            asm.cmp(r10, most)?;
            asm.ja(to_end)?;
            // Frames lie ever higher, at whole words.
            asm.test(r11, 7)?;
            asm.jne(to_end)?;
            asm.cmp(r11, r9)?;
            asm.jb(to_end)?;
            self.frame.out.next_may_fault(end);
            self.frame.out.asm.mov(r8, ptr(r11 + 8))?;
            let asm = &mut self.frame.out.asm;
            asm.test(r8, r8)?;
            asm.je(to_end)?;
            self.caller()?;
            let asm = &mut self.frame.out.asm;
            asm.mov(slot, r8)?;
            asm.inc(r10)?;
            asm.lea(r9, qword_ptr(r11 + 8))?;
            self.frame.out.next_may_fault(end);
            self.frame.out.asm.mov(r11, ptr(r11))?;
            self.frame.out.asm.jmp(to_next)?;
        }
        self.frame.out.here(end)?;
        Ok(most)
    }

    /// Where the address in `r8` is a thunk's, the caller's takes its place. Loses `rdx`.
    fn caller(&mut self) -> Result<(), Unsupported> {
        let Some(activations) = self.environment.activations else {
            return Ok(());
        };
        let [thunk, after] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_thunk, to_after) = (self.frame.out.to(thunk), self.frame.out.to(after));
        let asm = &mut self.frame.out.asm;
        asm.lea(rdx, qword_ptr(r8 - activations.thunks.cast_signed()))?;
        asm.cmp(rdx, activations.size().cast_signed())?;
        asm.jb(to_thunk)?;
        self.frame.out.here(after)?;
        self.frame.later(move |frame| {
            frame.out.here(thunk)?;
            let asm = &mut frame.out.asm;
            asm.lea(edx, qword_ptr(r8 + activations.distance()))?;
            asm.and(edx, -abi::ACTIVATION.cast_signed())?;
            asm.mov(r8, qword_ptr(rdx + abi::ACT_RETURN))?;
            Ok(asm.jmp(to_after)?)
        });
        Ok(())
    }
}
