//! The shared-memory contract: every offset that generated code writes and the tracer reads.
//!
//! One object is shared by a target and its tracer. It starts with `blocks` blocks of equal size.
//! Block 0 is the *shared block*: any thread may write it, with `lock` prefixes. Every other block
//! has one owner, a thread, and is written by it alone, without locks. Detours address the current
//! block as `gs:[D + offset]`, where `D` is the low address at which block 0 is mapped: a thread
//! whose gs base is 0 reaches block 0, a thread that owns block `i` has gs base `block(i) - D`.
//!
//! ```text
//! block:  header (owner, head, lost | tail, thread | facts) | hits[probes] | lost[probes]
//!         | what became of calls [probes] | tables | scratch | ring | slop
//! ```
//!
//! The *tables* are the maps that each thread has for itself ([`crate::program::table`]). *Scratch* is
//! where a hit composes strings and keys: [`SCRATCHES`] places, taken by setting the lowest bit that is
//! clear in one word, so that a signal handler that hits a probe in the middle of another hit gets a
//! place of its own.
//!
//! A ring position is a free-running 64-bit byte count that starts at a random multiple of 64. The
//! record at position `p` lies at ring offset `p % ring_size`; one that starts before the ring's
//! end runs on into the slop, so no record wraps. Its first word is `p` itself, written last: a
//! word left over from the lap before cannot be taken for it.
//!
//! What the tracer reads here is untrusted: the target may have written anything.

mod activation;

pub use activation::{
    ACT_BODY, ACT_EXIT, ACT_RETURN, ACT_SLOT, ACT_TAKEN, ACT_TIME, ACTIVATION, Activations,
    END_TAIL, END_UNWOUND, POOL_ENDED, POOL_NEXT, RETURN_POINT, UNWIND_SLOT, UNWIND_SLOTS,
};

use crate::base::ProbeId;

/// Version of this layout.
pub const VERSION: u32 = 6;
/// Where the version stands in block 0, for those who look at it from outside.
pub const VERSION_AT: u32 = 0x18;
/// What block 0 starts its life with, at [`MAGIC_AT`]: by it our memory is known after our death.
pub const MAGIC: u64 = u64::from_le_bytes(*b"kptrace\n");
/// Where [`MAGIC`] stands.
pub const MAGIC_AT: u32 = 0x20;

/// What the session's object starts with, at [`MAGIC_AT`], and its version at [`VERSION_AT`]: its first
/// page; the tables of [`crate::program::table::Home::Session`] follow at [`MAPS_HEAD`].
pub const MAPS_MAGIC: u64 = u64::from_le_bytes(*b"kptrmaps");
/// See [`MAPS_MAGIC`].
pub const MAPS_HEAD: u64 = 4096;

/// Code starts with [`MAGIC`], the version and the address of block 0: all that a forked child still
/// has of us is code. The first detour follows at this offset.
pub const CODE_HEAD: u64 = 64;

/// Size of the alive word's page, which lies right before block 0.
pub const ALIVE_SIZE: u64 = 4096;
/// Size of the memory right before that, where a borrowed thread keeps what it is to come back to.
pub const FRAME_SIZE: u64 = 16 << 10;

/// Owner word of a block: the fs base of the thread that may write it without locks.
pub const OWNER: u32 = 0x00;
/// Ring position where the next record starts (written by detours).
pub const HEAD: u32 = 0x08;
/// How many records of this block found the ring full, of all probes together (written by detours).
pub const LOST: u32 = 0x10;
/// Ring position up to which the tracer has read (written by the tracer). On a cache line of its
/// own.
pub const TAIL: u32 = 0x40;
/// Loads of probe programs that faulted and gave 0 (written by detours).
pub const FAULTS: u32 = 0x28;
/// Hits that found no scratch memory free, or went round a loop too often (written by detours).
pub const DROPPED: u32 = 0x30;
/// Scratch places in use, a bit each (written by detours).
pub const IN_USE: u32 = 0x38;
/// The owner's thread id (written by the tracer).
pub const TID: u32 = 0x48;
/// The owner's name, 16 bytes with zeros, and its length as a word (written by the tracer); in block 0
/// the process's.
pub const COMM: u32 = 0x50;
/// In block 0: the process (written by the tracer, as all that follows).
pub const PID: u32 = 0x80;
/// In block 0: the user's number, and the group's (`u32` each).
pub const UID: u32 = 0x88;
/// In block 0: the process that `run` started, else 0.
pub const CHILD: u32 = 0x90;
/// In block 0: nanoseconds are `(ticks - CLOCK_TICKS) * CLOCK_SLOPE >> 32 + CLOCK_NANOS`.
pub const CLOCK_TICKS: u32 = 0x98;
/// In block 0: see [`CLOCK_TICKS`].
pub const CLOCK_SLOPE: u32 = 0xa0;
/// In block 0: see [`CLOCK_TICKS`].
pub const CLOCK_NANOS: u32 = 0xa8;
/// In block 0: nanoseconds at the session's start.
pub const CLOCK_START: u32 = 0xb0;
/// In block 0: which half of a cell of minima or maxima is written, in bit 0.
pub const EPOCH: u32 = 0xb8;
/// In block 0: how often a detour asked the tracer for something (written by detours).
pub const ASKED: u32 = 0xc0;
/// In block 0: how many of these were answered (written by the tracer).
pub const ANSWERED: u32 = 0xc8;
/// In block 0: whether one waited in vain; while this stands none waits (written by both).
pub const IN_VAIN: u32 = 0xd0;
/// The pool of activations that the owner takes from, 0 when it has none (written by the tracer).
pub const POOL: u32 = 0xd8;
/// In block 0: not 0 once a pool of activations ran low (written by detours, reset by the tracer).
pub const LOW: u32 = 0xe0;
/// Where the stack that was copied last ends: reading there faulted (written by detours).
pub const STACK_END: u32 = 0xe8;
/// Where the counters start.
pub const COUNTERS: u32 = 0x140;
/// Owner of a block that nobody owns. Not canonical, so never an fs base.
pub const NO_OWNER: u64 = u64::MAX;

/// How many reservations may be interrupted, one inside another, between their look at the ring and
/// their taking of the space: by signal handlers that leave records too.
pub const NESTED: u32 = 4;
/// No record is larger; the slop behind a ring has this size.
pub const MAX_RECORD: u32 = 16384;
/// Records start at multiples of this.
pub const RECORD_ALIGN: u32 = 8;

/// Record header: the record's own position, written last.
pub const REC_POSITION: u32 = 0;
/// Record header: probe number (`u32`).
pub const REC_PROBE: u32 = 8;
/// Record header: bit `i` set when reading field `i` faulted (`u32`); its first word then holds
/// the address.
pub const REC_FAULTS: u32 = 12;
/// Record header: fs base of the thread, in the shared block; own blocks know their thread (0).
pub const REC_THREAD: u32 = 16;
/// Record header: time stamp counter; 0 when the program takes no time.
pub const REC_TIME: u32 = 24;
/// Where the fields start.
pub const REC_FIELDS: u32 = 32;

/// A string field starts with its length (`u32`) and [`STR_TRUNCATED`] or 0 (`u32`); bytes follow.
pub const STR_BYTES: u32 = 8;
/// Flag of a string field whose end was not reached.
pub const STR_TRUNCATED: u32 = 1;
/// Flag of a string in scratch memory that could not be read: the address stands in its place.
pub const STR_FAULT: u32 = 2;
/// It is a string of the program's own text.
pub const STR_OWN: u32 = 4;

/// A copied stack starts with how many bytes of it there are.
pub const STACK_LENGTH: u32 = 0;
/// Of a copied stack: the stack pointer, where the copy begins.
pub const STACK_POINTER: u32 = 8;
/// Of a copied stack: the frame pointer.
pub const STACK_FRAME: u32 = 16;
/// Where the bytes of a copied stack start.
pub const STACK_BYTES: u32 = 24;

/// How many frames a stack has that the reader of its record puts in: the first word of its value.
pub const STACK_MARK: u64 = u64::MAX;

/// Bits of a record's probe word that name the probe; above them stands which of its program's
/// records it is.
pub const PROBE_BITS: u32 = 22;
/// Places of scratch memory in a block.
pub const SCRATCHES: u32 = 32;

const PAGE: u64 = 4096;
/// Addresses that one object may take in the target; memory is only what is touched of it.
const MOST_ADDRESSES: u64 = 8 << 30;

// Generated code relies on these relations.
const _: () = assert!(OWNER.is_multiple_of(8) && HEAD.is_multiple_of(8) && TAIL.is_multiple_of(64));
const _: () = assert!(
    TAIL / 64 != HEAD / 64,
    "reader and writer must not share a cache line"
);
const _: () = assert!(COUNTERS.is_multiple_of(64) && COUNTERS > TAIL);
const _: () = assert!(MAX_RECORD.is_multiple_of(RECORD_ALIGN) && REC_FIELDS.is_multiple_of(8));

/// Sizes of one session's object. Offsets within a block are the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of probes there is room for; each has a hit counter and a lost counter in every block.
    /// Counters that no probe uses are never touched, and take no memory.
    pub probes: u32,
    /// Ring bytes per block, a power of two; 0 when no program records.
    pub ring_size: u32,
    /// Bytes of the largest record that any program leaves.
    pub largest: u32,
    /// Number of blocks, the shared one included.
    pub blocks: u32,
    /// Bytes of the tables that each block has, a multiple of 64.
    pub tables: u32,
    /// Bytes of one place of scratch memory, a multiple of 64.
    pub scratch: u32,
    /// Whether returns are probed: then each probe has counters for what became of calls, too.
    pub returns: bool,
}

/// What becomes of a call whose return is probed, other than that the function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its return is not seen: the thread has no memory of its own.
    Untracked = 0,
    /// It ended in a call of another probed function that returns in its place.
    Tail = 1,
    /// An unwinder took its frame.
    Unwound = 2,
    /// Its return is not seen: no activation of the thread was free.
    Crowded = 3,
    /// Its return is not seen: it returns to code that a runtime made.
    Runtime = 4,
}

/// How many kinds of [`Fate`] there are.
const FATES: u32 = 5;

impl Layout {
    /// The same with as many blocks as fit into `budget` bytes when `used` probes are there, of those
    /// there is room for: at most `max_blocks`, at least two.
    pub fn fit(self, used: u32, max_blocks: u32, budget: u64) -> Layout {
        debug_assert!(self.ring_size == 0 || self.ring_size.is_power_of_two());
        let most = u64::from(max_blocks).min(MOST_ADDRESSES / self.block_size());
        let blocks = (budget / self.of_budget(used)).clamp(2, most.max(2));
        Layout {
            blocks: u32::try_from(blocks).unwrap_or(2),
            ..self
        }
    }

    /// Bytes of memory that a block takes when so many probes are there: of its places of scratch
    /// memory nearly always one alone is touched.
    pub fn of_budget(self, used: u32) -> u64 {
        let unused = (SCRATCHES - 1) * self.scratch;
        let used = Layout {
            probes: used,
            ..self
        };
        used.block_size() - u64::from(unused)
    }

    /// Ring space kept free for records of signal handlers that interrupt a reservation.
    pub fn slack(&self) -> u32 {
        NESTED * self.largest
    }

    /// The smallest ring that may hold records of `largest` bytes.
    pub fn smallest_ring(largest: u32) -> u32 {
        (4 * NESTED * largest).next_power_of_two().max(1 << 16)
    }

    /// Offset in a block of a probe's hit counter.
    pub fn hits(&self, probe: ProbeId) -> u32 {
        COUNTERS + 8 * probe.0
    }

    /// Offset in a block of a probe's count of hits whose record found the ring full.
    pub fn lost(&self, probe: ProbeId) -> u32 {
        COUNTERS + 8 * (self.probes + probe.0)
    }

    /// Offset in a block of a probe's count of calls that fared so, where returns are probed.
    pub fn fate(&self, fate: Fate, probe: ProbeId) -> u32 {
        COUNTERS + 8 * ((2 + fate as u32) * self.probes + probe.0)
    }

    /// Offset in a block of its tables.
    pub fn tables(&self) -> u32 {
        let counters = if self.returns { 2 + FATES } else { 2 };
        (COUNTERS + 8 * counters * self.probes).next_multiple_of(64)
    }

    /// Offset in a block of its scratch memory.
    pub fn scratch(&self) -> u32 {
        self.tables() + self.tables
    }

    /// Offset in a block of the ring.
    pub fn ring(&self) -> u32 {
        self.scratch() + SCRATCHES * self.scratch
    }

    /// Size of a block: whole pages.
    pub fn block_size(&self) -> u64 {
        let ring = if self.ring_size == 0 {
            0
        } else {
            self.ring_size + MAX_RECORD
        };
        (u64::from(self.ring()) + u64::from(ring)).next_multiple_of(PAGE)
    }

    /// Offset in the object of a block.
    pub fn block(&self, index: u32) -> u64 {
        u64::from(index) * self.block_size()
    }

    /// Size of all blocks.
    pub fn size(&self) -> u64 {
        self.block(self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_ring_do_not_overlap() {
        let layout = Layout {
            probes: 3,
            ring_size: 1 << 16,
            largest: 64,
            blocks: 2,
            tables: 128,
            scratch: 64,
            returns: false,
        };
        assert!(layout.hits(ProbeId(2)) < layout.lost(ProbeId(0)));
        assert!(layout.lost(ProbeId(2)) + 8 <= layout.tables());
        assert!(layout.scratch() + SCRATCHES * layout.scratch <= layout.ring());
        assert!(u64::from(layout.ring() + layout.ring_size + MAX_RECORD) <= layout.block_size());
    }

    /// Room for so many probes, no rings.
    fn of(probes: u32) -> Layout {
        Layout {
            probes,
            ring_size: 0,
            largest: 0,
            blocks: 1,
            tables: 0,
            scratch: 0,
            returns: false,
        }
    }

    #[test]
    fn a_layout_has_a_block_for_a_thread_however_small_the_budget() {
        assert_eq!(of(100_000).fit(100_000, 64, 4096).blocks, 2);
        assert_eq!(of(1).fit(1, 64, 1 << 26).blocks, 64);
    }

    #[test]
    fn tables_take_budget_and_scratch_memory_that_is_not_touched_takes_none() {
        let plain = of(100).fit(100, 64, 1 << 20);
        let tables = Layout {
            tables: 64 << 10,
            ..of(100)
        };
        let scratch = Layout {
            scratch: 16 << 10,
            ..of(100)
        };
        assert_eq!(plain.blocks, 64);
        assert_eq!(tables.fit(100, 64, 1 << 20).blocks, 15);
        assert_eq!(scratch.fit(100, 64, 1 << 20).blocks, 51);
    }

    #[test]
    fn room_for_more_probes_takes_no_budget_but_addresses() {
        let narrow = of(1000).fit(1000, 64, 1 << 20);
        let wide = of(1 << 19).fit(1000, 64, 1 << 20);
        assert_eq!(narrow.blocks, wide.blocks);
        assert!(wide.size() <= MOST_ADDRESSES);
    }
}
