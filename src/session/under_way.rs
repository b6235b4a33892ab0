//! Calls whose returns are probed that have not ended: how many of each probe were under way when their
//! process was forked, and when it ended, began another program or was let go. With these every entry
//! is accounted for: entries and inherited calls are returns, tail calls, unwound, missed and inside.
//!
//! Invariant: what is counted here was looked at while nobody could change it, or follows from the
//! counters. A thread that was killed in the middle of a detour, between two counts, was inside of the
//! call that it began or ended there.

use std::collections::{BTreeSet, HashMap};

use super::arm::Live;
use super::detours::Inside;
use super::tracee::Tracee;
use crate::base::{Addr, ProbeId, Tid};
use crate::data::{ProbeKind, ProbeSummary};
use crate::sys::ptrace;
use crate::target::{Outstanding, Watched, outstanding};

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    inherited: HashMap<ProbeId, u64>,
    /// At the end, once that was seen.
    left: Option<HashMap<ProbeId, u64>>,
    /// Those of them that were counted.
    seen: BTreeSet<Addr>,
    /// How many threads ended in the middle of each site's detour.
    cut_short: HashMap<Addr, u64>,
}

impl Tracee {
    /// The thread is traced, and its process need not end when we do.
    pub(super) fn let_live(&self, tid: Tid) -> std::io::Result<()> {
        match &self.live {
            Some(live) if live.injected.activations.is_some() => ptrace::stop_at_end(tid),
            _ => ptrace::let_live(tid),
        }
    }

    /// What is under way when the process ends will be read.
    pub(super) fn watch_last_calls(&self) {
        let live = self.live.as_ref();
        if let Some(activations) = live.and_then(|live| live.injected.activations) {
            let mut calls = self.process.last_calls.borrow_mut();
            calls.insert(self.process.pid, Watched::new(activations));
        }
    }

    /// The process is a forked child, and was not resumed: what its maker was inside of it is inside of.
    pub(super) fn inherit_calls(&mut self) {
        self.watch_last_calls();
        if let Some(calls) = self.outstanding() {
            self.under_way.inherited = self.by_probe(&calls);
        }
    }

    /// The process has ended.
    pub(super) fn note_last_calls(&mut self) {
        let pid = self.process.pid;
        let watched = self.process.last_calls.borrow_mut().remove(&pid);
        let found = watched.as_ref().and_then(Watched::found);
        if let (None, Some(calls)) = (&self.under_way.left, found) {
            self.under_way.left = Some(self.by_probe(calls));
        }
        let live = self.live.as_ref();
        for &pc in watched.iter().flat_map(Watched::stood) {
            let in_handlers = |live: &&Live| {
                let inside = live.detours.locate(pc);
                matches!(inside, Some(Inside::Start(_) | Inside::Handlers { .. }))
            };
            let site = live.filter(in_handlers);
            if let Some(site) = site.and_then(|live| live.detours.site_of(pc)) {
                *self.under_way.cut_short.entry(site).or_default() += 1;
            }
        }
    }

    /// We let go of the process, none of whose threads runs: what is under way now is not seen to end.
    pub(super) fn count_calls_left(&mut self) -> anyhow::Result<()> {
        let Some(mut calls) = self.outstanding() else {
            return Ok(());
        };
        calls.retain(|call| self.under_way.seen.insert(call.words));
        let found = self.by_probe(&calls);
        let left = self.under_way.left.get_or_insert_default();
        for (id, n) in found {
            *left.entry(id).or_default() += n;
        }
        Ok(())
    }

    fn outstanding(&self) -> Option<Vec<Outstanding>> {
        let activations = self.live.as_ref()?.injected.activations?;
        outstanding(&activations, &self.process.memory).ok()
    }

    /// How many of these calls are of each return probe, whose exit code they lead to.
    pub(super) fn by_probe<'a>(
        &self,
        calls: impl IntoIterator<Item = &'a Outstanding>,
    ) -> HashMap<ProbeId, u64> {
        let mut found = HashMap::new();
        let mut exits: HashMap<Addr, u64> = HashMap::new();
        for call in calls {
            *exits.entry(call.exit).or_default() += 1;
        }
        let (Some(live), false) = (&self.live, exits.is_empty()) else {
            return found;
        };
        let mut probes: HashMap<Addr, Vec<ProbeId>> = HashMap::new();
        for info in &self.plan.probes {
            let refused = self.plan.refused.contains_key(&info.id);
            if let (ProbeKind::Return, Some(at), false) = (info.kind, info.address, refused) {
                probes.entry(at).or_default().push(info.id);
            }
        }
        for (exit, calls) in exits {
            let ours = live.detours.locate(exit);
            let site = ours.and_then(|_| live.detours.site_of(exit));
            for id in site
                .and_then(|site| probes.get(&site))
                .into_iter()
                .flatten()
            {
                *found.entry(*id).or_default() += calls;
            }
        }
        found
    }

    /// Adds to what was counted of each probe which calls were under way. Where nobody saw the end, that
    /// is what is left of the entries.
    pub(super) fn add_calls(&self, probes: &mut [ProbeSummary]) {
        let mut entries: HashMap<Addr, u64> = HashMap::new();
        for probe in probes.iter().filter(|p| p.info.kind == ProbeKind::Entry) {
            if let (Some(at), Some(hits)) = (probe.info.address, probe.hits) {
                entries.insert(at, hits);
            }
        }
        let returns = probes.iter_mut();
        for probe in returns.filter(|probe| probe.info.kind == ProbeKind::Return) {
            let id = probe.info.id;
            let of = |counts: &HashMap<ProbeId, u64>| counts.get(&id).copied().unwrap_or(0);
            let ends = &mut probe.ends;
            ends.inherited = of(&self.under_way.inherited);
            let ended = (probe.hits.unwrap_or(0))
                .wrapping_add(ends.tail)
                .wrapping_add(ends.unwound);
            let entered = probe.info.address.and_then(|at| entries.get(&at));
            let counted = |entered: u64| entered.wrapping_add(ends.inherited).saturating_sub(ended);
            ends.inside = match (&self.under_way.left, entered) {
                (Some(left), Some(&entered)) => {
                    let at = probe.info.address.unwrap_or_default();
                    let cut = self.under_way.cut_short.get(&at).copied().unwrap_or(0);
                    let (seen, counted) = (of(left), counted(entered));
                    let between = seen.abs_diff(counted) <= cut;
                    Some(if between { counted } else { seen })
                }
                (Some(left), None) => Some(of(left)),
                (None, Some(&entered)) if probe.hits.is_some() => Some(counted(entered)),
                // It was never reached.
                (None, _) if self.counters.is_none() => Some(0),
                (None, _) => None,
            };
        }
    }
}
