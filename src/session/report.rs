//! What is told at the end: every probe with its state, its hits, and what was missed and why.

use super::run::Session;
use crate::data::{self, Missed, ProbeSummary, SiteState, Summary};
use crate::probe::Status;

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

impl Session {
    /// The summary now, or as it was before disarming, with the counts of now.
    pub(super) fn summary(&self) -> Summary {
        let mut summary = match &self.last {
            Some(last) => last.clone(),
            None => self.states(),
        };
        let used = self.directory.used();
        for probe in &mut summary.probes {
            let Some((shared, layout)) = &self.counters else {
                break;
            };
            let id = probe.info.id;
            probe.missed = Missed {
                ring_full: data::ring_losses(shared, layout, &used, id),
                abandoned: 0,
                trap: self.missed.get(&id).copied().unwrap_or(0),
            };
            probe.hits = data::count(shared, layout, &used, id).wrapping_add(probe.missed.trap);
        }
        summary.notes.clone_from(&self.notes);
        summary
    }

    fn states(&self) -> Summary {
        let mut probes = Vec::with_capacity(self.plan.probes.len());
        for info in &self.plan.probes {
            let (state, reason) = match self.registry.state_of(info.id) {
                Some((status, why)) => (
                    state(status),
                    why.map(|why| why.words(|at| self.plan.name_at(at))),
                ),
                None => {
                    let why = self.plan.refused.get(&info.id);
                    (
                        SiteState::Refused,
                        why.map(|why| why.words(|at| self.plan.name_at(at))),
                    )
                }
            };
            probes.push(ProbeSummary {
                info: info.clone(),
                state,
                reason,
                hits: 0,
                missed: Missed::default(),
            });
        }
        let counts = self.registry.counts();
        Summary {
            probes,
            armed: counts.armed,
            jump: counts.jump,
            trap: counts.trap,
            notes: Vec::new(),
        }
    }

    /// Hits that left no record and found room: begun and never finished.
    pub(super) fn count_abandoned(&self, summary: &mut Summary, recorded: &[u64]) {
        for probe in &mut summary.probes {
            let index = probe.info.id.0 as usize;
            let class = self.plan.class.get(index).copied().unwrap_or(u32::MAX);
            let records = self
                .plan
                .classes
                .get(class as usize)
                .is_some_and(|p| p.record().is_some());
            if records {
                let delivered = recorded.get(index).copied().unwrap_or(0);
                let told = delivered.saturating_add(probe.missed.ring_full);
                probe.missed.abandoned = probe
                    .hits
                    .saturating_sub(told.saturating_add(probe.missed.trap));
            }
        }
    }
}
