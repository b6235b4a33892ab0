//! Tables that keys leave: search, putting a key in, being at work on its cell, taking it away. See
//! [`crate::program::table`] for the protocol and why it is right. Knows nothing of what cells mean.
//!
//! While a slot is looked for, `rax` holds the tag, `r14` the slot's offset, `r15d` its life; `rcx` and
//! `rdx` are lost, `r10` where a long key or cell is put in. What finds no register stands below `rsp`,
//! where signals leave 128 bytes alone and nothing is pushed meanwhile.
//!
//! Invariant: between [`Body::enter`] and its end the slot at `r14` is taken by nobody else.

use iced_x86::code_asm::registers::gpr32::{eax, ecx, edx, r14d, r15d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, CodeLabel, dword_ptr, ptr, qword_ptr};

use super::assembler::Mark;
use super::body::{Body, in_block};
use super::copy::copy_words;
use super::find::{Access, Sought};
use super::map::{CellAt, clear_words};
use super::template::{Frame, Unsupported};
use crate::program::table::{FULL, KEY, LIFE, SEARCH, TAG, home, life};
use crate::program::{Cell, Key, MapOp, Table};

/// How many slots are still to be looked at, and one; then how far the free one is.
const COUNT: i32 = -8;
/// The home's word.
const SEEN: i32 = -16;
/// The tag.
const KEPT: i32 = -24;
/// The life of an entry that is gone over.
pub(super) const ENTRY: i32 = -8;

/// What the search needs to know of a table.
#[derive(Clone, Copy)]
struct Shape {
    access: Access,
    mask: i32,
    size: i32,
    all: i32,
    tries: i32,
    homes: u64,
}

impl Shape {
    /// The word of the home that `rcx` counts.
    fn home(&self) -> AsmMemoryOperand {
        self.access.word_at(rcx, self.homes)
    }

    /// `r14` = the home of the tag in `rax`.
    fn go_home(&self, frame: &mut Frame) -> Result<(), Unsupported> {
        let asm = &mut frame.out.asm;
        asm.mov(r14d, eax)?;
        asm.and(r14d, self.mask)?;
        Ok(asm.imul_3(r14d, r14d, self.size)?)
    }

    /// `rcx` = the number of the home of the tag in `rax`.
    fn number(&self, frame: &mut Frame) -> Result<(), Unsupported> {
        frame.out.asm.mov(ecx, eax)?;
        Ok(frame.out.asm.and(ecx, self.mask)?)
    }

    /// To the next slot. Loses `rdx`.
    fn step(&self, frame: &mut Frame) -> Result<(), Unsupported> {
        let asm = &mut frame.out.asm;
        asm.xor(edx, edx)?;
        asm.add(r14d, self.size)?;
        asm.cmp(r14d, self.all)?;
        Ok(asm.cmovae(r14d, edx)?)
    }
}

impl Access {
    /// The upper half of the life of the slot at `r14`.
    pub(super) fn life(&self) -> AsmMemoryOperand {
        dword_ptr(self.slot(LIFE + 4))
    }
}

/// Whether an operation reads one word and leaves the slot as it is: it need not be at work.
fn only_looks(kind: Cell, op: &MapOp) -> bool {
    matches!(op, MapOp::Get(_) | MapOp::Has(_))
        && matches!(kind, Cell::Count | Cell::Sum | Cell::Word)
}

impl Body<'_> {
    /// An operation on a table that keys leave.
    pub(super) fn map_live(
        &mut self,
        table: &Table,
        cell: CellAt,
        (key, op): (Key, &MapOp),
        insert: bool,
    ) -> Result<(), Unsupported> {
        let [restart, leave, after] = std::array::from_fn(|_| self.frame.out.mark());
        let missing = self.unanswered(table.cell, op, after);
        self.find_live(table, key, insert, restart, missing)?;
        let access = self.access(table);
        if let MapOp::Get(local) | MapOp::Has(local) = *op
            && only_looks(table.cell, op)
        {
            if let MapOp::Get(_) = op {
                self.present_value(table.cell, cell)?;
            } else {
                self.is_present(table.cell, cell)?;
            }
            self.frame.out.asm.cmp(access.life(), r15d)?;
            let to_restart = self.frame.out.to(restart);
            self.frame.out.asm.jne(to_restart)?;
            let slot = self.local(local);
            self.frame.out.asm.mov(slot, rax)?;
            return Ok(self.frame.out.here(after)?);
        }
        self.enter(access, restart)?;
        match *op {
            MapOp::Delete(existed) => {
                let gone = self.frame.out.mark();
                let to_gone = self.frame.out.to(gone);
                let existed = existed.map(|local| self.local(local));
                let to_leave = self.frame.out.to(leave);
                self.is_present(table.cell, cell)?;
                if let Some(slot) = existed {
                    self.frame.out.asm.mov(slot, rax)?;
                }
                // What was put in and has no value yet gets it after us; but of minima and maxima the
                // tracer may hold it.
                if !matches!(table.cell, Cell::Least { .. } | Cell::Greatest { .. }) {
                    self.frame.out.asm.test(eax, eax)?;
                    self.frame.out.asm.je(to_leave)?;
                }
                kill(self.frame, access, to_gone)?;
                self.frame.later(move |frame| {
                    // Somebody else has taken it away.
                    frame.out.here(gone)?;
                    if let Some(slot) = existed {
                        frame.out.asm.mov(slot, 0)?;
                    }
                    Ok(frame.out.asm.jmp(to_leave)?)
                });
            }
            _ => self.perform(table, cell, op, (leave, Some(restart)))?,
        }
        self.frame.out.here(leave)?;
        leave_slot(self.frame, access)?;
        Ok(self.frame.out.here(after)?)
    }

    /// Counts itself among those at work on the slot, unless it no longer has the life in `r15d`.
    fn enter(&mut self, access: Access, restart: Mark) -> Result<(), Unsupported> {
        let stale = self.frame.out.mark();
        let to_stale = self.frame.out.to(stale);
        let to_restart = self.frame.out.to(restart);
        self.frame.out.asm.mov(eax, 1)?;
        access.changing(self.frame).xadd(access.slot(LIFE), rax)?;
        let asm = &mut self.frame.out.asm;
        asm.shr(rax, 32)?;
        asm.cmp(eax, r15d)?;
        asm.jne(to_stale)?;
        self.frame.later(move |frame| {
            frame.out.here(stale)?;
            leave_slot(frame, access)?;
            Ok(frame.out.asm.jmp(to_restart)?)
        });
        Ok(())
    }

    /// Finds the slot of a key that is alive; `r15d` is its life then. Where there is none, puts it in,
    /// or goes on at `missing`.
    fn find_live(
        &mut self,
        table: &Table,
        key: Key,
        insert: bool,
        restart: Mark,
        missing: Mark,
    ) -> Result<(), Unsupported> {
        let large = |_| Unsupported("a map that is too large".to_owned());
        let access = self.access(table);
        let shape = Shape {
            access,
            mask: (table.slots - 1).cast_signed(),
            size: table.slot_size().cast_signed(),
            all: i32::try_from(u64::from(table.slots) * u64::from(table.slot_size()))
                .map_err(large)?,
            tries: SEARCH.min(table.slots).cast_signed(),
            homes: table.homes_at(),
        };
        let sought = self.sought(key)?;
        self.frame.out.here(restart)?;
        self.hash_of(table, sought)?;
        shape.go_home(self.frame)?;
        self.frame.out.asm.mov(dword_ptr(rsp + COUNT), 0)?;
        let [again, other, found] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_other, to_found) = (self.frame.out.to(other), self.frame.out.to(found));
        let (to_again, to_missing) = (self.frame.out.to(again), self.frame.out.to(missing));
        self.frame.out.here(again)?;
        let asm = &mut self.frame.out.asm;
        asm.cmp(access.slot(TAG), rax)?;
        asm.jne(to_other)?;
        asm.mov(r15d, access.life())?;
        asm.test(r15d, life::ALIVE.cast_signed())?;
        asm.je(to_other)?;
        self.same_key(table, &access, sought, other, None)?;
        self.frame.out.here(found)?;
        let put = Put {
            sought,
            scratch: self.scratch_base(0),
            key: table.key.iter().map(|part| part.size() / 8).sum(),
            cell: CellAt::of(access, table),
            words: table.cell.words(),
        };
        let space = self.space;
        self.frame.later(move |frame| {
            let [first, last] = std::array::from_fn(|_| frame.out.mark());
            let (to_first, to_last) = (frame.out.to(first), frame.out.to(last));
            frame.out.here(other)?;
            let asm = &mut frame.out.asm;
            asm.sub(dword_ptr(rsp + COUNT), 1)?;
            asm.jb(to_first)?;
            asm.je(if insert { to_last } else { to_missing })?;
            shape.step(frame)?;
            frame.out.asm.jmp(to_again)?;
            frame.out.here(first)?;
            if insert {
                make_sure(frame, shape)?;
                frame.out.asm.jmp(to_again)?;
            } else {
                // The home's slot was looked at: only what is further is left.
                shape.number(frame)?;
                let asm = &mut frame.out.asm;
                asm.mov(edx, dword_ptr(shape.home()))?;
                asm.and(edx, home::BOUND as i32)?;
                asm.inc(edx)?;
                asm.mov(dword_ptr(rsp + COUNT), edx)?;
                let to_other = frame.out.to(other);
                frame.out.asm.jmp(to_other)?;
            }
            frame.out.here(last)?;
            if insert {
                put_in(frame, shape, &put, space, (to_first, to_found, to_missing))?;
            }
            Ok(())
        });
        Ok(())
    }
}

/// What is put into a slot.
struct Put {
    sought: Sought,
    /// Where scratch memory begins.
    scratch: u64,
    /// Words of the key.
    key: u32,
    cell: CellAt,
    /// Words of the cell.
    words: u32,
}

/// Before a key is put in: reads the home's word, makes alive what it names, and begins at the home.
fn make_sure(frame: &mut Frame, shape: Shape) -> Result<(), Unsupported> {
    let known = frame.out.mark();
    let to_known = frame.out.to(known);
    let access = shape.access;
    shape.number(frame)?;
    let asm = &mut frame.out.asm;
    asm.mov(qword_ptr(rsp + KEPT), rax)?;
    asm.mov(rdx, shape.home())?;
    asm.mov(qword_ptr(rsp + SEEN), rdx)?;
    asm.test(rdx, rdx)?;
    asm.je(to_known)?;
    asm.mov(r14d, edx)?;
    asm.shr(r14d, home::STEPS)?;
    asm.and(r14d, home::BOUND as i32)?;
    asm.add(r14d, ecx)?;
    asm.and(r14d, shape.mask)?;
    asm.imul_3(r14d, r14d, shape.size)?;
    asm.mov(rax, rdx)?;
    asm.shr(rax, home::LIFE)?;
    // Seldom so: a look costs less than a lock.
    asm.cmp(access.life(), eax)?;
    asm.jne(to_known)?;
    asm.lea(ecx, qword_ptr(rax + (life::ALIVE - life::CLAIMED)))?;
    access.changing(frame).cmpxchg(access.life(), ecx)?;
    frame.out.here(known)?;
    let asm = &mut frame.out.asm;
    asm.mov(rax, qword_ptr(rsp + KEPT))?;
    asm.and(edx, home::BOUND as i32)?;
    asm.inc(edx)?;
    asm.mov(dword_ptr(rsp + COUNT), edx)?;
    shape.go_home(frame)
}

/// The key in nowhere as far as the bound of the home's word that was read: puts it in.
fn put_in(
    frame: &mut Frame,
    shape: Shape,
    put: &Put,
    space: super::body::Space,
    (to_first, to_found, to_missing): (CodeLabel, CodeLabel, CodeLabel),
) -> Result<(), Unsupported> {
    let access = shape.access;
    let [look, claim, full, late] = std::array::from_fn(|_| frame.out.mark());
    let (to_look, to_claim, to_full) =
        (frame.out.to(look), frame.out.to(claim), frame.out.to(full));
    let to_late = frame.out.to(late);
    shape.go_home(frame)?;
    frame.out.asm.mov(dword_ptr(rsp + COUNT), 0)?;
    frame
        .out
        .asm
        .mov(rcx, u64::from(life::STATE) << 32 | u64::from(u32::MAX))?;
    frame.out.here(look)?;
    let asm = &mut frame.out.asm;
    asm.mov(rax, access.slot(LIFE))?;
    asm.test(rax, rcx)?;
    asm.je(to_claim)?;
    asm.mov(edx, dword_ptr(rsp + COUNT))?;
    asm.inc(edx)?;
    asm.cmp(edx, shape.tries)?;
    asm.jae(to_full)?;
    asm.mov(dword_ptr(rsp + COUNT), edx)?;
    shape.step(frame)?;
    frame.out.asm.jmp(to_look)?;

    frame.out.here(claim)?;
    frame.out.asm.mov(r15, u64::from(life::CLAIM) << 32)?;
    frame.out.asm.add(r15, rax)?;
    access.changing(frame).cmpxchg(access.slot(LIFE), r15)?;
    let asm = &mut frame.out.asm;
    asm.mov(rax, qword_ptr(rsp + KEPT))?;
    asm.jne(to_first)?;
    asm.shr(r15, 32)?;
    asm.mov(access.slot(TAG), rax)?;
    match put.sought {
        Sought::Word(word) => asm.mov(access.slot(KEY), word)?,
        Sought::Scratch(at) => {
            let from = put.scratch + u64::from(at);
            copy_words(frame, put.key, |index| match index {
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
    clear_words(frame, put.words, |index| match index {
        None => put.cell.indexed(r10, 0),
        Some(index) => put.cell.word(index),
    })?;
    let enough = frame.out.mark();
    let to_enough = frame.out.to(enough);
    let asm = &mut frame.out.asm;
    asm.mov(edx, r15d)?;
    asm.shl(rdx, home::LIFE - home::STEPS)?;
    asm.mov(ecx, dword_ptr(rsp + COUNT))?;
    asm.or(rdx, rcx)?;
    asm.shl(rdx, home::STEPS)?;
    asm.mov(eax, dword_ptr(rsp + SEEN))?;
    asm.and(eax, home::BOUND as i32)?;
    asm.cmp(eax, ecx)?;
    asm.jae(to_enough)?;
    asm.mov(eax, ecx)?;
    frame.out.here(enough)?;
    frame.out.asm.or(rdx, rax)?;
    frame.out.asm.mov(rax, qword_ptr(rsp + KEPT))?;
    shape.number(frame)?;
    frame.out.asm.mov(rax, qword_ptr(rsp + SEEN))?;
    access.changing(frame).cmpxchg(shape.home(), rdx)?;
    frame.out.asm.jne(to_late)?;
    // Somebody else may have made it alive, or taken it away again: who enters will see.
    frame.out.asm.mov(eax, r15d)?;
    frame
        .out
        .asm
        .add(r15d, (life::ALIVE - life::CLAIMED).cast_signed())?;
    access.changing(frame).cmpxchg(access.life(), r15d)?;
    frame.out.asm.jmp(to_found)?;

    // Another key came to this home: the slot goes back.
    frame.out.here(late)?;
    frame.out.asm.sub(r15d, life::CLAIMED.cast_signed())?;
    frame.out.asm.mov(access.life(), r15d)?;
    frame.out.asm.mov(rax, qword_ptr(rsp + KEPT))?;
    frame.out.asm.jmp(to_first)?;

    frame.out.here(full)?;
    access.changing(frame).inc(access.header(FULL))?;
    Ok(frame.out.asm.jmp(to_missing)?)
}

/// Takes the key of the slot away, or goes on at `to_gone` where that was done. Loses `rax`, `rdx`.
pub(super) fn kill(
    frame: &mut Frame,
    access: Access,
    to_gone: CodeLabel,
) -> Result<(), Unsupported> {
    let asm = &mut frame.out.asm;
    asm.mov(eax, access.life())?;
    asm.test(eax, life::ALIVE.cast_signed())?;
    asm.je(to_gone)?;
    asm.lea(edx, qword_ptr(rax - life::ALIVE.cast_signed()))?;
    access.changing(frame).cmpxchg(access.life(), edx)?;
    Ok(frame.out.asm.jne(to_gone)?)
}

/// Is at work on the slot no longer.
pub(super) fn leave_slot(frame: &mut Frame, access: Access) -> Result<(), Unsupported> {
    Ok(access.changing(frame).dec(access.slot(LIFE))?)
}
