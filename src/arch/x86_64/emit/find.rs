//! The slot of a key that stays: search, and taking a free one. See [`crate::program::table`] for the
//! protocol.
//!
//! `r14` is the slot's offset from the table's first slot. `rax` holds the tag, `r15` how many slots
//! are left to look at; `rcx` and `rdx` are lost, `r10` where a long key is put into a slot. A single
//! word of key stays in the register that it was computed into, or in its own; it is none of these:
//! they are saved, so what was in them is brought into a temporary.

use iced_x86::code_asm::registers::gpr32::{eax, ecx, edx, r14d, r15d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{
    AsmMemoryOperand, AsmRegister64, CodeAssembler, dword_ptr, ptr, qword_ptr,
};

use super::assembler::Mark;
use super::body::{Body, Space, in_block};
use super::copy::copy_words;
use super::template::{Frame, Unsupported};
use crate::program::table::{BORN, FULL, HEADER, KEY, MULTIPLIER, SEARCH, TAG};
use crate::program::{Home, Key, KeyPart, Table};

/// Where a table's words are.
#[derive(Clone, Copy)]
pub(super) struct Access {
    space: Space,
    /// Address of the table, in its space.
    base: u64,
}

impl Access {
    /// A word of the slot at `r14`.
    pub(super) fn slot(&self, offset: u32) -> AsmMemoryOperand {
        let at = self.base + u64::from(HEADER + offset);
        in_block(self.space, qword_ptr(r14 + at))
    }

    /// A word of the only slot.
    pub(super) fn only(&self, offset: u32) -> AsmMemoryOperand {
        let at = self.base + u64::from(HEADER + offset);
        in_block(self.space, qword_ptr(at))
    }

    /// The word of the slot that `index` counts.
    pub(super) fn indexed(
        &self,
        keyed: bool,
        index: AsmRegister64,
        offset: u32,
    ) -> AsmMemoryOperand {
        let at = self.base + u64::from(HEADER + offset);
        let operand = if keyed {
            qword_ptr(r14 + index * 8 + at)
        } else {
            qword_ptr(index * 8 + at)
        };
        in_block(self.space, operand)
    }

    /// The word that `index` counts, from an offset in the table on.
    pub(super) fn word_at(&self, index: AsmRegister64, offset: u64) -> AsmMemoryOperand {
        in_block(self.space, qword_ptr(index * 8 + (self.base + offset)))
    }

    /// A word of the table's header.
    pub(super) fn header(&self, offset: u32) -> AsmMemoryOperand {
        in_block(self.space, qword_ptr(self.base + u64::from(offset)))
    }

    /// For an instruction that changes a word of the table.
    pub(super) fn changing(self, frame: &mut Frame) -> &mut CodeAssembler {
        self.space.changing(&mut frame.out)
    }
}

/// A key while its slot is looked for.
#[derive(Clone, Copy)]
pub(super) enum Sought {
    Word(AsmRegister64),
    Scratch(u32),
}

impl Body<'_> {
    pub(super) fn access(&self, table: &Table) -> Access {
        match table.home {
            Home::Thread => Access {
                space: self.space,
                base: u64::from(self.environment.shared_block)
                    + u64::from(self.environment.layout.tables())
                    + u64::from(table.offset),
            },
            Home::Session => Access {
                space: Space::Shared,
                base: u64::from(self.environment.maps) + u64::from(table.offset),
            },
        }
    }

    /// Finds the slot of a key. Where there is none, takes a free one, or goes on at `missing`; also
    /// when all that may be looked at are taken, which is counted.
    pub(super) fn find(
        &mut self,
        table: &Table,
        key: Key,
        insert: bool,
        missing: Mark,
    ) -> Result<(), Unsupported> {
        let access = self.access(table);
        let sought = self.sought(key)?;
        self.hash_of(table, sought)?;
        let size = table.slot_size().cast_signed();
        let all = i32::try_from(u64::from(table.slots) * u64::from(table.slot_size()));
        let all = all.map_err(|_| Unsupported("a map that is too large".to_owned()))?;
        let tries = SEARCH.min(table.slots);
        let [again, other, found] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_other, to_found) = (self.frame.out.to(other), self.frame.out.to(found));
        let to_again = self.frame.out.to(again);
        let to_missing = self.frame.out.to(missing);
        let asm = &mut self.frame.out.asm;
        asm.mov(r14d, eax)?;
        asm.and(r14d, (table.slots - 1).cast_signed())?;
        asm.imul_3(r14d, r14d, size)?;
        asm.mov(r15d, tries)?;
        self.frame.out.here(again)?;
        self.frame.out.asm.cmp(access.slot(TAG), rax)?;
        self.frame.out.asm.jne(to_other)?;
        self.same_key(table, &access, sought, other, Some(found))?;
        self.frame.out.here(found)?;
        let words = table.key.iter().map(|part| part.size() / 8).sum();
        let scratch = self.scratch_base(0);
        let space = self.space;
        self.frame.later(move |frame| {
            let [free, full] = std::array::from_fn(|_| frame.out.mark());
            let (to_free, to_full) = (frame.out.to(free), frame.out.to(full));
            frame.out.here(other)?;
            frame.out.asm.cmp(access.slot(TAG), 0)?;
            frame.out.asm.je(to_free)?;
            let asm = &mut frame.out.asm;
            asm.xor(ecx, ecx)?;
            asm.add(r14d, size)?;
            asm.cmp(r14d, all)?;
            asm.cmovae(r14d, ecx)?;
            asm.dec(r15d)?;
            asm.jne(to_again)?;
            asm.jmp(if insert { to_full } else { to_missing })?;
            frame.out.here(free)?;
            if !insert {
                frame.out.asm.jmp(to_missing)?;
                return Ok(frame.out.here(full)?);
            }
            take(frame, &access, to_again)?;
            match sought {
                Sought::Word(word) => frame.out.asm.mov(access.slot(KEY), word)?,
                Sought::Scratch(at) => {
                    let from = scratch + u64::from(at);
                    copy_words(frame, words, |index| match index {
                        None => (
                            in_block(space, ptr(rbx + r10 * 8 + from)),
                            access.indexed(true, r10, KEY),
                        ),
                        Some(index) => (
                            in_block(space, ptr(rbx + (from + 8 * u64::from(index)))),
                            access.slot(KEY + 8 * index),
                        ),
                    })?;
                }
            }
            frame.out.asm.mov(access.slot(BORN), 1)?;
            frame.out.asm.jmp(to_found)?;
            frame.out.here(full)?;
            access.changing(frame).inc(access.header(FULL))?;
            Ok(frame.out.asm.jmp(to_missing)?)
        });
        Ok(())
    }

    /// Computes a key that is a single word.
    pub(super) fn sought(&mut self, key: Key) -> Result<Sought, Unsupported> {
        match key {
            Key::Word(value) => Ok(Sought::Word(self.evaluate(value, 0)?)),
            Key::Scratch(at) => Ok(Sought::Scratch(at)),
            Key::None => Err(Unsupported("a map without keys has no slots".to_owned())),
        }
    }

    /// `rax` = the tag of a key.
    pub(super) fn hash_of(&mut self, table: &Table, sought: Sought) -> Result<(), Unsupported> {
        match sought {
            Sought::Word(word) => self.hash_word(word),
            Sought::Scratch(at) => self.hash(table, at),
        }
    }

    /// The tag of a single word.
    fn hash_word(&mut self, word: AsmRegister64) -> Result<(), Unsupported> {
        let asm = &mut self.frame.out.asm;
        asm.mov(rax, MULTIPLIER)?;
        asm.imul_2(rax, word)?;
        self.mixed()?;
        self.never_zero()
    }

    /// What ends the mixing in of a word: the product in `rax`, and its upper half over the lower.
    fn mixed(&mut self) -> Result<(), Unsupported> {
        let asm = &mut self.frame.out.asm;
        asm.mov(rcx, rax)?;
        asm.shr(rcx, 32)?;
        Ok(asm.xor(rax, rcx)?)
    }

    fn never_zero(&mut self) -> Result<(), Unsupported> {
        let asm = &mut self.frame.out.asm;
        asm.cmp(rax, 1)?;
        Ok(asm.adc(rax, 0)?)
    }

    /// The tag of a key in scratch memory.
    fn hash(&mut self, table: &Table, at: u32) -> Result<(), Unsupported> {
        let (space, base) = (self.space, self.scratch_base(at));
        let word = |offset: u32| in_block(space, qword_ptr(rbx + (base + u64::from(offset))));
        self.frame.out.asm.xor(eax, eax)?;
        self.constant(rdx, MULTIPLIER)?;
        let mut offset = 0;
        for part in &table.key {
            self.frame.out.asm.xor(rax, word(offset))?;
            self.frame.out.asm.imul_2(rax, rdx)?;
            self.mixed()?;
            if let KeyPart::Bytes(size) = part {
                // Words that hold bytes of the string; what is behind them does not count.
                let [next, end] = std::array::from_fn(|_| self.frame.out.mark());
                let (to_next, to_end) = (self.frame.out.to(next), self.frame.out.to(end));
                let bytes = in_block(
                    space,
                    qword_ptr(rbx + r14 * 8 + (base + u64::from(offset + 8))),
                );
                let most = size.saturating_sub(8) / 8;
                let out = &mut self.frame.out;
                out.asm.mov(r15d, dword_ptr(word(offset)))?;
                out.asm.add(r15d, 7)?;
                out.asm.shr(r15d, 3)?;
                out.asm.mov(ecx, most)?;
                out.asm.cmp(r15d, ecx)?;
                out.asm.cmova(r15d, ecx)?;
                out.asm.xor(r14d, r14d)?;
                out.here(next)?;
                out.asm.cmp(r14d, r15d)?;
                out.asm.jae(to_end)?;
                out.asm.xor(rax, bytes)?;
                out.asm.imul_2(rax, rdx)?;
                self.mixed()?;
                let out = &mut self.frame.out;
                out.asm.inc(r14d)?;
                out.asm.jmp(to_next)?;
                out.here(end)?;
            }
            offset += part.size();
        }
        self.never_zero()
    }

    /// The tags are the same: goes on at `other` unless the keys are, too. A slot that is not born
    /// yet has no key to compare: then it goes on at `unborn`, where there may be such.
    pub(super) fn same_key(
        &mut self,
        table: &Table,
        access: &Access,
        sought: Sought,
        other: Mark,
        unborn: Option<Mark>,
    ) -> Result<(), Unsupported> {
        let to_other = self.frame.out.to(other);
        let to_unborn = unborn.map(|unborn| self.frame.out.to(unborn));
        let at = match sought {
            Sought::Word(word) => {
                let Some(to_unborn) = to_unborn else {
                    self.frame.out.asm.cmp(access.slot(KEY), word)?;
                    return Ok(self.frame.out.asm.jne(to_other)?);
                };
                let unlike = self.frame.out.mark();
                let to_unlike = self.frame.out.to(unlike);
                self.frame.out.asm.cmp(access.slot(KEY), word)?;
                self.frame.out.asm.jne(to_unlike)?;
                let born = access.slot(BORN);
                self.frame.later(move |frame| {
                    frame.out.here(unlike)?;
                    frame.out.asm.cmp(born, 0)?;
                    frame.out.asm.je(to_unborn)?;
                    Ok(frame.out.asm.jmp(to_other)?)
                });
                return Ok(());
            }
            Sought::Scratch(at) => at,
        };
        if let Some(to_unborn) = to_unborn {
            self.frame.out.asm.cmp(access.slot(BORN), 0)?;
            self.frame.out.asm.je(to_unborn)?;
        }
        let (space, base) = (self.space, self.scratch_base(at));
        let mut offset = 0;
        for part in &table.key {
            let word = in_block(space, qword_ptr(rbx + (base + u64::from(offset))));
            self.frame.out.asm.mov(rdx, word)?;
            self.frame.out.asm.cmp(access.slot(KEY + offset), rdx)?;
            self.frame.out.asm.jne(to_other)?;
            if let KeyPart::Bytes(size) = part {
                // From the last word that counts down to the first.
                let [next, end] = std::array::from_fn(|_| self.frame.out.mark());
                let (to_next, to_end) = (self.frame.out.to(next), self.frame.out.to(end));
                let behind = u64::from(offset);
                let ours = in_block(space, qword_ptr(rbx + rcx * 8 + (base + behind)));
                let slot = access.base + u64::from(HEADER + KEY) + behind;
                let theirs = in_block(access.space, qword_ptr(r14 + rcx * 8 + slot));
                let most = size.saturating_sub(8) / 8;
                let out = &mut self.frame.out;
                out.asm.mov(ecx, edx)?;
                out.asm.add(ecx, 7)?;
                out.asm.shr(ecx, 3)?;
                out.asm.mov(edx, most)?;
                out.asm.cmp(ecx, edx)?;
                out.asm.cmova(ecx, edx)?;
                out.here(next)?;
                out.asm.test(ecx, ecx)?;
                out.asm.je(to_end)?;
                out.asm.mov(rdx, ours)?;
                out.asm.cmp(theirs, rdx)?;
                out.asm.jne(to_other)?;
                out.asm.dec(ecx)?;
                out.asm.jmp(to_next)?;
                out.here(end)?;
            }
            offset += part.size();
        }
        Ok(())
    }
}

/// Takes the free slot at `r14` for the tag in `rax`, or looks again at who has taken it.
fn take(
    frame: &mut Frame,
    access: &Access,
    to_again: iced_x86::code_asm::CodeLabel,
) -> Result<(), Unsupported> {
    frame.out.asm.mov(rdx, rax)?;
    frame.out.asm.xor(eax, eax)?;
    access.changing(frame).cmpxchg(access.slot(TAG), rdx)?;
    // The flags stay through a mov.
    frame.out.asm.mov(rax, rdx)?;
    Ok(frame.out.asm.jne(to_again)?)
}
