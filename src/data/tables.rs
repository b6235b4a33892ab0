//! What the maps of a program hold, read from the memory that detours write, and summed over threads
//! and processes. The bytes are untrusted: sizes and numbers come from the table's own description.

use std::collections::{BTreeMap, BTreeSet};

use crate::abi;
use crate::program::table::{BORN, FULL, HEADER, KEY, LIFE, TAG, UNWRITTEN, life};
use crate::program::{Cell, KeyPart, Table};
use crate::sys::shm::Shared;

/// Looks at a wide value that is being written before it is left out.
const LOOKS: usize = 1000;

/// A table's entries: key bytes and the words of a cell. Minima and maxima have two words, the stored
/// value and whether there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// By key.
    pub entries: BTreeMap<Vec<u8>, Vec<u64>>,
    /// Of keys that can leave, those that are there, and the life of their slot: another one is not the
    /// same entry.
    pub lives: BTreeMap<Vec<u8>, u32>,
    /// Entries that found no slot.
    pub full: u64,
    /// Large values that were not written because another was in the midst of it.
    pub unwritten: u64,
    /// Slots without a key on which somebody is at work; if nobody is any more, threads have ended there.
    pub lost: u64,
}

impl Contents {
    /// Takes in what a table at `base` of an object holds. `epoch` says which half of minima and maxima
    /// counts.
    pub fn add(&mut self, shared: &Shared, base: u64, table: &Table, epoch: u64) {
        self.full = self.full.wrapping_add(shared.load(base + u64::from(FULL)));
        let unwritten = shared.load(base + u64::from(UNWRITTEN));
        self.unwritten = self.unwritten.wrapping_add(unwritten);
        let first = base + u64::from(HEADER);
        if !table.is_keyed() {
            self.take(shared, first, table, Vec::new(), epoch);
            return;
        }
        let size = u64::from(table.slot_size());
        for index in 0..u64::from(table.slots) {
            let slot = first + index * size;
            if table.is_reused() {
                self.take_living(shared, slot, table, epoch);
                continue;
            }
            if shared.load(slot + u64::from(TAG)) == 0 || shared.load(slot + u64::from(BORN)) == 0 {
                continue;
            }
            if let Some(key) = key_at(shared, slot, table) {
                let cell = slot + u64::from(table.cell_at());
                self.take(shared, cell, table, key, epoch);
            }
        }
    }

    /// Takes in a slot that keys leave, if it has one.
    fn take_living(&mut self, shared: &Shared, slot: u64, table: &Table, epoch: u64) {
        let at = slot + u64::from(LIFE);
        for _ in 0..LOOKS {
            let life = shared.load(at);
            if !is_alive(life) {
                let dead = life >> 32 & u64::from(life::STATE) == 0;
                self.lost += u64::from(!dead || life as u32 != 0);
                return;
            }
            let key = key_at(shared, slot, table);
            let cell = slot + u64::from(table.cell_at());
            let words = read(shared, cell, table.cell, epoch);
            if shared.load(at) >> 32 != life >> 32 {
                continue;
            }
            if let Some(key) = key {
                self.lives.insert(key.clone(), (life >> 32) as u32);
                self.put(words, table, key);
            }
            return;
        }
    }

    fn take(&mut self, shared: &Shared, at: u64, table: &Table, key: Vec<u8>, epoch: u64) {
        self.put(read(shared, at, table.cell, epoch), table, key);
    }

    fn put(&mut self, words: Option<Vec<u64>>, table: &Table, key: Vec<u8>) {
        let Some(words) = words else {
            return;
        };
        if words.iter().all(|&word| word == 0) {
            return;
        }
        match self.entries.get_mut(&key) {
            Some(sum) => merge(table.cell, sum, &words),
            None => {
                self.entries.insert(key, words);
            }
        }
    }

    /// Leaves out what belongs to keys that have left since, by what is there `now`.
    pub fn forget_those_gone(&mut self, now: &Contents) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|key, _| self.is_same(now, key));
        self.entries = entries;
    }

    /// Of minima and maxima, what is further out than it was.
    pub fn keep_greater(&mut self, before: &Contents) {
        self.entries.retain(|key, words| {
            let before = before.entries.get(key);
            before.is_none_or(|before| words.first() > before.first())
        });
    }

    /// Whether a key is there in both, and has not left in between.
    pub fn is_same(&self, now: &Contents, key: &[u8]) -> bool {
        let life = self.lives.get(key);
        life.is_some() && life == now.lives.get(key)
    }

    /// Takes in the entries of another.
    pub fn merge(&mut self, other: &Contents, cell: Cell) {
        self.full = self.full.wrapping_add(other.full);
        self.unwritten = self.unwritten.wrapping_add(other.unwritten);
        self.lost += other.lost;
        for (key, life) in &other.lives {
            self.lives.insert(key.clone(), *life);
        }
        for (key, words) in &other.entries {
            match self.entries.get_mut(key) {
                Some(sum) => merge(cell, sum, words),
                None => {
                    self.entries.insert(key.clone(), words.clone());
                }
            }
        }
    }

    /// What came since `before`, of an aggregation that only grows. Entries that did not change are
    /// left out, but for those `kept`, which then hold nothing. Of minima and maxima what came before is
    /// not among these any more.
    pub fn since(&mut self, before: &Contents, cell: Cell, kept: &BTreeSet<Vec<u8>>) {
        if let Cell::Least { .. } | Cell::Greatest { .. } = cell {
            for key in kept {
                let nothing = || vec![0; 2];
                self.entries.entry(key.clone()).or_insert_with(nothing);
            }
            return;
        }
        self.entries.retain(|key, words| {
            if let Some(before) = before.entries.get(key) {
                for (word, before) in words.iter_mut().zip(before) {
                    *word = word.wrapping_sub(*before);
                }
            }
            kept.contains(key) || words.iter().any(|&word| word != 0)
        });
    }
}

fn is_alive(life: u64) -> bool {
    life >> 32 & u64::from(life::STATE) == u64::from(life::ALIVE)
}

/// The key in a slot.
fn key_at(shared: &Shared, slot: u64, table: &Table) -> Option<Vec<u8>> {
    let length = table.key.iter().map(|part| part.size()).sum::<u32>();
    let mut key = vec![0; length as usize];
    if !shared.copy_out(slot + u64::from(KEY), &mut key) {
        return None;
    }
    clean(&mut key, &table.key);
    Some(key)
}

/// A key from the bytes of a record: as it stands in [`Contents`].
pub fn key(table: &Table, bytes: &[u8]) -> Vec<u8> {
    let length = table.key.iter().map(|part| part.size()).sum::<u32>();
    let mut key = bytes.get(..length as usize).unwrap_or(bytes).to_vec();
    key.resize(length as usize, 0);
    clean(&mut key, &table.key);
    key
}

/// Bytes behind the end of a string are anything.
fn clean(key: &mut [u8], parts: &[KeyPart]) {
    let mut at = 0;
    for part in parts {
        let size = part.size() as usize;
        if let KeyPart::Bytes(_) = part
            && let Some(part) = key.get_mut(at..at + size)
            && let Some((head, bytes)) = part.split_at_mut_checked(8)
        {
            let length = head
                .first_chunk::<4>()
                .map_or(0, |l| u32::from_le_bytes(*l));
            let length = (length as usize).min(bytes.len());
            bytes[length..].fill(0);
            // Whose text it is makes no difference to a key.
            if let Some(flags) = head.get_mut(4) {
                *flags &= !(abi::STR_OWN as u8);
            }
        }
        at += size;
    }
}

fn merge(cell: Cell, sum: &mut [u64], words: &[u64]) {
    match cell {
        Cell::Least { .. } | Cell::Greatest { .. } => {
            if let ([value, there], [other, true_there]) = (&mut sum[..2], &words[..2])
                && *true_there != 0
            {
                *value = if *there == 0 {
                    *other
                } else {
                    (*value).max(*other)
                };
                *there = 1;
            }
        }
        // Of one value that two have written, one is the last.
        Cell::Word | Cell::Wide(_) => sum.copy_from_slice(words),
        _ => {
            for (sum, word) in sum.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
    }
}

/// A cell's words; `None` where there is nothing.
fn read(shared: &Shared, at: u64, cell: Cell, epoch: u64) -> Option<Vec<u64>> {
    let word = |index: u64| shared.load(at + 8 * index);
    let count = u64::from(cell.words());
    match cell {
        Cell::Least { .. } | Cell::Greatest { .. } => {
            let half = 2 * (epoch & 1);
            (word(half + 1) != 0).then(|| vec![word(half), 1])
        }
        Cell::Wide(_) => {
            for _ in 0..LOOKS {
                let version = word(0);
                if version & 1 != 0 {
                    std::hint::spin_loop();
                    continue;
                }
                if version & 2 == 0 {
                    return None;
                }
                let mut words: Vec<u64> = (0..count).map(word).collect();
                if word(0) == version {
                    // The version is ours to know: equal values are equal.
                    words[0] = 2;
                    return Some(words);
                }
            }
            None
        }
        Cell::Word => (word(0) != 0).then(|| vec![1, word(1)]),
        _ => Some((0..count).map(word).collect()),
    }
}

/// Takes away every entry of a plain map of the session, as `delete` in a probe does, or makes them zero.
pub fn clear_plain(shared: &Shared, base: u64, table: &Table, to_zero: bool) {
    let size = u64::from(table.slot_size());
    for index in 0..u64::from(table.slots) {
        let slot = base + u64::from(HEADER) + index * size;
        let cell = slot + u64::from(table.cell_at());
        if !table.is_reused() {
            clear_cell(shared, cell, table.cell, to_zero);
        } else if !to_zero {
            take_away(shared, slot);
        } else if enter(shared, slot) {
            clear_cell(shared, cell, table.cell, true);
            leave(shared, slot);
        }
    }
}

fn clear_cell(shared: &Shared, cell: u64, kind: Cell, to_zero: bool) {
    match kind {
        Cell::Word => {
            if !to_zero {
                shared.store(cell, 0);
            }
            shared.store(cell + 8, 0);
        }
        Cell::Wide(size) => {
            let mut version = shared.load(cell);
            // A few tries: whoever writes meanwhile writes after us.
            for _ in 0..LOOKS {
                let writes = to_zero && version & 3 == 2;
                let next = match (to_zero, writes) {
                    (true, false) => return,
                    (true, true) => version | 1,
                    (false, _) => (version & !3).wrapping_add(4),
                };
                match shared.compare_exchange(cell, version, next) {
                    Ok(()) if writes => {
                        (0..u64::from(size / 8)).for_each(|n| shared.store(cell + 8 + 8 * n, 0));
                        // Where it was taken away meanwhile it stays so, and is no longer written.
                        let mut now = next;
                        while let Err(other) =
                            shared.compare_exchange(cell, now, (now & !1).wrapping_add(4))
                        {
                            now = other;
                        }
                        return;
                    }
                    Ok(()) => return,
                    Err(now) => version = now,
                }
            }
        }
        _ => {}
    }
}

/// Changes the life of a slot that has a key; whether it has.
fn change(shared: &Shared, slot: u64, to: impl Fn(u64) -> u64) -> bool {
    let at = slot + u64::from(LIFE);
    let mut life = shared.load(at);
    for _ in 0..LOOKS {
        if !is_alive(life) {
            break;
        }
        match shared.compare_exchange(at, life, to(life)) {
            Ok(()) => return true,
            Err(now) => life = now,
        }
    }
    false
}

/// Takes a key away.
fn take_away(shared: &Shared, slot: u64) {
    change(shared, slot, |life| life - (u64::from(life::ALIVE) << 32));
}

/// Is at work on a slot, if it has a key.
fn enter(shared: &Shared, slot: u64) -> bool {
    change(shared, slot, |life| life.wrapping_add(1))
}

fn leave(shared: &Shared, slot: u64) {
    let at = slot + u64::from(LIFE);
    let mut life = shared.load(at);
    while let Err(now) = shared.compare_exchange(at, life, life.wrapping_sub(1)) {
        life = now;
    }
}

/// Empties the half of minima and maxima that nobody writes at this epoch.
pub fn empty_half(shared: &Shared, base: u64, table: &Table, epoch: u64) {
    let half = 16 * (1 - (epoch & 1));
    let size = u64::from(table.slot_size());
    for index in 0..u64::from(table.slots) {
        let cell = base + u64::from(HEADER) + index * size + u64::from(table.cell_at());
        // Slots that were never used are not touched: that would give them memory.
        if shared.load(cell + half + 8) != 0 {
            shared.store(cell + half, 0);
            shared.store(cell + half + 8, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Home;

    fn table(cell: Cell, key: Vec<KeyPart>) -> Table {
        Table {
            map: 0,
            home: Home::Thread,
            offset: 0,
            slots: if key.is_empty() { 1 } else { 4 },
            key,
            cell,
        }
    }

    /// Puts an entry into a slot.
    fn put(shared: &Shared, table: &Table, slot: u64, key: &[u64], cell: &[u64]) {
        let at = u64::from(HEADER) + slot * u64::from(table.slot_size());
        shared.store(at + u64::from(TAG), 1);
        shared.store(at + u64::from(BORN), 1);
        for (index, word) in (0..).zip(key) {
            shared.store(at + u64::from(KEY) + 8 * index, *word);
        }
        for (index, word) in (0..).zip(cell) {
            shared.store(at + u64::from(table.cell_at()) + 8 * index, *word);
        }
    }

    #[test]
    fn one_key_in_two_places_is_summed() {
        let table = table(Cell::Count, vec![KeyPart::Word]);
        let shared = Shared::anonymous(4096).unwrap();
        put(&shared, &table, 0, &[7], &[2]);
        put(&shared, &table, 3, &[7], &[3]);
        let mut contents = Contents::default();
        contents.add(&shared, 0, &table, 0);
        assert_eq!(
            contents.entries,
            BTreeMap::from([(7_u64.to_le_bytes().to_vec(), vec![5])])
        );
        let before = contents.clone();
        put(&shared, &table, 3, &[7], &[4]);
        let mut now = Contents::default();
        now.add(&shared, 0, &table, 0);
        now.since(&before, table.cell, &BTreeSet::new());
        assert_eq!(now.entries.values().next(), Some(&vec![1]));
        let mut same = before.clone();
        same.since(&before, table.cell, &BTreeSet::new());
        assert!(same.entries.is_empty());
        let mut kept = before.clone();
        kept.since(
            &before,
            table.cell,
            &before.entries.keys().cloned().collect(),
        );
        assert_eq!(kept.entries.values().next(), Some(&vec![0]));
    }

    #[test]
    fn what_lies_behind_a_string_in_a_key_does_not_count() {
        let table = table(Cell::Count, vec![KeyPart::Bytes(24)]);
        let shared = Shared::anonymous(4096).unwrap();
        let abc = u64::from_le_bytes(*b"abc\0\0\0\0\0");
        put(&shared, &table, 0, &[3, abc, 1], &[1]);
        put(&shared, &table, 1, &[3, abc, 2], &[1]);
        let mut contents = Contents::default();
        contents.add(&shared, 0, &table, 0);
        assert_eq!(contents.entries.len(), 1);
    }

    #[test]
    fn the_half_of_the_epoch_counts_and_the_greatest_wins() {
        let kind = Cell::Greatest { signed: false };
        let table = table(kind, Vec::new());
        let shared = Shared::anonymous(4096).unwrap();
        for (index, word) in [5, 1, 9, 1].into_iter().enumerate() {
            shared.store(u64::from(HEADER) + 8 * index as u64, word);
        }
        let mut contents = Contents::default();
        contents.add(&shared, 0, &table, 1);
        assert_eq!(contents.entries.get(&Vec::new()), Some(&vec![9, 1]));
        empty_half(&shared, 0, &table, 0);
        let mut empty = Contents::default();
        empty.add(&shared, 0, &table, 1);
        assert!(empty.entries.is_empty());
    }

    #[test]
    fn a_value_that_is_always_being_written_is_left_out() {
        let table = table(Cell::Wide(16), Vec::new());
        let shared = Shared::anonymous(4096).unwrap();
        shared.store(u64::from(HEADER), 5);
        let mut contents = Contents::default();
        contents.add(&shared, 0, &table, 0);
        assert!(contents.entries.is_empty());
        shared.store(u64::from(HEADER), 6);
        contents.add(&shared, 0, &table, 0);
        assert_eq!(contents.entries.len(), 1);
        clear_plain(&shared, 0, &table, false);
        let mut empty = Contents::default();
        empty.add(&shared, 0, &table, 0);
        assert!(empty.entries.is_empty());
    }

    /// Makes a slot of the session's alive with this number, or dead.
    fn live(shared: &Shared, table: &Table, slot: u64, number: u64, state: u32) {
        let at = u64::from(HEADER) + slot * u64::from(table.slot_size());
        let life = (number << 2 | u64::from(state)) << 32;
        shared.store(at + u64::from(LIFE), life);
    }

    #[test]
    fn a_key_that_has_left_and_come_again_is_another() {
        let table = Table {
            home: Home::Session,
            ..table(Cell::Count, vec![KeyPart::Word])
        };
        let shared = Shared::anonymous(4096).unwrap();
        let read = || {
            let mut contents = Contents::default();
            contents.add(&shared, 0, &table, 0);
            contents
        };
        for (slot, count) in [(0, 5), (1, 6)] {
            put(&shared, &table, slot, &[slot], &[count]);
            live(&shared, &table, slot, 1, life::ALIVE);
        }
        let mut before = read();
        assert_eq!((before.entries.len(), before.lost), (2, 0));
        live(&shared, &table, 1, 2, life::ALIVE);
        before.forget_those_gone(&read());
        assert_eq!(before.entries.len(), 1);
        live(&shared, &table, 0, 1, 0);
        live(&shared, &table, 1, 2, life::CLAIMED);
        let now = read();
        assert_eq!((now.entries.len(), now.lost), (0, 1));
    }

    #[test]
    fn clearing_takes_keys_away_and_zero_keeps_them() {
        let table = Table {
            home: Home::Session,
            ..table(Cell::Wide(16), vec![KeyPart::Word])
        };
        let shared = Shared::anonymous(4096).unwrap();
        put(&shared, &table, 2, &[7], &[6, 1, 2]);
        live(&shared, &table, 2, 3, life::ALIVE);
        let read = || {
            let mut contents = Contents::default();
            contents.add(&shared, 0, &table, 0);
            contents.entries.into_values().collect::<Vec<_>>()
        };
        assert_eq!(read(), [[2, 1, 2]]);
        clear_plain(&shared, 0, &table, true);
        assert_eq!(read(), [[2, 0, 0]]);
        clear_plain(&shared, 0, &table, false);
        assert!(read().is_empty());
        let at = u64::from(HEADER) + 2 * u64::from(table.slot_size());
        assert_eq!(shared.load(at + u64::from(LIFE)), 12 << 32, "dead");
    }

    #[test]
    fn of_two_maxima_only_what_grew_is_late() {
        let kind = Cell::Greatest { signed: false };
        let table = table(kind, vec![KeyPart::Word]);
        let shared = Shared::anonymous(4096).unwrap();
        put(&shared, &table, 0, &[1], &[5, 1]);
        put(&shared, &table, 1, &[2], &[5, 1]);
        let mut left = Contents::default();
        left.add(&shared, 0, &table, 0);
        put(&shared, &table, 1, &[2], &[6, 1]);
        put(&shared, &table, 2, &[3], &[1, 1]);
        let mut late = Contents::default();
        late.add(&shared, 0, &table, 0);
        late.keep_greater(&left);
        let values: Vec<_> = late.entries.into_values().collect();
        assert_eq!(values, [[6, 1], [1, 1]]);
    }
}
