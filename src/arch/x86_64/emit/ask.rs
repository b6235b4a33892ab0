//! Asking the tracer, and waiting for its answer.

use iced_x86::code_asm::registers::gpr32::{eax, ecx};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{byte_ptr, qword_ptr};

use super::body::Body;
use super::template::Unsupported;
use crate::abi;

/// How many times a waiting thread looks for its answer: 0.3 to 1 s.
const WAIT: u32 = 1 << 24;

impl Body<'_> {
    /// Asks, and waits for the answer without a system call: there may be filters that know none of
    /// ours. Bounded, since whoever should answer may have been killed; who waited in vain says so,
    /// and nobody waits again until somebody answers.
    pub(super) fn ask(&mut self) -> Result<(), Unsupported> {
        let block = self.environment.shared_block;
        let word = |offset: u32| qword_ptr(u64::from(block + offset));
        let alive = byte_ptr(u64::from(self.environment.alive));
        let out = &mut self.frame.out;
        let [again, done] = [out.mark(), out.mark()];
        let (to_again, to_done) = (out.to(again), out.to(done));
        out.asm.mov(eax, 1)?;
        out.asm.lock().xadd(word(abi::ASKED), rax)?;
        out.asm.mov(ecx, WAIT)?;
        out.here(again)?;
        out.asm.cmp(word(abi::IN_VAIN), 0)?;
        out.asm.jne(to_done)?;
        out.asm.cmp(alive, 0)?;
        out.asm.je(to_done)?;
        out.asm.mov(rdx, word(abi::ANSWERED))?;
        out.asm.sub(rdx, rax)?;
        out.asm.jg(to_done)?;
        out.asm.pause()?;
        out.asm.dec(ecx)?;
        out.asm.jnz(to_again)?;
        out.asm.mov(word(abi::IN_VAIN), 1)?;
        Ok(out.here(done)?)
    }
}
