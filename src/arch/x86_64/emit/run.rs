//! Runs of bytes: from the target, sixteen at a time, into the block's memory.
//!
//! What is read at once lies in one page, so a string that ends just before an unmapped page is whole,
//! and nothing is read from a page that the string does not reach. Invariant: `xmm0` and `xmm1` are the
//! target's outside of a run, and their upper parts always: only legacy forms leave those alone.

use iced_x86::code_asm::AsmMemoryOperand;
use iced_x86::code_asm::registers::gpr8::r9b;
use iced_x86::code_asm::registers::gpr32::{edx, r9d, r10d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::registers::xmm::{xmm0, xmm1};
use iced_x86::code_asm::{byte_ptr, dword_ptr, qword_ptr, xmmword_ptr};

use super::assembler::{Assembler, Mark};
use super::body::Body;
use super::template::Unsupported;

/// Bytes that a page has at least.
const PAGE: i32 = 4096;
/// Where the target's `xmm0` and `xmm1` are meanwhile: below the stack pointer, where neither the
/// detour nor, System V's red zone being there, a signal writes.
pub(super) const KEPT: [i32; 2] = [-16, -32];

/// Turns of sixteen bytes that are laid out one behind the other.
const STRAIGHT: i32 = 4;

/// How many bytes are copied at most.
#[derive(Clone, Copy)]
pub(super) enum Most {
    /// So many, a multiple of 8, not 0.
    Known(i32),
    /// What `r8` holds.
    InR8,
}

/// The bytes at `r11`. What came of it is told by where it goes on; `r10` is then how many were
/// copied. Loses `rdx` and `r9`.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Where byte number `r10` is put.
    pub(super) to: AsmMemoryOperand,
    /// How many at most.
    pub(super) most: Most,
    /// Whether a NUL ends it.
    pub(super) string: bool,
    /// Whether a word is cleared before bytes are put into it one by one. A NUL that is found among
    /// several leaves what was read with it.
    pub(super) fill: bool,
    /// Goes on here when all that were wanted are there and, in a string, no NUL was found.
    pub(super) full: Mark,
    /// Goes on here when byte `r10` cannot be read.
    pub(super) fault: Mark,
}

impl Run {
    /// Compares, signed, how many there would be with so many more, and how many are wanted.
    fn compare(&self, out: &mut Assembler, more: i32) -> Result<(), Unsupported> {
        match self.most {
            Most::Known(most) => out.asm.cmp(r10, most - more)?,
            Most::InR8 => {
                out.asm.lea(rdx, qword_ptr(r10 + more))?;
                out.asm.cmp(rdx, r8)?;
            }
        }
        Ok(())
    }

    /// Sixteen bytes, and again. Behind it: a NUL is found, `r10` tells where.
    fn repeated(self, out: &mut Assembler, marks: Marks) -> Result<(), Unsupported> {
        let (to_sixteen, to_narrow) = (out.to(marks.sixteen), out.to(marks.narrow));
        out.here(marks.sixteen)?;
        unless_in_page(out, 16, marks.narrow)?;
        out.next_may_fault(marks.fault);
        out.asm.movups(xmm0, xmmword_ptr(r11 + r10))?;
        out.asm.movups(xmmword_ptr(self.to), xmm0)?;
        if self.string {
            let to_found = out.to(marks.found);
            // Where nothing is equal, xmm1 is zeros again.
            out.asm.pcmpeqb(xmm1, xmm0)?;
            out.asm.pmovmskb(r9d, xmm1)?;
            out.asm.test(r9d, r9d)?;
            out.asm.jne(to_found)?;
        }
        out.asm.add(r10, 16)?;
        self.compare(out, 16)?;
        out.asm.jle(to_sixteen)?;
        out.asm.jmp(to_narrow)?;
        out.here(marks.found)?;
        if self.string {
            out.asm.bsf(r9d, r9d)?;
            out.asm.add(r10, r9)?;
        }
        Ok(())
    }

    /// What is not the hot part: the end of a page, of what is wanted, faults.
    fn narrow(self, out: &mut Assembler, marks: Marks) -> Result<(), Unsupported> {
        let [byte, inside, full] = std::array::from_fn(|_| out.mark());
        let (to_byte, to_inside, to_full) = (out.to(byte), out.to(inside), out.to(full));
        let (to_next, to_sixteen) = (out.to(marks.next), out.to(marks.sixteen));
        out.here(marks.next)?;
        self.compare(out, 16)?;
        out.asm.jle(to_sixteen)?;
        out.here(marks.narrow)?;
        self.compare(out, 8)?;
        out.asm.jg(to_byte)?;
        unless_in_page(out, 8, byte)?;
        out.next_may_fault(marks.fault);
        out.asm.movq(xmm0, qword_ptr(r11 + r10))?;
        out.asm.movq(qword_ptr(self.to), xmm0)?;
        if self.string {
            let to_found = out.to(marks.found);
            out.asm.pcmpeqb(xmm1, xmm0)?;
            out.asm.pmovmskb(r9d, xmm1)?;
            out.asm.pxor(xmm1, xmm1)?;
            out.asm.and(r9d, 0xff)?;
            out.asm.jne(to_found)?;
        }
        out.asm.add(r10, 8)?;
        out.asm.jmp(to_next)?;
        out.here(byte)?;
        self.compare(out, 0)?;
        out.asm.jge(to_full)?;
        out.next_may_fault(marks.fault);
        out.asm.movzx(r9d, byte_ptr(r11 + r10))?;
        if self.fill {
            // A word's first byte clears the others.
            out.asm.test(r10d, 7)?;
            out.asm.jne(to_inside)?;
            out.asm.mov(qword_ptr(self.to), 0)?;
            out.here(inside)?;
        }
        if self.string {
            let to_ended = out.to(marks.ended);
            out.asm.test(r9d, r9d)?;
            out.asm.je(to_ended)?;
        }
        out.asm.mov(byte_ptr(self.to), r9b)?;
        out.asm.inc(r10)?;
        // A whole word: more of them at once where that is possible again.
        out.asm.test(r10d, 7)?;
        out.asm.jne(to_byte)?;
        out.asm.jmp(to_next)?;
        for (mark, then) in [(full, self.full), (marks.fault, self.fault)] {
            let then = out.to(then);
            out.here(mark)?;
            restore(out)?;
            out.asm.jmp(then)?;
        }
        Ok(())
    }
}

/// Places in the code of a run.
#[derive(Clone, Copy)]
struct Marks {
    /// Goes on by sixteen bytes if so many are wanted.
    next: Mark,
    /// Goes on by sixteen bytes.
    sixteen: Mark,
    /// Goes on by fewer.
    narrow: Mark,
    /// A NUL is among the bytes read last, as `r9d` tells.
    found: Mark,
    /// The next byte is a NUL.
    ended: Mark,
    /// The next byte cannot be read.
    fault: Mark,
}

/// Goes on at `mark` unless so many bytes from the next on lie in one page.
fn unless_in_page(out: &mut Assembler, bytes: i32, mark: Mark) -> Result<(), Unsupported> {
    let to = out.to(mark);
    out.asm.lea(edx, dword_ptr(r11 + r10))?;
    out.asm.and(edx, PAGE - 1)?;
    out.asm.cmp(edx, PAGE - bytes)?;
    Ok(out.asm.ja(to)?)
}

fn restore(out: &mut Assembler) -> Result<(), Unsupported> {
    out.asm.movups(xmm0, xmmword_ptr(rsp + KEPT[0]))?;
    Ok(out.asm.movups(xmm1, xmmword_ptr(rsp + KEPT[1]))?)
}

impl Body<'_> {
    /// Copies. Behind it stands what is done when a NUL was found.
    pub(super) fn run(&mut self, run: Run) -> Result<(), Unsupported> {
        let [next, sixteen, narrow, found, ended, fault] =
            std::array::from_fn(|_| self.frame.out.mark());
        let marks = Marks {
            next,
            sixteen,
            narrow,
            found,
            ended,
            fault,
        };
        let out = &mut self.frame.out;
        out.asm.movups(xmmword_ptr(rsp + KEPT[0]), xmm0)?;
        out.asm.movups(xmmword_ptr(rsp + KEPT[1]), xmm1)?;
        out.asm.xor(r10d, r10d)?;
        if run.string {
            out.asm.pxor(xmm1, xmm1)?;
        }
        match run.most {
            Most::Known(most @ 16..) => {
                let turns = (most / 16).min(STRAIGHT);
                self.straight(run, turns, marks)?;
                let out = &mut self.frame.out;
                out.here(ended)?;
                restore(out)?;
                self.frame.later(move |frame| {
                    run.repeated(&mut frame.out, marks)?;
                    let to_ended = frame.out.to(ended);
                    frame.out.asm.jmp(to_ended)?;
                    run.narrow(&mut frame.out, marks)
                });
            }
            _ => {
                let to_narrow = out.to(narrow);
                run.compare(out, 16)?;
                out.asm.jg(to_narrow)?;
                run.repeated(out, marks)?;
                out.here(ended)?;
                restore(out)?;
                self.frame
                    .later(move |frame| run.narrow(&mut frame.out, marks));
            }
        }
        Ok(())
    }

    /// The first bytes, if they are in one page, without a loop; the others go on as they can.
    fn straight(&mut self, run: Run, turns: i32, marks: Marks) -> Result<(), Unsupported> {
        let out = &mut self.frame.out;
        let (to_next, to_ended) = (out.to(marks.next), out.to(marks.ended));
        out.asm.lea(edx, dword_ptr(r11))?;
        out.asm.and(edx, PAGE - 1)?;
        out.asm.cmp(edx, PAGE - 16 * turns)?;
        out.asm.ja(to_next)?;
        for at in (0..turns).map(|turn| 16 * turn) {
            let out = &mut self.frame.out;
            out.next_may_fault(marks.fault);
            out.asm.movups(xmm0, xmmword_ptr(r11 + at))?;
            out.asm.movups(xmmword_ptr(run.to + at), xmm0)?;
            if !run.string {
                continue;
            }
            let found = out.mark();
            let to_found = out.to(found);
            out.asm.pcmpeqb(xmm1, xmm0)?;
            out.asm.pmovmskb(r9d, xmm1)?;
            out.asm.test(r9d, r9d)?;
            out.asm.jne(to_found)?;
            self.frame.later(move |frame| {
                frame.out.here(found)?;
                frame.out.asm.bsf(r9d, r9d)?;
                frame.out.asm.lea(r10, qword_ptr(r9 + at))?;
                Ok(frame.out.asm.jmp(to_ended)?)
            });
        }
        let out = &mut self.frame.out;
        out.asm.mov(r10d, 16 * turns)?;
        if matches!(run.most, Most::Known(most) if most == 16 * turns) {
            let to_full = out.to(run.full);
            restore(out)?;
            return Ok(out.asm.jmp(to_full)?);
        }
        Ok(out.asm.jmp(to_next)?)
    }
}
