//! The reading end of one block's ring. Trusts nothing: a position that does not fit is skipped,
//! never followed.

use super::record::Decoder;
use crate::abi::{self, Layout};
use crate::base::ProbeId;
use crate::sys::shm::Shared;

/// The reading end of one ring.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    start: u64,
    size: u64,
    head: u64,
    tail_at: u64,
    tail: u64,
}

/// A position that records can have, whatever was written: steps from one to another arrive.
fn aligned(position: u64) -> u64 {
    position - position % u64::from(abi::RECORD_ALIGN)
}

impl Ring {
    /// The ring of a block, from where it was read last.
    pub fn new(shared: &Shared, layout: &Layout, block: u32) -> Ring {
        let at = layout.block(block);
        let tail_at = at + u64::from(abi::TAIL);
        Ring {
            start: at + u64::from(layout.ring()),
            size: u64::from(layout.ring_size),
            head: at + u64::from(abi::HEAD),
            tail_at,
            tail: aligned(shared.load(tail_at)),
        }
    }

    fn at(&self, position: u64) -> u64 {
        self.start + (position & (self.size - 1))
    }

    /// Reads every record that is whole, oldest first. `size_of` gives the size of the records that
    /// a probe leaves by an action, `None` where it leaves none. `each` gets the record's bytes.
    /// Returns whether an unfinished record was found, behind which nothing is read.
    pub fn read(
        &mut self,
        shared: &Shared,
        buffer: &mut Vec<u8>,
        size_of: &dyn Fn(ProbeId, u16) -> Option<u32>,
        mut each: impl FnMut(&[u8]),
    ) -> bool {
        if self.size == 0 {
            return false;
        }
        let head = aligned(shared.load(self.head));
        let mut unfinished = false;
        while self.tail != head {
            let left = head.wrapping_sub(self.tail);
            match self.record(shared, left, buffer, size_of) {
                Some(()) => {
                    self.tail = self.tail.wrapping_add(buffer.len() as u64);
                    each(buffer);
                }
                None if left > self.size => {
                    // Not a ring any more: somebody else wrote the head.
                    self.tail = head;
                }
                None => {
                    unfinished = true;
                    break;
                }
            }
        }
        shared.store(self.tail_at, self.tail);
        unfinished
    }

    /// The record at the tail, if it is finished and makes sense.
    fn record(
        &self,
        shared: &Shared,
        left: u64,
        buffer: &mut Vec<u8>,
        size_of: &dyn Fn(ProbeId, u16) -> Option<u32>,
    ) -> Option<()> {
        let at = self.at(self.tail);
        if left > self.size || shared.load(at + u64::from(abi::REC_POSITION)) != self.tail {
            return None;
        }
        let word = shared.load(at + u64::from(abi::REC_PROBE));
        let (probe, action) = Decoder::split(word);
        let size = size_of(probe, action);
        let size = size.filter(|&size| u64::from(size) <= left && size <= abi::MAX_RECORD)?;
        buffer.resize(size as usize, 0);
        if !shared.copy_out(at, buffer) {
            return None;
        }
        // The copy is what is read from here on, and it may have been written to since.
        let at = abi::REC_PROBE as usize;
        buffer
            .get_mut(at..at + 4)?
            .copy_from_slice(&(word as u32).to_le_bytes());
        Some(())
    }

    /// Steps over unfinished records to the next whole one, or to the head: for a thread that has
    /// ended or is known not to be in a detour. True if something was stepped over.
    pub fn skip(&mut self, shared: &Shared) -> bool {
        if self.size == 0 {
            return false;
        }
        let head = aligned(shared.load(self.head));
        let before = self.tail;
        if head.wrapping_sub(self.tail) > self.size {
            self.tail = head;
        }
        while self.tail != head
            && (self.tail == before || shared.load(self.at(self.tail)) != self.tail)
        {
            self.tail = self.tail.wrapping_add(u64::from(abi::RECORD_ALIGN));
        }
        shared.store(self.tail_at, self.tail);
        self.tail != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        probes: 2,
        ring_size: 1 << 16,
        largest: 40,
        blocks: 2,
        tables: 0,
        scratch: 0,
        returns: false,
    };
    const SIZE: u32 = abi::REC_FIELDS + 8;

    fn object() -> Shared {
        Shared::anonymous(LAYOUT.size()).unwrap()
    }

    struct Writer<'a> {
        shared: &'a Shared,
        head: u64,
    }

    impl Writer<'_> {
        fn write(&mut self, probe: u32, value: u64, finish: bool) {
            let block = LAYOUT.block(1);
            let at = block + u64::from(LAYOUT.ring()) + self.head % u64::from(LAYOUT.ring_size);
            self.shared
                .store(at + u64::from(abi::REC_PROBE), u64::from(probe));
            self.shared.store(at + u64::from(abi::REC_FIELDS), value);
            self.shared.store(at, if finish { self.head } else { 0 });
            self.head = self.head.wrapping_add(u64::from(SIZE));
            self.shared.store(block + u64::from(abi::HEAD), self.head);
        }
    }

    fn values(ring: &mut Ring, shared: &Shared) -> (Vec<u64>, bool) {
        let mut values = Vec::new();
        let unfinished = ring.read(
            shared,
            &mut Vec::new(),
            &|p, action| (p.0 == 1 && action < 2).then_some(SIZE + 8 * u32::from(action)),
            |bytes| {
                let at = abi::REC_FIELDS as usize;
                values.push(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()));
            },
        );
        (values, unfinished)
    }

    #[test]
    fn records_come_in_order_over_many_laps() {
        let shared = object();
        let mut ring = Ring::new(&shared, &LAYOUT, 1);
        let mut writer = Writer {
            shared: &shared,
            head: 0,
        };
        for lap in 0..10_000 {
            writer.write(1, lap, true);
            writer.write(1, lap + 1, true);
            assert_eq!(values(&mut ring, &shared), (vec![lap, lap + 1], false));
        }
    }

    #[test]
    fn the_action_above_the_probe_tells_how_large_a_record_is() {
        let shared = object();
        let mut ring = Ring::new(&shared, &LAYOUT, 1);
        let mut writer = Writer {
            shared: &shared,
            head: 0,
        };
        writer.write(1 | 1 << abi::PROBE_BITS, 7, true);
        // One more word.
        writer.head += 8;
        writer.write(1, 8, true);
        assert_eq!(values(&mut ring, &shared), (vec![7, 8], false));
        // Of this action there are none.
        writer.write(1 | 2 << abi::PROBE_BITS, 9, true);
        assert_eq!(values(&mut ring, &shared), (vec![], true));
    }

    #[test]
    fn nothing_is_read_behind_an_unfinished_record_until_it_is_skipped() {
        let shared = object();
        let mut ring = Ring::new(&shared, &LAYOUT, 1);
        let mut writer = Writer {
            shared: &shared,
            head: 64,
        };
        shared.store(LAYOUT.block(1) + u64::from(abi::TAIL), 64);
        ring.tail = 64;
        writer.write(1, 7, true);
        writer.write(1, 8, false);
        writer.write(1, 9, true);
        assert_eq!(values(&mut ring, &shared), (vec![7], true));
        assert!(ring.skip(&shared));
        assert_eq!(values(&mut ring, &shared), (vec![9], false));
    }

    #[test]
    fn a_hostile_head_or_probe_ends_nothing_but_itself() {
        let shared = object();
        let mut ring = Ring::new(&shared, &LAYOUT, 1);
        shared.store(LAYOUT.block(1) + u64::from(abi::HEAD), u64::MAX - 7);
        assert_eq!(values(&mut ring, &shared).0, Vec::<u64>::new());
        let mut writer = Writer {
            shared: &shared,
            head: u64::MAX - 7,
        };
        writer.write(0xffff, 1, true);
        assert_eq!(values(&mut ring, &shared), (vec![], true));
        assert!(ring.skip(&shared));
    }

    #[test]
    fn positions_between_those_of_records_are_come_past() {
        for (head, tail) in [(4, 0), (64, 3), (u64::MAX, u64::MAX - 70), (0, 1)] {
            let shared = object();
            // Where a position of its own would be found, there is none.
            let start = LAYOUT.block(1) + u64::from(LAYOUT.ring());
            for at in (0..u64::from(LAYOUT.ring_size)).step_by(8) {
                shared.store(start + at, 1);
            }
            shared.store(LAYOUT.block(1) + u64::from(abi::HEAD), head);
            shared.store(LAYOUT.block(1) + u64::from(abi::TAIL), tail);
            let mut ring = Ring::new(&shared, &LAYOUT, 1);
            while ring.skip(&shared) {}
            assert_eq!(values(&mut ring, &shared), (vec![], false));
        }
    }
}
