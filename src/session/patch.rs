//! Carries out what the registry decides, a batch at a time: detours are built while the target
//! runs, then it is stopped for as short as can be.
//!
//! Invariant: the detour of a site is complete before the first byte points to it.

use std::rc::Rc;

use anyhow::Context as _;

use super::detours::{Armed, Displaced};
use super::hooks::Hook;
use super::tracee::{Stage, Tracee};
use crate::arch::native::relocate;
use crate::arch::native::scan::WindowKind;
use crate::base::{Addr, ProbeId};
use crate::probe::{Batch, Outcome, Refusal, Step};
use crate::sys::clock;
use crate::sys::wait::Status;
use crate::target::State;

/// How long a running target is kept waiting: what is not written by then waits for another pause.
const PAUSE: u64 = 4_000_000;
/// How long it runs at most before the next: it must not take for ever to arm.
const REST: u64 = 10_000_000;
/// How many sites are written before the clock is looked at.
pub(super) const CHUNK: usize = 1024;

impl Tracee {
    /// Does everything that can be done now, batch by batch.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        loop {
            let batch = self.registry.next_batch(clock::monotonic());
            if batch.is_empty() {
                self.tend_semaphores();
                return Ok(());
            }
            self.semaphores.stale = true;
            self.perform(&batch)?;
            if self.is_over() || self.live.is_none() {
                return Ok(());
            }
        }
    }

    fn perform(&mut self, batch: &Batch) -> anyhow::Result<()> {
        // What can be done while the target runs is done first: the pause is for the rest.
        let steps: Vec<Step> = batch
            .steps
            .iter()
            .copied()
            .filter(|step| self.prepare(*step))
            .collect();
        let mut chunks = steps.chunks(CHUNK);
        while let Some(first) = chunks.next() {
            self.rest()?;
            let begun = clock::monotonic();
            self.process
                .stop_running(&mut self.backlog)
                .context("stopping the target")?;
            self.take_exec()?;
            if self.is_over() || self.live.is_none() {
                break;
            }
            self.land()?;
            // Nobody minds a pause before the program's first instruction.
            let end = clock::monotonic()
                + if self.stage == Stage::Begun {
                    PAUSE
                } else {
                    u64::MAX / 2
                };
            self.write(first)?;
            while clock::monotonic() < end
                && let Some(next) = chunks.next()
            {
                self.write(next)?;
            }
            if chunks.len() == 0 {
                self.leave_landing()?;
            }
            self.act_on_stopped()?;
            self.note_pause(begun);
            if self.is_over() || self.live.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Threads that ran were stopped at `begun`, and go on now.
    pub(super) fn note_pause(&mut self, begun: u64) {
        if self.stage == Stage::Begun {
            let now = clock::monotonic();
            let pause = now.saturating_sub(begun);
            self.cost.pauses += 1;
            self.cost.longest_pause = self.cost.longest_pause.max(pause);
            self.rested = now + pause.min(REST);
        }
    }

    /// Lets the target run for as long as it was kept waiting last: pauses that follow each other at
    /// once are one to whoever waits for it. Whom the loader needs, or a debugger, waits on.
    pub(super) fn rest(&mut self) -> anyhow::Result<()> {
        let goes_on = |tracee: &Tracee| {
            tracee.stage == Stage::Begun && tracee.held.is_none() && tracee.live.is_some()
        };
        while goes_on(self) && !self.is_over() && clock::monotonic() < self.rested {
            self.process.collect(&mut self.backlog)?;
            self.take_backlog()?;
            for (tid, status) in self.process.stopped() {
                let now = self.process.threads.get(&tid).map(|thread| thread.state);
                let waits = matches!(status, Status::Hit(site) if self.stops_here(site));
                if !waits && now == Some(State::Stopped(status)) {
                    self.handle(tid, status)?;
                }
            }
            clock::nap();
        }
        Ok(())
    }

    /// Builds the detour of a step that needs one. False if that failed; it is reported then.
    fn prepare(&mut self, step: Step) -> bool {
        let arms = matches!(
            step,
            Step::Arm(_)
                | Step::ArmJump(_)
                | Step::JumpOnly(_)
                | Step::Optimise(_)
                | Step::Unoptimise(_)
                | Step::Redirect(_)
        );
        if !arms {
            return true;
        }
        let at = step.addr();
        let mut built = self.ensure_detour(at);
        while built == Err(Refusal::NoRoom) && self.more_code(at) {
            built = self.ensure_detour(at);
        }
        match built.and_then(|()| self.lead(at)) {
            Ok(()) => true,
            Err(why) => {
                let outcome = match step {
                    Step::Optimise(_) | Step::Unoptimise(_) | Step::Redirect(_) => {
                        Outcome::Refused(why)
                    }
                    _ => Outcome::Unarmed(why),
                };
                self.registry.report(step.addr(), outcome);
                false
            }
        }
    }

    fn ensure_detour(&mut self, at: Addr) -> Result<(), Refusal> {
        let wanted = self.registry.detour(at).ok_or(Refusal::NoRoom)?;
        let signature = (wanted.probes, wanted.whole);
        let ground = self.plan.ground.get(&at).ok_or(Refusal::NoRoom)?;
        if ground.built.as_ref() == Some(&signature) {
            return Ok(());
        }
        let probes: Vec<_> = signature
            .0
            .iter()
            .filter_map(|&id| self.armed(id))
            .collect();
        let ground = self.plan.ground.get_mut(&at).ok_or(Refusal::NoRoom)?;
        let live = self.live.as_mut().ok_or(Refusal::NoRoom)?;
        let mut len = usize::from(ground.window.len);
        if !wanted.whole {
            len = relocate::instruction_len(ground.original())
                .unwrap_or(len)
                .min(len);
        }
        let displaced = Displaced {
            at,
            bytes: ground.original().get(..len).unwrap_or_default(),
            flags_live: !ground.window.flags_dead,
            dead: ground.window.dead_regs,
            nops: ground.window.kind == WindowKind::Nop,
        };
        let place = (ground.slab, ground.built.clone());
        let detours = Rc::make_mut(&mut live.detours);
        detours.build(&live.injected, place, displaced, (&signature, &probes))?;
        ground.built = Some(signature);
        Ok(())
    }

    /// What a probe is in a detour. Hooks run nothing, unless they ask.
    fn armed(&self, id: ProbeId) -> Option<Armed> {
        let class = self.plan.class.get(id.0 as usize).copied();
        let of_hook = || match self.hooks.running(id)? {
            (at, Hook::Unwinder) => self.unwinders.class_at(at),
            _ => self.ask_class,
        };
        Some(Armed {
            id,
            class: class.or_else(of_hook)?,
            called: self.called(id),
        })
    }

    /// Who hits a breakpoint there finds the way to the detour before there is one.
    fn lead(&self, at: Addr) -> Result<(), Refusal> {
        let detour = self.live.as_ref().and_then(|live| live.detours.of(at));
        let (Some(detour), Some(landing)) = (detour, self.process.landing()) else {
            return Err(Refusal::NoRoom);
        };
        let led = landing.lead(at, detour.start);
        led.then_some(()).ok_or(Refusal::NoRoom)
    }
}
