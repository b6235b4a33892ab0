//! The tracer's side: the guardian's process, and a handle for each target.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::orphan;
use super::packet::Packet;
use super::record::{Journal, MOST, Site, Word};
use crate::base::{Addr, Pid};
use crate::sys::apart::{self, Apart};
use crate::sys::mem::Memory;
use crate::sys::packets::Packets;
use crate::sys::procfs;

/// Milliseconds that the guardian has to end when it is no longer needed, or to do its work when
/// something was left to it.
const PATIENCE: u32 = 2_000;

/// The guardian. When this is dropped, it puts back what is still in a journal, and ends.
#[derive(Debug)]
pub struct Guardian {
    socket: Option<Packets>,
    process: Apart,
    next: AtomicU64,
}

impl Guardian {
    /// Starts it. Call it while this process has one thread, and before there is a target.
    pub fn start() -> io::Result<Guardian> {
        let (socket, theirs) = Packets::pair()?;
        let tracer = apart::pidfd(apart::own_pid())?;
        let keep = [theirs.as_fd(), tracer.as_fd()];
        let process = apart::fork(c"kptrace-guard", &keep, || orphan::wait(&theirs, &tracer))?;
        Ok(Guardian {
            socket: Some(socket),
            process,
            next: AtomicU64::new(1),
        })
    }

    /// Whether it is there. Says once that it is not: its end is taken note of by asking.
    pub fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Tells it of a process that will be changed.
    pub fn target(self: &Arc<Self>, target: &Target<'_>) -> io::Result<Handle> {
        let (journal, file) = Journal::create(MOST)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let tid = target.memory.tid();
        let packet = Packet::Watch {
            id,
            pid: target.pid,
            tid,
            started: procfs::start_time(target.pid, tid).unwrap_or(0),
            alive: target.alive,
        };
        self.send(&packet, &[target.memory.file().as_fd(), file.as_fd()])?;
        Ok(Handle {
            guardian: Arc::clone(self),
            id,
            journal,
        })
    }

    fn send(&self, packet: &Packet, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match &self.socket {
            Some(socket) => socket.send(&packet.bytes(), descriptors),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.socket = None;
        self.process.end_within(PATIENCE);
    }
}

/// A process that will be changed.
#[derive(Debug)]
pub struct Target<'a> {
    /// Its number.
    pub pid: Pid,
    /// Its memory.
    pub memory: &'a Memory,
    /// The word that makes detours do their work.
    pub alive: Addr,
}

/// A target's journal. If it is dropped and not [let go of](Handle::let_go), the guardian will put
/// back what is in it.
#[derive(Debug)]
pub struct Handle {
    guardian: Arc<Guardian>,
    id: u64,
    journal: Journal,
}

impl Handle {
    /// Writes down sites before a breakpoint is written there. Returns how many there was no room
    /// for.
    pub fn about_to_trap(&mut self, sites: impl IntoIterator<Item = Site>) -> usize {
        sites
            .into_iter()
            .filter(|site| !self.journal.add(site))
            .count()
    }

    /// Writes down a word before it is counted up from `before`. False when there is no room.
    pub fn about_to_raise(&mut self, at: Addr, before: u16) -> bool {
        self.journal.add_word(Word { at, before })
    }

    /// The first bytes at these sites are final, and no breakpoints; words are counted down again.
    pub fn settled(&mut self, sites: impl IntoIterator<Item = Addr>) {
        sites.into_iter().for_each(|at| self.journal.remove(at));
    }

    /// How many sites are in the journal.
    pub fn len(&self) -> usize {
        self.journal.len()
    }

    /// Whether no site is in the journal.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The target is as it was, or is gone.
    pub fn let_go(self) {
        // One that cannot be told has ended, or finds nothing to do.
        let _ = self.guardian.send(&Packet::Forget { id: self.id }, &[]);
    }
}
