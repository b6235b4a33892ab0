//! Carries out what the registry decides: the only place that changes the target's text.
//!
//! Invariants: memory at a site equals what its state says before it is written, or it is not; the
//! detour is complete before the first byte points to it; at every instant text is original, int3
//! and original tail, int3 and new tail, or a full jump. Hence three passes, also when everything
//! is stopped: heads to int3; tails; heads.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::detours::Displaced;
use super::run::Session;
use super::text::{Check, Text as Pages};
use crate::arch::native::relocate;
use crate::base::{Addr, Span, Tid};
use crate::probe::{Batch, Outcome, Refusal, Step, Text};
use crate::sys::errno::sig;
use crate::sys::wait::Status;
use crate::sys::{clock, poll, ptrace};
use crate::target::{Occupied, State};

const INT3: u8 = 0xcc;
/// How often blocked threads are looked at again when one of them woke up meanwhile.
const LOOKS: usize = 3;

/// What one pass writes at a site, if anything.
type Pass = fn(&Edit) -> Option<(Addr, &[u8])>;

/// One site on its way from what it is to what it will be.
struct Edit {
    at: Addr,
    from: Text,
    to: Text,
    original: Vec<u8>,
    /// The jump that stands there now, and the one that will.
    jump: [Option<[u8; 5]>; 2],
}

impl Edit {
    fn now(&self) -> Vec<u8> {
        let mut bytes = self.original.clone();
        match (self.from, self.jump[0]) {
            (Text::Original, _) => {}
            (Text::Trap, _) => bytes[0] = INT3,
            (Text::Jump, Some(jump)) => bytes[..5].copy_from_slice(&jump),
            (Text::Jump, None) => {}
        }
        bytes
    }

    /// First pass: the head becomes a breakpoint, unless it is one, or only the head changes.
    fn first(&self) -> Option<(Addr, &[u8])> {
        let needed = match (self.from, self.to) {
            (Text::Original, Text::Trap | Text::Jump) | (Text::Jump, _) => true,
            (Text::Trap, _) | (Text::Original, Text::Original) => false,
        };
        needed.then_some((self.at, &[INT3]))
    }

    /// Second pass: the tail.
    fn second(&self) -> Option<(Addr, &[u8])> {
        match (self.from, self.to) {
            (_, Text::Jump) => self.jump[1].as_ref().map(|jump| (self.at + 1, &jump[1..])),
            (Text::Jump, _) => Some((self.at + 1, &self.original[1..5])),
            _ => None,
        }
    }

    /// Third pass: the head.
    fn third(&self) -> Option<(Addr, &[u8])> {
        match self.to {
            Text::Jump => self.jump[1].as_ref().map(|jump| (self.at, &jump[..1])),
            Text::Original => Some((self.at, &self.original[..1])),
            Text::Trap => None,
        }
    }
}

impl Session {
    /// Does everything that can be done now, batch by batch.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        loop {
            let batch = self.registry.next_batch(clock::monotonic());
            if batch.is_empty() {
                return Ok(());
            }
            self.perform(&batch)?;
            if self.ended.is_some() || self.live.is_none() {
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
        if steps.is_empty() {
            return Ok(());
        }
        self.process
            .stop_running(&mut self.backlog)
            .context("stopping the target")?;
        let steps = self.only_quiescent(steps)?;
        self.write(&steps)?;
        self.act_on_stopped()
    }

    /// Builds the detour of a step that needs one. False if that failed; it is reported then.
    fn prepare(&mut self, step: Step) -> bool {
        let arms = matches!(
            step,
            Step::Arm(_)
                | Step::ArmJump(_)
                | Step::JumpOnly(_)
                | Step::Optimise(_)
                | Step::Redirect(_)
        );
        if !arms {
            return true;
        }
        match self.ensure_detour(step.addr()) {
            Ok(()) => true,
            Err(why) => {
                let outcome = match step {
                    Step::Optimise(_) | Step::Redirect(_) => Outcome::Refused(why),
                    _ => Outcome::Unarmed(why),
                };
                self.registry.report(step.addr(), outcome);
                false
            }
        }
    }

    fn ensure_detour(&mut self, at: Addr) -> Result<(), Refusal> {
        let wanted = self.registry.detour(at).ok_or(Refusal::NoRoom)?;
        let ground = self.plan.ground.get_mut(&at).ok_or(Refusal::NoRoom)?;
        let signature = (wanted.probes.to_vec(), wanted.whole);
        if ground.built.as_ref() == Some(&signature) {
            return Ok(());
        }
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
        };
        let class = |id: &crate::base::ProbeId| {
            (
                *id,
                self.plan
                    .class
                    .get(id.0 as usize)
                    .copied()
                    .unwrap_or(u32::MAX),
            )
        };
        let probes: Vec<_> = wanted.probes.iter().map(class).collect();
        live.detours
            .build(&live.injected, ground.slab, displaced, &probes)?;
        ground.built = Some(signature);
        Ok(())
    }

    /// Keeps the steps that nobody stands in the way of, moving stopped threads out of it where
    /// that can be done. The others are reported as postponed; breakpoints they may become.
    fn only_quiescent(&mut self, steps: Vec<Step>) -> anyhow::Result<Vec<(Step, bool)>> {
        if !steps.iter().any(|step| step.needs_quiescence()) {
            return Ok(steps.into_iter().map(|step| (step, true)).collect());
        }
        // Hits that are not dealt with yet look like threads inside.
        for (tid, status) in self.process.stopped() {
            if status == Status::Signal(sig::TRAP)
                && let Some(site) = self.enter_early(tid)
            {
                self.dispositions
                    .repair(&mut self.process, tid, sig::TRAP)?;
                self.throttle.hit(site, clock::monotonic());
                if let Some(thread) = self.process.threads.get_mut(&tid) {
                    thread.state = State::Stopped(Status::Interrupted);
                }
            }
        }
        let maps = self
            .process
            .maps()
            .context("reading the target's mappings")?;
        let mut spans: Vec<Span> = steps
            .iter()
            .filter(|step| step.needs_quiescence())
            .filter_map(|step| self.registry.site(step.addr()).map(|site| site.claim()))
            .collect();
        spans.sort_by_key(|span| span.start);
        let mut occupied = None;
        for _ in 0..LOOKS {
            occupied = self.process.occupied(&maps, &spans)?;
            if occupied.is_some() {
                break;
            }
            self.process.stop_running(&mut self.backlog)?;
        }
        let mut kept = Vec::with_capacity(steps.len());
        for step in steps {
            let quiescent = !step.needs_quiescence()
                || match (
                    &occupied,
                    self.registry.site(step.addr()).map(|site| site.claim()),
                ) {
                    (Some(occupied), Some(span)) => self.clear(step.addr(), span, occupied)?,
                    _ => false,
                };
            kept.push((step, quiescent));
        }
        Ok(kept)
    }

    /// Whether nobody is strictly inside `span`, after moving on those that can be moved.
    fn clear(&self, at: Addr, span: Span, occupied: &Occupied) -> anyhow::Result<bool> {
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

    /// Writes a batch and reports it.
    fn write(&mut self, steps: &[(Step, bool)]) -> anyhow::Result<()> {
        let stopped = |thread: &crate::target::Thread| matches!(thread.state, State::Stopped(_));
        let whole = self.process.threads.values().all(stopped);
        let mut edits = Vec::with_capacity(steps.len());
        let mut outcomes = Vec::with_capacity(steps.len());
        let mut pages = Pages::new(&self.process.memory, whole);
        for &(step, quiescent) in steps {
            let at = step.addr();
            let done = if quiescent {
                Outcome::Done
            } else {
                Outcome::NotQuiescent
            };
            let Some(edit) = self.edit(step, quiescent) else {
                outcomes.push((at, done));
                continue;
            };
            if edit.to == Text::Jump && edit.jump[1].is_none() {
                let arming = edit.from == Text::Original;
                let no_room = if arming {
                    Outcome::Unarmed
                } else {
                    Outcome::Refused
                };
                outcomes.push((at, no_room(Refusal::NoRoom)));
                continue;
            }
            match self.compare(&mut pages, &edit) {
                Check::Same => {
                    outcomes.push((at, done));
                    edits.push(edit);
                }
                Check::Foreign => {
                    self.notes.push(format!(
                        "{}: its bytes were changed by somebody else; left alone",
                        self.plan.name_at(at)
                    ));
                    outcomes.push((at, Outcome::Foreign));
                }
                Check::Gone => outcomes.push((at, Outcome::Gone)),
            }
        }
        let processors = if whole {
            BTreeSet::new()
        } else {
            self.processors()
        };
        let passes: [Pass; 3] = [Edit::first, Edit::second, Edit::third];
        for pass in passes {
            if edits.iter().any(|edit| pass(edit).is_some()) {
                pages
                    .write(edits.iter().filter_map(pass))
                    .context("writing the target's text")?;
                serialise(&processors);
            }
        }
        for edit in edits {
            if let Some(ground) = self.plan.ground.get_mut(&edit.at) {
                ground.jump = if edit.to == Text::Jump {
                    edit.jump[1]
                } else {
                    None
                };
            }
        }
        for (at, outcome) in outcomes {
            self.registry.report(at, outcome);
        }
        Ok(())
    }

    /// What a step changes; `None` if it changes no text.
    fn edit(&self, step: Step, quiescent: bool) -> Option<Edit> {
        let at = step.addr();
        let ground = self.plan.ground.get(&at)?;
        let from = self.registry.site(at)?.text()?;
        let to = match step {
            Step::ArmJump(_) if !quiescent => Text::Trap,
            Step::JumpOnly(_) | Step::Optimise(_) if !quiescent => return None,
            Step::ArmJump(_) | Step::JumpOnly(_) | Step::Optimise(_) => Text::Jump,
            Step::Arm(_) | Step::Unoptimise(_) => Text::Trap,
            Step::Disarm(_) | Step::DisarmJump(_) => Text::Original,
            Step::Redirect(_) => from,
        };
        if from == to && to != Text::Jump {
            return None;
        }
        let start = self
            .live
            .as_ref()?
            .detours
            .of(at)
            .map(|detour| detour.start);
        let jump = start.and_then(|start| relocate::jump(at.0, start.0));
        Some(Edit {
            at,
            from,
            to,
            original: ground.original().to_vec(),
            jump: [ground.jump, jump],
        })
    }

    /// Compares memory with what should be there; bytes that another site owns are its business.
    fn compare(&self, pages: &mut Pages<'_>, edit: &Edit) -> Check {
        let expected = edit.now();
        match pages.check(edit.at, &expected) {
            Check::Foreign => {}
            other => return other,
        }
        for (index, byte) in expected.iter().enumerate() {
            let address = edit.at + index as u64;
            let others = self
                .registry
                .owner_of(address)
                .is_some_and(|owner| owner != edit.at);
            if !others {
                match pages.check(address, &[*byte]) {
                    Check::Same => {}
                    other => return other,
                }
            }
        }
        Check::Same
    }

    /// Where threads of the target that are not stopped may run.
    fn processors(&self) -> BTreeSet<usize> {
        self.process
            .threads
            .keys()
            .flat_map(|&tid| poll::processors(tid))
            .collect()
    }
}

/// Makes every core that may run the target forget what it fetched: running there changes the
/// address space, which serialises (Intel SDM volume 3, "Handling Self- and Cross-Modifying Code").
fn serialise(processors: &BTreeSet<usize>) {
    if processors.is_empty() {
        return;
    }
    let own = poll::processors(Tid(0));
    for &processor in processors {
        poll::run_on(&[processor]);
    }
    poll::run_on(&own);
}
