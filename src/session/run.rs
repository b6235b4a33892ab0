//! The event loop: wait, classify, act. It alone owns the state of a session; ptrace calls stay on
//! its thread. It decides nothing about sites: the registry does.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use anyhow::Context as _;

use super::arm::Live;
use super::dispositions::Dispositions;
use super::end::{Ended, Outcome};
use super::guard::Guard;
use super::land::Landing;
use super::plan::Plan;
use crate::abi::Layout;
use crate::base::{ProbeId, Tid};
use crate::data::{Directory, Drain, Sink, Summary};
use crate::probe::{Limit, Registry, Throttle, TrapPolicy};
use crate::sys::clock;
use crate::sys::errno::{self, sig};
use crate::sys::poll::{self, Arrived, Signals};
use crate::sys::shm::Shared;
use crate::sys::wait::{self, Status};
use crate::target::{Process, Reports, Starting, State};

/// Two interrupts within this many nanoseconds, which the target survives, detach.
const TWICE: u64 = 1_000_000_000;
/// Nanoseconds for which reports are taken before anything else is looked at.
const TURN: u64 = 2_000_000;

/// How often the end of a target is looked for when something failed.
const GOING: u32 = 2_000;

/// What the user chose, beyond the probes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether breakpoints become jumps.
    pub optimise: bool,
    /// Whether breakpoints may stay.
    pub traps: TrapPolicy,
    /// Whether breakpoints must survive us.
    pub landing: Landing,
    /// How often a breakpoint may be hit.
    pub limit: Limit,
    /// Bytes of shared memory for counters and rings.
    pub memory: u64,
    /// Detach after so many nanoseconds.
    pub duration: Option<u64>,
}

/// Makes the plan once the target's modules are mapped.
pub(super) type Planner = Box<dyn FnOnce(&Process) -> anyhow::Result<Plan>>;

/// A traced target and all we know of it.
pub struct Session {
    pub(super) process: Process,
    pub(super) options: Options,
    pub(super) registry: Registry,
    pub(super) throttle: Throttle,
    pub(super) plan: Plan,
    /// What stands in the target; `None` before arming and after exec.
    pub(super) live: Option<Live>,
    pub(super) directory: Arc<Directory>,
    pub(super) dispositions: Dispositions,
    pub(super) drain: Option<Drain>,
    /// Hits of breakpoints that were taken back before they were dealt with.
    pub(super) missed: HashMap<ProbeId, u64>,
    pub(super) notes: Vec<String>,
    pub(super) guard: Option<Guard>,
    /// Says something to the user at once.
    pub(super) warn: Option<Box<dyn Fn(&str)>>,
    /// Threads whose reports were taken since the others were asked.
    served: BTreeSet<Tid>,
    /// Reports that came while we waited for something else.
    pub(super) backlog: Reports,
    pub(super) signals: Signals,
    /// The entry breakpoint, until it is hit.
    pub(super) starting: Option<Starting>,
    planner: Option<Planner>,
    pub(super) sink: Option<Box<dyn Sink>>,
    pub(super) ended: Option<Ended>,
    /// The summary as it was before disarming.
    pub(super) last: Option<Summary>,
    /// Where the counts are; they outlive the target.
    pub(super) counters: Option<(Arc<Shared>, Layout)>,
    deadline: Option<u64>,
    interrupted: Option<u64>,
    launched: bool,
    /// Whether the target runs code of its own.
    pub(super) begun: bool,
}

impl Session {
    /// A session with a program on its way to its entry point.
    pub fn launched(
        process: Process,
        starting: Starting,
        signals: Signals,
        options: Options,
        sink: Box<dyn Sink>,
        planner: impl FnOnce(&Process) -> anyhow::Result<Plan> + 'static,
    ) -> Session {
        let mut session = Session::new(process, signals, options, sink);
        session.starting = Some(starting);
        session.planner = Some(Box::new(planner));
        session.launched = true;
        session.begun = false;
        session
    }

    /// A session with a running process.
    pub fn attached(
        process: Process,
        plan: Plan,
        signals: Signals,
        options: Options,
        sink: Box<dyn Sink>,
    ) -> Session {
        let mut session = Session::new(process, signals, options, sink);
        session.plan = plan;
        session
    }

    fn new(process: Process, signals: Signals, options: Options, sink: Box<dyn Sink>) -> Session {
        let policy = crate::probe::Policy {
            optimise: options.optimise,
            traps: options.traps,
        };
        Session {
            process,
            options,
            registry: Registry::new(policy),
            throttle: Throttle::new(options.limit),
            plan: Plan::default(),
            live: None,
            directory: Arc::new(Directory::new(1)),
            dispositions: Dispositions::default(),
            drain: None,
            missed: HashMap::new(),
            notes: Vec::new(),
            guard: None,
            warn: None,
            served: BTreeSet::new(),
            backlog: Reports::new(),
            signals,
            starting: None,
            planner: None,
            sink: Some(sink),
            ended: None,
            last: None,
            counters: None,
            deadline: None,
            interrupted: None,
            launched: false,
            begun: true,
        }
    }

    /// Traces until the target ends or is let go. On an error the target is disarmed and let go
    /// before it is returned; one that was started for this run and has not begun is ended.
    pub fn run(mut self) -> anyhow::Result<Outcome> {
        match self.trace() {
            Err(error) if !self.is_over() => {
                self.give_up();
                Err(error)
            }
            _ => Ok(self.finish()),
        }
    }

    fn trace(&mut self) -> anyhow::Result<()> {
        if self.launched {
            self.act_on_stopped()?;
        } else {
            self.begin()?;
        }
        while self.ended.is_none() {
            let more = self.drain_waits()?;
            if self.ended.is_some() {
                break;
            }
            if self.live.is_some() {
                self.settle()?;
            }
            let patience = if more { Some(0) } else { self.patience() };
            let arrived = self.signals.wait(patience)?;
            self.act_on_signals(&arrived)?;
        }
        Ok(())
    }

    /// Whether what failed did so because the target ended, or began another program: that may be
    /// reported a moment later.
    fn is_over(&mut self) -> bool {
        for looks in 0..GOING {
            let told = self.process.collect(&mut self.backlog).is_ok()
                && self.take_exec().is_ok()
                && self.take_backlog().is_ok();
            if self.ended.is_some() {
                return true;
            }
            if !told {
                return false;
            }
            clock::pause(looks);
        }
        false
    }

    /// Deals with threads that began another program.
    pub(super) fn take_exec(&mut self) -> anyhow::Result<()> {
        for (tid, status) in self.process.stopped() {
            if status == Status::Exec {
                self.handle(tid, status)?;
            }
        }
        Ok(())
    }

    /// Arms everything; the target's threads are as they are.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        if let Some(planner) = self.planner.take() {
            self.plan = planner(&self.process)?;
        }
        self.notes.append(&mut self.plan.notes);
        let sink = self.sink.take();
        self.arm(sink)?;
        self.begun = true;
        self.deadline = self
            .options
            .duration
            .map(|duration| clock::monotonic() + duration);
        self.act_on_stopped()
    }

    /// Milliseconds until something is due without an event.
    fn patience(&self) -> Option<u32> {
        let now = clock::monotonic();
        let due = [self.registry.next_due(), self.deadline]
            .into_iter()
            .flatten()
            .min()?;
        Some(u32::try_from(due.saturating_sub(now) / 1_000_000 + 1).unwrap_or(u32::MAX))
    }

    /// Takes the reports that are there, for [`TURN`] at most: breakpoints that are hit all the time
    /// must not keep us from signals and deadlines. True when there may be more.
    fn drain_waits(&mut self) -> anyhow::Result<bool> {
        let until = clock::monotonic() + TURN;
        let more = loop {
            self.take_backlog()?;
            if self.ended.is_some() {
                return Ok(false);
            }
            let tid = match wait::peek() {
                Ok(Some(tid)) => tid,
                Ok(None) => break false,
                Err(error) if errno::number(&error) == errno::ECHILD => {
                    self.notes
                        .push("the target is gone; nobody said how it ended".to_owned());
                    self.ended = Some(Ended::Detached);
                    return Ok(false);
                }
                Err(error) => return Err(error).context("waiting for the target"),
            };
            if !self.served.insert(tid) {
                // The kernel names the first of its list that has something to report. One that
                // hits a breakpoint again and again must not keep those behind it waiting.
                self.served.clear();
                let others = self.process.threads.keys().filter(|&&other| other != tid);
                let others: Vec<Tid> = others.copied().collect();
                for other in others {
                    if wait::has_report(other) {
                        self.take_report(other)?;
                    }
                }
            }
            self.take_report(tid)?;
            if clock::monotonic() >= until {
                break true;
            }
        };
        if self
            .deadline
            .is_some_and(|deadline| clock::monotonic() >= deadline)
        {
            self.deadline = None;
            self.detach()?;
        }
        if self.drain.as_ref().is_some_and(Drain::has_failed) {
            self.detach()?;
        }
        Ok(more)
    }

    /// Takes the report of a thread that has one.
    fn take_report(&mut self, tid: Tid) -> anyhow::Result<()> {
        let Ok(Some(status)) = self.process.serve(tid) else {
            return Ok(());
        };
        self.handle(tid, status)
    }

    /// Deals with reports that came while something else was waited for; true if there were any.
    pub(super) fn take_backlog(&mut self) -> anyhow::Result<bool> {
        let mut any = false;
        loop {
            self.backlog.append(&mut self.process.ends);
            let Some((tid, status)) = self.backlog.pop_front() else {
                return Ok(any);
            };
            any = true;
            self.handle(tid, status)?;
        }
    }

    /// Acts on every thread that is stopped and was not dealt with.
    pub(super) fn act_on_stopped(&mut self) -> anyhow::Result<()> {
        for (tid, status) in self.process.stopped() {
            if matches!(self.process.threads.get(&tid).map(|t| t.state), Some(State::Stopped(s)) if s == status)
            {
                self.handle(tid, status)?;
            }
        }
        Ok(())
    }

    fn act_on_signals(&mut self, arrived: &[Arrived]) -> anyhow::Result<()> {
        for signal in arrived {
            match signal.signal {
                sig::CHLD => self.look_at_guardian(),
                sig::TSTP => {
                    // The terminal stopped the target's group too; let it stop first, then follow.
                    self.drain_waits()?;
                    poll::stop_self();
                }
                sig::INT | sig::QUIT if self.launched && signal.by_kernel => {
                    // The target got it as well and decides. Twice within a second, and it is
                    // still there: let go.
                    let now = clock::monotonic();
                    let before = self.interrupted.replace(now);
                    let again = before.is_some_and(|before| now.saturating_sub(before) < TWICE);
                    if again && signal.signal == sig::INT {
                        self.drain_waits()?;
                        self.detach()?;
                    }
                }
                _ => self.detach()?,
            }
        }
        Ok(())
    }

    /// One report of one thread. Afterwards it runs again, listens, or is gone.
    pub(super) fn handle(&mut self, tid: Tid, status: Status) -> anyhow::Result<()> {
        if let Status::Exited(_) | Status::Killed(_) = status {
            self.thread_ended(tid, status);
            return Ok(());
        }
        if !self.process.note(tid, status) {
            return self.stranger(tid, status);
        }
        match status {
            Status::Signal(sig::TRAP) => self.trapped(tid)?,
            Status::Hit(site) => self.hit(tid, site)?,
            Status::Signal(signal @ (sig::SEGV | sig::BUS | sig::ILL | sig::FPE)) => {
                self.faulted(tid, signal)?;
            }
            Status::Signal(signal) => self.process.resume(tid, signal)?,
            Status::GroupStop(_) => self.process.listen(tid)?,
            Status::Exec => self.execed(tid)?,
            Status::Interrupted => self.interrupted(tid)?,
            Status::Syscall | Status::Fork | Status::Vfork | Status::Clone | Status::Other(_) => {
                self.process.resume(tid, 0)?;
            }
            Status::Exited(_) | Status::Killed(_) => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Outcome {
        let mut summary = self.summary();
        let begun = clock::monotonic();
        let signals = &self.signals;
        let mut left = false;
        let give_up = || {
            let arrived = signals.wait(Some(100)).unwrap_or_default();
            let end = |a: &Arrived| matches!(a.signal, sig::INT | sig::QUIT | sig::TERM | sig::HUP);
            // What ended the session may come twice, and a little late.
            left = arrived.iter().any(end) && clock::monotonic().saturating_sub(begun) > TWICE;
            left
        };
        let drained = self
            .drain
            .take()
            .and_then(|drain| drain.finish_unless(give_up));
        let (sink, output_error) = match drained {
            Some(drained) => {
                // Whose output failed is told that; no detour is to blame for what is not there.
                if drained.error.is_none() {
                    self.count_abandoned(&mut summary, &drained.recorded);
                }
                (Some(drained.sink), drained.error)
            }
            None if left => {
                let why = "nobody reads it; what was not read is lost";
                (None, Some(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
            None => (self.sink.take(), None),
        };
        self.guard_no_more();
        let ended = self.ended.unwrap_or(Ended::Detached);
        // The process ends soon, and frees faster than we could.
        std::mem::forget((self.registry, self.plan, self.live));
        Outcome {
            ended,
            summary,
            sink,
            output_error,
        }
    }

    /// Lets go of everything after an error; what fails now is left out of the message, which is
    /// about the first failure.
    fn give_up(&mut self) {
        if self.starting.is_some() || (self.launched && self.live.is_none() && self.ended.is_none())
        {
            let _: io::Result<()> = poll::kill(self.process.pid, sig::KILL);
            let _ = wait::thread(Tid(self.process.pid.0));
        } else if self.ended.is_none() {
            let _ = self.detach();
        }
    }
}
