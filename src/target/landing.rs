//! Where threads that hit a breakpoint go on: one table in the target, filled before the first
//! breakpoint that it names is written. The tracer looks into it when it takes a report; the handler
//! of SIGTRAP beside it does when there is no tracer any more.
//!
//! Invariant: a pair is complete before its key can be found, and what a key leads to is a detour
//! that stays as long as the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::inject::{Injected, Slab};
use crate::arch::native::emit::landing::{
    DEFAULT, HANDLER, MARK, MOST_SPANS, OURS, PAIR, SPANS, START, TABLE, landing, slot,
};
use crate::base::{Addr, Tid};
use crate::sys::mem::Memory;
use crate::sys::ptrace;
use crate::sys::shm::Shared;

/// Sites that there is always room for.
const FEWEST: usize = 1 << 10;
/// No table is larger: pairs, as a power of two.
const MOST_BITS: u32 = 24;
/// Size of the kernel's `struct sigaction` on x86-64: handler, flags, restorer, mask.
pub const ACTION: usize = 32;

// signal.h of the kernel's x86 headers.
const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;

/// The table, and the handler's code.
#[derive(Debug)]
pub struct Landing {
    shared: Arc<Shared>,
    slab: Slab,
    offset: u64,
    bits: u32,
    restorer: u64,
    used: AtomicUsize,
}

fn bits(sites: usize) -> u32 {
    // A third stays empty, or searches become long.
    let pairs = (sites.max(FEWEST) as u64).saturating_mul(3) / 2;
    pairs.next_power_of_two().ilog2().min(MOST_BITS)
}

impl Landing {
    /// Bytes of memory for so many sites.
    pub fn size(sites: usize) -> u64 {
        TABLE + (PAIR << bits(sites))
    }

    /// Prepares the last of the tables that were injected.
    pub fn new(injected: &Injected, used: usize) -> Option<Landing> {
        let slab = *injected.tables.last()?;
        let pairs = slab.span.len().checked_sub(TABLE)? / PAIR;
        let bits = pairs.checked_ilog2()?;
        let (region, restorer) = landing(bits)?;
        let landing = Landing {
            shared: injected.object(&slab)?,
            slab,
            offset: slab.offset(),
            bits,
            restorer,
            used: AtomicUsize::new(used),
        };
        let start = slab.span.start + START;
        let written = injected.write_code(start, &region)
            && injected.write_code(landing.action_at(), &landing.action());
        landing.learn_code(injected);
        written.then_some(landing)
    }

    /// Code was added: threads that were sent there go on as they are.
    pub fn learn_code(&self, injected: &Injected) {
        let code = injected.slabs.iter().flatten();
        for (index, slab) in code.take(MOST_SPANS).enumerate() {
            let at = self.offset + SPANS + 16 * index as u64;
            // The handler takes a span whose end is 0 for the last.
            self.shared.store(at, slab.span.start.0);
            self.shared.store(at + 8, slab.span.end.0);
        }
    }

    /// The same table in a forked child, which has a copy of it at the same address.
    pub fn moved(&self, injected: &Injected) -> Option<Landing> {
        let slab = *injected.tables.last()?;
        Some(Landing {
            shared: injected.object(&slab)?,
            slab,
            offset: slab.offset(),
            bits: self.bits,
            restorer: self.restorer,
            used: AtomicUsize::new(self.used()),
        })
    }

    /// How many sites are in it.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it can hold so many sites.
    pub fn has_room_for(&self, sites: usize) -> bool {
        sites.max(self.used()) as u64 <= (1 << self.bits) / 3 * 2
    }

    /// Puts everything into another table.
    pub fn copy_to(&self, other: &Landing) {
        for index in 0..1_u64 << self.bits {
            let at = self.offset + TABLE + PAIR * index;
            let (key, to) = (self.shared.load(at), self.shared.load(at + 8));
            if key != 0 {
                other.lead(Addr(key) - 1, Addr(to));
            }
        }
    }

    /// Where the pair for `key` is, or may be put; `None` when the table is full.
    fn pair(&self, key: u64) -> Option<(u64, u64)> {
        let pairs = 1_u64 << self.bits;
        let first = slot(key, self.bits);
        (0..pairs / 3 * 2).find_map(|step| {
            let at = self.offset + TABLE + PAIR * ((first + step) & (pairs - 1));
            let there = self.shared.load(at);
            (there == key || there == 0).then_some((at, there))
        })
    }

    /// From here on, who hits a breakpoint at `site` goes on at `to`. False when the table is full.
    pub fn lead(&self, site: Addr, to: Addr) -> bool {
        let key = (site + 1).0;
        let Some((at, there)) = self.pair(key) else {
            return false;
        };
        if there == 0 {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.store(at + 8, to.0);
        self.shared.store(at, key);
        true
    }

    /// A breakpoint at `site` is not ours.
    pub fn disown(&self, site: Addr) {
        if let Some((at, there)) = self.pair((site + 1).0)
            && there != 0
        {
            self.shared.store(at + 8, 0);
        }
    }

    /// Where a thread with this program counter goes on, if a breakpoint of ours was before it.
    fn after(&self, pc: Addr) -> Option<Addr> {
        let (at, there) = self.pair(pc.0)?;
        let to = self.shared.load(at + 8);
        (there == pc.0 && to != 0).then_some(Addr(to))
    }

    /// Sends a thread that stopped at an int3 on its way, while its report is unread, if that is a
    /// breakpoint of ours, and says where it is.
    pub(super) fn send_on(&self, tid: Tid) -> Option<Addr> {
        let pc = ptrace::pc(tid).ok()?;
        let to = self.after(pc)?;
        ptrace::set_pc(tid, to).ok()?;
        Some(pc - 1)
    }

    /// Where that action lies in the target, for calls made there.
    pub fn action_at(&self) -> Addr {
        self.slab.span.start + OURS
    }

    /// Where the action `SIG_DFL` lies.
    pub fn default_at(&self) -> Addr {
        self.slab.span.start + DEFAULT
    }

    /// The action of SIGTRAP that makes the handler the target's, as the kernel takes it. Every
    /// other signal waits until it returns; it runs on the thread's alternate stack where there is
    /// one.
    pub fn action(&self) -> [u8; ACTION] {
        let start = self.slab.span.start.0;
        let words = [
            start + HANDLER,
            SA_SIGINFO | SA_RESTORER | SA_ONSTACK,
            start + self.restorer,
            u64::MAX,
        ];
        let mut action = [0; ACTION];
        for (bytes, word) in action.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        action
    }
}

/// Whether an action is a landing's: the handler of a session that has died does nothing by itself.
pub fn is_landing(memory: &Memory, action: &[u8; ACTION]) -> bool {
    let handler = action.first_chunk().copied().map_or(0, u64::from_le_bytes);
    let mut mark = [0; MARK.len()];
    handler > HANDLER
        && memory
            .read(Addr(handler) - MARK.len() as u64, &mut mark)
            .is_ok()
        && &mark == MARK
}
