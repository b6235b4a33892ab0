//! What operations on maps mean: the search for a slot, the cells.

use std::mem::discriminant;

use kptrace::base::histogram;
use kptrace::program::table::{SEARCH, home, life, step_bucket};
use kptrace::program::{Cell, Key, KeyPart, MapOp, Table};

use super::{Hit, Refused, Slot, Word, defined};

impl Hit<'_> {
    /// A key in scratch memory: its words that count.
    fn key(&self, table: &Table, at: u32) -> Result<Vec<u64>, Refused> {
        let mut words = Vec::new();
        let mut at = at as usize / 8;
        for part in &table.key {
            let first = defined(self.scratch[at])?;
            words.push(first);
            if let KeyPart::Bytes(size) = part {
                let length = (first as u32).min(size - 8).div_ceil(8) as usize;
                for index in 0..length {
                    words.push(defined(self.scratch[at + 1 + index])?);
                }
            }
            at += part.size() as usize / 8;
        }
        Ok(words)
    }

    /// Puts a key into scratch memory.
    pub(super) fn spread(&mut self, table: &Table, key: &[u64], at: u32) {
        let at = at as usize / 8;
        let words = spread(table, key);
        self.scratch[at..at + words.len()].copy_from_slice(&words);
    }

    /// The slot of a key.
    fn find(&mut self, table: &Table, key: Vec<u64>, insert: bool) -> Option<usize> {
        let bytes: Vec<u8> = spread(table, &key)
            .iter()
            .flat_map(|word| word.unwrap_or(0).to_le_bytes())
            .collect();
        let tag = table.tag(&bytes);
        let first = (tag % u64::from(table.slots)) as usize;
        if table.is_reused() {
            return self.find_alive(table, key, (tag, first), insert);
        }
        let map = &mut self.state.maps[table.map as usize];
        for turn in 0..SEARCH.min(table.slots) as usize {
            let index = (first + turn) % table.slots as usize;
            match &map.slots[index].key {
                Some(other) if *other == key => return Some(index),
                Some(_) => {}
                None if insert => {
                    map.slots[index].key = Some(key);
                    return Some(index);
                }
                None => return None,
            }
        }
        map.full += u64::from(insert);
        None
    }

    /// The slot of a key that can leave.
    fn find_alive(
        &mut self,
        table: &Table,
        key: Vec<u64>,
        (tag, first): (u64, usize),
        insert: bool,
    ) -> Option<usize> {
        let map = &mut self.state.maps[table.map as usize];
        let count = table.slots as usize;
        let bound = map.homes[first] & home::BOUND;
        let near = (0..=bound as usize).map(|steps| (first + steps) % count);
        for index in near {
            if map.slots[index].key.as_ref() == Some(&key) {
                return Some(index);
            }
        }
        if !insert {
            return None;
        }
        for steps in 0..SEARCH.min(table.slots) as usize {
            let index = (first + steps) % count;
            let slot = &mut map.slots[index];
            if slot.key.is_some() {
                continue;
            }
            let claimed = slot.life + life::CLAIM;
            *slot = Slot {
                key: Some(key),
                cell: vec![Some(0); table.cell.words() as usize],
                life: claimed - life::CLAIMED + life::ALIVE,
                tag,
            };
            let steps = steps as u64;
            map.homes[first] =
                u64::from(claimed) << home::LIFE | steps << home::STEPS | bound.max(steps);
            return Some(index);
        }
        map.full += 1;
        None
    }

    pub(super) fn present(&self, kind: Cell, cell: &[Word]) -> bool {
        let word = |index: usize| cell[index].unwrap_or(0);
        match kind {
            Cell::Count | Cell::Sum | Cell::Average | Cell::Word => word(0) != 0,
            Cell::Least { .. } | Cell::Greatest { .. } => word(self.half() + 1) != 0,
            Cell::Powers { .. } | Cell::Steps { .. } => cell.iter().any(|word| *word != Some(0)),
            Cell::Wide(_) => word(0) & 2 != 0,
        }
    }

    fn half(&self) -> usize {
        2 * (self.world.epoch & 1) as usize
    }

    pub(super) fn map(&mut self, table: &Table, key: Key, op: &MapOp) -> Result<(), Refused> {
        let number = table.map as usize;
        let seen = (discriminant(op), discriminant(&table.cell));
        self.state.seen.maps.insert(seen);
        if let MapOp::Len(local) = *op {
            let slots = &self.state.maps[number].slots;
            let count = slots
                .iter()
                .filter(|slot| slot.key.is_some() || !table.is_reused())
                .filter(|slot| self.present(table.cell, &slot.cell))
                .count();
            *self.local(local) = count as u64;
            return Ok(());
        }
        let insert = matches!(
            op,
            MapOp::Aggregate(_) | MapOp::Set(_) | MapOp::SetScratch(_) | MapOp::Add(..)
        );
        let slot = match key {
            Key::None => Some(0),
            Key::Word(value) => {
                let word = self.plain(value)?;
                self.find(table, vec![word], insert)
            }
            Key::Scratch(at) => {
                let key = self.key(table, at)?;
                self.find(table, key, insert)
            }
        };
        let Some(slot) = slot else {
            match *op {
                MapOp::Get(local)
                | MapOp::Has(local)
                | MapOp::Delete(Some(local))
                | MapOp::Add(_, Some(local)) => *self.local(local) = 0,
                MapOp::GetScratch(at) => self.zeros(table.cell, at),
                _ => {}
            }
            return Ok(());
        };
        let cell = self.state.maps[number].slots[slot].cell.clone();
        let mut new = cell.clone();
        let word = |index: usize| cell[index].unwrap_or(0);
        match *op {
            MapOp::Aggregate(value) => {
                let value = value.map(|value| self.plain(value)).transpose()?;
                self.aggregate(table.cell, &mut new, value);
            }
            MapOp::Get(local) => {
                let half = self.half();
                *self.local(local) = match table.cell {
                    Cell::Count => word(0),
                    Cell::Sum | Cell::Word => word(1),
                    Cell::Average if word(0) == 0 => 0,
                    Cell::Average => {
                        let (count, total) = (word(0).cast_signed(), word(1).cast_signed());
                        (total / count).cast_unsigned()
                    }
                    Cell::Least { .. } | Cell::Greatest { .. } if word(half + 1) == 0 => 0,
                    kind => kind.stored(word(half)),
                };
            }
            MapOp::GetScratch(at) if self.present(table.cell, &cell) => {
                let at = at as usize / 8;
                self.scratch[at..at + cell.len() - 1].copy_from_slice(&cell[1..]);
            }
            MapOp::GetScratch(at) => self.zeros(table.cell, at),
            MapOp::Has(local) => *self.local(local) = self.present(table.cell, &cell).into(),
            MapOp::Set(value) => {
                let value = self.plain(value)?;
                new = vec![Some(1), Some(value)];
            }
            MapOp::SetScratch(at) => {
                new[0] = Some(((word(0) & !2) + 4) | 2);
                let at = at as usize / 8;
                new[1..].copy_from_slice(&self.scratch[at..at + cell.len() - 1]);
            }
            MapOp::Add(value, old) => {
                let value = self.plain(value)?;
                new = vec![Some(1), Some(word(1).wrapping_add(value))];
                if let Some(old) = old {
                    *self.local(old) = word(1);
                }
            }
            MapOp::Delete(existed) => {
                if let Some(local) = existed {
                    *self.local(local) = self.present(table.cell, &cell).into();
                }
                if table.is_reused() {
                    let slot = &mut self.state.maps[number].slots[slot];
                    slot.key = None;
                    slot.life -= life::ALIVE;
                    // Nobody reads what is left.
                    new.fill(None);
                } else if let Cell::Wide(_) = table.cell {
                    new[0] = Some((word(0) & !2) + 4);
                } else {
                    new.fill(Some(0));
                }
            }
            MapOp::Len(_) => unreachable!("above"),
        }
        self.state.maps[number].slots[slot].cell = new;
        Ok(())
    }

    fn zeros(&mut self, kind: Cell, at: u32) {
        let at = at as usize / 8;
        self.scratch[at..at + kind.words() as usize - 1].fill(Some(0));
    }

    fn aggregate(&self, kind: Cell, cell: &mut [Word], value: Option<u64>) {
        let mut add = |index: usize, more: u64| {
            cell[index] = Some(cell[index].unwrap_or(0).wrapping_add(more));
        };
        let value = value.unwrap_or(0);
        let signed = value.cast_signed();
        match kind {
            Cell::Count => add(0, 1),
            Cell::Sum | Cell::Average => {
                add(0, 1);
                add(1, value);
            }
            Cell::Powers { bits } => add(histogram::bucket(signed, bits), 1),
            Cell::Steps { min, max, step } => {
                add(step_bucket(signed, (min, max, step)) as usize, 1);
            }
            Cell::Least { .. } | Cell::Greatest { .. } => {
                let half = self.half();
                let stored = kind.stored(value);
                cell[half] = cell[half].max(Some(stored));
                cell[half + 1] = Some(1);
            }
            Cell::Word | Cell::Wide(_) => unreachable!("checked"),
        }
    }
}

/// A key's words where they lie in memory; what does not count is undefined.
pub fn spread(table: &Table, key: &[u64]) -> Vec<Word> {
    let mut words = vec![None; table.key_size() as usize / 8];
    let (mut at, mut next) = (0, 0);
    for part in &table.key {
        let first = key[next];
        words[at] = Some(first);
        next += 1;
        if let KeyPart::Bytes(size) = part {
            for index in 0..(first as u32).min(size - 8).div_ceil(8) as usize {
                words[at + 1 + index] = Some(key[next]);
                next += 1;
            }
        }
        at += part.size() as usize / 8;
    }
    words
}
