//! One traced process while it runs one program: what is planned, what stands in it, who its threads
//! are, and what one report of one of them leads to. Knows no other process: reports that are not
//! about its own tasks go to the session.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::arm::Live;
use super::asks::Looks;
use super::dispositions::Dispositions;
use super::end::Ended;
use super::facts::{Asks, Facts};
use super::foreign::Foreign;
use super::guard::Guard;
use super::hooks::Hooks;
use super::opened::Library;
use super::plan::Plan;
use super::run::Options;
use super::unwinders::Unwinders;
use super::usdt::Semaphores;
use super::wanted::Wanted;
use crate::abi::Layout;
use crate::base::{FeedId, Pid, ProbeId, Tid};
use crate::data::{Catalogue, Command, Cost, Directory, Durations, Summary};
use crate::guardian::Handle;
use crate::probe::{Registry, Throttle};
use crate::sys::errno::sig;
use crate::sys::poll::Signals;
use crate::sys::shm::Shared;
use crate::sys::wait::{self, Status};
use crate::sys::{clock, procfs, ptrace};
use crate::target::{Kin, Process, Reports, SessionMaps, State};

/// How often the end of a target is looked for when something failed.
const GOING: u32 = 2_000;

/// How often a newborn task is looked for that has not stopped yet.
const BIRTH: u32 = 2_000;

/// What all processes of a session share.
pub(super) struct Common {
    pub(super) options: Options,
    /// It grows when probes are added while it runs.
    pub(super) wanted: RefCell<Wanted>,
    pub(super) library: Library,
    pub(super) signals: Signals,
    /// Tells the drain something.
    pub(super) drain: Sender<Command>,
    pub(super) feeds: Cell<u32>,
    /// Every process that is traced.
    pub(super) traced: RefCell<BTreeSet<Pid>>,
    /// Newborn tasks that were seen before their maker told of them.
    pub(super) newborn: RefCell<BTreeSet<Tid>>,
    pub(super) guard: Guard,
    pub(super) kin: Kin,
    pub(super) facts: Facts,
    /// The maps that all processes share, if programs have any.
    pub(super) maps: Option<Arc<SessionMaps>>,
}

impl Common {
    fn feed(&self) -> FeedId {
        let next = self.feeds.get();
        self.feeds.set(next.wrapping_add(1));
        FeedId(next)
    }
}

/// How far a program has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its loader works; none of its own code has run.
    Starting,
    /// It runs.
    Begun,
}

/// A traced process and all we know of it.
pub(super) struct Tracee {
    pub(super) common: Rc<Common>,
    pub(super) process: Process,
    pub(super) registry: Registry,
    pub(super) throttle: Throttle,
    pub(super) plan: Plan,
    pub(super) hooks: Hooks,
    /// What stands in the target; `None` before arming and after exec.
    pub(super) live: Option<Live>,
    pub(super) feed: FeedId,
    /// The command name it had when it was armed.
    pub(super) comm: String,
    pub(super) directory: Arc<Directory>,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) durations: Arc<Durations>,
    pub(super) dispositions: Dispositions,
    /// Hits of breakpoints that were taken back before they were dealt with.
    pub(super) missed: HashMap<ProbeId, u64>,
    pub(super) notes: Vec<String>,
    /// What the guardian knows of it, once there is something to know.
    pub(super) journal: Option<Handle>,
    /// Reports that came while we waited for something else.
    pub(super) backlog: Reports,
    /// Reports of tasks that are not ours.
    pub(super) strangers: Reports,
    /// A thread that stays stopped until what was begun for its sake is done.
    pub(super) held: Option<Tid>,
    /// Whether it is being disarmed for good.
    pub(super) letting_go: bool,
    pub(super) ended: Option<Ended>,
    /// The thread that began another program.
    pub(super) replaced: Option<Tid>,
    /// Borrowers of our memory that began a program of their own.
    pub(super) departed: Vec<Tid>,
    /// What arming took, and which pages of text were written: each became a copy.
    pub(super) cost: Cost,
    /// When it has run for long enough since the last pause.
    pub(super) rested: u64,
    pub(super) text_pages: BTreeSet<u64>,
    pub(super) foreign: Foreign,
    /// The program of detours that ask, where there are any.
    pub(super) ask_class: Option<u32>,
    pub(super) ask_looks: Looks,
    pub(super) unwinders: Unwinders,
    /// The summary as it was before disarming.
    pub(super) last: Option<Summary>,
    /// Where the counts are; they outlive the target.
    pub(super) counters: Option<(Arc<Shared>, Layout)>,
    pub(super) stage: Stage,
    /// Whether it must end when we do: it was started by us and has not begun.
    pub(super) doomed: bool,
    /// What its programs ask for, and when some of that is looked at next.
    pub(super) asks: Asks,
    pub(super) facts_due: Option<u64>,
    pub(super) semaphores: Semaphores,
    /// When it is looked next whether calls are under way, while all is switched off.
    pub(super) calls_due: Option<u64>,
    /// Whether all is to be off once it has begun.
    pub(super) begins_off: bool,
}

impl Tracee {
    pub(super) fn new(common: &Rc<Common>, mut process: Process) -> Tracee {
        process.kin = Rc::clone(&common.kin);
        let policy = crate::probe::Policy {
            optimise: common.options.optimise,
            traps: common.options.traps,
        };
        Tracee {
            common: Rc::clone(common),
            registry: Registry::new(policy),
            throttle: Throttle::new(common.options.limit),
            plan: Plan::default(),
            hooks: Hooks::default(),
            live: None,
            feed: common.feed(),
            comm: procfs::comm(process.pid),
            process,
            directory: Arc::new(Directory::new(1)),
            catalogue: Arc::new(Catalogue::default()),
            durations: Arc::default(),
            dispositions: Dispositions::default(),
            missed: HashMap::new(),
            notes: Vec::new(),
            journal: None,
            backlog: Reports::new(),
            strangers: Reports::new(),
            held: None,
            letting_go: false,
            ended: None,
            replaced: None,
            departed: Vec::new(),
            cost: Cost::default(),
            rested: 0,
            text_pages: BTreeSet::new(),
            foreign: Foreign::default(),
            ask_class: None,
            ask_looks: Looks::default(),
            unwinders: Unwinders::default(),
            last: None,
            counters: None,
            stage: Stage::Begun,
            doomed: false,
            asks: Asks::default(),
            facts_due: None,
            semaphores: Semaphores::default(),
            calls_due: None,
            begins_off: false,
        }
    }

    /// Whether there is nothing left to do for this program.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() || self.replaced.is_some()
    }

    /// Whether what failed did so because the target ended, or began another program: that may be
    /// reported a moment later.
    pub(super) fn is_going(&mut self) -> bool {
        for looks in 0..GOING {
            let told = self.process.collect(&mut self.backlog).is_ok()
                && self.take_exec().is_ok()
                && self.take_backlog().is_ok();
            if self.is_over() {
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
            let now = self.process.threads.get(&tid).map(|t| t.state);
            if self.held != Some(tid) && now == Some(State::Stopped(status)) {
                self.handle(tid, status)?;
            }
        }
        Ok(())
    }

    /// Takes the report of a thread that has one.
    pub(super) fn take_report(&mut self, tid: Tid) -> anyhow::Result<()> {
        let Ok(Some(status)) = self.process.serve(tid) else {
            return Ok(());
        };
        self.handle(tid, status)
    }

    /// One report of one thread. Afterwards it runs again, listens, is held, or is gone.
    pub(super) fn handle(&mut self, tid: Tid, status: Status) -> anyhow::Result<()> {
        if let Status::Exited(_) | Status::Killed(_) = status {
            if self.process.threads.contains_key(&tid) {
                self.thread_ended(tid, status);
            } else {
                self.strangers.push_back((tid, status));
            }
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
            Status::Syscall => self.at_syscall(tid)?,
            Status::Fork | Status::Vfork | Status::Clone => {
                self.gave_birth(tid)?;
                self.process.resume(tid, 0)?;
            }
            Status::Other(_) => self.process.resume(tid, 0)?,
            Status::Exited(_) | Status::Killed(_) => {}
        }
        Ok(())
    }

    /// A task made another. Whoever was born is seen before its maker goes on: the maker may end at
    /// once, and all we know of what the child inherited with it.
    fn gave_birth(&mut self, tid: Tid) -> anyhow::Result<()> {
        let Ok(message) = ptrace::event_message(tid) else {
            return Ok(());
        };
        let child = Tid(i32::try_from(message).unwrap_or(0));
        for looks in 0..BIRTH {
            let known = self.common.newborn.borrow_mut().remove(&child)
                || self.process.threads.contains_key(&child);
            if known || child.0 <= 0 {
                return Ok(());
            }
            if wait::has_report(child) {
                let status = wait::thread(child)?;
                self.stranger(child, status)?;
                self.common.newborn.borrow_mut().remove(&child);
                return Ok(());
            }
            // Its report may have been taken for another process's sake: then it waits to be dealt
            // with, and must not be waited for.
            let stopped = procfs::status(Pid(child.0), child).map_or(true, |s| s.state == b't');
            if stopped && !wait::has_report(child) {
                return Ok(());
            }
            clock::pause(looks);
        }
        Ok(())
    }

    /// Forgets what is freed faster by the end of this process than by us.
    pub(super) fn forget(self) {
        std::mem::forget((self.registry, self.plan, self.live));
    }
}
