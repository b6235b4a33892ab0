//! Calls that are under way when a process ends: read when the last of its threads is about to leave
//! its memory. Knows nothing of whose functions they are.
//!
//! Invariant: what is said to be known is what no thread can change any more.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::pools::{Outstanding, outstanding};
use crate::abi::Activations;
use crate::base::{Addr, Pid, Tid};
use crate::sys::mem::Memory;
use crate::sys::{procfs, ptrace};

/// The calls of every process of a session: reports of one come while another is dealt with.
pub type LastCalls = Rc<RefCell<BTreeMap<Pid, Watched>>>;

/// A process whose threads tell when they end.
#[derive(Debug)]
pub struct Watched {
    activations: Activations,
    ending: BTreeSet<Tid>,
    stood: Vec<Addr>,
    found: Option<Vec<Outstanding>>,
}

impl Watched {
    /// A process that has these activations.
    pub fn new(activations: Activations) -> Watched {
        Watched {
            activations,
            ending: BTreeSet::new(),
            stood: Vec::new(),
            found: None,
        }
    }

    /// What was under way at its end, if that could be seen.
    pub fn found(&self) -> Option<&[Outstanding]> {
        self.found.as_deref()
    }

    /// Where its threads stood when they ended.
    pub fn stood(&self) -> &[Addr] {
        &self.stood
    }

    /// Its thread is about to leave its memory, and stands still until this is done.
    fn ends(&mut self, pid: Pid, tid: Tid) {
        self.ending.insert(tid);
        self.stood.extend(ptrace::pc(tid));
        let others = procfs::tasks(pid).unwrap_or_default();
        if others.iter().all(|other| self.ending.contains(other)) {
            let read = |memory: Memory| outstanding(&self.activations, &memory).ok();
            self.found = Memory::open(pid, tid).ok().and_then(read);
        }
    }
}

/// A thread of some process is about to leave its memory.
pub(super) fn note_end(calls: &LastCalls, tid: Tid) {
    let Ok(status) = procfs::status(Pid(tid.0), tid) else {
        return;
    };
    let pid = Pid(status.process);
    if let Some(watched) = calls.borrow_mut().get_mut(&pid) {
        watched.ends(pid, tid);
    }
}
