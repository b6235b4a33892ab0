//! Switches of a running session: all sites off and on, jumps off and on, single probes. The registry
//! decides what becomes of each site; here it is settled, and what stands there afterwards is read.
//!
//! Invariant: off, every byte of text is the file's, but for somebody else's bytes and, while calls are
//! under way whose returns are probed, where the program's unwinder is told of them.

use std::collections::BTreeSet;

use super::hooks::Hook;
use super::plan::Age;
use super::text::{Check, Text as Pages};
use super::tracee::Tracee;
use crate::base::{Addr, ProbeId, Span};
use crate::probe::Text;
use crate::spec::{ModuleName, NameText, Pattern, parse_pattern};
use crate::sys::clock;
use crate::target::outstanding;

/// How often threads that are between the two jumps of a springboard are given time to go on.
const PATIENCE: usize = 200;
/// Nanoseconds between two looks whether calls are under way.
const OFTEN: u64 = 100_000_000;

/// What stands in the text when all is switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Restored {
    /// Sites whose bytes were read and are the file's.
    pub(super) sites: usize,
    /// Sites with somebody else's bytes.
    pub(super) foreign: usize,
    /// Sites that are still ours.
    pub(super) left: usize,
}

/// Why no probe is meant by a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It is not understood.
    Word(String),
    /// There is none.
    Nothing(String),
}

impl Tracee {
    /// Whether its probes can be switched: it runs its own code, and all is there.
    pub(super) fn is_steady(&self) -> bool {
        self.live.is_some() && !self.is_over() && self.stage == super::tracee::Stage::Begun
    }

    /// What was switched for a process holds for the program that it begins; single probes are as they
    /// were asked for.
    pub(super) fn keep_switches(&mut self, before: &Tracee) {
        self.plan.others.clone_from(&before.plan.others);
        self.registry.set_optimise(before.registry.optimises());
        self.begins_off = (!before.registry.is_on() && !before.letting_go) || before.begins_off;
    }

    /// Gives every site its original bytes; probes keep their own state.
    pub(super) fn switch_off(&mut self) -> anyhow::Result<Restored> {
        self.look_at_all();
        self.disarm_but_for_calls();
        let stays = !self.registry.staying().is_empty();
        self.calls_due = stays.then_some(0);
        self.settle()?;
        self.look_at_calls()?;
        for _ in 0..PATIENCE {
            if self.is_over() || self.live.is_none() || self.standing() == 0 {
                break;
            }
            clock::nap();
            self.process.collect(&mut self.backlog)?;
            self.take_backlog()?;
            self.act_on_stopped()?;
            self.registry.retry();
            self.settle()?;
        }
        Ok(self.restored())
    }

    /// Arms everything that is enabled again, in what is mapped by now.
    pub(super) fn switch_on(&mut self) -> anyhow::Result<()> {
        self.calls_due = None;
        self.registry.arm_all();
        // While all was off nobody told of libraries that came and went.
        self.modules_changed(Age::Relocated)?;
        self.settle()
    }

    /// Makes all jumps breakpoints, or what can be jumps again.
    pub(super) fn switch_jumps(&mut self, on: bool) -> anyhow::Result<()> {
        self.registry.set_optimise(on);
        self.settle()?;
        if !on {
            self.tell_of_traps();
        }
        Ok(())
    }

    /// Switches probes. How many there were to switch.
    pub(super) fn switch_probes(&mut self, ids: &[ProbeId], on: bool) -> anyhow::Result<usize> {
        let mut switched = 0;
        for &id in ids {
            switched += usize::from(self.registry.set_enabled(id, on));
            if let Some(at) = self.registry.site_of(id).filter(|_| on) {
                self.throttle.forget(at);
            }
        }
        self.note_stops();
        self.settle()?;
        Ok(switched)
    }

    /// Takes probes away for good. How many there were.
    pub(super) fn remove_probes(&mut self, ids: &[ProbeId]) -> anyhow::Result<usize> {
        for &id in ids {
            self.registry.remove(id);
        }
        let removed = self.plan.remove(ids);
        self.note_stops();
        self.settle()?;
        Ok(removed)
    }

    /// Where the target is stopped: where a probe that does so is enabled.
    pub(super) fn note_stops(&mut self) {
        let enabled = |id| self.registry.is_enabled(id).unwrap_or(false);
        let stops = self.plan.wanted.iter();
        let stops = stops.filter(|planned| planned.stop && enabled(planned.id));
        self.plan.stops = stops.map(|planned| planned.at).collect();
    }

    /// The probes that a word means: a number, a name, a pattern, or the text they were asked for by.
    pub(super) fn meant(&self, word: &str) -> Result<Vec<ProbeId>, Unknown> {
        let nothing = || Unknown::Nothing(format!("there is no probe {word}"));
        let there = |id: ProbeId| !self.plan.is_removed(id);
        if let Ok(number) = word.parse() {
            let id = ProbeId(number);
            let known = (number as usize) < self.plan.probes.len() && there(id);
            return if known { Ok(vec![id]) } else { Err(nothing()) };
        }
        let (name, kind) = match word.rsplit_once('%') {
            Some((name, kind @ ("return" | "entry"))) => (name, Some(kind)),
            Some((name, "call")) => (name, None),
            _ => (word, None),
        };
        let (module, pattern) = pattern(name).map_err(Unknown::Word)?;
        let specs = &self.common.wanted.borrow().specs;
        let ids: Vec<ProbeId> = self
            .plan
            .probes
            .iter()
            .filter(|info| {
                let asked = self.plan.spec_of(info.id).and_then(|spec| specs.get(spec));
                let named = module.as_ref().is_none_or(|m| m.matches(&info.module))
                    && pattern.matches(&info.name)
                    && kind.is_none_or(|kind| info.kind.name() == kind);
                (named || asked.is_some_and(|spec| spec.text == word)) && there(info.id)
            })
            .map(|info| info.id)
            .collect();
        if ids.is_empty() {
            return Err(nothing());
        }
        Ok(ids)
    }

    /// Looks whether calls have returned for whose sake something stands while all is off.
    pub(super) fn look_at_calls(&mut self) -> anyhow::Result<()> {
        let now = clock::monotonic();
        if self.calls_due.is_none_or(|due| due > now) || self.live.is_none() {
            return Ok(());
        }
        self.calls_due = Some(now + OFTEN);
        if self.calls_under_way()? {
            return Ok(());
        }
        // Somebody may still be on the way into such a call.
        self.process.stop_running(&mut self.backlog)?;
        self.take_exec()?;
        let code = self.live.as_ref().map(|live| live.injected.code());
        let maps = self.process.maps()?;
        let occupied = self.process.occupied(&maps, &code.unwrap_or_default())?;
        let inside = |span: &Span, at: Addr| span.contains(at);
        let clear = occupied.is_some_and(|occupied| {
            let code = self.live.as_ref().map(|live| live.injected.code());
            let mut spans = code.into_iter().flatten();
            !spans.any(|span| {
                occupied.holds(span) || occupied.pcs.iter().any(|(_, pc)| inside(&span, *pc))
            })
        });
        if clear && !self.is_over() && !self.calls_under_way()? {
            self.calls_due = None;
            self.registry.disarm_all();
        }
        self.act_on_stopped()?;
        self.settle()
    }

    /// Whether calls are under way whose return addresses are thunks'.
    fn calls_under_way(&self) -> anyhow::Result<bool> {
        let live = self.live.as_ref();
        let Some(activations) = live.and_then(|live| live.injected.activations) else {
            return Ok(false);
        };
        Ok(!outstanding(&activations, &self.process.memory)?.is_empty())
    }

    /// Has all sites disarmed but those where the program's unwinder is told of calls: some may be under
    /// way until nobody can begin one any more.
    pub(super) fn disarm_but_for_calls(&mut self) {
        let live = self.live.as_ref();
        let stays = match live.and_then(|live| live.injected.activations) {
            Some(_) => self.unwinder_sites(),
            None => BTreeSet::new(),
        };
        self.registry.disarm_all_but(stays);
    }

    fn unwinder_sites(&self) -> BTreeSet<Addr> {
        let unwinder = |at: &Addr| self.hooks.at(*at).contains(&Hook::Unwinder);
        self.hooks
            .addresses()
            .into_iter()
            .filter(unwinder)
            .collect()
    }

    /// How many sites are ours though all is off.
    fn standing(&self) -> usize {
        let stays = self.registry.staying();
        let standing = self.registry.standing(Addr::default());
        standing.filter(|(at, _)| !stays.contains(at)).count()
    }

    /// Reads what stands at every site.
    fn restored(&self) -> Restored {
        let mut restored = Restored::default();
        let memory = self.process.memory.clone();
        let mut pages = Pages::glance(&memory);
        for site in self.registry.sites() {
            let at = site.addr();
            let Some(ground) = self.plan.ground.get(&at) else {
                continue;
            };
            let hole = ground.padding();
            let hole = hole.is_none_or(|(at, bytes)| pages.check(at, bytes) == Check::Same);
            match self.compare(&mut pages, at, ground.original()) {
                Check::Same if hole && site.text() == Some(Text::Original) => {
                    restored.sites += usize::from(!self.is_ours_alone(at));
                }
                _ if site.foreign() => restored.foreign += 1,
                _ => restored.left += 1,
            }
        }
        restored
    }
}

fn pattern(text: &str) -> Result<(Option<ModuleName>, Pattern), String> {
    let (module, name) = match parse_pattern(text) {
        Ok(read) => read,
        // What is no pattern may be the text that a probe was asked for by.
        Err(_) => (None, NameText::Exact(text.to_owned())),
    };
    Ok((module, Pattern::new(&name)?))
}
