//! What is told at the end: every probe with its state, its hits, and what was missed and why.

use std::sync::Arc;

use super::tracee::Tracee;
use crate::abi::Fate;
use crate::base::Addr;
use crate::data::{self, Cost, Ends, Missed, ProbeSummary, SiteState, Summary};
use crate::probe::{Counts, Refusal, Status};

fn state(status: Status) -> SiteState {
    match status {
        Status::Pending => SiteState::Pending,
        Status::Trap => SiteState::Trap,
        Status::Queued => SiteState::Queued,
        Status::Jump => SiteState::Jump,
        Status::Disabled => SiteState::Disabled,
        Status::Gone => SiteState::Gone,
        Status::Foreign => SiteState::Foreign,
        Status::Refused => SiteState::Refused,
    }
}

impl Tracee {
    /// The summary now, or as it was before disarming, with the counts of now.
    pub(super) fn summary(&self) -> Summary {
        let mut summary = match &self.last {
            Some(last) => last.clone(),
            None => self.states(),
        };
        // Disarming is a part of it.
        summary.cost = Cost {
            text_bytes: self.text_pages.len() as u64 * 4096,
            ..self.cost
        };
        let used = self.directory.used();
        for probe in &mut summary.probes {
            let Some((shared, layout)) = &self.counters else {
                break;
            };
            let id = probe.info.id;
            let fate = |fate| data::fates(shared, layout, &used, (fate, id));
            probe.missed = Missed {
                ring_full: data::ring_losses(shared, layout, &used, id),
                abandoned: 0,
                trap: self.missed.get(&id).copied().unwrap_or(0),
                untracked: fate(Fate::Untracked),
            };
            probe.ends = Ends {
                tail: fate(Fate::Tail),
                unwound: fate(Fate::Unwound),
            };
            if let Some(hits) = &mut probe.hits {
                *hits = data::count(shared, layout, &used, id)
                    .wrapping_add(probe.missed.trap)
                    .wrapping_add(probe.missed.untracked);
            }
        }
        summary
    }

    fn states(&self) -> Summary {
        let mut probes = Vec::with_capacity(self.plan.probes.len());
        for info in &self.plan.probes {
            let (state, reason) = match self.registry.state_of(info.id) {
                Some((Status::Trap, Some(Refusal::Stop)))
                    if info.address.is_some_and(|at| self.hooks.holds(at)) =>
                {
                    let why = "the loader tells here what it maps, and kptrace listens";
                    (SiteState::Trap, Some(why.to_owned()))
                }
                Some((status, why)) => (
                    state(status),
                    why.map(|why| why.words(|at| self.plan.name_at(at))),
                ),
                None if self.plan.is_removed(info.id) => {
                    (SiteState::Disabled, Some("it was removed".to_owned()))
                }
                None => {
                    let why = self.plan.refused.get(&info.id);
                    (
                        SiteState::Refused,
                        why.map(|why| why.words(|at| self.plan.name_at(at))),
                    )
                }
            };
            probes.push(ProbeSummary {
                info: Arc::clone(info),
                state,
                reason,
                hits: self.plan.counts(info.id).then_some(0),
                missed: Missed::default(),
                ends: Ends::default(),
            });
        }
        let counts = self.user_counts();
        Summary {
            probes,
            armed: counts.armed,
            jump: counts.jump,
            trap: counts.trap,
            comm: self.comm.clone(),
            ..Summary::default()
        }
    }

    /// Whether only breakpoints of our own are at a site: they are nobody's probes.
    pub(super) fn is_ours_alone(&self, at: Addr) -> bool {
        let probes = self.registry.probes_at(at);
        !probes.is_empty() && probes.iter().all(|id| self.hooks.is_hook(*id))
    }

    /// How many sites stand how, without those that are ours alone.
    pub(super) fn user_counts(&self) -> Counts {
        let mut counts = self.registry.counts();
        let addresses = self.hooks.addresses();
        for at in addresses.iter().filter(|at| self.is_ours_alone(**at)) {
            let site = self
                .registry
                .site(*at)
                .map(|site| self.registry.status(site));
            match site {
                Some((Status::Trap | Status::Queued, _)) => counts.trap -= 1,
                Some((Status::Jump, _)) => counts.jump -= 1,
                _ => continue,
            }
            counts.armed -= 1;
        }
        counts
    }
}
