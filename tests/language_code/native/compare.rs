//! What code has left behind, against what it should have: records, counters, tables.

use kptrace::abi;
use kptrace::base::ProbeId;
use kptrace::program::table::{BORN, FULL, HEADER, KEY, LIFE, TAG};
use kptrace::sys::native::trial;

use super::{Arena, Case, Input, LAYOUT, Mode, probe};
use crate::evaluator::{Left, Map, State, spread};

impl Arena {
    pub(super) fn records(
        &self,
        case: &Case,
        block: u64,
        from: u64,
        input: &Input,
    ) -> Result<(), String> {
        let ring = block + u64::from(LAYOUT.ring());
        let mask = u64::from(LAYOUT.ring_size) - 1;
        let mut position = from;
        for (number, leaf) in input.expected.iter().enumerate() {
            let record = |what: &str| format!("record {number} ({leaf:?}): {what}");
            let at = ring + (position & mask);
            let word = |offset: u32| self.blocks.load(at + u64::from(offset));
            same(&record("position"), word(abi::REC_POSITION), position)?;
            let name = u64::from(leaf.probe) | u64::from(leaf.action) << abi::PROBE_BITS;
            let fault = |(bit, field): (usize, &Left)| {
                u64::from(matches!(field, Left::Fault(_))) << (32 + bit)
            };
            let faults: u64 = leaf.fields.iter().enumerate().map(fault).sum();
            same(&record("name"), word(abi::REC_PROBE), name | faults)?;
            let thread = match case.mode {
                Mode::Shared | Mode::Own => 0,
                Mode::Foreign | Mode::Stale => trial::fs_base(),
            };
            same(&record("thread"), word(abi::REC_THREAD), thread)?;
            same(&record("time"), word(abi::REC_TIME) != 0, leaf.time)?;
            let program = (0..case.programs.len()).find(|&n| probe(case, n).0 == leaf.probe);
            let records = case.programs[program.expect("a probe")].records();
            let form = records.iter().find(|form| form.action == leaf.action);
            let (offsets, size) = form.expect("a record").layout();
            for (index, (field, offset)) in leaf.fields.iter().zip(offsets).enumerate() {
                let what = record(&format!("field {index}"));
                match field {
                    Left::Word(value) | Left::Fault(value) => same(&what, word(offset), *value)?,
                    Left::Str(bytes, flags) => {
                        let head = bytes.len() as u64 | u64::from(*flags) << 32;
                        same(&what, word(offset), head)?;
                        let mut found = vec![0; bytes.len()];
                        let at = at + u64::from(offset + abi::STR_BYTES);
                        assert!(self.blocks.copy_out(at, &mut found));
                        same(&what, &found, bytes)?;
                    }
                    Left::Words(words) => {
                        for (offset, expected) in (offset..).step_by(8).zip(words) {
                            if let Some(expected) = expected {
                                same(&what, word(offset), *expected)?;
                            }
                        }
                    }
                }
            }
            position = position.wrapping_add(u64::from(size));
        }
        let head = self.blocks.load(block + u64::from(abi::HEAD));
        same("the ring's head", head, input.head)?;
        same("the expected head", position, input.head)
    }

    pub(super) fn counters(&self, block: u64, state: &State, taken: u64) -> Result<(), String> {
        let word = |offset: u32| self.blocks.load(block + u64::from(offset));
        for probe in 0..LAYOUT.probes {
            let index = probe as usize;
            same("hits", word(LAYOUT.hits(ProbeId(probe))), state.hits[index])?;
            same("lost", word(LAYOUT.lost(ProbeId(probe))), state.lost[index])?;
        }
        same("all lost", word(abi::LOST), state.lost.iter().sum())?;
        same("faults", word(abi::FAULTS), state.faults)?;
        same("dropped", word(abi::DROPPED), state.dropped)?;
        same("scratch memory in use", word(abi::IN_USE), taken)
    }

    /// Compares a table with what it should hold, slot by slot.
    pub(super) fn map(&self, map: &Map, block: u64) -> Result<(), String> {
        let table = &*map.table;
        let base = u64::from(table.offset);
        let load = |offset: u64| self.table_load(table.home, block, base + offset);
        same("full", load(u64::from(FULL)), map.full)?;
        for (index, slot) in map.slots.iter().enumerate() {
            let at = u64::from(HEADER) + index as u64 * u64::from(table.slot_size());
            let word = |offset: u32| load(at + u64::from(offset));
            let what = |what: &str| format!("slot {index}: {what}");
            if table.is_keyed() {
                let key = slot.key.as_ref().map(|key| spread(table, key));
                let bytes = key.iter().flatten();
                let bytes: Vec<u8> = bytes
                    .flat_map(|word| word.unwrap_or(0).to_le_bytes())
                    .collect();
                let tag = key.as_ref().map_or(0, |_| table.tag(&bytes));
                if table.is_reused() {
                    same(&what("tag"), word(TAG), slot.tag)?;
                    same(&what("life"), word(LIFE), u64::from(slot.life) << 32)?;
                    let home = load(table.homes_at() + 8 * index as u64);
                    same(&what("home"), home, map.homes[index])?;
                } else {
                    same(&what("tag"), word(TAG), tag)?;
                    same(&what("born"), word(BORN), u64::from(key.is_some()))?;
                }
                for (offset, expected) in (KEY..).step_by(8).zip(key.iter().flatten()) {
                    if let Some(expected) = expected {
                        same(&what("key"), word(offset), *expected)?;
                    }
                }
            }
            let cell = table.cell_at();
            for (number, expected) in (0..).zip(&slot.cell) {
                if let Some(expected) = expected {
                    let cell_word = what(&format!("word {number}"));
                    same(&cell_word, word(cell + 8 * number), *expected)?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:x?}, not {expected:x?}"))
}
