//! Libraries that are opened where no breakpoint may be: the detour of the loader's function asks us
//! to look, and waits. Does not know what the loader did; that is read from the mappings.
//!
//! Invariants: nothing here can end a target whose tracer is killed, since the detour waits for a
//! bounded time and runs on; a library whose code may have run unseen is said.

use super::detours::Inside;
use super::hooks::Hook;
use super::plan::Age;
use super::tasks::unless_gone;
use super::tracee::{Stage, Tracee};
use crate::abi;
use crate::base::Tid;
use crate::program::Program;
use crate::sys::{clock, ptrace};

/// Nanoseconds between two looks: whoever asks makes no system call that would tell us.
const SELDOM: u64 = 10_000_000;
/// The same for a while after somebody asked: one library seldom comes alone.
const OFTEN: u64 = 1_000_000;
const WHILE: u64 = 200_000_000;

/// When whoever asks was looked for, and when there was somebody.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    last: u64,
    asked: u64,
}

impl Tracee {
    /// From here on the loader tells us of libraries, by the means that may stay.
    pub(super) fn hook_for_good(&mut self) {
        let Some(at) = self.loader_break() else {
            return;
        };
        if self.may_stay() {
            self.hook(at, Hook::Loader);
        } else if self.common.options.optimise {
            self.prepare_to_ask();
            self.hook(at, Hook::Asks);
        }
    }

    /// Detours that ask will be there: their program has its number before code memory is sized.
    pub(super) fn prepare_to_ask(&mut self) {
        if !self.may_stay() {
            self.ask_class = Some(self.plan.class(Program::ask()));
        }
    }

    /// When whoever asks is looked for.
    pub(super) fn asks_due(&self) -> Option<u64> {
        let asks = self.live.is_some() && self.hooks.asking().next().is_some();
        let Looks { last, asked } = self.ask_looks;
        let lately = asked != 0 && last.saturating_sub(asked) < WHILE;
        asks.then_some(last + if lately { OFTEN } else { SELDOM })
    }

    /// Answers those who asked: looks what was mapped, while they wait.
    pub(super) fn look_at_asks(&mut self) -> anyhow::Result<()> {
        let now = clock::monotonic();
        if self.asks_due().is_none_or(|due| due > now) || self.stage != Stage::Begun {
            return Ok(());
        }
        self.ask_looks.last = now;
        let Some((shared, _)) = self.counters.clone() else {
            return Ok(());
        };
        let asked = shared.load(abi::ASKED.into());
        if asked == shared.load(abi::ANSWERED.into()) {
            return Ok(());
        }
        self.ask_looks.asked = now;
        // Stopped, it waits for as long as it takes.
        self.process.stop_running(&mut self.backlog)?;
        self.take_exec()?;
        if self.is_over() || self.live.is_none() {
            return self.act_on_stopped();
        }
        let stopped: Vec<Tid> = self.process.stopped().iter().map(|s| s.0).collect();
        self.held = stopped.into_iter().find(|tid| self.is_asking(*tid));
        let result = unless_gone(self.modules_changed(Age::Mapped));
        self.held = None;
        self.note_waits_in_vain();
        shared.store(abi::ANSWERED.into(), asked);
        result?;
        self.act_on_stopped()
    }

    /// Says so if somebody waited longer than one may; from here on they wait again.
    pub(super) fn note_waits_in_vain(&mut self) {
        let Some((shared, _)) = &self.counters else {
            return;
        };
        if shared.load(abi::IN_VAIN.into()) == 0 {
            return;
        }
        shared.store(abi::IN_VAIN.into(), 0);
        let note = "a library came while kptrace was busy: what of it ran at first was not seen";
        if !self.notes.iter().any(|said| said == note) {
            self.notes.push(note.to_owned());
        }
    }

    /// Whether a stopped thread is in a detour that asks.
    fn is_asking(&self, tid: Tid) -> bool {
        let (Some(live), Ok(pc)) = (&self.live, ptrace::pc(tid)) else {
            return false;
        };
        let handlers = matches!(live.detours.locate(pc), Some(Inside::Handlers { .. }));
        let site = live.detours.site_of(pc);
        handlers && site.is_some_and(|site| self.hooks.asking().any(|(at, _)| at == site))
    }
}
