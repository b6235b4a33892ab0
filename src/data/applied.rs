//! What records ask to be done to maps: the tracer's own part of them, as detours would have written it.
//! Knows neither who leaves the records nor who shows the maps.
//!
//! Invariant: there are never more keys than the map has room for; what finds none is counted.

use super::tables::Contents;
use crate::base::histogram;
use crate::language::lower::Change;
use crate::program::{Cell, Table, table};

/// Numbers of lives that slots of tables seldom reach.
const FIRST_LIFE: u32 = 1 << 31;

/// The part of one map.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    contents: Contents,
    lives: u32,
}

impl Applied {
    /// Does one change. `value` is the record's behind the key.
    pub(super) fn change(&mut self, table: &Table, change: Change, key: Vec<u8>, value: &[u8]) {
        if change == Change::Delete {
            self.contents.entries.remove(&key);
            self.contents.lives.remove(&key);
            return;
        }
        if !self.contents.entries.contains_key(&key) {
            if self.contents.entries.len() as u64 >= u64::from(table.slots.div_ceil(2)) {
                self.contents.full = self.contents.full.wrapping_add(1);
                return;
            }
            self.lives = self.lives.wrapping_add(1);
            let life = FIRST_LIFE.wrapping_add(self.lives);
            self.contents.lives.insert(key.clone(), life);
        }
        let words = self.contents.entries.entry(key).or_insert_with(|| {
            let words = match table.cell {
                Cell::Least { .. } | Cell::Greatest { .. } => 2,
                cell => cell.words(),
            };
            vec![0; words as usize]
        });
        let word = super::record::word(value, 0).unwrap_or(0);
        match (table.cell, change) {
            (Cell::Wide(_), _) => {
                // As they are read from memory.
                for (index, to) in words.iter_mut().enumerate() {
                    *to = match index.checked_sub(1) {
                        None => 2,
                        Some(index) => super::record::word(value, 8 * index).unwrap_or(0),
                    };
                }
            }
            (cell, change) => apply(cell, change, words, word),
        }
    }

    /// What was put in.
    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Takes away what a map holds that is not kept as a baseline, or makes it zero.
    pub(super) fn clear(&mut self, table: &Table, to_zero: bool) {
        match (table.cell, to_zero) {
            (Cell::Word | Cell::Wide(_), true) => {
                for words in self.contents.entries.values_mut() {
                    words.iter_mut().skip(1).for_each(|word| *word = 0);
                }
            }
            (Cell::Word | Cell::Wide(_) | Cell::Least { .. } | Cell::Greatest { .. }, _) => {
                self.contents.entries.clear();
                self.contents.lives.clear();
            }
            _ => {}
        }
    }
}

fn apply(cell: Cell, change: Change, words: &mut [u64], value: u64) {
    let bucket = match cell {
        Cell::Powers { bits } => Some(histogram::bucket(value.cast_signed(), bits)),
        Cell::Steps { min, max, step } => {
            let bucket = table::step_bucket(value.cast_signed(), (min, max, step));
            Some(bucket as usize)
        }
        _ => None,
    };
    if let Some(bucket) = bucket {
        if let Some(count) = words.get_mut(bucket) {
            *count = count.wrapping_add(1);
        }
        return;
    }
    match (cell, words) {
        (Cell::Count, [count, ..]) => *count = count.wrapping_add(1),
        (Cell::Sum | Cell::Average, [count, total, ..]) => {
            *count = count.wrapping_add(1);
            *total = total.wrapping_add(value);
        }
        (Cell::Least { .. } | Cell::Greatest { .. }, [best, there, ..]) => {
            let stored = cell.stored(value);
            *best = if *there == 0 {
                stored
            } else {
                stored.max(*best)
            };
            *there = 1;
        }
        (Cell::Word, [there, held, ..]) => {
            *there = 1;
            *held = match change {
                Change::Add => held.wrapping_add(value),
                _ => value,
            };
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Home, KeyPart};

    fn changed(cell: Cell, changes: &[(Change, u64)]) -> Vec<u64> {
        let table = Table {
            map: 0,
            home: Home::Thread,
            offset: 0,
            slots: 4,
            key: vec![KeyPart::Word],
            cell,
        };
        let mut applied = Applied::default();
        for (change, value) in changes {
            applied.change(&table, *change, vec![7; 8], &value.to_le_bytes());
        }
        let mut entries = applied.contents.entries.into_values();
        entries.next().unwrap_or_default()
    }

    #[test]
    fn cells_hold_what_detours_would_have_written() {
        use Change::{Add, Aggregate, Delete, Set};
        let all = [(Aggregate, 5), (Aggregate, 3)];
        assert_eq!(changed(Cell::Count, &all), [2]);
        assert_eq!(changed(Cell::Sum, &all), [2, 8]);
        let least = Cell::Least { signed: false };
        assert_eq!(changed(least, &all), [least.stored(3), 1]);
        let greatest = Cell::Greatest { signed: true };
        assert_eq!(changed(greatest, &all), [greatest.stored(5), 1]);
        assert_eq!(changed(Cell::Powers { bits: 0 }, &all)[3..5], [1, 1]);
        assert_eq!(changed(Cell::Word, &[(Set, 5), (Add, 3)]), [1, 8]);
        assert!(changed(Cell::Word, &[(Set, 5), (Delete, 0)]).is_empty());
        assert_eq!(changed(Cell::Wide(8), &[(Set, 5)]), [2, 5]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let table = Table {
            map: 0,
            home: Home::Thread,
            offset: 0,
            slots: 4,
            key: vec![KeyPart::Word],
            cell: Cell::Count,
        };
        let mut applied = Applied::default();
        for key in [1_u64, 2, 3, 1] {
            applied.change(&table, Change::Aggregate, key.to_le_bytes().to_vec(), &[]);
        }
        assert_eq!(applied.contents.entries.len(), 2);
        assert_eq!(applied.contents.full, 1);
    }
}
