//! The tasks of one process: who is born, who ends, who becomes something else.
//!
//! Invariant: a task that borrows the process's memory is traced until it execs or ends.

use super::end::Ended;
use super::tracee::Tracee;
use super::usdt::Semaphores;
use crate::base::{Addr, Pid, Span, Tid};
use crate::data::Command;
use crate::sys::errno::is_gone;
use crate::sys::wait::Status;
use crate::sys::{procfs, ptrace};
use crate::target::{Kinship, State, Thread, restart_call};

impl Tracee {
    /// A task that we do not know has stopped. It is ours if it is a thread of ours or borrows our
    /// memory; who it is else is for the session to say.
    pub(super) fn stranger(&mut self, tid: Tid, status: Status) -> anyhow::Result<()> {
        // Whoever has ended has no memory to compare, and one that is traced has an alive word too.
        let process = procfs::status(Pid(tid.0), tid).map(|status| Pid(status.process));
        if process.is_ok_and(|process| self.is_of_another(process)) {
            self.strangers.push_back((tid, status));
            return Ok(());
        }
        self.common.newborn.borrow_mut().insert(tid);
        let alive = self.live.as_ref().map(|live| live.injected.alive);
        match self.process.kinship(tid, alive) {
            Ok(Kinship::Thread) => self.adopt(tid, self.process.pid, status),
            Ok(Kinship::Borrower(process)) => self.adopt(tid, process, status),
            // Once we have let go of its maker nobody knows any more what it inherited.
            Ok(Kinship::Child(pid)) if self.lets_go_of(tid, pid) => {
                ignore_gone(ptrace::let_live(tid))?;
                unless_gone(self.let_child_go(tid, pid))
            }
            // It may have ended meanwhile; its end is reported too.
            Ok(Kinship::Child(_)) | Err(_) => {
                self.strangers.push_back((tid, status));
                Ok(())
            }
        }
    }

    /// Whether a process is traced on its own account.
    fn is_of_another(&self, process: Pid) -> bool {
        process != self.process.pid && self.common.traced.borrow().contains(&process)
    }

    /// Whether a task is the thread of a child of ours that is not to be traced.
    fn lets_go_of(&self, tid: Tid, pid: Pid) -> bool {
        let follows = self.common.options.follow && !self.letting_go;
        let traced = self.common.traced.borrow().contains(&pid);
        // Others may have the same code at the same places.
        let parent = procfs::status(pid, tid).map(|status| Pid(status.parent));
        let of_another = || parent.is_ok_and(|parent| self.is_of_another(parent));
        !follows && !traced && !of_another() && self.has_inherited(tid, pid)
    }

    /// Whether a process has the code of ours that its maker had.
    pub(super) fn has_inherited(&self, tid: Tid, pid: Pid) -> bool {
        let (Some(live), Ok(maps)) = (&self.live, procfs::maps(pid, tid)) else {
            return false;
        };
        let mut code = live.injected.code().into_iter();
        code.all(|span| maps.iter().any(|mapping| mapping.span.overlaps(span)))
    }

    pub(super) fn adopt(&mut self, tid: Tid, process: Pid, status: Status) -> anyhow::Result<()> {
        let mut thread = Thread::new(process);
        thread.state = State::Stopped(status);
        self.process.threads.insert(tid, thread);
        // It inherited the options of its maker; that the target ends with us before it has begun
        // is the first thread's business alone.
        ignore_gone(ptrace::let_live(tid))?;
        self.handle(tid, status)
    }

    /// A thread stopped because it is new or because we asked it to.
    pub(super) fn interrupted(&mut self, tid: Tid) -> anyhow::Result<()> {
        unless_gone(self.own_block(tid))?;
        let Some(thread) = self.process.threads.get(&tid) else {
            return Ok(());
        };
        ignore_gone(restart_call(thread.process, tid))?;
        if self.live.is_some() && thread.process == self.process.pid {
            let renewed = self.dispositions.renew(&mut self.process, tid);
            unless_gone(renewed.map_err(anyhow::Error::from))?;
            unless_gone(self.still_landed(tid))?;
        }
        match self.process.threads.get(&tid).map(|thread| thread.state) {
            // Calls were made in it, and meanwhile it was stopped.
            Some(State::Stopped(Status::GroupStop(_))) => Ok(self.process.listen(tid)?),
            Some(State::Stopped(Status::Signal(signal))) => Ok(self.process.resume(tid, signal)?),
            _ => Ok(self.process.resume(tid, 0)?),
        }
    }

    /// Gives a stopped thread a block of its own, when there is one left; a task that must not
    /// write its parent's block gets the shared one.
    pub(super) fn own_block(&mut self, tid: Tid) -> anyhow::Result<()> {
        let Some(live) = &self.live else {
            return Ok(());
        };
        let Some(thread) = self.process.threads.get_mut(&tid) else {
            return Ok(());
        };
        let mut regs = ptrace::regs(tid)?;
        thread.mask = ptrace::sigmask(tid)?;
        thread.fs_base = Some(regs.fs_base());
        self.directory.learn(regs.fs_base(), tid);
        if !live.own_blocks {
            return Ok(());
        }
        let inherited = live.injected.layout.blocks;
        let ours = (1..inherited).any(|block| live.injected.gs_base(block) == regs.gs_base());
        if thread.process != self.process.pid {
            if ours {
                regs.set_gs_base(0);
                ptrace::set_regs(tid, &regs)?;
            }
            return Ok(());
        }
        // The program set it, and needs it; a base that a session left behind leads nowhere. Its
        // hits go to the shared block (`owner_check` of the detours).
        let theirs = regs.gs_base() != 0 && !ours;
        if theirs && self.process.memory.word(Addr(regs.gs_base())).is_ok() {
            return Ok(());
        }
        // Before it has begun it must end with us, and that is an option too.
        if live.injected.activations.is_some() && !self.doomed {
            ignore_gone(ptrace::stop_at_end(tid))?;
        }
        let (block, fresh) = match thread.block {
            Some(block) => (block, false),
            None => {
                let prepare = |block| live.injected.heads().prepare(block);
                let block = self.directory.take(tid, prepare).unwrap_or(0);
                thread.gs_before = Some(if ours { 0 } else { regs.gs_base() });
                thread.block = (block != 0).then_some(block);
                (block, block != 0)
            }
        };
        if fresh {
            self.tell_thread(live, block, tid);
            self.give_pool(live, block)?;
        }
        if block != 0 {
            live.injected.heads().tell_owner(block, regs.fs_base());
        }
        let base = live.injected.gs_base(block);
        if regs.gs_base() != base {
            regs.set_gs_base(base);
            ptrace::set_regs(tid, &regs)?;
        }
        Ok(())
    }

    /// A thread, or the whole process, has ended.
    pub(super) fn thread_ended(&mut self, tid: Tid, status: Status) {
        let Some(thread) = self.process.threads.remove(&tid) else {
            return;
        };
        if let (Some(block), Some(live)) = (thread.block, &self.live) {
            live.injected
                .heads()
                .tell_owner(block, crate::abi::NO_OWNER);
            let _ = self.common.drain.send(Command::Retire(self.feed, block));
        }
        // The leader reports last, with the status of the process; there may be none that we know.
        let pid = self.process.pid;
        let last = !self
            .process
            .threads
            .values()
            .any(|thread| thread.process == pid);
        if tid.0 == pid.0 || (last && thread.process == pid && self.ended.is_none()) {
            self.ended = Some(match status {
                Status::Exited(status) => Ended::Exited(status),
                Status::Killed(signal) => Ended::Killed(signal),
                _ => Ended::Detached,
            });
        }
    }

    /// A task began another program: its memory, and all of ours in it, is gone.
    pub(super) fn execed(&mut self, tid: Tid) -> anyhow::Result<()> {
        let process = self.process.threads.get(&tid).map(|thread| thread.process);
        if process != Some(self.process.pid) {
            // It borrowed our memory, and does so no more.
            self.process.threads.remove(&tid);
            self.departed.push(tid);
            return Ok(());
        }
        // The other threads are gone; the one that called exec took the leader's number.
        let pid = self.process.pid;
        self.process
            .threads
            .retain(|other, thread| *other == tid || thread.process != pid);
        self.last = Some(self.summary());
        self.live = None;
        self.process.set_landing(None);
        self.guard_no_more();
        self.semaphores = Semaphores::default();
        self.registry.gone(Span {
            start: Addr(0),
            end: Addr(u64::MAX),
        });
        self.replaced = Some(tid);
        self.process.threads.remove(&tid);
        Ok(())
    }
}

/// A thread that is gone meanwhile is no error: its end is reported on its own.
pub(super) fn unless_gone(result: anyhow::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.downcast_ref().is_some_and(is_gone) => Ok(()),
        other => other,
    }
}

pub(super) fn ignore_gone(result: std::io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
