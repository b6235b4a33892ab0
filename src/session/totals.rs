//! What all processes of a session counted, together: a probe of the same text at the same place of
//! the same file is one probe, whichever process hit it; but one that counts its hits is not one with
//! one that does not.

use std::collections::HashMap;

use crate::base::{FeedId, LinkAddr, Pid, ProbeId};
use crate::data::{
    Ends, Missed, ProbeKind, ProbeSummary, ProcessSummary, Recorded, SiteState, Summary,
};

/// What makes probes of several processes one.
type Key = (String, Option<LinkAddr>, String, (ProbeKind, bool));

/// Which hits of a probe leave records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    None,
    Hits,
    /// And calls that end otherwise than by returning.
    HitsAndEnds,
}

/// Sums over processes.
#[derive(Default)]
pub(super) struct Totals {
    summary: Summary,
    known: HashMap<Key, usize>,
    /// For feeds that are not drained yet: probes, where they are in the summary, and how many
    /// records are to come of them.
    open: HashMap<FeedId, Vec<(ProbeId, usize, u64)>>,
    /// Which of the probes' texts named something in some process.
    pub(super) asked: Vec<bool>,
}

impl Totals {
    /// Adds what one process counted; `records` says which of its probes leave records.
    pub(super) fn add(
        &mut self,
        (feed, pid): (FeedId, Pid),
        summary: Summary,
        records: impl Fn(ProbeId) -> Records,
    ) {
        let mut told = Vec::new();
        let mut process = ProcessSummary {
            pid,
            comm: summary.comm.clone(),
            hits: None,
            missed: 0,
        };
        if summary.probes.is_empty() {
            process.hits = Some(0);
        }
        let first = self.summary.processes.is_empty();
        if !first && self.known.is_empty() {
            let keys = self.summary.probes.iter().enumerate();
            self.known = keys.map(|(index, probe)| (key(probe), index)).collect();
        }
        for probe in summary.probes {
            process.hits = both(process.hits, probe.hits);
            process.missed = process.missed.wrapping_add(probe.missed.total());
            let id = probe.info.id;
            let records = records(id);
            let expected = expected(&probe, records);
            let index = if first {
                self.summary.probes.push(probe);
                self.summary.probes.len() - 1
            } else {
                self.merge(probe)
            };
            if expected > 0 && records != Records::None {
                told.push((id, index, expected));
            }
        }
        self.open.insert(feed, told);
        self.summary.armed += summary.armed;
        self.summary.jump += summary.jump;
        self.summary.trap += summary.trap;
        let cost = &mut self.summary.cost;
        cost.text_bytes += summary.cost.text_bytes;
        cost.pauses += summary.cost.pauses;
        cost.longest_pause = cost.longest_pause.max(summary.cost.longest_pause);
        self.summary.processes.push(process);
    }

    fn merge(&mut self, mut probe: ProbeSummary) -> usize {
        let next = self.summary.probes.len();
        let index = *self.known.entry(key(&probe)).or_insert(next);
        match self.summary.probes.get_mut(index) {
            Some(sum) => {
                sum.hits = both(sum.hits, probe.hits);
                sum.missed = Missed {
                    ring_full: sum.missed.ring_full.wrapping_add(probe.missed.ring_full),
                    abandoned: sum.missed.abandoned.wrapping_add(probe.missed.abandoned),
                    trap: sum.missed.trap.wrapping_add(probe.missed.trap),
                    untracked: sum.missed.untracked.wrapping_add(probe.missed.untracked),
                    crowded: sum.missed.crowded.wrapping_add(probe.missed.crowded),
                    runtime: sum.missed.runtime.wrapping_add(probe.missed.runtime),
                };
                sum.ends = Ends {
                    tail: sum.ends.tail.wrapping_add(probe.ends.tail),
                    unwound: sum.ends.unwound.wrapping_add(probe.ends.unwound),
                    inside: (sum.ends.inside.zip(probe.ends.inside))
                        .map(|(a, b)| a.wrapping_add(b)),
                    inherited: sum.ends.inherited.wrapping_add(probe.ends.inherited),
                };
                if rank(probe.state) > rank(sum.state) {
                    sum.state = probe.state;
                    sum.reason = probe.reason;
                }
            }
            None => {
                let mut info = (*probe.info).clone();
                info.id = ProbeId(u32::try_from(index).unwrap_or(u32::MAX));
                probe.info = info.into();
                self.summary.probes.push(probe);
            }
        }
        index
    }

    /// What was delivered of a feed: hits that left no record and found room were begun and never
    /// finished.
    pub(super) fn recorded(&mut self, (feed, delivered): Recorded) {
        let delivered: HashMap<ProbeId, u64> = delivered.into_iter().collect();
        for (id, index, expected) in self.open.remove(&feed).unwrap_or_default() {
            let lost = expected.saturating_sub(delivered.get(&id).copied().unwrap_or(0));
            if let Some(probe) = self.summary.probes.get_mut(index) {
                probe.missed.abandoned = probe.missed.abandoned.saturating_add(lost);
            }
        }
    }

    /// Adds a probe that named nothing anywhere.
    pub(super) fn add_pending(&mut self, mut probe: ProbeSummary) {
        let mut info = (*probe.info).clone();
        let next = u32::try_from(self.summary.probes.len()).unwrap_or(u32::MAX);
        info.id = ProbeId(next);
        probe.info = info.into();
        self.summary.probes.push(probe);
    }

    /// All of it.
    pub(super) fn into_summary(self) -> Summary {
        self.summary
    }
}

fn key(probe: &ProbeSummary) -> Key {
    let info = &probe.info;
    let name = info.name.to_string();
    let kind = (info.kind, probe.hits.is_some());
    (info.module.clone(), info.offset, name, kind)
}

/// How many records a probe must have left.
fn expected(probe: &ProbeSummary, records: Records) -> u64 {
    let missed = probe.missed;
    let missed = (missed.ring_full)
        .saturating_add(missed.trap)
        .saturating_add(missed.unseen());
    let ends = if records == Records::HitsAndEnds {
        probe.ends.tail.saturating_add(probe.ends.unwound)
    } else {
        0
    };
    let hits = probe.hits.unwrap_or(0);
    hits.saturating_add(ends).saturating_sub(missed)
}

/// The sum of two counts, of which either may be missing.
fn both(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.wrapping_add(b)),
        (a, b) => a.or(b),
    }
}

/// Which of two states of one probe is told: that which a user must know of.
fn rank(state: SiteState) -> u8 {
    match state {
        SiteState::Pending | SiteState::Gone => 0,
        SiteState::Refused => 1,
        SiteState::Disabled => 2,
        SiteState::Jump => 3,
        SiteState::Queued => 4,
        SiteState::Trap => 5,
        SiteState::Foreign => 6,
    }
}
