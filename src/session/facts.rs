//! What programs ask for that no register holds: who the process and its threads are, and the time.
//! It stands in the blocks, put there by us: at the start, and names and users again from time to
//! time, where some program asks for them.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::arm::Live;
use super::plan::Plan;
use super::tracee::Tracee;
use crate::base::{Pid, Tid};
use crate::program::{Inst, Known};
use crate::sys::clock::{self, Line, Moment};
use crate::sys::procfs;
use crate::target::seccomp;

/// How often names and users are looked at again.
const RENEW: u64 = 1_000_000_000;
/// How long the two clocks are compared at least: what one look at both is off by, some tens of
/// nanoseconds, is little of that.
const COMPARED: u64 = 16_000_000;

/// What is the same for all processes of a session.
#[derive(Debug)]
pub(super) struct Facts {
    start: Moment,
    line: OnceCell<Line>,
    /// The process that we started.
    child: Option<Pid>,
    /// Which half of a minimum or maximum is written. Whoever turns them round turns this first, then
    /// what stands in the blocks of each process.
    pub(super) epoch: Arc<AtomicU64>,
}

impl Facts {
    pub(super) fn new(child: Option<Pid>) -> Facts {
        Facts {
            start: clock::moment(),
            line: OnceCell::new(),
            child,
            epoch: Arc::default(),
        }
    }

    /// The process that we started.
    pub(super) fn child(&self) -> Option<Pid> {
        self.child
    }

    /// How ticks become nanoseconds, for the whole session.
    pub(super) fn line(&self) -> anyhow::Result<Line> {
        anyhow::ensure!(
            clock::ticks_are_invariant(),
            "nsecs and elapsed need a time stamp counter that runs at one rate, and this machine's \
             does not"
        );
        Ok(*self.line.get_or_init(|| {
            clock::wait_since(self.start, COMPARED);
            Line::through(self.start, clock::moment())
        }))
    }
}

/// What the programs of a plan ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asks {
    /// How many classes were looked at.
    classes: usize,
    name: bool,
    user: bool,
    clock: bool,
    thread: bool,
}

impl Asks {
    fn learn(&mut self, plan: &Plan) {
        let more = plan.classes.get(self.classes..).unwrap_or_default();
        self.classes = plan.classes.len();
        for inst in more.iter().flat_map(|program| &program.values) {
            let Inst::Known(known) = inst else { continue };
            match known {
                Known::Comm(_) => self.name = true,
                Known::Uid | Known::Gid => self.user = true,
                Known::Nanos | Known::Elapsed => self.clock = true,
                Known::Tid => self.thread = true,
                Known::Pid | Known::Child => {}
                Known::Cpu | Known::Random | Known::Probe | Known::Func | Known::Site => {}
            }
        }
    }
}

impl Tracee {
    /// Puts into the blocks what the programs of the plan ask for, before any of them is armed.
    pub(super) fn tell_facts(&mut self) -> anyhow::Result<()> {
        let before = self.asks;
        self.asks.learn(&self.plan);
        if self.asks.thread {
            self.may_ask_for_threads()?;
        }
        let facts = &self.common.facts;
        let line = self.asks.clock.then(|| facts.line()).transpose()?;
        let Some(live) = &self.live else {
            return Ok(());
        };
        let epoch = facts.epoch.load(Ordering::Acquire);
        live.injected
            .heads()
            .tell_process(self.process.pid, facts.child, epoch);
        if let Some(line) = line {
            live.injected.heads().tell_clock(&line);
        }
        if self.asks.user {
            self.tell_user(live);
        }
        if self.asks.name && !before.name {
            self.tell_names(live);
        }
        let renewed = self.asks.name || self.asks.user;
        self.facts_due = renewed.then(|| clock::monotonic() + RENEW);
        Ok(())
    }

    /// A thread without a block of its own asks the kernel who it is: filters may end it for that.
    fn may_ask_for_threads(&self) -> anyhow::Result<()> {
        for (&tid, thread) in &self.process.threads {
            let status = procfs::status(thread.process, tid);
            if let Some(why) = status.ok().and_then(seccomp) {
                anyhow::bail!("the program asks for `tid`, which takes a system call: {why}");
            }
        }
        Ok(())
    }

    /// A block has become a thread's.
    pub(super) fn tell_thread(&self, live: &Live, block: u32, tid: Tid) {
        live.injected.heads().tell_thread(block, tid);
        if self.asks.name {
            self.tell_name(live, block, tid);
        }
    }

    /// Names and users may have changed.
    pub(super) fn renew_facts(&mut self) {
        let now = clock::monotonic();
        let (Some(due), Some(live)) = (self.facts_due, &self.live) else {
            return;
        };
        if now < due {
            return;
        }
        if self.asks.user {
            self.tell_user(live);
        }
        if self.asks.name {
            self.tell_names(live);
        }
        self.facts_due = Some(now + RENEW);
    }

    fn tell_user(&self, live: &Live) {
        let tid = self.process.one_alive();
        let tid = tid.unwrap_or(Tid(self.process.pid.0));
        if let Ok(status) = procfs::status(self.process.pid, tid) {
            live.injected
                .heads()
                .tell_user(status.uid[0], status.gid[0]);
        }
    }

    fn tell_names(&self, live: &Live) {
        self.tell_name(live, 0, Tid(self.process.pid.0));
        for (&tid, thread) in &self.process.threads {
            if let Some(block) = thread.block {
                self.tell_name(live, block, tid);
            }
        }
    }

    fn tell_name(&self, live: &Live, block: u32, tid: Tid) {
        // One that is gone needs no name.
        if let Ok(name) = procfs::thread_name(self.process.pid, tid) {
            live.injected.heads().tell_name(block, &name);
        }
    }
}
