//! Who is traced: children are followed or get clean text before their first instruction; whoever
//! begins another program is traced in that from its first instruction, or let go.
//!
//! Invariant: no process runs armed that we do not trace.

use std::io;

use anyhow::Context as _;

use super::end::Ended;
use super::run::Session;
use super::tasks::{ignore_gone, unless_gone};
use super::tracee::Tracee;
use super::wanted::Pending;
use crate::base::{Pid, Tid};
use crate::data::Command;
use crate::sys::errno::{self, sig};
use crate::sys::wait::{self, Status};
use crate::sys::{poll, procfs, ptrace};
use crate::target::{Kinship, Process, Reports, State, Thread};

impl Session {
    /// The process that a task belongs to or whose memory it borrows.
    pub(super) fn owner(&self, tid: Tid) -> Option<Pid> {
        let has = |tracee: &Tracee| tracee.process.threads.contains_key(&tid);
        // Nearly always there is one process, and the task is its leader's.
        let first = self.tracees.get(&Pid(tid.0)).filter(|tracee| has(tracee));
        let owner = first.or_else(|| self.tracees.values().find(|tracee| has(tracee)));
        owner.map(|tracee| tracee.process.pid)
    }

    /// Notes in the books of each process what others took of its threads' reports: it must not wait
    /// for a stop that was told already. What is to be done about them is done when they are routed.
    pub(super) fn hand_over(&mut self) {
        let others = |tracee: &Tracee| !(tracee.backlog.is_empty() && tracee.strangers.is_empty());
        let pids = self.tracees.iter().filter(|(_, tracee)| others(tracee));
        let pids: Vec<Pid> = pids.map(|(&pid, _)| pid).collect();
        for pid in pids {
            let Some(tracee) = self.tracees.get_mut(&pid) else {
                continue;
            };
            let taken = [&mut tracee.backlog, &mut tracee.strangers].map(std::mem::take);
            let [backlog, strangers] = taken.map(|reports| {
                let keeps = |(tid, status): &(Tid, Status)| {
                    let ended = matches!(status, Status::Exited(_) | Status::Killed(_));
                    let owner = self.owner(*tid).filter(|owner| !ended && *owner != pid);
                    let Some(owner) = owner.and_then(|owner| self.tracees.get_mut(&owner)) else {
                        return true;
                    };
                    owner.process.note(*tid, *status);
                    self.noted.push_back((*tid, *status));
                    false
                };
                reports.into_iter().filter(keeps).collect::<Reports>()
            });
            if let Some(tracee) = self.tracees.get_mut(&pid) {
                tracee.backlog = backlog;
                tracee.strangers = strangers;
            }
        }
    }

    /// What was noted and not dealt with since.
    fn act_on_noted(&mut self) -> anyhow::Result<()> {
        while let Some((tid, status)) = self.noted.pop_front() {
            let stands = |tracee: &&mut Tracee| {
                let thread = tracee.process.threads.get(&tid);
                thread.is_some_and(|thread| thread.state == State::Stopped(status))
                    && tracee.held != Some(tid)
            };
            let owner = self.owner(tid);
            let owner = owner.and_then(|pid| self.tracees.get_mut(&pid));
            if let Some(tracee) = owner.filter(stands) {
                let pid = tracee.process.pid;
                let result = tracee.handle(tid, status);
                self.bear(pid, result)?;
                self.hand_over();
            }
        }
        Ok(())
    }

    /// Passes on what the processes left for others: reports of tasks that are not theirs, ends,
    /// new programs.
    pub(super) fn route(&mut self) -> anyhow::Result<()> {
        loop {
            self.hand_over();
            self.act_on_noted()?;
            let mut strangers = std::mem::take(&mut self.strangers);
            let mut over = Vec::new();
            let mut departed = Vec::new();
            for tracee in self.tracees.values_mut() {
                strangers.append(&mut tracee.strangers);
                departed.append(&mut tracee.departed);
                if tracee.is_over() {
                    over.push(tracee.process.pid);
                }
            }
            if strangers.is_empty() && over.is_empty() && departed.is_empty() {
                return Ok(());
            }
            for (tid, status) in strangers {
                self.deal(tid, status)?;
                self.hand_over();
            }
            for tid in departed {
                self.began_program(Pid(tid.0), tid)?;
                self.hand_over();
            }
            for pid in over {
                self.close(pid)?;
                self.hand_over();
            }
        }
    }

    /// One report of any task.
    pub(super) fn deal(&mut self, tid: Tid, status: Status) -> anyhow::Result<()> {
        match self.owner(tid).and_then(|pid| self.tracees.get_mut(&pid)) {
            Some(tracee) => {
                let result = tracee.handle(tid, status);
                let pid = tracee.process.pid;
                self.bear(pid, result)
            }
            None => self.stranger(tid, status),
        }
    }

    /// Lets go of one process while the session goes on with others.
    pub(super) fn release(&mut self, pid: Pid) {
        if let Some(mut tracee) = self.tracees.remove(&pid) {
            // What fails here is left out: the first failure was told.
            let _ = tracee.detach();
            self.strangers.append(&mut tracee.strangers);
            let mut left = Vec::new();
            for (tid, _) in tracee.process.stopped() {
                let _ = ptrace::detach(tid, 0);
                left.push(tid);
            }
            // Those that run are detached when they stop next.
            let running = tracee.process.threads.keys().copied();
            self.released
                .extend(running.filter(|tid| !left.contains(tid)));
            self.keep(tracee);
        }
    }

    /// A task that nobody knows: a child, just born and stopped.
    fn stranger(&mut self, tid: Tid, status: Status) -> anyhow::Result<()> {
        if let Status::Exited(_) | Status::Killed(_) = status {
            self.released.remove(&tid);
            return Ok(());
        }
        let signal = match status {
            Status::Signal(signal) => signal,
            _ => 0,
        };
        // Who is born reports something else first: this one was let go while it ran.
        if self.released.remove(&tid) || signal != 0 {
            return ignore_gone(ptrace::detach(tid, signal));
        }
        let Ok(about) = procfs::status(Pid(tid.0), tid) else {
            return Ok(());
        };
        let pid = Pid(about.process);
        // Its maker first: others may have memory that looks alike.
        let mut order: Vec<Pid> = self.tracees.keys().copied().collect();
        order.sort_by_key(|other| other.0 != about.parent && *other != pid);
        for other in order {
            let Some(tracee) = self.tracees.get_mut(&other) else {
                continue;
            };
            // It has ended: nothing is left to compare.
            if tracee.process.threads.is_empty() {
                continue;
            }
            let alive = tracee.live.as_ref().map(|live| live.injected.alive);
            match tracee.process.kinship(tid, alive) {
                Ok(Kinship::Thread) => {
                    let result = tracee.adopt(tid, other, status);
                    return self.bear(other, result);
                }
                Ok(Kinship::Borrower(process)) => {
                    let result = tracee.adopt(tid, process, status);
                    return self.bear(other, result);
                }
                Ok(Kinship::Child(_)) | Err(_) => {}
            }
        }
        unless_gone(self.child(tid, pid, Pid(about.parent)))
            .with_context(|| format!("dealing with the forked process {pid}"))
    }

    /// A child with a memory of its own.
    fn child(&mut self, tid: Tid, pid: Pid, parent: Pid) -> anyhow::Result<()> {
        let inherited = |tracee: &&Tracee| tracee.has_inherited(tid, pid);
        let parents = self.tracees.get(&parent).into_iter();
        let others = self.tracees.values();
        let gone = self.ended.iter();
        // One without a parent that is traced is the child of one that has ended; others may have the
        // same code at the same places.
        let maker = parents.chain(gone).chain(others).find(inherited);
        let Some(maker) = maker else {
            return self.unarmed_child(tid, pid, parent);
        };
        if self.common.options.follow {
            match maker.fork(tid, pid) {
                Ok(mut child) => {
                    let result = child.act_on_stopped();
                    self.common.traced.borrow_mut().insert(pid);
                    self.tracees.insert(pid, child);
                    return self.bear(pid, result);
                }
                Err(error) => {
                    self.notes.push(format!(
                        "the child {pid} of {parent} is not traced: {error:#}"
                    ));
                }
            }
        }
        ptrace::let_live(tid)?;
        maker.let_child_go(tid, pid)
    }

    /// A child whose maker was not armed yet.
    fn unarmed_child(&mut self, tid: Tid, pid: Pid, parent: Pid) -> anyhow::Result<()> {
        if !self.common.options.follow || !self.tracees.contains_key(&parent) {
            return ignore_gone(ptrace::detach(tid, 0));
        }
        let mut process = Process::new(pid, tid)?;
        let mut thread = Thread::new(pid);
        thread.state = State::Stopped(Status::Interrupted);
        process.threads.insert(tid, thread);
        let mut tracee = Tracee::new(&self.common, process);
        let planned = tracee.plan_running(Pending::Ignore);
        let result = planned.and_then(|()| tracee.begin_running());
        self.common.traced.borrow_mut().insert(pid);
        self.tracees.insert(pid, tracee);
        self.bear(pid, result)
    }

    /// A process that is traced, or borrowed the memory of one, stands at its `execve`.
    fn began_program(&mut self, pid: Pid, tid: Tid) -> anyhow::Result<()> {
        let wanted = self.common.options.follow || self.roots.holds(pid);
        if !wanted {
            return ignore_gone(ptrace::detach(tid, 0));
        }
        let result = self.trace_program(pid, tid);
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.downcast_ref().is_some_and(errno::is_gone) => Ok(()),
            Err(error) => {
                self.notes.push(format!(
                    "{} ({pid}) is not traced: {error:#}",
                    procfs::comm(pid)
                ));
                ignore_gone(ptrace::detach(tid, 0))
            }
        }
    }

    fn trace_program(&mut self, pid: Pid, tid: Tid) -> anyhow::Result<()> {
        anyhow::ensure!(
            ptrace::regs(tid)?.is_64_bit(),
            "it is a 32-bit program; kptrace traces 64-bit x86 programs"
        );
        let mut process = Process::new(pid, tid).context("looking into it")?;
        let mut thread = Thread::new(pid);
        thread.state = State::Stopped(Status::Exec);
        process.threads.insert(tid, thread);
        let mut tracee = Tracee::new(&self.common, process);
        // Until the first program has begun it is all one start.
        tracee.doomed = self.launched && self.roots.holds(pid) && !self.begun;
        if let Some(before) = self.ended.iter().find(|tracee| tracee.process.pid == pid) {
            tracee.keep_switches(before);
        }
        let result = tracee.begin_program(tid);
        self.common.traced.borrow_mut().insert(pid);
        self.tracees.insert(pid, tracee);
        self.bear(pid, result)
    }

    /// A process has ended, or begun another program: what was counted is kept.
    fn close(&mut self, pid: Pid) -> anyhow::Result<()> {
        let Some(tracee) = self.tracees.remove(&pid) else {
            return Ok(());
        };
        let replaced = tracee.replaced;
        if replaced.is_some() {
            self.roots.replaced(pid);
        }
        self.note_end(&tracee);
        self.keep(tracee);
        match replaced {
            Some(tid) => self.began_program(pid, tid),
            None => Ok(()),
        }
    }

    /// Adds what a process counted to the session's totals.
    pub(super) fn keep(&mut self, mut tracee: Tracee) {
        tracee.note_waits_in_vain();
        tracee.note_foreign();
        self.notes.append(&mut tracee.notes);
        tracee.process.leave_kin();
        if matches!(tracee.ended, Some(Ended::Exited(_) | Ended::Killed(_))) {
            tracee.guard_no_more();
        }
        let _ = self.common.drain.send(Command::Close(tracee.feed));
        self.common.traced.borrow_mut().remove(&tracee.process.pid);
        // Of one that was never armed there is nothing to tell.
        if tracee.counters.is_some() {
            let summary = tracee.summary();
            let records = |id| tracee.plan.records_of(id);
            self.totals
                .add((tracee.feed, tracee.process.pid), summary, records);
        }
        for (asked, known) in self.totals.asked.iter_mut().zip(&tracee.plan.asked) {
            *asked |= known.matched > 0;
        }
        self.totals.asked.extend(
            tracee
                .plan
                .asked
                .iter()
                .skip(self.totals.asked.len())
                .map(|asked| asked.matched > 0),
        );
        // Children that were born before its end may still have to be told from what they inherited.
        self.ended.push_front(tracee);
        self.ended.truncate(REMEMBERED);
    }

    /// Ends what has not begun.
    pub(super) fn kill_roots(&mut self) {
        for pid in self.roots.pids() {
            let _: io::Result<()> = poll::kill(pid, sig::KILL);
            let _ = wait::thread(Tid(pid.0));
        }
    }
}

/// Ended processes that are remembered for the sake of children that are not known yet.
const REMEMBERED: usize = 4;
