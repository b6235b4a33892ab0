//! The padding that springboards jump through. A thread can stand between the two jumps: it has
//! left the site and not come to the detour, and goes on there wherever it is sent by whoever
//! changes the padding.
//!
//! Invariant: padding is not changed while a thread is in it or may come back into it.

use anyhow::Context as _;

use super::text::{Check, Text as Pages};
use super::tracee::Tracee;
use crate::base::{Addr, Span, Tid};
use crate::probe::Text;
use crate::sys::{poll, ptrace};
use crate::target::Occupied;

/// How often threads that are between two jumps are given time to move on, at the end.
const PATIENCE: usize = 100;

impl Tracee {
    /// Whether nobody is in the hole of a site, after sending those who are between its two jumps
    /// into the detour. Before the hole is written (not `stands`) nobody has any business there.
    pub(super) fn clear_hole(
        &self,
        site: Addr,
        hole: Span,
        stands: bool,
        occupied: &Occupied,
    ) -> anyhow::Result<bool> {
        if occupied.holds(hole) {
            return Ok(false);
        }
        let mut between: Vec<Tid> = Vec::new();
        for &(tid, pc) in &occupied.pcs {
            match tid {
                _ if !hole.contains(pc) => {}
                Some(tid) if stands && pc == hole.start => between.push(tid),
                _ => return Ok(false),
            }
        }
        let detour = self.live.as_ref().and_then(|live| live.detours.of(site));
        match detour.map(|detour| detour.start) {
            Some(start) => {
                for tid in between {
                    ptrace::set_pc(tid, start).context("moving a thread into its detour")?;
                }
                Ok(true)
            }
            None => Ok(between.is_empty()),
        }
    }

    /// Disarms the springboards that were left because a thread may be between their two jumps. At
    /// last only their sites: then the padding stays, and what it leads to must. Whether all is as
    /// it was.
    pub(super) fn free_holes(&mut self) -> anyhow::Result<bool> {
        for attempt in 0..PATIENCE {
            if self.is_over() || self.live.is_none() || self.left_standing().is_empty() {
                return Ok(true);
            }
            self.act_on_stopped()?;
            self.common
                .signals
                .wait(Some(if attempt < 10 { 1 } else { 10 }))?;
            self.take_backlog()?;
            if !self.is_over() && self.live.is_some() {
                self.registry.retry();
                self.settle().context("disarming")?;
            }
        }
        self.process.stop_running(&mut self.backlog)?;
        let memory = self.process.memory.clone();
        let mut pages = Pages::new(&memory, false);
        let processors = self.processors();
        for site in self.left_standing() {
            let Some(ground) = self.plan.ground.get_mut(&site) else {
                continue;
            };
            let Some(standing) = ground.jump.take() else {
                continue;
            };
            let head = standing.head();
            if pages.check(site, head) != Check::Same {
                continue;
            }
            let original = ground.original().get(..head.len()).unwrap_or_default();
            let int3: &[u8] = &[0xcc];
            let passes = [
                (site, int3),
                (site + 1, &original[1..]),
                (site, &original[..1]),
            ];
            for pass in passes {
                pages
                    .write(std::iter::once(pass))
                    .context("writing the target's text")?;
                poll::serialise(&processors);
            }
        }
        Ok(false)
    }

    /// Springboards that stand although nothing should.
    fn left_standing(&self) -> Vec<Addr> {
        let springs = self.plan.ground.iter().filter(|(_, g)| g.hole.is_some());
        let stands = |at: &Addr| {
            let site = self.registry.site(*at);
            let stays = self.registry.staying().contains(at);
            site.is_some_and(|site| !stays && site.text() == Some(Text::Jump))
        };
        springs.map(|(&at, _)| at).filter(stands).collect()
    }
}
