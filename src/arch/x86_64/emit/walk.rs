//! The stack by frame pointers: `rbp` leads to the caller's, the return address lies above it. Code that
//! uses `rbp` for something else makes such a walk end early, or tell nonsense: that is what users of
//! frame pointers know.

use iced_x86::code_asm::registers::gpr32::{eax, r10d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{ptr, qword_ptr};

use super::body::{Body, in_block};
use super::template::Unsupported;
use crate::abi;
use crate::program::Known;

impl Body<'_> {
    /// Walks at most `frames` frames, the probe's own the first, into scratch memory at `to`.
    pub(super) fn walk(&mut self, to: u32, frames: u32, entry: bool) -> Result<(), Unsupported> {
        let most = i32::try_from(frames);
        let most = most.map_err(|_| Unsupported("a stack of too many frames".to_owned()))?;
        let slot = in_block(self.space, qword_ptr(rbx + r10 * 8 + self.scratch_base(to)));
        let count = self.scratch(to);
        let [next, end, fill, done] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_next, to_end) = (self.frame.out.to(next), self.frame.out.to(end));
        let (to_fill, to_done) = (self.frame.out.to(fill), self.frame.out.to(done));
        // r10 counts the words that are filled, the number of frames among them.
        let site = self.known(Known::Site, 0)?;
        self.frame.out.asm.mov(r10d, 1)?;
        self.frame.out.asm.cmp(r10, most)?;
        self.frame.out.asm.ja(to_end)?;
        self.frame.out.asm.mov(slot, site)?;
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

    /// Where the address in `r8` is a thunk's, the caller's takes its place. Loses `rax`.
    fn caller(&mut self) -> Result<(), Unsupported> {
        let Some(activations) = self.environment.activations else {
            return Ok(());
        };
        let [thunk, after] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_thunk, to_after) = (self.frame.out.to(thunk), self.frame.out.to(after));
        let asm = &mut self.frame.out.asm;
        asm.lea(rax, qword_ptr(r8 - activations.thunks.cast_signed()))?;
        asm.cmp(rax, activations.size().cast_signed())?;
        asm.jb(to_thunk)?;
        self.frame.out.here(after)?;
        self.frame.later(move |frame| {
            frame.out.here(thunk)?;
            let asm = &mut frame.out.asm;
            asm.lea(eax, qword_ptr(r8 + activations.distance()))?;
            asm.and(eax, -abi::ACTIVATION.cast_signed())?;
            asm.mov(r8, qword_ptr(rax + abi::ACT_RETURN))?;
            Ok(asm.jmp(to_after)?)
        });
        Ok(())
    }
}
