//! The journal of one target: which first bytes may be breakpoints of ours, and what belongs there;
//! which words may be 1 more than they were.
//! Its writer may die at any instruction, so a record is complete before its address is written, and
//! what may change later is one word. Its reader takes nothing for granted.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::Addr;
use crate::sys::shm::Shared;

/// Bytes that a jump replaces.
pub const WINDOW: usize = 5;
/// Most sites that may be breakpoints at one time.
pub const MOST: u64 = 1 << 20;
/// Words of a record: address; original bytes, their number, the mark; tail of a jump.
const RECORD: u64 = 24;
/// Where records begin; the first word is how many were ever used.
const FIRST: u64 = 64;
const MARK: u64 = 0x6b70;
/// The same of a word that is counted up: the second word of its record holds what it was.
const MARK_WORD: u64 = 0x6b77;
/// Flag of the third word: a tail of a jump may stand there.
const TAIL: u64 = 1 << 32;
/// User addresses end here.
const HIGHEST: u64 = 1 << 47;

/// A site whose first byte is about to become a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Where it is.
    pub at: Addr,
    /// What belongs there, zeroes behind `len`.
    pub original: [u8; WINDOW],
    /// How many bytes of it are known.
    pub len: u8,
    /// The rest of the jump that may stand behind the breakpoint.
    pub tail: Option<[u8; WINDOW - 1]>,
}

impl Site {
    fn words(&self) -> [u64; 3] {
        let mut original = [0; 8];
        original[..WINDOW].copy_from_slice(&self.original);
        original[WINDOW] = self.len;
        let tail = self
            .tail
            .map_or(0, |tail| u64::from(u32::from_le_bytes(tail)) | TAIL);
        [self.at.0, u64::from_le_bytes(original) | MARK << 48, tail]
    }

    /// The site that a record names, if it is one.
    fn of(words: [u64; 3]) -> Option<Site> {
        let [at, original, tail] = words;
        let bytes = original.to_le_bytes();
        let [a, b, c, d, e, len, ..] = bytes;
        let sound = original >> 48 == MARK
            && (1..=WINDOW as u8).contains(&len)
            && (1..HIGHEST - 8).contains(&at);
        sound.then(|| Site {
            at: Addr(at),
            original: [a, b, c, d, e],
            len,
            tail: (tail & TAIL != 0).then(|| (tail as u32).to_le_bytes()),
        })
    }
}

/// A word of the target's that may be 1 more than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) at: Addr,
    pub(super) before: u16,
}

impl Word {
    /// The word that a record names, if it is one.
    fn of([at, before, _]: [u64; 3]) -> Option<Word> {
        let sound = before >> 16 == MARK_WORD << 32 && (1..HIGHEST - 8).contains(&at);
        sound.then_some(Word {
            at: Addr(at),
            before: before as u16,
        })
    }
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Journal {
    shared: Shared,
    places: HashMap<Addr, u64>,
    free: Vec<u64>,
    used: u64,
    most: u64,
}

impl Journal {
    /// An empty one for `most` sites, and the descriptor for its reader.
    pub(super) fn create(most: u64) -> io::Result<(Journal, File)> {
        let (shared, file) = Shared::create(FIRST + most * RECORD)?;
        let journal = Journal {
            shared,
            places: HashMap::new(),
            free: Vec::new(),
            used: 0,
            most,
        };
        Ok((journal, file))
    }

    /// Writes a site down. False when there is no place left.
    pub(super) fn add(&mut self, site: &Site) -> bool {
        if let Some(place) = self.places.get(&site.at) {
            let [_, _, tail] = site.words();
            self.shared.store(place + 16, tail);
            return true;
        }
        self.write(site.words())
    }

    /// Writes down a word that is about to be counted up. False when there is no place left.
    pub(super) fn add_word(&mut self, word: Word) -> bool {
        self.remove(word.at);
        self.write([word.at.0, u64::from(word.before) | MARK_WORD << 48, 0])
    }

    fn write(&mut self, [at, original, tail]: [u64; 3]) -> bool {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.used < self.most => {
                self.used += 1;
                self.shared.store(0, self.used);
                FIRST + (self.used - 1) * RECORD
            }
            None => return false,
        };
        self.shared.store(place + 8, original);
        self.shared.store(place + 16, tail);
        self.shared.store(place, at);
        self.places.insert(Addr(at), place);
        true
    }

    /// Crosses a site out.
    pub(super) fn remove(&mut self, at: Addr) {
        if let Some(place) = self.places.remove(&at) {
            self.shared.store(place, 0);
            self.free.push(place);
        }
    }

    /// How many sites are in it.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

/// The sites that a journal holds, whatever its writer was doing.
pub(super) fn read(file: &File) -> Vec<Site> {
    records(file, Site::of)
}

/// The words that it holds.
pub(super) fn words(file: &File) -> Vec<Word> {
    records(file, Word::of)
}

fn records<T>(file: &File, of: impl Fn([u64; 3]) -> Option<T>) -> Vec<T> {
    let mut word = [0; 8];
    if file.read_exact_at(&mut word, 0).is_err() {
        return Vec::new();
    }
    let mut left = u64::from_le_bytes(word).min(MOST);
    let mut found = Vec::new();
    let mut at = FIRST;
    let mut buffer = vec![0; 1024 * RECORD as usize];
    while left > 0 {
        let want = (left.min(1024) * RECORD) as usize;
        let Some(read) = buffer.get_mut(..want) else {
            break;
        };
        if file.read_exact_at(read, at).is_err() {
            break;
        }
        let record = |bytes: &[u8]| {
            let mut words = bytes
                .chunks_exact(8)
                .map(|word| word.try_into().map(u64::from_le_bytes));
            let mut next = || words.next()?.ok();
            of([next()?, next()?, next()?])
        };
        found.extend(read.chunks_exact(RECORD as usize).filter_map(record));
        at += want as u64;
        left -= want as u64 / RECORD;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(at: u64, tail: Option<[u8; 4]>) -> Site {
        Site {
            at: Addr(at),
            original: [0x55, 0x48, 0x89, 0xe5, 0],
            len: 4,
            tail,
        }
    }

    #[test]
    fn what_is_written_is_read_until_it_is_crossed_out() {
        let (mut journal, file) = Journal::create(2).unwrap();
        assert_eq!(read(&file), []);
        assert!(journal.add(&site(0x1000, None)));
        assert!(journal.add(&site(0x2000, None)));
        assert!(!journal.add(&site(0x3000, None)), "there is room for two");
        assert!(journal.add(&site(0x1000, Some([1, 2, 3, 4]))));
        assert_eq!(
            read(&file),
            [site(0x1000, Some([1, 2, 3, 4])), site(0x2000, None)]
        );
        journal.remove(Addr(0x1000));
        assert_eq!(read(&file), [site(0x2000, None)]);
        assert!(journal.add(&site(0x3000, None)));
        assert_eq!(read(&file), [site(0x3000, None), site(0x2000, None)]);
        assert_eq!(journal.len(), 2);
    }

    #[test]
    fn words_are_no_sites_and_the_other_way_round() {
        let (mut journal, file) = Journal::create(3).unwrap();
        let word = |at, before| Word {
            at: Addr(at),
            before,
        };
        assert!(journal.add(&site(0x1000, None)));
        assert!(journal.add_word(word(0x5002, 0)));
        assert!(journal.add_word(word(0x5004, u16::MAX)));
        assert!(
            journal.add_word(word(0x5002, 7)),
            "again, from another value"
        );
        assert_eq!(read(&file), [site(0x1000, None)]);
        assert_eq!(words(&file), [word(0x5002, 7), word(0x5004, u16::MAX)]);
        journal.remove(Addr(0x5002));
        assert_eq!(words(&file), [word(0x5004, u16::MAX)]);
    }

    #[test]
    fn what_makes_no_sense_is_not_read() {
        let (mut journal, file) = Journal::create(4).unwrap();
        for at in [0x1000, 0x2000, 0x3000] {
            assert!(journal.add(&site(at, None)));
        }
        // A length of 6, a wrong mark, an address of the kernel's, more records than there are.
        file.write_all_at(&[6], FIRST + 13).unwrap();
        file.write_all_at(&[0], FIRST + RECORD + 15).unwrap();
        file.write_all_at(&[0xff; 8], FIRST + 2 * RECORD).unwrap();
        assert_eq!(read(&file), []);
        file.write_all_at(&[0xff; 8], 0).unwrap();
        assert_eq!(read(&file), []);
    }
}
