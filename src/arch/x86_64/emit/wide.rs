//! Values larger than a word: what is read is what one writer wrote, whoever writes meanwhile.
//!
//! A writer sets a bit of the version, which keeps other writers out, and gives it back with the next
//! version. Taking a value away leaves that bit to the writer that has set it: until it is done nobody
//! else writes, and what it wrote stays away.

use iced_x86::code_asm::registers::gpr32::{eax, r15d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{ptr, qword_ptr};

use super::assembler::Mark;
use super::body::{Body, in_block};
use super::copy::copy_words;
use super::live;
use super::map::CellAt;
use super::template::Unsupported;
use crate::program::Cell;
use crate::program::table::UNWRITTEN;

/// Bit of the version while the value is written.
const WRITING: i32 = 1;
/// Bit of the version when there is a value.
const PRESENT: i32 = 2;
/// What a change adds to the version.
const CHANGE: i32 = 4;
/// Looks at a value that is being written before it is done without.
const LOOKS: i32 = 64;

/// The cell of such a value.
#[derive(Clone, Copy)]
pub(super) struct Wide {
    cell: CellAt,
    words: u32,
}

impl Wide {
    pub(super) fn of(kind: Cell, cell: CellAt) -> Result<Wide, Unsupported> {
        match kind {
            Cell::Wide(size) => Ok(Wide {
                cell,
                words: size / 8,
            }),
            _ => Err(Unsupported("a map whose values are words".to_owned())),
        }
    }
}

impl Body<'_> {
    /// Writes a value from scratch memory, unless somebody else is writing one. If that goes on, the key is
    /// taken away and looked for again at `restart`, or, without keys, the value is counted.
    pub(super) fn write_wide(
        &mut self,
        wide: Wide,
        from: u32,
        restart: Option<Mark>,
    ) -> Result<(), Unsupported> {
        let version = wide.cell.word(0);
        let access = wide.cell.access;
        let [after, taken, busy] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_after, to_taken) = (self.frame.out.to(after), self.frame.out.to(taken));
        let to_busy = self.frame.out.to(busy);
        let to_restart = restart.map(|restart| self.frame.out.to(restart));
        let asm = &mut self.frame.out.asm;
        asm.mov(rax, version)?;
        asm.test(eax, WRITING)?;
        asm.jne(to_busy)?;
        asm.lea(r15, qword_ptr(rax + WRITING))?;
        access.changing(self.frame).cmpxchg(version, r15)?;
        self.frame.out.asm.jne(to_after)?;
        let (space, from) = (self.space, self.scratch_base(from));
        copy_words(self.frame, wide.words, |index| match index {
            None => (
                in_block(space, ptr(rbx + r10 * 8 + from)),
                wide.cell.indexed(r10, 1),
            ),
            Some(index) => (
                in_block(space, ptr(rbx + (from + 8 * u64::from(index)))),
                wide.cell.word(1 + index),
            ),
        })?;
        let asm = &mut self.frame.out.asm;
        asm.mov(rax, r15)?;
        asm.add(r15, CHANGE - WRITING)?;
        asm.or(r15, PRESENT)?;
        access.changing(self.frame).cmpxchg(version, r15)?;
        self.frame.out.asm.jne(to_taken)?;
        self.frame.out.here(after)?;
        self.frame.later(move |frame| {
            // Taken away meanwhile.
            frame.out.here(taken)?;
            frame
                .out
                .asm
                .lea(r15, qword_ptr(rax + (CHANGE - WRITING)))?;
            access.changing(frame).cmpxchg(version, r15)?;
            frame.out.asm.jne(to_taken)?;
            frame.out.asm.jmp(to_after)?;

            // Ours came just before the one that is being written, if that comes to an end.
            let [look, gone] = std::array::from_fn(|_| frame.out.mark());
            let (to_look, to_gone) = (frame.out.to(look), frame.out.to(gone));
            frame.out.here(busy)?;
            frame.out.asm.mov(r15d, LOOKS)?;
            frame.out.here(look)?;
            let asm = &mut frame.out.asm;
            asm.mov(rax, version)?;
            asm.test(eax, WRITING)?;
            asm.je(to_after)?;
            asm.dec(r15d)?;
            asm.jne(to_look)?;
            if let Some(to_restart) = to_restart {
                live::kill(frame, access, to_gone)?;
                frame.out.here(gone)?;
                live::leave_slot(frame, access)?;
                return Ok(frame.out.asm.jmp(to_restart)?);
            }
            access.changing(frame).inc(access.header(UNWRITTEN))?;
            frame.out.here(gone)?;
            Ok(frame.out.asm.jmp(to_after)?)
        });
        Ok(())
    }

    /// Takes a value away.
    pub(super) fn take_wide(&mut self, wide: Wide) -> Result<(), Unsupported> {
        let version = wide.cell.word(0);
        let again = self.frame.out.mark();
        let to_again = self.frame.out.to(again);
        self.frame.out.asm.mov(rax, version)?;
        self.frame.out.here(again)?;
        let asm = &mut self.frame.out.asm;
        asm.mov(rdx, rax)?;
        asm.and(rdx, !PRESENT)?;
        asm.add(rdx, CHANGE)?;
        wide.cell
            .access
            .changing(self.frame)
            .cmpxchg(version, rdx)?;
        Ok(self.frame.out.asm.jne(to_again)?)
    }

    /// Copies a value into scratch memory, and leaves its version in `rax`. Where there is none, or none
    /// comes to rest, it goes on at `absent`.
    pub(super) fn read_wide(
        &mut self,
        wide: Wide,
        to: u32,
        absent: Mark,
    ) -> Result<(), Unsupported> {
        let version = wide.cell.word(0);
        let [again, torn] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_again, to_torn) = (self.frame.out.to(again), self.frame.out.to(torn));
        let to_absent = self.frame.out.to(absent);
        self.frame.out.asm.mov(r15d, LOOKS)?;
        self.frame.out.here(again)?;
        let asm = &mut self.frame.out.asm;
        asm.mov(rax, version)?;
        asm.test(eax, WRITING)?;
        asm.jne(to_torn)?;
        asm.test(eax, PRESENT)?;
        asm.je(to_absent)?;
        let (space, to) = (self.space, self.scratch_base(to));
        copy_words(self.frame, wide.words, |index| match index {
            None => (
                wide.cell.indexed(r10, 1),
                in_block(space, ptr(rbx + r10 * 8 + to)),
            ),
            Some(index) => (
                wide.cell.word(1 + index),
                in_block(space, ptr(rbx + (to + 8 * u64::from(index)))),
            ),
        })?;
        self.frame.out.asm.cmp(version, rax)?;
        self.frame.out.asm.jne(to_torn)?;
        self.frame.later(move |frame| {
            frame.out.here(torn)?;
            frame.out.asm.dec(r15d)?;
            frame.out.asm.jne(to_again)?;
            Ok(frame.out.asm.jmp(to_absent)?)
        });
        Ok(())
    }
}
