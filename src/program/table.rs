//! How a map lies in shared memory: what generated code writes and the tracer reads. Knows neither
//! addresses nor who maps them.
//!
//! A table is a header of [`HEADER`] bytes, then its slots. A map without keys has one slot: its cell.
//! With keys, a slot is
//!
//! ```text
//! tag | born | key (16-byte multiple) | cell (16-byte multiple)
//! ```
//!
//! `tag` is made of the key and never 0; a slot whose tag is 0 was never used. The search for a key
//! begins at its home, slot `tag % slots`, and goes on to the next ones, around the end.
//!
//! # In the blocks of threads
//!
//! The search ends at the key, at a slot that was never used, or after [`SEARCH`] slots. A free slot is
//! taken by one compare-and-exchange of the tag; then the key is written, then `born` = 1. Keys never
//! leave their slot, so two that take the same key meet at the same free slot. Whoever finds its tag on
//! a slot that is not born yet takes it for its own: tags of different keys are the same once in 2^64.
//!
//! # In the session
//!
//! Keys leave, and others take their slots ([`Table::is_reused`]). In place of `born` stands `life`: the
//! lower half counts who is at work on the cell, the upper half is the [`life`] proper: two bits of state
//! and, above them, a number that is new each time the slot is taken. Behind the slots stands a word for
//! each home, [`home`]: how the key that last came to this home was put in.
//!
//! * **Put in.** Read the home's word, and make alive what it names, if that is not yet. Search for the
//!   key from the home as far as the word's bound. Not there: take a slot that is dead and on which nobody
//!   is at work, by a compare-and-exchange of the whole `life` to the next number, claimed; write tag and
//!   key, clear the cell. Then compare-and-exchange the home's word, from what was read to one that names
//!   this slot and life: this alone puts the key in. Then make the slot alive. If the home's word has
//!   changed, the slot goes back and all begins again.
//! * **Work.** Tag, life, key are read in this order; then `life` is added one, and what it was before
//!   must be what was read, or the one is taken off again and the search begins anew. Afterwards one is
//!   taken off. What only reads one word reads `life` again behind it instead.
//! * **Take away.** While at work, where the cell holds something, the life goes from alive to dead, by a
//!   compare-and-exchange of its half.
//!
//! Why no key has two slots: who puts one in has read the home's word, has made what it names alive, and
//! has seen every slot within the bound since. All that were put in before that one were made alive before
//! it was (by who put it in, as here), so the key was in none of them. What is put in later changes the
//! home's word, and a word never comes back: it holds the number that the slot was taken with.
//!
//! Why nothing goes to another key: a slot is taken only when nobody is at work on it, and who is at work
//! saw the life, after it was counted, in which the key had been compared. Stores are seen in order (TSO)
//! and `life` changes before tag and key do, so the key was whole. Who is at work while the key is taken
//! away changes a dead cell, as if it had come just before. Numbers have 30 bits: a thread would have to
//! sleep between two instructions while one slot is taken exactly 2^30 times.
//!
//! Nobody waits. A thread that ends at work keeps its slot from being taken again, one that ends with a
//! slot claimed keeps that; both can be seen, and are counted by who reads the table.
//!
//! Cells, by kind, in words:
//!
//! ```text
//! Count: n                   Sum, Average: n, total     Least, Greatest: value, touched, value, touched
//! Powers, Steps: one each    Word: present, value       Wide: version, then the bytes
//! ```
//!
//! Of the two halves of a minimum or maximum, bit 0 of [`crate::abi::EPOCH`] names the one that is
//! written: the tracer empties the other before it turns them round, so it never writes what detours
//! write. What stands there is [`Cell::stored`], so that the greatest wins and 0 is nothing.
//!
//! The version of a wide value has bit 0 while it is written, bit 1 while there is one, and grows by 4
//! with each change. Who finds it being written leaves it: its own value came just before that one. But
//! if that goes on and the key can leave, it takes the key away and puts it in again elsewhere: the writer
//! may have ended. Where it cannot, the value is counted as unwritten ([`UNWRITTEN`]).

/// Bytes before the first slot.
pub const HEADER: u32 = 64;
/// Where in the header stands how many entries found no slot.
pub const FULL: u32 = 0;
/// Where in the header stands how many large values were not written, because another was in the midst
/// of writing one.
pub const UNWRITTEN: u32 = 8;
/// Where in a slot its tag stands.
pub const TAG: u32 = 0;
/// Where in a slot stands whether its key was written.
pub const BORN: u32 = 8;
/// Where in a slot of the session its life stands.
pub const LIFE: u32 = BORN;
/// Where in a slot the key stands.
pub const KEY: u32 = 16;
/// Slots that are looked at for one key.
pub const SEARCH: u32 = 128;
/// What tags are made with: 2^64 divided by the golden ratio, odd, so that the product is distinct
/// for distinct words.
pub const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The upper half of a slot's [`LIFE`].
pub mod life {
    /// Bits of the state: 0 is dead.
    pub const STATE: u32 = 3;
    /// Of a slot that is being made ready.
    pub const CLAIMED: u32 = 1;
    /// Of a slot that has a key.
    pub const ALIVE: u32 = 2;
    /// What makes a dead slot a claimed one with the next number.
    pub const CLAIM: u32 = 4 + CLAIMED;
}

/// The word of a home: 0 when no key ever came to it.
pub mod home {
    /// Bits of how many slots further a key of this home may be.
    pub const BOUND: u64 = 0xff;
    /// Where how many slots further the last one came begins, of as many bits.
    pub const STEPS: u32 = 8;
    /// Where the life begins that its slot was claimed with.
    pub const LIFE: u32 = 16;
}

/// Where a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// One in each block, written without locks by its thread; the map is their sum.
    Thread,
    /// One for the session, in memory that all its processes map; written with locks.
    Session,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// How often.
    Count,
    /// The sum of what was put in.
    Sum,
    /// How many values, and their sum.
    Average,
    /// The least value.
    Least {
        /// Whether values are signed.
        signed: bool,
    },
    /// The greatest value.
    Greatest {
        /// Whether values are signed.
        signed: bool,
    },
    /// How many values in each bucket of [`crate::base::histogram`].
    Powers {
        /// Each power of two is cut into 2^bits.
        bits: u8,
    },
    /// How many values in each bucket of equal width.
    Steps {
        /// Start of the first bucket but the one for what is below.
        min: i64,
        /// End of the last but the one for what is above.
        max: i64,
        /// Width, at least 1.
        step: i64,
    },
    /// A plain word.
    Word,
    /// A larger plain value of so many bytes, a multiple of 8.
    Wide(u32),
}

/// Part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// A word.
    Word,
    /// A string as [`super::Copy`] leaves it: so many bytes with its head, a multiple of 8.
    Bytes(u32),
}

impl KeyPart {
    /// Its size in bytes.
    pub fn size(self) -> u32 {
        match self {
            KeyPart::Word => 8,
            KeyPart::Bytes(size) => size,
        }
    }
}

/// One map in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Number of the map.
    pub map: u32,
    /// Where it is.
    pub home: Home,
    /// Offset of its header from the start of the tables there, a multiple of 64.
    pub offset: u32,
    /// How many slots, a power of two; 1 without keys.
    pub slots: u32,
    /// Parts of the key; none for a map without keys.
    pub key: Vec<KeyPart>,
    /// What a slot holds.
    pub cell: Cell,
}

impl Cell {
    /// How many words it takes.
    pub fn words(self) -> u32 {
        match self {
            Cell::Count => 1,
            Cell::Sum | Cell::Average | Cell::Word => 2,
            Cell::Least { .. } | Cell::Greatest { .. } => 4,
            Cell::Powers { bits } => {
                u32::try_from(crate::base::histogram::buckets(bits)).unwrap_or(u32::MAX)
            }
            Cell::Steps { min, max, step } => steps(min, max, step).saturating_add(2),
            Cell::Wide(size) => 1 + size / 8,
        }
    }

    /// A minimum's or maximum's value as it is kept, and back: the greatest of these is the one.
    pub fn stored(self, value: u64) -> u64 {
        const SIGN: u64 = 1 << 63;
        match self {
            Cell::Least { signed: false } => !value,
            Cell::Least { signed: true } => !(value ^ SIGN),
            Cell::Greatest { signed: true } => value ^ SIGN,
            _ => value,
        }
    }

    /// Whether values are taken in rather than stored.
    pub fn is_aggregation(self) -> bool {
        !matches!(self, Cell::Word | Cell::Wide(_))
    }
}

/// Buckets between the outer two.
fn steps(min: i64, max: i64, step: i64) -> u32 {
    let span = i128::from(max) - i128::from(min);
    let step = i128::from(step.max(1));
    u32::try_from((span.max(0) + step - 1) / step).unwrap_or(u32::MAX)
}

/// Bucket of a value in [`Cell::Steps`].
pub fn step_bucket(value: i64, (min, max, step): (i64, i64, i64)) -> u32 {
    if value < min {
        0
    } else if value >= max {
        steps(min, max, step).saturating_add(1)
    } else {
        let above = i128::from(value) - i128::from(min);
        u32::try_from(above / i128::from(step.max(1)) + 1).unwrap_or(u32::MAX)
    }
}

impl Table {
    /// Whether it has keys.
    pub fn is_keyed(&self) -> bool {
        !self.key.is_empty()
    }

    /// Whether keys leave it, and others take their slots.
    pub fn is_reused(&self) -> bool {
        self.is_keyed() && self.home == Home::Session
    }

    /// Offset of the words of its homes.
    pub fn homes_at(&self) -> u64 {
        u64::from(HEADER) + u64::from(self.slots) * u64::from(self.slot_size())
    }

    /// Bytes of the key, with what fills it up.
    pub fn key_size(&self) -> u32 {
        let parts = self.key.iter().map(|part| part.size()).sum::<u32>();
        parts.next_multiple_of(16)
    }

    /// Offset of the cell in a slot.
    pub fn cell_at(&self) -> u32 {
        if self.is_keyed() {
            KEY + self.key_size()
        } else {
            0
        }
    }

    /// Size of a slot.
    pub fn slot_size(&self) -> u32 {
        self.cell_at() + (8 * self.cell.words()).next_multiple_of(16)
    }

    /// Size of the table, a multiple of 64.
    pub fn size(&self) -> u64 {
        let homes = if self.is_reused() { self.slots } else { 0 };
        (self.homes_at() + 8 * u64::from(homes)).next_multiple_of(64)
    }

    /// The tag of a key, from its parts as they lie in memory.
    pub fn tag(&self, key: &[u8]) -> u64 {
        let word = |at: usize| {
            let bytes = key.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let mut tag = 0;
        let mut at = 0;
        for part in &self.key {
            tag = mix(tag, word(at));
            if let KeyPart::Bytes(size) = part {
                let length = (word(at) as u32).min(size.saturating_sub(8));
                for index in 0..length.div_ceil(8) as usize {
                    tag = mix(tag, word(at + 8 + 8 * index));
                }
            }
            at += part.size() as usize;
        }
        tag.max(1)
    }
}

/// Takes a word into a tag. For one word alone, distinct words give distinct tags, but for the one
/// that gives 0.
fn mix(tag: u64, word: u64) -> u64 {
    let product = (tag ^ word).wrapping_mul(MULTIPLIER);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_count_what_is_below_and_above_apart() {
        let lhist = (0, 100, 10);
        assert_eq!(
            [-1, 0, 9, 10, 99, 100].map(|value| step_bucket(value, lhist)),
            [0, 1, 1, 2, 10, 11]
        );
        let cell = Cell::Steps {
            min: 0,
            max: 95,
            step: 10,
        };
        assert_eq!(cell.words(), 12);
    }

    #[test]
    fn a_slot_holds_tag_key_and_cell_at_multiples_of_16() {
        let table = Table {
            map: 0,
            home: Home::Session,
            offset: 0,
            slots: 4,
            key: vec![KeyPart::Word, KeyPart::Bytes(24)],
            cell: Cell::Word,
        };
        assert_eq!((table.cell_at(), table.slot_size()), (48, 64));
        assert_eq!(table.size(), 64 + 4 * 64 + 64);
    }

    #[test]
    fn bytes_behind_a_string_make_no_other_tag() {
        let table = Table {
            map: 0,
            home: Home::Thread,
            offset: 0,
            slots: 4,
            key: vec![KeyPart::Bytes(24)],
            cell: Cell::Count,
        };
        let mut key = [0; 24];
        key[0] = 3;
        key[8..11].copy_from_slice(b"abc");
        let tag = table.tag(&key);
        key[16] = 7;
        assert_eq!(table.tag(&key), tag);
        key[8] = b'b';
        assert_ne!(table.tag(&key), tag);
    }
}
