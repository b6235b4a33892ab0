//! One thread under trace: whether it runs, what it stopped for, what we changed in it.

use crate::base::{Addr, Pid};
use crate::sys::wait::Status;

/// Whether a thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, or is blocked in the kernel; we may not ask it anything.
    Running,
    /// It is in a ptrace-stop that has not been dealt with.
    Stopped(Status),
    /// It is in a group stop and listens for `SIGCONT`.
    Listening,
}

/// A thread of the target, or of a child that shares the target's memory.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Process it belongs to: the target, or a child that borrows its memory.
    pub process: Pid,
    /// Whether it runs.
    pub state: State,
    /// Block it owns, when it has one.
    pub block: Option<u32>,
    /// Base of gs that it had before we set it.
    pub gs_before: Option<u64>,
    /// Signals it blocked when last seen.
    pub mask: u64,
    /// Base of fs when last seen stopped: how records in the shared block name it.
    pub fs_base: Option<u64>,
    /// The call it was interrupted in when last borrowed, with the program counter and the stack
    /// pointer: the kernel's own number for going on with it says nothing.
    pub in_call: Option<(Addr, Addr, i64)>,
    /// We asked it to stop and it has not yet.
    pub interrupted: bool,
}

impl Thread {
    /// A thread that runs and was never looked at.
    pub fn new(process: Pid) -> Thread {
        Thread {
            process,
            state: State::Running,
            block: None,
            gs_before: None,
            mask: 0,
            fs_base: None,
            in_call: None,
            interrupted: false,
        }
    }
}
