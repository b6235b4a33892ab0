//! What an int3 or a fault does to a program that blocks or ignores the signal, put right.
//!
//! The kernel forces such a signal: it unblocks it in the thread and resets its action for the
//! whole process (`force_sig_info_to_task` in `kernel/signal.c`). Actions are therefore read once,
//! and masks remembered from one stop to the next.

use std::io;

use crate::base::{Addr, Tid};
use crate::sys::errno::sig;
use crate::sys::{procfs, ptrace};
use crate::target::{ACTION, Process, Remote};

/// Signals that our code may raise.
const SIGNALS: [i32; 3] = [sig::TRAP, sig::SEGV, sig::BUS];

#[derive(Clone, Copy, Debug)]
struct Known {
    signal: i32,
    action: [u8; ACTION],
}

/// Actions of the signals that our code may raise.
#[derive(Clone, Debug, Default)]
pub(super) struct Dispositions {
    known: Vec<Known>,
    /// Which of them were caught and ignored when they were read.
    seen: [u64; 2],
    scratch: Addr,
}

/// Which signals that our code may raise are caught, and which ignored.
fn seen(status: procfs::Status) -> [u64; 2] {
    let ours = SIGNALS.into_iter().map(bit).fold(0, |all, bit| all | bit);
    [status.caught & ours, status.ignored & ours]
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Dispositions {
    /// Reads the actions by calls of a stopped thread; `scratch` is memory of ours in the target.
    pub(super) fn read(process: &mut Process, tid: Tid, scratch: Addr) -> io::Result<Dispositions> {
        let mut known = Vec::new();
        let seen = seen(procfs::status(process.pid, tid)?);
        let mut remote = Remote::begin(process, tid)?;
        for signal in SIGNALS {
            if remote.sigaction(signal, Addr(0), scratch).is_err() {
                continue;
            }
            let mut action = [0; ACTION];
            remote.process().memory.read(scratch, &mut action)?;
            known.push(Known { signal, action });
        }
        remote.finish()?;
        Ok(Dispositions {
            known,
            seen,
            scratch,
        })
    }

    /// The action of a signal, if it could be read.
    pub(super) fn action(&self, signal: i32) -> Option<[u8; ACTION]> {
        let known = self.known.iter().find(|known| known.signal == signal)?;
        Some(known.action)
    }

    /// Memory of ours in the target, as large as an action.
    pub(super) fn scratch(&self) -> Addr {
        self.scratch
    }

    /// The action of a signal is this one now, and neither it nor the one before ignores it.
    pub(super) fn set(&mut self, signal: i32, action: [u8; ACTION]) {
        let caught = action.first_chunk().copied().map_or(0, u64::from_le_bytes) != 0;
        if let Some(known) = self.known.iter_mut().find(|known| known.signal == signal) {
            known.action = action;
            self.seen[0] = self.seen[0] & !bit(signal) | if caught { bit(signal) } else { 0 };
        }
    }

    /// Reads the actions again if the program changed them, by calls of a thread that is stopped.
    pub(super) fn renew(&mut self, process: &mut Process, tid: Tid) -> io::Result<()> {
        if seen(procfs::status(process.pid, tid)?) == self.seen {
            return Ok(());
        }
        match Dispositions::read(process, tid, self.scratch) {
            Ok(now) => *self = now,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Puts mask and action of a forced signal back, if the kernel changed them. The thread is
    /// stopped for that signal, which is not delivered.
    pub(super) fn repair(&self, process: &mut Process, tid: Tid, signal: i32) -> io::Result<()> {
        let mask = ptrace::sigmask(tid)?;
        let before = process.threads.get(&tid).map_or(0, |thread| thread.mask);
        // Threads that block everything block this too; they are the usual case, and were
        // perhaps never stopped before.
        let faults =
            bit(sig::ILL) | bit(sig::BUS) | bit(sig::FPE) | bit(sig::SEGV) | bit(sig::ABRT);
        let others = (faults | bit(sig::TRAP)) & !bit(signal);
        // Whose mask differs in more than this signal has set another since it was last seen.
        let unchanged = mask | bit(signal) == before;
        let was_blocked = mask & bit(signal) == 0 && (unchanged || mask & others == others);
        let restored = if was_blocked {
            mask | bit(signal)
        } else {
            mask
        };
        if was_blocked {
            ptrace::set_sigmask(tid, restored)?;
        }
        if let Some(thread) = process.threads.get_mut(&tid) {
            thread.mask = restored;
        }
        let Some(known) = self.known.iter().find(|known| known.signal == signal) else {
            return Ok(());
        };
        let handler = known
            .action
            .first_chunk()
            .copied()
            .map_or(0, u64::from_le_bytes);
        // SIG_DFL cannot have been reset; a handler only while the signal was blocked.
        let ignored = handler == 1;
        if handler == 0 || !(ignored || was_blocked) {
            return Ok(());
        }
        // One that borrows the memory may have actions of its own.
        let owner = process.threads.get(&tid).map(|thread| thread.process);
        let status = procfs::status(owner.unwrap_or(process.pid), tid)?;
        if (status.caught | status.ignored) & bit(signal) != 0 {
            return Ok(());
        }
        process.memory.write(self.scratch, &known.action)?;
        let mut remote = match Remote::begin(process, tid) {
            // What the kernel did cannot be undone from outside.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            remote => remote?,
        };
        let result = remote.sigaction(signal, self.scratch, Addr(0));
        remote.finish()?;
        result
    }
}
