//! Writing text: the only place that changes the target's.
//!
//! Invariants: memory at a site equals what its state says before it is written, or it is not; at
//! every instant text is original, int3 and original tail, int3 and new tail, or a full jump. Hence
//! three passes, also when everything is stopped: heads to int3; tails; heads. What a springboard
//! leads to is written with the tails, while nobody can come there.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::ground::{Hole, Kept};
use super::jump::{self, Jump};
use super::text::{Check, Text as Pages};
use super::tracee::Tracee;
use crate::base::{Addr, Span};
use crate::probe::{Outcome, Refusal, Step, Text};
use crate::sys::poll;
use crate::target::State;

const INT3: u8 = 0xcc;

/// What one pass writes at a site, if anything.
type Pass = fn(&Edit) -> Option<(Addr, &[u8])>;

/// One site on its way from what it is to what it will be.
pub(super) struct Edit {
    step: Step,
    pub(super) at: Addr,
    pub(super) from: Text,
    pub(super) to: Text,
    pub(super) original: Kept,
    /// The jump that stands there now, and the one that will.
    pub(super) jump: [Option<Jump>; 2],
    /// The padding that a springboard leads to; `None` where it is somebody else's by now.
    hole: Option<Hole>,
}

impl Edit {
    /// What stands there now, if nobody changed it.
    fn now(&self) -> Kept {
        standing(self.original, self.from, self.jump[0].as_ref())
    }

    /// Somebody was inside: it comes no farther than a breakpoint; a jump that was to leave, or to
    /// lead elsewhere, stays.
    fn fall_short(&mut self) {
        self.to = match self.step {
            Step::JumpOnly(_) => Text::Original,
            _ if self.step.needs_quiescence() => Text::Trap,
            _ => {
                self.jump[1] = self.jump[0];
                self.from
            }
        };
    }

    /// Whether it takes back, or changes, what a springboard leads to: nobody may be between the
    /// two jumps then.
    fn frees_hole(&self) -> bool {
        self.hole.is_some() && self.from == Text::Jump
    }

    /// What its hole holds now, if nobody changed it.
    fn hole_now(&self) -> Option<(Addr, [u8; 5])> {
        let hole = self.hole?;
        let standing = self.jump[0].as_ref().and_then(Jump::hole);
        let standing = standing.filter(|_| self.from == Text::Jump);
        let standing = standing.and_then(|(_, bytes)| bytes.try_into().ok());
        Some((hole.at, standing.unwrap_or(hole.original)))
    }

    /// Second pass: the hole.
    fn second_in_hole(&self) -> Option<(Addr, &[u8])> {
        let hole = self.hole.as_ref()?;
        match (self.from, self.to) {
            (_, Text::Jump) => self.jump[1].as_ref().and_then(Jump::hole),
            (Text::Jump, _) => Some((hole.at, &hole.original)),
            _ => None,
        }
    }

    /// Whether the head is a breakpoint for a while, or stays one.
    pub(super) fn traps(&self) -> bool {
        self.first().is_some() || self.from == Text::Trap
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
            (_, Text::Jump) => {
                let head = self.jump[1].as_ref().map(Jump::head);
                Some((self.at + 1, head?.get(1..)?))
            }
            (Text::Jump, _) => {
                let len = self.jump[0].as_ref().map_or(5, |jump| jump.head().len());
                Some((self.at + 1, self.original.get(1..len)?))
            }
            _ => None,
        }
    }

    /// Third pass: the head.
    fn third(&self) -> Option<(Addr, &[u8])> {
        match self.to {
            Text::Jump => {
                let head = self.jump[1].as_ref().map(Jump::head);
                Some((self.at, head?.get(..1)?))
            }
            Text::Original => Some((self.at, &self.original[..1])),
            Text::Trap => None,
        }
    }
}

/// What stands at a site with these original bytes, if nobody changed it.
pub(super) fn standing(original: Kept, text: Text, jump: Option<&Jump>) -> Kept {
    let mut bytes = original;
    match (text, jump) {
        (Text::Original, _) | (Text::Jump, None) => {}
        (Text::Trap, _) => bytes[0] = INT3,
        (Text::Jump, Some(jump)) => bytes[..jump.head().len()].copy_from_slice(jump.head()),
    }
    bytes
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
        self.about_to_trap(&edits);
        pass(&mut pages, &edits, &[Edit::first], &processors)?;
        let looked = self.keep_quiescent(&mut edits, &mut outcomes);
        if looked.is_err() {
            // Heads are breakpoints by now: whatever went wrong, they are brought to a state that
            // is known, and can be taken back from there.
            let short = |edit: &Edit| edit.step.needs_quiescence() || edit.frees_hole();
            let short = edits.iter_mut().filter(|edit| short(edit));
            let unfinished: BTreeSet<Addr> = short
                .map(|edit| {
                    edit.fall_short();
                    edit.at
                })
                .collect();
            for (_, outcome) in outcomes
                .iter_mut()
                .filter(|(at, _)| unfinished.contains(at))
            {
                *outcome = Outcome::NotQuiescent;
            }
        }
        let second: &[Pass] = &[Edit::second, Edit::second_in_hole];
        pass(&mut pages, &edits, second, &processors)?;
        pass(&mut pages, &edits, &[Edit::third], &processors)?;
        self.settled(&edits);
        let page = |at: Addr| at.0 >> 12;
        for edit in edits {
            self.text_pages.extend([page(edit.at), page(edit.at + 4)]);
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
            let Some(mut edit) = self.edit(step) else {
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
            match self.compare(pages, at, &edit.now()) {
                Check::Same => {
                    outcomes.push((at, self.check_hole(pages, &mut edit)));
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

    /// Looks whether the hole is as it should be, and gives up what depends on it if not. The
    /// outcome if all else goes well.
    fn check_hole(&mut self, pages: &mut Pages<'_>, edit: &mut Edit) -> Outcome {
        let hole = edit
            .hole_now()
            .filter(|_| edit.from.max(edit.to) == Text::Jump);
        let Some((hole, expected)) = hole else {
            return Outcome::Done;
        };
        if pages.check(hole, &expected) == Check::Same {
            return Outcome::Done;
        }
        let why = Refusal::Window("the padding it would jump through was changed".into());
        if edit.from != Text::Jump {
            edit.fall_short();
            return Outcome::Refused(why);
        }
        self.notes.push(format!(
            "{}: the padding it jumps through was changed by somebody else; left alone",
            self.plan.name_at(edit.at)
        ));
        edit.hole = None;
        if edit.to == Text::Jump {
            edit.fall_short();
            self.registry.confine(edit.at, why);
            return Outcome::NotQuiescent;
        }
        Outcome::Done
    }

    /// The heads are breakpoints now. Where somebody is inside what would become a jump, none is
    /// made: the breakpoint stays or, where none may, the original comes back. Where somebody is
    /// between the two jumps of a springboard, that stays.
    fn keep_quiescent(
        &mut self,
        edits: &mut [Edit],
        outcomes: &mut [(Addr, Outcome)],
    ) -> anyhow::Result<()> {
        let claims = |session: &Tracee, edit: &Edit| {
            let site = session.registry.site(edit.at);
            let claim = site.filter(|_| edit.step.needs_quiescence() && edit.to == Text::Jump);
            let hole = edit.hole.filter(|_| edit.frees_hole() || claim.is_some());
            (
                claim.map(|site| site.claim()),
                hole.map(|hole| jump::span(hole.at)),
            )
        };
        let spans = edits.iter().map(|edit| claims(self, edit));
        let mut spans: Vec<Span> = spans
            .flat_map(|(claim, hole)| claim.into_iter().chain(hole))
            .collect();
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
            let (claim, hole) = claims(self, edit);
            if claim.is_none() && hole.is_none() {
                continue;
            }
            let clear = match &occupied {
                Some(occupied) => {
                    let frees = edit.frees_hole();
                    let free = |span| self.clear_hole(edit.at, span, frees, occupied);
                    let clear = |span| self.clear(edit.at, span, occupied);
                    hole.map_or(Ok(true), free)? && claim.map_or(Ok(true), clear)?
                }
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
        let jump = start.and_then(|start| Jump::to(at, ground.hole.as_ref(), start));
        Some(Edit {
            step,
            at,
            from,
            to,
            original: ground.kept(),
            jump: [ground.jump, jump],
            hole: ground.hole,
        })
    }

    /// Compares memory with what should be there; bytes that another site owns are its business.
    pub(super) fn compare(&self, pages: &mut Pages<'_>, at: Addr, expected: &[u8]) -> Check {
        match pages.check(at, expected) {
            Check::Foreign => {}
            other => return other,
        }
        for (index, byte) in expected.iter().enumerate() {
            let address = at + index as u64;
            let others = self
                .registry
                .owner_of(address)
                .is_some_and(|owner| owner != at);
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
    pub(super) fn processors(&self) -> BTreeSet<usize> {
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
    what: &[Pass],
    processors: &BTreeSet<usize>,
) -> anyhow::Result<()> {
    let writes = || what.iter().flat_map(|part| edits.iter().filter_map(part));
    if writes().next().is_some() {
        pages.write(writes()).context("writing the target's text")?;
        poll::serialise(processors);
    }
    Ok(())
}
