//! Operations on maps, once the slot is found. See [`crate::program::table`] for the cells.
//!
//! Every operation is right when a signal handler that does the same comes in anywhere: sums are one
//! instruction, maxima a compare-and-exchange, wide values have a version.

use iced_x86::code_asm::registers::gpr8::cl;
use iced_x86::code_asm::registers::gpr32::{eax, ecx, edx, r10d, r14d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, AsmRegister64, dword_ptr, ptr, qword_ptr};

use super::assembler::Mark;
use super::body::{Body, in_block};
use super::copy::{UNROLLED, copy_words};
use super::find::Access;
use super::live;
use super::template::{Frame, Unsupported};
use super::wide::Wide;
use crate::abi;
use crate::program::table::{KEY, life};
use crate::program::{Cell, Each, Key, MapOp, Table, Value};

/// A cell's words.
#[derive(Clone, Copy)]
pub(super) struct CellAt {
    pub(super) access: Access,
    keyed: bool,
    at: u32,
}

impl CellAt {
    pub(super) fn of(access: Access, table: &Table) -> CellAt {
        CellAt {
            access,
            keyed: table.is_keyed(),
            at: table.cell_at(),
        }
    }

    pub(super) fn word(&self, index: u32) -> AsmMemoryOperand {
        let offset = self.at + 8 * index;
        if self.keyed {
            self.access.slot(offset)
        } else {
            self.access.only(offset)
        }
    }

    /// The word behind the first `skip` that a register counts.
    pub(super) fn indexed(&self, index: AsmRegister64, skip: u32) -> AsmMemoryOperand {
        self.access.indexed(self.keyed, index, self.at + 8 * skip)
    }
}

impl Body<'_> {
    pub(super) fn map(&mut self, table: &Table, key: Key, op: &MapOp) -> Result<(), Unsupported> {
        if let MapOp::Len(local) = *op {
            let slot = self.local(local);
            return self.entries(table, slot);
        }
        let cell = CellAt::of(self.access(table), table);
        let insert = matches!(
            op,
            MapOp::Aggregate(_) | MapOp::Set(_) | MapOp::SetScratch(_) | MapOp::Add(..)
        );
        if table.is_reused() {
            return self.map_live(table, cell, (key, op), insert);
        }
        let after = self.frame.out.mark();
        if table.is_keyed() {
            let missing = self.unanswered(table.cell, op, after);
            self.find(table, key, insert, missing)?;
        }
        self.perform(table, cell, op, (after, None))?;
        Ok(self.frame.out.here(after)?)
    }

    /// Where it goes on when there is no entry: out of line the answer is put into its place, where
    /// there is one; not before, since the key and the value may be made of what stands there.
    pub(super) fn unanswered(&mut self, kind: Cell, op: &MapOp, after: Mark) -> Mark {
        let (space, scratch) = (self.space, self.scratch_base(0));
        let slot = match *op {
            MapOp::Get(local) | MapOp::Has(local) | MapOp::Delete(Some(local)) => local,
            MapOp::Add(_, Some(old)) => old,
            MapOp::GetScratch(at) => {
                let missing = self.frame.out.mark();
                let to = scratch + u64::from(at);
                let words = kind.words() - 1;
                self.frame.later(move |frame| {
                    frame.out.here(missing)?;
                    clear_words(frame, words, |index| match index {
                        None => in_block(space, qword_ptr(rbx + r10 * 8 + to)),
                        Some(index) => {
                            in_block(space, qword_ptr(rbx + (to + 8 * u64::from(index))))
                        }
                    })?;
                    let to_after = frame.out.to(after);
                    Ok(frame.out.asm.jmp(to_after)?)
                });
                return missing;
            }
            _ => return after,
        };
        let missing = self.frame.out.mark();
        let slot = self.local(slot);
        self.frame.later(move |frame| {
            frame.out.here(missing)?;
            frame.out.asm.mov(slot, 0)?;
            let to_after = frame.out.to(after);
            Ok(frame.out.asm.jmp(to_after)?)
        });
        missing
    }

    /// Does it. A key that can leave is looked for again at `restart`.
    pub(super) fn perform(
        &mut self,
        table: &Table,
        cell: CellAt,
        op: &MapOp,
        (after, restart): (Mark, Option<Mark>),
    ) -> Result<(), Unsupported> {
        let wide = Wide::of(table.cell, cell);
        match *op {
            MapOp::Aggregate(value) => self.aggregate(table.cell, cell, value),
            MapOp::Get(local) => {
                self.present_value(table.cell, cell)?;
                let slot = self.local(local);
                Ok(self.frame.out.asm.mov(slot, rax)?)
            }
            MapOp::GetScratch(at) => {
                let absent = self.unanswered(table.cell, op, after);
                self.read_wide(wide?, at, absent)
            }
            MapOp::Has(local) => {
                self.is_present(table.cell, cell)?;
                let slot = self.local(local);
                Ok(self.frame.out.asm.mov(slot, rax)?)
            }
            MapOp::Set(value) => {
                let value = self.evaluate(value, 0)?;
                self.frame.out.asm.mov(cell.word(1), value)?;
                Ok(self.frame.out.asm.mov(cell.word(0), 1)?)
            }
            MapOp::SetScratch(at) => self.write_wide(wide?, at, restart),
            MapOp::Add(value, old) => {
                let value = self.evaluate(value, 0)?;
                if old.is_none() {
                    cell.access.changing(self.frame).add(cell.word(1), value)?;
                    return Ok(self.frame.out.asm.mov(cell.word(0), 1)?);
                }
                self.frame.out.asm.mov(rax, value)?;
                cell.access.changing(self.frame).xadd(cell.word(1), rax)?;
                self.frame.out.asm.mov(cell.word(0), 1)?;
                if let Some(old) = old {
                    let slot = self.local(old);
                    self.frame.out.asm.mov(slot, rax)?;
                }
                Ok(())
            }
            MapOp::Delete(existed) => {
                if let Some(local) = existed {
                    self.is_present(table.cell, cell)?;
                    let slot = self.local(local);
                    self.frame.out.asm.mov(slot, rax)?;
                }
                self.empty(table.cell, cell)
            }
            MapOp::Len(_) => Ok(()),
        }
    }

    fn aggregate(
        &mut self,
        kind: Cell,
        cell: CellAt,
        value: Option<Value>,
    ) -> Result<(), Unsupported> {
        let Some(value) = value else {
            return Ok(cell.access.changing(self.frame).inc(cell.word(0))?);
        };
        let value = self.evaluate(value, 0)?;
        match kind {
            Cell::Sum | Cell::Average => {
                cell.access.changing(self.frame).inc(cell.word(0))?;
                Ok(cell.access.changing(self.frame).add(cell.word(1), value)?)
            }
            Cell::Least { .. } | Cell::Greatest { .. } => self.greatest(kind, cell, value),
            Cell::Powers { bits } => self.powers(bits, cell, value),
            Cell::Steps { min, max, step } => self.steps((min, max, step), cell, value),
            Cell::Count | Cell::Word | Cell::Wide(_) => {
                Err(Unsupported("a map that takes no values".to_owned()))
            }
        }
    }

    /// `rcx` = how many words the half of a minimum or maximum that is written lies behind the cell's
    /// start.
    fn half(&mut self) -> Result<(), Unsupported> {
        let epoch = u64::from(self.environment.shared_block + abi::EPOCH);
        let asm = &mut self.frame.out.asm;
        asm.mov(ecx, dword_ptr(epoch))?;
        asm.and(ecx, 1)?;
        Ok(asm.add(ecx, ecx)?)
    }

    fn greatest(
        &mut self,
        kind: Cell,
        cell: CellAt,
        value: AsmRegister64,
    ) -> Result<(), Unsupported> {
        self.half()?;
        self.frame.out.asm.mov(rdx, value)?;
        self.stored(kind, rdx)?;
        let (value, touched) = (cell.indexed(rcx, 0), cell.indexed(rcx, 1));
        let [again, kept] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_again, to_kept) = (self.frame.out.to(again), self.frame.out.to(kept));
        self.frame.out.asm.mov(touched, 1)?;
        self.frame.out.asm.mov(rax, value)?;
        self.frame.out.here(again)?;
        self.frame.out.asm.cmp(rdx, rax)?;
        self.frame.out.asm.jbe(to_kept)?;
        cell.access.changing(self.frame).cmpxchg(value, rdx)?;
        self.frame.out.asm.jne(to_again)?;
        Ok(self.frame.out.here(kept)?)
    }

    /// [`Cell::stored`], which is its own inverse.
    fn stored(&mut self, kind: Cell, value: AsmRegister64) -> Result<(), Unsupported> {
        let asm = &mut self.frame.out.asm;
        if let Cell::Least { signed: true } | Cell::Greatest { signed: true } = kind {
            asm.btc(value, 63)?;
        }
        if let Cell::Least { .. } = kind {
            asm.not(value)?;
        }
        Ok(())
    }

    fn powers(&mut self, bits: u8, cell: CellAt, value: AsmRegister64) -> Result<(), Unsupported> {
        let [negative, after] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_negative, to_after) = (self.frame.out.to(negative), self.frame.out.to(after));
        self.frame.out.asm.test(value, value)?;
        self.frame.out.asm.js(to_negative)?;
        if bits == 0 {
            // 2v + 1 is never 0, and one power above: its power is the bucket below v's.
            self.frame.out.asm.lea(rax, qword_ptr(value + value + 1))?;
            self.frame.out.asm.bsr(rax, rax)?;
            cell.access.changing(self.frame).inc(cell.indexed(rax, 1))?;
        } else {
            let known = self.frame.out.mark();
            let to_known = self.frame.out.to(known);
            let (bits, mask) = (i32::from(bits), (1 << bits) - 1);
            let asm = &mut self.frame.out.asm;
            asm.mov(rax, value)?;
            asm.cmp(rax, mask)?;
            asm.jbe(to_known)?;
            asm.bsr(rcx, rax)?;
            asm.sub(ecx, bits)?;
            asm.shr(rax, cl)?;
            asm.and(eax, mask)?;
            asm.inc(ecx)?;
            asm.shl(ecx, bits)?;
            asm.add(eax, ecx)?;
            self.frame.out.here(known)?;
            cell.access.changing(self.frame).inc(cell.indexed(rax, 1))?;
        }
        self.frame.out.here(after)?;
        self.frame.later(move |frame| {
            frame.out.here(negative)?;
            cell.access.changing(frame).inc(cell.word(0))?;
            Ok(frame.out.asm.jmp(to_after)?)
        });
        Ok(())
    }

    fn steps(
        &mut self,
        (min, max, step): (i64, i64, i64),
        cell: CellAt,
        value: AsmRegister64,
    ) -> Result<(), Unsupported> {
        let [below, above, after] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_below, to_above) = (self.frame.out.to(below), self.frame.out.to(above));
        let to_after = self.frame.out.to(after);
        self.constant(rcx, min.cast_unsigned())?;
        self.constant(rdx, max.cast_unsigned())?;
        let asm = &mut self.frame.out.asm;
        asm.mov(rax, value)?;
        asm.cmp(rax, rcx)?;
        asm.jl(to_below)?;
        asm.cmp(rax, rdx)?;
        asm.jge(to_above)?;
        asm.sub(rax, rcx)?;
        if step > 0 && step.count_ones() == 1 {
            asm.shr(rax, step.trailing_zeros().cast_signed())?;
        } else {
            self.constant(rcx, step.max(1).cast_unsigned())?;
            self.frame.out.asm.xor(edx, edx)?;
            self.frame.out.asm.div(rcx)?;
        }
        cell.access.changing(self.frame).inc(cell.indexed(rax, 1))?;
        self.frame.out.here(after)?;
        let last = Cell::Steps { min, max, step }.words() - 1;
        self.frame.later(move |frame| {
            frame.out.here(below)?;
            cell.access.changing(frame).inc(cell.word(0))?;
            frame.out.asm.jmp(to_after)?;
            frame.out.here(above)?;
            cell.access.changing(frame).inc(cell.word(last))?;
            Ok(frame.out.asm.jmp(to_after)?)
        });
        Ok(())
    }

    /// `rax` = the value of a cell, 0 where there is none.
    pub(super) fn present_value(&mut self, kind: Cell, cell: CellAt) -> Result<(), Unsupported> {
        match kind {
            Cell::Count => self.frame.out.asm.mov(rax, cell.word(0))?,
            Cell::Sum | Cell::Word => self.frame.out.asm.mov(rax, cell.word(1))?,
            Cell::Average => {
                let none = self.frame.out.mark();
                let to_none = self.frame.out.to(none);
                let asm = &mut self.frame.out.asm;
                asm.mov(rcx, cell.word(0))?;
                asm.mov(rax, cell.word(1))?;
                asm.test(rcx, rcx)?;
                asm.jle(to_none)?;
                asm.cqo()?;
                asm.idiv(rcx)?;
                self.frame.out.here(none)?;
            }
            Cell::Least { .. } | Cell::Greatest { .. } => {
                let none = self.frame.out.mark();
                let to_none = self.frame.out.to(none);
                self.half()?;
                self.frame.out.asm.mov(rdx, cell.indexed(rcx, 0))?;
                self.frame.out.asm.mov(rax, cell.indexed(rcx, 1))?;
                self.frame.out.asm.test(rax, rax)?;
                self.frame.out.asm.je(to_none)?;
                self.stored(kind, rdx)?;
                self.frame.out.asm.mov(rax, rdx)?;
                self.frame.out.here(none)?;
            }
            Cell::Powers { .. } | Cell::Steps { .. } | Cell::Wide(_) => {
                return Err(Unsupported("a map whose values are no words".to_owned()));
            }
        }
        Ok(())
    }

    /// `rax` = whether a cell holds something. Loses `rcx`.
    pub(super) fn is_present(&mut self, kind: Cell, cell: CellAt) -> Result<(), Unsupported> {
        use iced_x86::code_asm::registers::gpr8::al;
        match kind {
            Cell::Wide(_) => {
                self.frame.out.asm.mov(rax, cell.word(0))?;
                self.frame.out.asm.shr(eax, 1)?;
                return Ok(self.frame.out.asm.and(eax, 1)?);
            }
            Cell::Least { .. } | Cell::Greatest { .. } => {
                self.half()?;
                return Ok(self.frame.out.asm.mov(rax, cell.indexed(rcx, 1))?);
            }
            Cell::Powers { .. } | Cell::Steps { .. } => {
                let [again, found] = std::array::from_fn(|_| self.frame.out.mark());
                let (to_again, to_found) = (self.frame.out.to(again), self.frame.out.to(found));
                self.frame.out.asm.xor(ecx, ecx)?;
                self.frame.out.here(again)?;
                let asm = &mut self.frame.out.asm;
                asm.mov(rax, cell.indexed(rcx, 0))?;
                asm.test(rax, rax)?;
                asm.jne(to_found)?;
                asm.inc(ecx)?;
                asm.cmp(ecx, kind.words())?;
                asm.jb(to_again)?;
                self.frame.out.here(found)?;
            }
            _ => self.frame.out.asm.mov(rax, cell.word(0))?,
        }
        let asm = &mut self.frame.out.asm;
        asm.test(rax, rax)?;
        asm.setne(al)?;
        Ok(asm.movzx(eax, al)?)
    }

    /// Takes a cell's value away.
    fn empty(&mut self, kind: Cell, cell: CellAt) -> Result<(), Unsupported> {
        if let Cell::Wide(_) = kind {
            return self.take_wide(Wide::of(kind, cell)?);
        }
        clear_words(self.frame, kind.words(), |index| match index {
            None => cell.indexed(r10, 0),
            Some(index) => cell.word(index),
        })
    }

    /// Counts the entries of a map.
    fn entries(&mut self, table: &Table, result: AsmMemoryOperand) -> Result<(), Unsupported> {
        let cell = CellAt::of(self.access(table), table);
        let last = self.last(table)?;
        let [next, none] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_next, to_none) = (self.frame.out.to(next), self.frame.out.to(none));
        self.frame.out.asm.mov(result, 0)?;
        self.frame.out.asm.xor(r14d, r14d)?;
        self.frame.out.here(next)?;
        if table.is_reused() {
            let alive = life::ALIVE.cast_signed();
            self.frame.out.asm.test(cell.access.life(), alive)?;
            self.frame.out.asm.je(to_none)?;
        }
        self.is_present(table.cell, cell)?;
        self.frame.out.asm.add(result, rax)?;
        self.frame.out.here(none)?;
        let asm = &mut self.frame.out.asm;
        asm.add(r14d, table.slot_size().cast_signed())?;
        asm.cmp(r14d, last)?;
        Ok(asm.jbe(to_next)?)
    }

    /// Offset of the last slot.
    fn last(&self, table: &Table) -> Result<i32, Unsupported> {
        let last = u64::from(table.slots.saturating_sub(1)) * u64::from(table.slot_size());
        i32::try_from(last).map_err(|_| Unsupported("a map that is too large".to_owned()))
    }

    pub(super) fn each(&mut self, each: &Each) -> Result<(), Unsupported> {
        let table = &*each.table;
        let cell = CellAt::of(self.access(table), table);
        let last = self.last(table)?;
        let size = table.slot_size().cast_signed();
        let cursor = self.local(each.cursor);
        let [next, end] = std::array::from_fn(|_| self.frame.out.mark());
        let (to_next, to_end) = (self.frame.out.to(next), self.frame.out.to(end));
        self.frame.out.asm.mov(cursor, -size)?;
        self.frame.out.here(next)?;
        let asm = &mut self.frame.out.asm;
        asm.mov(r14, cursor)?;
        asm.add(r14, size)?;
        asm.cmp(r14, last)?;
        asm.jg(to_end)?;
        asm.mov(cursor, r14)?;
        asm.mov(eax, cell.access.life())?;
        asm.test(eax, life::ALIVE.cast_signed())?;
        asm.je(to_next)?;
        asm.mov(dword_ptr(rsp + live::ENTRY), eax)?;
        self.is_present(table.cell, cell)?;
        self.frame.out.asm.test(rax, rax)?;
        self.frame.out.asm.je(to_next)?;
        self.copy_out(&cell, table.key_size() / 8, KEY, each.key)?;
        match Wide::of(table.cell, cell) {
            Ok(wide) => {
                let to = self.scratch(each.cell);
                self.read_wide(wide, each.cell + 8, next)?;
                self.frame.out.asm.mov(to, rax)?;
            }
            Err(_) => self.copy_out(&cell, table.cell.words(), table.cell_at(), each.cell)?,
        }
        // Taken away meanwhile, and perhaps another's.
        let asm = &mut self.frame.out.asm;
        asm.mov(eax, dword_ptr(rsp + live::ENTRY))?;
        asm.cmp(cell.access.life(), eax)?;
        asm.jne(to_next)?;
        self.repeat(next, end, &each.body)
    }

    /// Copies words of the slot at `r14` into scratch memory.
    fn copy_out(
        &mut self,
        cell: &CellAt,
        count: u32,
        from: u32,
        to: u32,
    ) -> Result<(), Unsupported> {
        let (space, to) = (self.space, self.scratch_base(to));
        copy_words(self.frame, count, |index| match index {
            None => (
                cell.access.indexed(true, r10, from),
                in_block(space, ptr(rbx + r10 * 8 + to)),
            ),
            Some(index) => (
                cell.access.slot(from + 8 * index),
                in_block(space, ptr(rbx + (to + 8 * u64::from(index)))),
            ),
        })
    }
}

/// Clears words. `operand` gives one, or, with `r10` as the index, any. Loses `r10` when there are more
/// than [`UNROLLED`].
pub(super) fn clear_words(
    frame: &mut Frame,
    count: u32,
    operand: impl Fn(Option<u32>) -> AsmMemoryOperand,
) -> Result<(), Unsupported> {
    if count <= UNROLLED {
        for index in 0..count {
            frame.out.asm.mov(operand(Some(index)), 0)?;
        }
        return Ok(());
    }
    let again = frame.out.mark();
    let to_again = frame.out.to(again);
    frame.out.asm.xor(r10d, r10d)?;
    frame.out.here(again)?;
    let asm = &mut frame.out.asm;
    asm.mov(operand(None), 0)?;
    asm.inc(r10)?;
    asm.cmp(r10, count.cast_signed())?;
    Ok(asm.jb(to_again)?)
}
