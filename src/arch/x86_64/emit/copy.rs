//! Strings and bytes: from the target into a record or into scratch memory, within scratch memory,
//! compared.

use iced_x86::code_asm::registers::gpr8::{cl, dl};
use iced_x86::code_asm::registers::gpr32::{ecx, edx, r8d, r9d, r10d, r11d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, byte_ptr, dword_ptr, ptr, qword_ptr};

use super::assembler::Mark;
use super::body::{Body, in_block};
use super::record::record_field;
use super::run::{Most, Run};
use super::template::{Frame, Unsupported};
use crate::abi;
use crate::program::{Copy, Local};

/// Words that are copied one by one; more than that in a loop.
pub(super) const UNROLLED: u32 = 8;

impl Body<'_> {
    /// Copies the string at `r11` into the record's field at `offset`, at most `max` bytes. At
    /// `stub` goes on what faults; `r10` is how far it came.
    pub(super) fn string(&mut self, max: i32, offset: u32, stub: Mark) -> Result<(), Unsupported> {
        let (environment, space) = (self.environment, self.space);
        let base = environment.shared_block + environment.layout.ring() + offset;
        let header = |at: u32| dword_ptr(record_field(environment, space, offset + at));
        let (length, flags) = (header(0), header(4));
        let [full, done] = std::array::from_fn(|_| self.frame.out.mark());
        self.run(Run {
            to: in_block(space, ptr(rcx + r10 + u64::from(base + abi::STR_BYTES))),
            most: Most::Known(max),
            string: true,
            fill: false,
            full,
            fault: stub,
        })?;
        let out = &mut self.frame.out;
        out.asm.mov(flags, 0)?;
        out.here(done)?;
        out.asm.mov(length, r10d)?;
        let to_done = out.to(done);
        self.frame.later(move |frame| {
            let out = &mut frame.out;
            out.here(full)?;
            out.asm.mov(flags, abi::STR_TRUNCATED.cast_signed())?;
            Ok(out.asm.jmp(to_done)?)
        });
        Ok(())
    }

    /// Copies bytes of the target into scratch memory.
    pub(super) fn copy(&mut self, copy: &Copy) -> Result<(), Unsupported> {
        if !self.environment.loads {
            let length = qword_ptr(self.scratch(copy.to));
            return Ok(self.frame.out.asm.mov(length, 0)?);
        }
        let max = i32::from(copy.max);
        let source = self.evaluate(copy.pointer, 0)?;
        if source != r11 {
            self.frame.out.asm.mov(r11, source)?;
        }
        match copy.limit {
            Some(limit) => {
                let limit = self.evaluate(limit, 1)?;
                let asm = &mut self.frame.out.asm;
                asm.mov(r8d, max)?;
                asm.cmp(limit, r8)?;
                asm.cmovb(r8, limit)?;
            }
            None => self.frame.out.asm.mov(r8d, max)?,
        }
        let [full, done, stub, after] = std::array::from_fn(|_| self.frame.out.mark());
        let base = self.scratch_base(copy.to + abi::STR_BYTES);
        let length = dword_ptr(self.scratch(copy.to));
        let flags = dword_ptr(self.scratch(copy.to + 4));
        let first = qword_ptr(self.scratch(copy.to + abi::STR_BYTES));
        let (to_done, to_after) = (self.frame.out.to(done), self.frame.out.to(after));
        let (string, space) = (copy.string, self.space);
        let out = &mut self.frame.out;
        out.asm.mov(flags, 0)?;
        out.asm.xor(r10d, r10d)?;
        // A null pointer is the empty string.
        out.asm.test(r11, r11)?;
        out.asm.je(to_done)?;
        self.run(Run {
            to: in_block(space, ptr(rbx + r10 + base)),
            most: Most::InR8,
            string,
            fill: true,
            full,
            fault: stub,
        })?;
        let out = &mut self.frame.out;
        if string {
            // Zeros from the end to the end of its word: keys are compared by words.
            out.asm.lea(ecx, dword_ptr(r10 * 8))?;
            out.asm.mov(edx, 1)?;
            out.asm.shl(rdx, cl)?;
            out.asm.dec(rdx)?;
            out.asm.mov(r9, r10)?;
            out.asm.and(r9, -8)?;
            let word = in_block(space, ptr(rbx + r9 + base));
            out.asm.and(qword_ptr(word), rdx)?;
        }
        out.here(done)?;
        out.asm.mov(length, r10d)?;
        out.here(after)?;
        let faults = self.word(abi::FAULTS);
        self.frame.later(move |frame| {
            let out = &mut frame.out;
            out.here(full)?;
            if string {
                out.asm.mov(flags, abi::STR_TRUNCATED.cast_signed())?;
            }
            out.asm.jmp(to_done)?;
            // Unreadable: empty, and where.
            out.here(stub)?;
            out.asm.add(r11, r10)?;
            out.asm.mov(first, r11)?;
            out.asm.mov(length, 0)?;
            out.asm.mov(flags, abi::STR_FAULT.cast_signed())?;
            space.changing(out).inc(faults)?;
            Ok(out.asm.jmp(to_after)?)
        });
        Ok(())
    }

    /// Constant bytes into scratch memory.
    pub(super) fn literal(&mut self, at: u32, bytes: &[u8]) -> Result<(), Unsupported> {
        for (index, chunk) in (0_u32..).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let word = u64::from_le_bytes(word);
            let to = self.scratch(at + 8 * index);
            if let Ok(small) = i32::try_from(word.cast_signed()) {
                self.frame.out.asm.mov(qword_ptr(to), small)?;
                continue;
            }
            self.constant(r11, word)?;
            self.frame.out.asm.mov(to, r11)?;
        }
        Ok(())
    }

    /// Copies within scratch memory.
    pub(super) fn shift(&mut self, to: u32, from: u32, size: u32) -> Result<(), Unsupported> {
        let (to, from) = (self.scratch_base(to), self.scratch_base(from));
        let space = self.space;
        copy_words(self.frame, size / 8, |index| match index {
            None => (
                in_block(space, ptr(rbx + r10 * 8 + from)),
                in_block(space, ptr(rbx + r10 * 8 + to)),
            ),
            Some(index) => (
                in_block(space, ptr(rbx + (from + 8 * u64::from(index)))),
                in_block(space, ptr(rbx + (to + 8 * u64::from(index)))),
            ),
        })
    }

    /// Compares at most `most` bytes of two strings: 0 when they are equal, else 1.
    pub(super) fn compare(
        &mut self,
        local: Local,
        (a, b): (u32, u32),
        most: u32,
    ) -> Result<(), Unsupported> {
        let result = self.local(local);
        let [differ, next, tail, after] = std::array::from_fn(|_| self.frame.out.mark());
        let lengths = [dword_ptr(self.scratch(a)), dword_ptr(self.scratch(b))];
        let (a, b) = (
            self.scratch_base(a + abi::STR_BYTES),
            self.scratch_base(b + abi::STR_BYTES),
        );
        let at = |base: u64| in_block(self.space, ptr(rbx + r10 + base));
        let (to_differ, to_next) = (self.frame.out.to(differ), self.frame.out.to(next));
        let (to_tail, to_after) = (self.frame.out.to(tail), self.frame.out.to(after));
        let out = &mut self.frame.out;
        out.asm.mov(result, 0)?;
        // Both cut to what counts must be of one length.
        out.asm.mov(r8d, most)?;
        out.asm.mov(r9d, r8d)?;
        out.asm.mov(ecx, lengths[0])?;
        out.asm.cmp(ecx, r8d)?;
        out.asm.cmovb(r8d, ecx)?;
        out.asm.mov(ecx, lengths[1])?;
        out.asm.cmp(ecx, r9d)?;
        out.asm.cmovb(r9d, ecx)?;
        out.asm.cmp(r8d, r9d)?;
        out.asm.jne(to_differ)?;
        out.asm.xor(r10d, r10d)?;
        out.here(next)?;
        out.asm.sub(r8d, 8)?;
        out.asm.jb(to_tail)?;
        out.asm.mov(rdx, at(a))?;
        out.asm.cmp(rdx, at(b))?;
        out.asm.jne(to_differ)?;
        out.asm.add(r10d, 8)?;
        out.asm.jmp(to_next)?;
        // Less than a word is left: what is behind it is shifted out. Strings fill whole words.
        out.here(tail)?;
        out.asm.add(r8d, 8)?;
        out.asm.je(to_after)?;
        out.asm.mov(rdx, at(a))?;
        out.asm.xor(rdx, at(b))?;
        out.asm.lea(ecx, dword_ptr(r8 * 8))?;
        out.asm.neg(ecx)?;
        out.asm.shl(rdx, cl)?;
        out.asm.jne(to_differ)?;
        out.here(after)?;
        self.frame.later(move |frame| {
            frame.out.here(differ)?;
            frame.out.asm.mov(result, 1)?;
            Ok(frame.out.asm.jmp(to_after)?)
        });
        Ok(())
    }

    /// Looks for a string in another: 1 when it is there, else 0.
    pub(super) fn find_string(&mut self, local: Local, a: u32, b: u32) -> Result<(), Unsupported> {
        let result = self.local(local);
        let [from, next, differ, after] = std::array::from_fn(|_| self.frame.out.mark());
        let lengths = [dword_ptr(self.scratch(a)), dword_ptr(self.scratch(b))];
        let (a, b) = (
            self.scratch_base(a + abi::STR_BYTES),
            self.scratch_base(b + abi::STR_BYTES),
        );
        let (to_from, to_next) = (self.frame.out.to(from), self.frame.out.to(next));
        let (to_differ, to_after) = (self.frame.out.to(differ), self.frame.out.to(after));
        let space = self.space;
        let out = &mut self.frame.out;
        out.asm.mov(result, 0)?;
        // r8: how often it can begin later than at the start; r10: where it begins.
        out.asm.mov(r8d, lengths[0])?;
        out.asm.mov(r9d, lengths[1])?;
        out.asm.sub(r8, r9)?;
        out.asm.jb(to_after)?;
        out.asm.xor(r10d, r10d)?;
        out.here(from)?;
        out.asm.xor(r11d, r11d)?;
        out.here(next)?;
        let byte = out.mark();
        let to_byte = out.to(byte);
        out.asm.cmp(r11, r9)?;
        out.asm.jb(to_byte)?;
        out.asm.mov(result, 1)?;
        out.asm.jmp(to_after)?;
        out.here(byte)?;
        out.asm.lea(rcx, qword_ptr(r10 + r11))?;
        out.asm
            .movzx(edx, byte_ptr(in_block(space, ptr(rbx + rcx + a))))?;
        out.asm
            .cmp(dl, byte_ptr(in_block(space, ptr(rbx + r11 + b))))?;
        out.asm.jne(to_differ)?;
        out.asm.inc(r11)?;
        out.asm.jmp(to_next)?;
        out.here(differ)?;
        out.asm.inc(r10)?;
        out.asm.cmp(r10, r8)?;
        out.asm.jbe(to_from)?;
        Ok(out.here(after)?)
    }
}

/// Copies words. `operands` gives source and destination of one, or, with `r10` as the index, of any.
/// Loses `rdx`, and `r10` when there are more than [`UNROLLED`].
pub(super) fn copy_words(
    frame: &mut Frame,
    count: u32,
    operands: impl Fn(Option<u32>) -> (AsmMemoryOperand, AsmMemoryOperand),
) -> Result<(), Unsupported> {
    if count <= UNROLLED {
        for index in 0..count {
            let (from, to) = operands(Some(index));
            frame.out.asm.mov(rdx, from)?;
            frame.out.asm.mov(to, rdx)?;
        }
        return Ok(());
    }
    let again = frame.out.mark();
    let to_again = frame.out.to(again);
    frame.out.asm.xor(r10d, r10d)?;
    frame.out.here(again)?;
    let (from, to) = operands(None);
    let asm = &mut frame.out.asm;
    asm.mov(rdx, from)?;
    asm.mov(to, rdx)?;
    asm.inc(r10)?;
    asm.cmp(r10, count.cast_signed())?;
    Ok(asm.jb(to_again)?)
}
