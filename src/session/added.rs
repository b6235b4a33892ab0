//! Probes that are added while the process runs, and code memory for detours that are built again and
//! again. Knows nothing of who asks.
//!
//! Invariant: a probe that cannot be added leaves nothing behind.

use std::rc::Rc;

use anyhow::Context as _;

use super::plan::{PlanError, Planned};
use super::tracee::Tracee;
use crate::base::{Addr, ProbeId};
use crate::spec::{Kind, ProbeSpec};

/// Bytes of code memory that are added when a slab is full.
const MORE_CODE: u64 = 1 << 20;

impl Tracee {
    /// Why this probe cannot be added to a process that is traced already.
    pub(super) fn cannot_add(&self, spec: &ProbeSpec) -> Option<&'static str> {
        let returns = matches!(spec.kind, Kind::Return | Kind::Call);
        let activations = self.live.as_ref().map(|live| live.injected.activations);
        (returns && activations.flatten().is_none())
            .then_some("returns can be added only where some were probed from the start")
    }

    /// Arms a probe's text, by its number among those wanted, in all that is mapped. The probes, or why
    /// there are none.
    pub(super) fn add_spec(
        &mut self,
        number: usize,
    ) -> anyhow::Result<Result<Vec<ProbeId>, PlanError>> {
        let common = Rc::clone(&self.common);
        let planned = self.plan.add(number, &common.wanted.borrow());
        self.notes.append(&mut self.plan.notes);
        let grown = match planned {
            Ok(planned) => planned,
            Err(why) => return Ok(Err(why)),
        };
        let ids: Vec<ProbeId> = grown.iter().map(|planned: &Planned| planned.id).collect();
        if let Err(error) = self.extend(&grown) {
            if self.is_going() {
                return Err(error);
            }
            // What it is let go with is what was there before.
            self.remove_probes(&ids)?;
            return Ok(Err(PlanError::Other(error)));
        }
        self.note_stops();
        Ok(Ok(ids))
    }

    /// Finds room for one more detour of a site whose slab is full. False if there is none.
    pub(super) fn more_code(&mut self, at: Addr) -> bool {
        let Some(ground) = self.plan.ground.get_mut(&at) else {
            return false;
        };
        let full = ground.slab;
        if let Some(&next) = self.plan.continued.get(&full) {
            ground.slab = next;
            return true;
        }
        let added = self.add_code(full);
        let Ok(Some(next)) = added else {
            return false;
        };
        self.plan.continued.insert(full, next);
        if let Some(ground) = self.plan.ground.get_mut(&at) {
            ground.slab = next;
        }
        true
    }

    /// A slab that reaches what another one reaches.
    fn add_code(&mut self, like: usize) -> anyhow::Result<Option<usize>> {
        let have = |tracee: &Tracee| tracee.live.as_ref().map(|live| live.injected.slabs.len());
        // One that was planned and is not there yet must come first.
        let Some(&span) = self
            .plan
            .slabs
            .get(like)
            .filter(|_| have(self) == Some(self.plan.slabs.len()))
        else {
            return Ok(None);
        };
        let tid = self.one_stopped().context("stopping a thread")?;
        if self.is_over() || have(self) != Some(self.plan.slabs.len()) {
            return Ok(None);
        }
        let Some(live) = &mut self.live else {
            return Ok(None);
        };
        let number = live.injected.slabs.len();
        let added = live
            .injected
            .add_slabs(&mut self.process, tid, &[(span, MORE_CODE)]);
        if added.is_ok() {
            let more = live.injected.slabs.get(number..).unwrap_or_default();
            Rc::make_mut(&mut live.detours).add_slabs(more);
            self.plan.slabs.push(span);
        }
        self.act_on_stopped()?;
        added.context("mapping code memory into it")?;
        Ok(Some(number))
    }
}
