//! A bit for each byte of a code range; may be written by several threads at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A fixed set of small numbers.
pub(super) struct Bits(Vec<AtomicU64>);

impl Bits {
    /// An empty set that can hold the numbers below `len`.
    pub(super) fn new(len: usize) -> Bits {
        let mut words = Vec::new();
        words.resize_with(len.div_ceil(64), || AtomicU64::new(0));
        Bits(words)
    }

    /// Adds a number; one that is out of range is ignored.
    pub(super) fn set(&self, index: usize) {
        self.merge(index / 64, 1 << (index % 64));
    }

    /// Adds the numbers `64 * word + i` for each bit `i` of `mask`.
    pub(super) fn merge(&self, word: usize, mask: u64) {
        if let Some(word) = self.0.get(word) {
            // Most targets are known already, and a plain load is far cheaper.
            if word.load(Relaxed) & mask != mask {
                word.fetch_or(mask, Relaxed);
            }
        }
    }

    /// Whether a number is in the set.
    pub(super) fn get(&self, index: usize) -> bool {
        self.word(index / 64) >> (index % 64) & 1 != 0
    }

    /// The 64 numbers from `index` on, as bits.
    pub(super) fn from(&self, index: usize) -> u64 {
        let (word, shift) = (index / 64, index % 64);
        let low = self.word(word) >> shift;
        if shift == 0 {
            low
        } else {
            low | self.word(word + 1) << (64 - shift)
        }
    }

    /// The lowest number in `[from, to)` that is in the set; at most 64 are looked at.
    pub(super) fn first(&self, from: usize, to: usize) -> Option<usize> {
        let count = to.checked_sub(from).filter(|&n| n > 0)?.min(64);
        let found = self.from(from).trailing_zeros() as usize;
        (found < count).then_some(from + found)
    }

    /// Every number that is in this set but not in the other.
    pub(super) fn without<'a>(&'a self, other: &'a Bits) -> impl Iterator<Item = usize> + 'a {
        (0..self.0.len()).flat_map(move |index| {
            let mut left = self.word(index) & !other.word(index);
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(index * 64 + bit as usize)
            })
        })
    }

    fn word(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |word| word.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_searched_across_words() {
        let bits = Bits::new(200);
        bits.set(66);
        bits.set(1000);
        assert_eq!(bits.first(60, 66), None);
        assert_eq!(bits.first(60, 67), Some(66));
        assert_eq!(bits.first(190, 230), None);
        assert!(bits.get(66) && !bits.get(65) && !bits.get(1000));
    }

    #[test]
    fn a_difference_lists_what_only_the_first_set_holds() {
        let (a, b) = (Bits::new(200), Bits::new(200));
        for n in [0, 63, 64, 150] {
            a.set(n);
        }
        b.set(63);
        assert_eq!(a.without(&b).collect::<Vec<_>>(), [0, 64, 150]);
    }
}
