//! Whether anybody may be inside bytes that are about to become a jump, asked once their heads are
//! breakpoints: who is not inside then can come in no more. Threads that are stopped inside are
//! moved to the same instruction in the detour.

use anyhow::Context as _;

use super::tracee::Tracee;
use crate::base::{Addr, Span, Tid};
use crate::sys::errno::{is_gone, sig};
use crate::sys::wait::Status;
use crate::sys::{clock, ptrace};
use crate::target::{Occupied, State};

/// How often blocked threads are looked at again when one of them woke up meanwhile.
const LOOKS: usize = 4;

impl Tracee {
    /// Looks who is where, with everybody stopped or blocked. `None` if threads keep waking up.
    pub(super) fn look(&mut self, spans: &[Span]) -> anyhow::Result<Option<Occupied>> {
        for _ in 0..LOOKS {
            self.process
                .collect(&mut self.backlog)
                .context("waiting for the target")?;
            self.take_hits()?;
            let maps = self
                .process
                .maps()
                .context("reading the target's mappings")?;
            let occupied = self.process.occupied(&maps, spans)?;
            if occupied.is_some() {
                return Ok(occupied);
            }
            self.process
                .stop_running(&mut self.backlog)
                .context("stopping the target")?;
        }
        Ok(None)
    }

    /// Deals with hits of breakpoints of ours as far as can be before their threads run on.
    fn take_hits(&mut self) -> anyhow::Result<()> {
        for (tid, status) in self.process.stopped() {
            let Status::Hit(site) = status else {
                continue;
            };
            if self.stops_here(site) {
                continue;
            }
            match self.dispositions.repair(&mut self.process, tid, sig::TRAP) {
                Err(error) if is_gone(&error) => {}
                other => other?,
            }
            self.throttle.hit(site, clock::monotonic());
            if let Some(thread) = self.process.threads.get_mut(&tid) {
                thread.state = State::Stopped(Status::Interrupted);
            }
        }
        Ok(())
    }

    /// Whether nobody is strictly inside `span`, after moving on those that can be moved.
    pub(super) fn clear(&self, at: Addr, span: Span, occupied: &Occupied) -> anyhow::Result<bool> {
        if occupied.holds_interior(span) {
            return Ok(false);
        }
        let mut movers: Vec<(Tid, Addr)> = Vec::new();
        for &(tid, pc) in &occupied.pcs {
            // A system call that restarts goes back over its instruction.
            if span.interior(pc - 2) || (tid.is_none() && span.interior(pc)) {
                return Ok(false);
            }
            if let (true, Some(tid)) = (span.interior(pc), tid) {
                let detour = self.live.as_ref().and_then(|live| live.detours.of(at));
                match detour.and_then(|detour| detour.continuation(pc)) {
                    Some(to) => movers.push((tid, to)),
                    None => return Ok(false),
                }
            }
        }
        for (tid, to) in movers {
            ptrace::set_pc(tid, to).context("moving a thread into its detour")?;
        }
        Ok(true)
    }
}
