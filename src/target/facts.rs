//! What the blocks say of whom they belong to: process, thread, time. Programs read it there; it is
//! what they are told, and nothing of ours reads it back.

use crate::abi::{self, Layout};
use crate::base::{Addr, Pid, Tid};
use crate::sys::clock::Line;
use crate::sys::shm::Shared;

/// The heads of an object's blocks, a target's or our own.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The object.
    pub shared: &'a Shared,
    /// Its layout.
    pub layout: &'a Layout,
}

impl Heads<'_> {
    fn tell(self, block: u32, offset: u32, word: u64) {
        let at = self.layout.block(block) + u64::from(offset);
        self.shared.store(at, word);
    }

    /// Makes a block ready for its first owner. Others are not touched: that would give them memory.
    pub fn prepare(self, block: u32) {
        // A random start keeps what an earlier lap left in the ring from passing for a record.
        let start = random_position();
        self.tell(block, abi::HEAD, start);
        self.tell(block, abi::TAIL, start);
        self.tell_owner(block, abi::NO_OWNER);
    }

    /// Makes the thread with this fs base the owner of a block, or the block nobody's.
    pub fn tell_owner(self, block: u32, fs_base: u64) {
        self.tell(block, abi::OWNER, fs_base);
    }

    /// Which process this is, who started it (0 when we did not), and which half of a minimum or
    /// maximum is written.
    pub fn tell_process(self, pid: Pid, child: Option<Pid>, epoch: u64) {
        let number = |pid: Pid| u64::from(pid.0.cast_unsigned());
        self.tell(0, abi::PID, number(pid));
        self.tell(0, abi::CHILD, child.map_or(0, number));
        self.tell(0, abi::EPOCH, epoch);
    }

    /// Whose it is.
    pub fn tell_user(self, uid: u32, gid: u32) {
        self.tell(0, abi::UID, u64::from(uid) | u64::from(gid) << 32);
    }

    /// How ticks become nanoseconds.
    pub fn tell_clock(self, line: &Line) {
        self.tell(0, abi::CLOCK_TICKS, line.start.ticks);
        self.tell(0, abi::CLOCK_SLOPE, line.slope);
        self.tell(0, abi::CLOCK_NANOS, line.start.nanos);
        self.tell(0, abi::CLOCK_START, line.start.nanos);
    }

    /// Makes a block ready for its next owner.
    pub fn tell_thread(self, block: u32, tid: Tid) {
        self.tell(block, abi::TID, u64::from(tid.0.cast_unsigned()));
        // Whoever had it before ended in the middle of a hit, perhaps.
        self.tell(block, abi::IN_USE, 0);
    }

    /// Which pool of activations the owner of a block takes from.
    pub fn tell_pool(self, block: u32, pool: Addr) {
        self.tell(block, abi::POOL, pool.0);
    }

    /// What the owner of a block is called; of block 0, the process.
    pub fn tell_name(self, block: u32, name: &[u8; 16]) {
        let (halves, _) = name.as_chunks::<8>();
        for (offset, half) in [abi::COMM, abi::COMM + 8].into_iter().zip(halves) {
            self.tell(block, offset, u64::from_le_bytes(*half));
        }
        let length = name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(name.len());
        self.tell(block, abi::COMM + 16, length as u64);
    }
}

/// A multiple of 64 that nobody can guess.
fn random_position() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) & !63
}
