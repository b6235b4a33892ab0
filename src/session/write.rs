//! Writing text: the only place that changes the target's.
//!
//! Invariants: memory at a site equals what its state says before it is written, or it is not; at
//! every instant text is original, int3 and original tail, int3 and new tail, or a full jump. Hence
//! three passes, also when everything is stopped: heads to int3; tails; heads.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::plan::Kept;
use super::text::{Check, Text as Pages};
use super::tracee::Tracee;
use crate::arch::native::relocate;
use crate::base::{Addr, Span};
use crate::probe::{Outcome, Refusal, Step, Text};
use crate::sys::poll;
use crate::target::State;

const INT3: u8 = 0xcc;

/// What one pass writes at a site, if anything.
type Pass = fn(&Edit) -> Option<(Addr, &[u8])>;

/// One site on its way from what it is to what it will be.
struct Edit {
    step: Step,
    at: Addr,
    from: Text,
    to: Text,
    original: Kept,
    /// The jump that stands there now, and the one that will.
    jump: [Option<[u8; 5]>; 2],
}

impl Edit {
    /// What stands there now, if nobody changed it.
    fn now(&self) -> Kept {
        let mut bytes = self.original;
        match (self.from, self.jump[0]) {
            (Text::Original, _) => {}
            (Text::Trap, _) => bytes[0] = INT3,
            (Text::Jump, Some(jump)) => bytes[..5].copy_from_slice(&jump),
            (Text::Jump, None) => {}
        }
        bytes
    }

    /// Somebody was inside: it comes no farther than a breakpoint.
    fn fall_short(&mut self) {
        self.to = match self.step {
            Step::JumpOnly(_) => Text::Original,
            _ => Text::Trap,
        };
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

impl Tracee {
    /// Changes the text at the sites of these steps and reports how each came out. Everybody who
    /// ran is stopped.
    pub(super) fn write(&mut self, steps: &[Step]) -> anyhow::Result<()> {
        let stopped = |thread: &crate::target::Thread| matches!(thread.state, State::Stopped(_));
        let whole = self.process.threads.values().all(stopped);
        let memory = self.process.memory.clone();
        let mut pages = Pages::new(&memory, whole);
        let (mut edits, mut outcomes) = self.edits(steps, &mut pages);
        let processors = if whole {
            BTreeSet::new()
        } else {
            self.processors()
        };
        pass(&mut pages, &edits, Edit::first, &processors)?;
        let looked = self.keep_quiescent(&mut edits, &mut outcomes);
        if looked.is_err() {
            // Heads are breakpoints by now: whatever went wrong, they are brought to a state that
            // is known, and can be taken back from there.
            let short = |edit: &&mut Edit| edit.step.needs_quiescence();
            edits.iter_mut().filter(short).for_each(Edit::fall_short);
            let unfinished: BTreeSet<Addr> = edits
                .iter()
                .filter(|edit| edit.step.needs_quiescence())
                .map(|edit| edit.at)
                .collect();
            for (_, outcome) in outcomes
                .iter_mut()
                .filter(|(at, _)| unfinished.contains(at))
            {
                *outcome = Outcome::NotQuiescent;
            }
        }
        pass(&mut pages, &edits, Edit::second, &processors)?;
        pass(&mut pages, &edits, Edit::third, &processors)?;
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
        looked
    }

    /// What is to be written, and how the steps come out if all goes well.
    fn edits(
        &mut self,
        steps: &[Step],
        pages: &mut Pages<'_>,
    ) -> (Vec<Edit>, Vec<(Addr, Outcome)>) {
        let mut edits = Vec::with_capacity(steps.len());
        let mut outcomes = Vec::with_capacity(steps.len());
        for &step in steps {
            let at = step.addr();
            let Some(edit) = self.edit(step) else {
                outcomes.push((at, Outcome::Done));
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
            match self.compare(pages, &edit) {
                Check::Same => {
                    outcomes.push((at, Outcome::Done));
                    edits.push(edit);
                }
                Check::Foreign => {
                    self.seen_foreign(at);
                    outcomes.push((at, Outcome::Foreign));
                }
                Check::Gone => outcomes.push((at, Outcome::Gone)),
            }
        }
        (edits, outcomes)
    }

    /// The heads are breakpoints now. Where somebody is inside what would become a jump, none is
    /// made: the breakpoint stays or, where none may, the original comes back.
    fn keep_quiescent(
        &mut self,
        edits: &mut [Edit],
        outcomes: &mut [(Addr, Outcome)],
    ) -> anyhow::Result<()> {
        let claim = |session: &Tracee, edit: &Edit| {
            let wanted = edit.step.needs_quiescence();
            let site = session.registry.site(edit.at).filter(|_| wanted);
            site.map(|site| site.claim())
        };
        let mut spans: Vec<Span> = edits.iter().filter_map(|edit| claim(self, edit)).collect();
        if spans.is_empty() {
            return Ok(());
        }
        spans.sort_by_key(|span| span.start);
        let occupied = self.look(&spans)?;
        // Edits are in the order of their steps, and so are the outcomes.
        let mut outcomes = outcomes.iter_mut();
        for edit in edits {
            let Some(outcome) = outcomes.find(|(at, _)| *at == edit.at) else {
                break;
            };
            let Some(span) = claim(self, edit) else {
                continue;
            };
            let clear = match &occupied {
                Some(occupied) => self.clear(edit.at, span, occupied)?,
                None => false,
            };
            if !clear {
                outcome.1 = Outcome::NotQuiescent;
                edit.fall_short();
            }
        }
        Ok(())
    }

    /// What a step changes; `None` if it changes no text.
    fn edit(&self, step: Step) -> Option<Edit> {
        let at = step.addr();
        let ground = self.plan.ground.get(&at)?;
        let from = self.registry.site(at)?.text()?;
        let to = match step {
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
            step,
            at,
            from,
            to,
            original: ground.kept(),
            jump: [ground.jump, jump],
        })
    }

    /// Compares memory with what should be there; bytes that another site owns are its business.
    fn compare(&self, pages: &mut Pages<'_>, edit: &Edit) -> Check {
        let expected = &edit.now()[..];
        match pages.check(edit.at, expected) {
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

/// Writes one pass, and waits until every core knows of it.
fn pass(
    pages: &mut Pages<'_>,
    edits: &[Edit],
    what: Pass,
    processors: &BTreeSet<usize>,
) -> anyhow::Result<()> {
    if edits.iter().any(|edit| what(edit).is_some()) {
        pages
            .write(edits.iter().filter_map(what))
            .context("writing the target's text")?;
        poll::serialise(processors);
    }
    Ok(())
}
