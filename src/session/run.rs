//! The event loop: wait, classify, act. It owns all processes of a session; ptrace calls stay on its
//! thread. It decides nothing about sites: the registries do.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;

use super::control::Control;
use super::end::{Ended, Outcome};
use super::facts::Facts;
use super::guard::Guard;
use super::land::Landing;
use super::opened::Library;
use super::resolve::why_not;
use super::roots::Roots;
use super::totals::Totals;
use super::tracee::{Common, Tracee};
use super::wanted::{Pending, Wanted};
use crate::base::{Pid, ProbeId, Tid};
use crate::data::{Drain, Ends, Missed, ProbeInfo, ProbeKind, ProbeSummary, Sink, SiteState};
use crate::probe::{Limit, TrapPolicy};
use crate::spec::Location;
use crate::sys::clock;
use crate::sys::errno::{self, sig};
use crate::sys::poll::{self, Arrived, Signals};
use crate::sys::shm::Shared;
use crate::sys::wait;
use crate::target::{Kin, Process, Reports, SessionMaps};

/// Two interrupts within this many nanoseconds, which the target survives, detach.
const TWICE: u64 = 1_000_000_000;
/// No tables are larger: what generated code reaches lies in the first 2 GiB.
const MOST_TABLES: u64 = 1 << 30;
/// Nanoseconds for which reports are taken before anything else is looked at.
const TURN: u64 = 2_000_000;

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
    /// Bytes of shared memory for counters and rings, of each process.
    pub memory: u64,
    /// Detach after so many nanoseconds.
    pub duration: Option<u64>,
    /// Whether children are traced.
    pub follow: bool,
    /// Whether a process that cannot be traced is left out, if others can be.
    pub lenient: bool,
}

impl Default for Options {
    /// What `kptrace attach` does when nothing is said.
    fn default() -> Options {
        Options {
            optimise: true,
            traps: TrapPolicy::Allow,
            landing: Landing::Auto,
            limit: Limit::default(),
            memory: 64 << 20,
            duration: None,
            follow: false,
            lenient: false,
        }
    }
}

/// Traced processes and all we know of them.
pub struct Session {
    pub(super) common: Rc<Common>,
    pub(super) tracees: BTreeMap<Pid, Tracee>,
    /// Reports of tasks that belong to none of them.
    pub(super) strangers: Reports,
    /// Reports that are in the books of those whose threads they are of, and nothing else was done.
    pub(super) noted: Reports,
    /// Threads that run and are let go when they stop.
    pub(super) released: BTreeSet<Tid>,
    /// Processes that ended lately.
    pub(super) ended: VecDeque<Tracee>,
    pub(super) totals: Totals,
    pub(super) notes: Vec<String>,
    /// Threads whose reports were taken since the others were asked.
    served: BTreeSet<Tid>,
    /// The processes that were asked for.
    pub(super) roots: Roots,
    /// How it ended, if there was one.
    pub(super) ended_as: Option<Ended>,
    drain: Option<Drain>,
    pub(super) control: Control,
    deadline: Option<u64>,
    interrupted: Option<u64>,
    pub(super) launched: bool,
    /// Whether a program that was asked for runs code of its own.
    pub(super) begun: bool,
    /// The status with which a program of the language ended the session.
    exit: Option<u8>,
}

impl Session {
    /// A session with a program that stands at its `execve`.
    ///
    /// # Errors
    /// No thread could be started for the output.
    pub fn launched(
        process: Process,
        signals: Signals,
        options: Options,
        wanted: Wanted,
        sink: Box<dyn Sink>,
    ) -> anyhow::Result<Session> {
        Session::new(vec![process], signals, options, (wanted, sink), true)
    }

    /// A session with running processes.
    ///
    /// # Errors
    /// As for [`Session::launched`].
    pub fn attached(
        processes: Vec<Process>,
        signals: Signals,
        options: Options,
        wanted: Wanted,
        sink: Box<dyn Sink>,
    ) -> anyhow::Result<Session> {
        Session::new(processes, signals, options, (wanted, sink), false)
    }

    fn new(
        processes: Vec<Process>,
        signals: Signals,
        options: Options,
        (wanted, sink): (Wanted, Box<dyn Sink>),
        launched: bool,
    ) -> anyhow::Result<Session> {
        let needs = wanted.memory;
        let most = u64::from(needs.tables)
            .max(needs.maps)
            .max(needs.scratch.into());
        anyhow::ensure!(
            most <= MOST_TABLES,
            "maps of {most} bytes, at most {MOST_TABLES} fit"
        );
        let maps = match needs.maps {
            0 => None,
            len => Some(SessionMaps::create(len).context("making memory for maps")?),
        };
        let pids = || processes.iter().map(|process| process.pid);
        let roots = Roots::new(pids(), options.lenient);
        let facts = Facts::new(pids().next().filter(|_| launched));
        let shared = maps.as_ref().map(|maps| Arc::clone(maps.shared()));
        let language = wanted.language.as_ref();
        let script = language.map(|language| language.prepare(shared, &facts));
        let drain = Drain::start(sink, script.transpose()?).context("starting a thread")?;
        let common = Rc::new(Common {
            options,
            wanted: RefCell::new(wanted),
            library: Library::default(),
            signals,
            drain: drain.commands(),
            feeds: Cell::new(0),
            newborn: RefCell::default(),
            traced: RefCell::new(pids().collect()),
            guard: Guard::default(),
            kin: Kin::default(),
            facts,
            maps: maps.map(Arc::new),
        });
        let tracees = processes.into_iter().map(|process| {
            let mut tracee = Tracee::new(&common, process);
            tracee.doomed = launched;
            (tracee.process.pid, tracee)
        });
        let tracees = tracees.collect();
        Ok(Session {
            common,
            tracees,
            strangers: Reports::new(),
            noted: Reports::new(),
            released: BTreeSet::new(),
            ended: VecDeque::new(),
            totals: Totals::default(),
            notes: Vec::new(),
            served: BTreeSet::new(),
            roots,
            ended_as: None,
            drain: Some(drain),
            control: Control::default(),
            deadline: None,
            interrupted: None,
            launched,
            begun: false,
            exit: None,
        })
    }

    /// The tables that all processes share ([`super::Memory::maps`]).
    pub fn maps(&self) -> Option<Arc<Shared>> {
        let maps = self.common.maps.as_ref()?;
        Some(Arc::clone(maps.shared()))
    }

    /// Which half of a minimum or maximum is written in processes that are yet to come.
    pub fn epoch(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.common.facts.epoch)
    }

    /// Traces until the target, and whoever is followed, ends or is let go. On an error the target is
    /// disarmed and let go before it is returned; one that was started for this run and has not begun
    /// is ended.
    ///
    /// # Errors
    /// Nothing matches, or the target cannot be traced.
    pub fn run(mut self) -> anyhow::Result<Outcome> {
        match self.trace() {
            Err(error) => {
                self.give_up();
                Err(error)
            }
            Ok(()) => Ok(self.finish()),
        }
    }

    fn trace(&mut self) -> anyhow::Result<()> {
        self.begin()?;
        loop {
            self.route()?;
            let more = self.drain_waits()?;
            self.note_begin();
            if self.tracees.is_empty() {
                return Ok(());
            }
            self.settle()?;
            self.serve()?;
            let patience = if more { Some(0) } else { self.patience() };
            let control = self.control.descriptor();
            let arrived = self.common.signals.wait_beside(control, patience)?;
            self.act_on_signals(&arrived)?;
        }
    }

    /// From when on the time that was given runs.
    fn note_begin(&mut self) {
        if !self.begun && self.has_begun() {
            self.begun = true;
            let duration = self.common.options.duration;
            self.deadline = duration.map(|duration| clock::monotonic() + duration);
        }
    }

    /// Does everything about sites that can be done now.
    fn settle(&mut self) -> anyhow::Result<()> {
        let armed = self.tracees.iter().filter(|(_, t)| t.live.is_some());
        let armed: Vec<Pid> = armed.map(|(&pid, _)| pid).collect();
        for pid in armed {
            self.hand_over();
            if let Some(tracee) = self.tracees.get_mut(&pid) {
                tracee.look_at_foreign();
                tracee.renew_facts();
                let looked = tracee.look_at_asks().and_then(|()| tracee.look_at_calls());
                let result = looked.and_then(|()| tracee.settle());
                self.bear(pid, result)?;
            }
        }
        self.route()
    }

    /// Milliseconds until something is due without an event.
    fn patience(&self) -> Option<u32> {
        let now = clock::monotonic();
        let tracees = self.tracees.values();
        let each = tracees.flat_map(|t| {
            [
                t.registry.next_due(),
                t.foreign_due(),
                t.asks_due(),
                t.facts_due,
                t.calls_due,
            ]
        });
        let due = each
            .chain([self.deadline, self.control.due()])
            .flatten()
            .min()?;
        Some(u32::try_from(due.saturating_sub(now) / 1_000_000 + 1).unwrap_or(u32::MAX))
    }

    /// Takes the reports that are there, for [`TURN`] at most: breakpoints that are hit all the time
    /// must not keep us from signals and deadlines. True when there may be more.
    pub(super) fn drain_waits(&mut self) -> anyhow::Result<bool> {
        let until = clock::monotonic() + TURN;
        let more = loop {
            self.take_backlogs()?;
            if self.tracees.is_empty() {
                return Ok(false);
            }
            let tid = match wait::peek() {
                Ok(Some(tid)) => tid,
                Ok(None) => break false,
                Err(error) if errno::number(&error) == errno::ECHILD => {
                    self.notes
                        .push("the target is gone; nobody said how it ended".to_owned());
                    for tracee in self.tracees.values_mut() {
                        tracee.ended.get_or_insert(Ended::Detached);
                    }
                    self.route()?;
                    return Ok(false);
                }
                Err(error) => return Err(error).context("waiting for the target"),
            };
            if !self.served.insert(tid) {
                // The kernel names the first of its list that has something to report. One that
                // hits a breakpoint again and again must not keep those behind it waiting.
                self.served.clear();
                let all = self.tracees.values().flat_map(|t| t.process.threads.keys());
                let others: Vec<Tid> = all.copied().filter(|&other| other != tid).collect();
                for other in others {
                    if wait::has_report(other) {
                        self.take_report(other)?;
                    }
                }
                // Whoever dealt with these may have taken it.
                if !wait::has_report(tid) {
                    continue;
                }
            }
            self.take_report(tid)?;
            if clock::monotonic() >= until {
                break true;
            }
        };
        let late = |deadline| clock::monotonic() >= deadline;
        let drain = self.drain.as_ref();
        let failed = drain.is_some_and(Drain::has_failed);
        let wish = drain.and_then(Drain::wants_to_end);
        self.exit = self.exit.or(wish);
        if self.deadline.is_some_and(late) || failed || wish.is_some() {
            self.detach()?;
        }
        Ok(more)
    }

    /// Deals with reports that came while something else was waited for.
    fn take_backlogs(&mut self) -> anyhow::Result<()> {
        let late = |tracee: &Tracee| !tracee.backlog.is_empty() || !tracee.process.ends.is_empty();
        let pids = self.tracees.iter().filter(|(_, tracee)| late(tracee));
        let pids: Vec<Pid> = pids.map(|(&pid, _)| pid).collect();
        for pid in pids {
            self.hand_over();
            if let Some(tracee) = self.tracees.get_mut(&pid) {
                let result = tracee.take_backlog().map(drop);
                self.bear(pid, result)?;
            }
        }
        self.route()
    }

    fn take_report(&mut self, tid: Tid) -> anyhow::Result<()> {
        match self.owner(tid) {
            Some(pid) => {
                if let Some(tracee) = self.tracees.get_mut(&pid) {
                    let result = tracee.take_report(tid);
                    self.bear(pid, result)?;
                }
            }
            None => {
                if let Ok(Some(status)) = wait::thread_now(tid) {
                    self.common.newborn.borrow_mut().insert(tid);
                    self.strangers.push_back((tid, status));
                }
            }
        }
        self.route()
    }

    fn act_on_signals(&mut self, arrived: &[Arrived]) -> anyhow::Result<()> {
        for signal in arrived {
            match signal.signal {
                sig::CHLD => self.common.look_at_guardian(),
                sig::TSTP => {
                    // The terminal stopped the target's group too; let it stop first, then follow.
                    self.drain_waits()?;
                    poll::stop_self();
                }
                sig::INT | sig::QUIT
                    if self.launched
                        && signal.by_kernel
                        && self.tracees.keys().any(|&pid| self.roots.holds(pid)) =>
                {
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
                sig::USR1 => self.switch_all(false)?,
                sig::USR2 => self.switch_all(true)?,
                _ => self.detach()?,
            }
        }
        Ok(())
    }

    /// Disarms and lets go of everybody.
    pub(super) fn detach(&mut self) -> anyhow::Result<()> {
        self.deadline = None;
        while let Some(pid) = self.tracees.keys().next().copied() {
            self.take_backlogs()?;
            let Some(tracee) = self.tracees.get_mut(&pid) else {
                break;
            };
            let result = tracee.detach();
            if let Err(error) = result
                && !tracee.is_going()
            {
                if !self.roots.goes_on_without(pid, true) {
                    return Err(error);
                }
                self.notes.push(format!("letting go of {pid}: {error:#}"));
                tracee.ended = Some(Ended::Detached);
            }
            // Whoever was born meanwhile is dealt with while its maker is known.
            self.route()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Outcome {
        let begun = clock::monotonic();
        let common = Rc::clone(&self.common);
        let mut left = false;
        let give_up = || {
            let arrived = common.signals.wait(Some(100)).unwrap_or_default();
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
                    for recorded in drained.recorded {
                        self.totals.recorded(recorded);
                    }
                }
                self.notes.extend(drained.notes);
                (Some(drained.sink), drained.error)
            }
            None if left => {
                let why = "nobody reads it; what was not read is lost";
                (None, Some(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
            None => (None, None),
        };
        self.name_pending();
        let mut summary = self.totals.into_summary();
        summary.notes = self.notes;
        // The process ends soon, and frees faster than we could.
        self.ended.into_iter().for_each(Tracee::forget);
        Outcome {
            ended: self.ended_as.unwrap_or(Ended::Detached),
            exit: self.exit,
            summary,
            sink,
            output_error,
        }
    }

    /// Names the probes that never named anything.
    fn name_pending(&mut self) {
        let wanted = &*self.common.wanted.borrow();
        if wanted.pending == Pending::Ignore {
            return;
        }
        let modules = self.ended.front().map(|tracee| &tracee.plan.modules);
        let modules = modules.map(Vec::as_slice).unwrap_or_default();
        for (number, spec) in wanted.specs.iter().enumerate() {
            if self.totals.asked.get(number).copied().unwrap_or(false) {
                continue;
            }
            let why = why_not(modules, wanted, spec);
            let reason = why.strip_prefix(&format!("{}: ", spec.text));
            let text = match spec.location {
                Location::Usdt { .. } => spec.text.strip_prefix("usdt:"),
                _ => None,
            };
            let text = text.unwrap_or(&spec.text);
            let (module, name) = text.split_once(':').unwrap_or(("", text));
            self.totals.add_pending(ProbeSummary {
                info: ProbeInfo {
                    id: ProbeId(0),
                    name: name.into(),
                    module: module.to_owned(),
                    address: None,
                    offset: None,
                    args: Vec::new(),
                    kind: ProbeKind::Entry,
                }
                .into(),
                state: SiteState::Pending,
                reason: Some(reason.unwrap_or(&why).to_owned()),
                hits: wanted.program(number).is_none().then_some(0),
                missed: Missed::default(),
                ends: Ends::default(),
            });
        }
    }

    /// Lets go of everything after an error; what fails now is left out of the message, which is
    /// about the first failure.
    fn give_up(&mut self) {
        if self.launched && !self.begun {
            self.kill_roots();
        }
        for tracee in self.tracees.values_mut() {
            let _ = tracee.detach();
        }
    }
}
