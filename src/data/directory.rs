//! Who owns which block of an object, shared by the thread that traces and the one that drains. A
//! block that was given back is handed out again only once it is drained.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::Tid;

/// Who owns which block, and which thread pointer is whose.
#[derive(Debug, Default)]
pub struct Directory {
    inner: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    owners: BTreeMap<u32, Tid>,
    free: Vec<u32>,
    next: u32,
    blocks: u32,
    pointers: HashMap<u64, Tid>,
}

impl Directory {
    /// A directory of blocks 1 to `blocks - 1`, all free. Block 0 is everybody's.
    pub fn new(blocks: u32) -> Directory {
        Directory {
            inner: Mutex::new(Entries {
                next: 1,
                blocks,
                ..Entries::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a block for a thread; `None` when all are taken. One that was never used is made ready
    /// by `prepare` before anybody reads it.
    pub fn take(&self, tid: Tid, prepare: impl FnOnce(u32)) -> Option<u32> {
        let mut entries = self.lock();
        let block = entries.free.pop().or_else(|| {
            let fresh = entries.next;
            (fresh < entries.blocks).then(|| {
                prepare(fresh);
                entries.next += 1;
                fresh
            })
        })?;
        entries.owners.insert(block, tid);
        Some(block)
    }

    /// Gives a block back, once it is drained.
    pub(super) fn release(&self, block: u32) {
        let mut entries = self.lock();
        if entries.owners.remove(&block).is_some() {
            entries.free.push(block);
        }
    }

    /// Remembers which thread has this thread pointer.
    pub fn learn(&self, fs_base: u64, tid: Tid) {
        self.lock().pointers.insert(fs_base, tid);
    }

    /// Every block that was ever used, the shared one first.
    pub fn used(&self) -> Vec<u32> {
        (0..self.lock().next).collect()
    }

    pub(super) fn owned(&self) -> Vec<(u32, Tid)> {
        self.lock()
            .owners
            .iter()
            .map(|(&block, &tid)| (block, tid))
            .collect()
    }

    pub(super) fn by_pointer(&self, fs_base: u64) -> Option<Tid> {
        self.lock().pointers.get(&fs_base).copied()
    }
}
