//! Calls put together from hits: for each thread the stack of calls that have begun, entries and
//! returns matched, so that the formats made of calls agree. Knows no format; what is read of it is
//! given to a [`Reader`].
//!
//! Records may be missing (they found no room, tracing began in the middle, a `longjmp`): an entry
//! whose end is missing is `Missed` as soon as a call outside of it ends; a return without its entry
//! is a call by itself, which holds what began after it did. Where a function ends in a call of
//! another, the record of the end comes after that of the next entry: they are put right here.
//!
//! Invariant: spans (start to end) of the calls of one thread nest or are apart.

mod filter;
mod functions;
#[cfg(test)]
mod property;
mod stack;
#[cfg(test)]
pub(super) mod testing;

use std::collections::BTreeMap;

pub use filter::{CallFilter, Within};
pub(super) use functions::{FunctionId, Functions};
pub(super) use stack::{Call, named};

use crate::base::{Pid, Tid};
use crate::data::{End, Hit, ProbeKind};
use stack::Stack;

/// Threads that are kept in mind though nothing is known of them but that they were there.
const IDLE_THREADS: usize = 4096;

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Thread {
    pub(super) pid: Pid,
    /// `None` where it could not be told.
    pub(super) tid: Option<Tid>,
}

impl Thread {
    /// The thread's number, or the process's.
    pub(super) fn number(self) -> i32 {
        self.tid.map_or(self.pid.0, |tid| tid.0)
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It ended.
    Ended(End),
    /// It had not ended when tracing did.
    Inside,
    /// It ended, or will never: there is no record of it.
    Missed,
}

/// A call that is over, or about which nothing more will be known.
pub(super) struct Ended<'a> {
    pub(super) thread: Thread,
    pub(super) comm: &'a str,
    pub(super) call: &'a Call,
    pub(super) fate: Fate,
    /// Wall-clock time in nanoseconds.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Nanoseconds from start to end, when it has ended.
    pub(super) duration: Option<u64>,
    /// How many of these it spent in no other call that is shown.
    pub(super) own: u64,
    /// Its entry was not seen, and calls in it were told of before.
    pub(super) late: bool,
    /// What a probe at the return recorded, as [`Reader::values`] had it.
    pub(super) returned: &'a [u8],
}

/// Who reads calls.
pub(super) trait Reader {
    /// Prints the arguments of a hit; what several print is put together with a comma between.
    fn values(&self, out: &mut Vec<u8>, hit: &Hit<'_>);
    /// A call began: the last of the stack.
    fn entered(&mut self, _functions: &Functions, _thread: Thread, _stack: &mut [Call]) {}
    /// A call is over; the stack holds those around it.
    fn ended(&mut self, functions: &Functions, stack: &mut [Call], ended: &Ended<'_>);
    /// A probe was hit whose function's return is not probed, or that is no function's.
    fn passed(&mut self, _functions: &Functions, _stack: &mut [Call], _passed: &Ended<'_>) {}
}

/// All threads.
pub(super) struct Calls {
    functions: Functions,
    filter: CallFilter,
    threads: BTreeMap<Thread, Stack>,
}

impl Calls {
    pub(super) fn new(filter: CallFilter) -> Calls {
        Calls {
            functions: Functions::default(),
            filter,
            threads: BTreeMap::new(),
        }
    }

    pub(super) fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Takes in a hit; the thread's come in their order.
    pub(super) fn hit(&mut self, hit: &Hit<'_>, reader: &mut impl Reader) {
        let thread = Thread {
            pid: hit.pid,
            tid: hit.tid,
        };
        if self.threads.len() >= IDLE_THREADS && !self.threads.contains_key(&thread) {
            self.threads.retain(|_, stack| !stack.is_idle());
        }
        let function = self.functions.of(hit.probe, &self.filter);
        let stack = self
            .threads
            .entry(thread)
            .or_insert_with(|| Stack::new(thread));
        if stack.comm != hit.comm {
            hit.comm.clone_into(&mut stack.comm);
        }
        let mut around = Around {
            functions: &self.functions,
            filter: &self.filter,
            reader,
        };
        match (hit.end, hit.probe.kind) {
            (Some(end), _) => stack.end(hit, function, end, &mut around),
            (None, ProbeKind::Entry) if hit.returns => stack.enter(hit, function, &mut around),
            (None, _) => stack.pass(hit, function, &mut around),
        }
    }

    /// Nothing more comes of this process, or of any: what is still open stays so.
    pub(super) fn finish(&mut self, pid: Option<Pid>, reader: &mut impl Reader) {
        let mut around = Around {
            functions: &self.functions,
            filter: &self.filter,
            reader,
        };
        let over = |thread: &Thread| pid.is_none_or(|pid| thread.pid == pid);
        let threads: Vec<Thread> = self.threads.keys().copied().filter(over).collect();
        for thread in threads {
            if let Some(mut stack) = self.threads.remove(&thread) {
                stack.finish(&mut around);
            }
        }
    }
}

/// What a stack needs beside itself.
struct Around<'a, R> {
    functions: &'a Functions,
    filter: &'a CallFilter,
    reader: &'a mut R,
}
