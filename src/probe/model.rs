//! A small text section for the tests: every step is carried out on it, and everything that the
//! invariants forbid panics. Knows nothing of how the registry decides.

use std::collections::{BTreeMap, BTreeSet};

use super::registry::Registry;
use super::state::{Outcome, Step, Text};
use crate::base::{Addr, ProbeId};

/// What was written at one byte; bytes that are not in the table are the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Byte {
    Int3(Addr),
    Jump(Addr),
    Foreign,
}

/// A site that is armed in the model.
#[derive(Clone, Debug)]
struct Armed {
    text: Text,
    /// The probes of its detour.
    probes: Vec<ProbeId>,
    displaced: u64,
    reach: u64,
    whole: bool,
    hole: Option<Addr>,
}

impl Armed {
    /// First and last of the bytes that are its own.
    fn spans(&self, addr: Addr) -> Vec<(Addr, Addr)> {
        match (self.text, self.hole) {
            (Text::Jump, Some(hole)) => vec![(addr, addr + (self.reach - 1)), (hole, hole + 4)],
            (Text::Jump, None) => vec![(addr, addr + (self.reach - 1))],
            _ => vec![(addr, addr)],
        }
    }

    /// Bytes that a jump is written to.
    fn written(&self, addr: Addr) -> Vec<Addr> {
        let spans = match (self.text, self.hole) {
            (Text::Jump, Some(hole)) => vec![(addr, 2), (hole, 5)],
            (Text::Jump, None) => vec![(addr, 5)],
            _ => vec![(addr, 1)],
        };
        let bytes = |(start, len)| (0..len).map(move |i| start + i);
        spans.into_iter().flat_map(bytes).collect()
    }
}

/// The text of a pretended target.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    bytes: BTreeMap<Addr, Byte>,
    armed: BTreeMap<Addr, Armed>,
    pub(super) traps_seen: BTreeSet<Addr>,
}

impl Target {
    /// What stands at a site.
    pub(super) fn text(&self, addr: Addr) -> Text {
        self.armed
            .get(&addr)
            .map_or(Text::Original, |site| site.text)
    }

    /// The probes that a hit of a site reaches.
    pub(super) fn served(&self, addr: Addr) -> BTreeSet<ProbeId> {
        let armed = self.armed.get(&addr);
        armed.map_or(BTreeSet::new(), |site| {
            site.probes.iter().copied().collect()
        })
    }

    /// Whether every byte is the file's, or somebody else's.
    pub(super) fn is_clean(&self) -> bool {
        self.armed.is_empty() && self.bytes.values().all(|byte| *byte == Byte::Foreign)
    }

    /// Carries out a step with this outcome, and reports it.
    pub(super) fn perform(&mut self, registry: &mut Registry, step: Step, outcome: Outcome) {
        self.act(registry, step, &outcome);
        assert!(
            registry.report(step.addr(), outcome),
            "{step:?} was under way"
        );
        self.agrees_with(registry);
    }

    fn act(&mut self, registry: &Registry, step: Step, outcome: &Outcome) {
        let addr = step.addr();
        let before = self.text(addr);
        let expected = match step {
            Step::Arm(_) | Step::ArmJump(_) | Step::JumpOnly(_) => before == Text::Original,
            Step::Optimise(_) | Step::Disarm(_) => before == Text::Trap,
            Step::Unoptimise(_) | Step::DisarmJump(_) => before == Text::Jump,
            Step::Redirect(_) => before != Text::Original,
        };
        assert!(expected, "{step:?} on {before:?}");
        let after = match (step, outcome) {
            (_, Outcome::Foreign) => return self.become_foreign(addr),
            (_, Outcome::Gone) => return self.forget(addr),
            (_, Outcome::Done) => match step {
                Step::Disarm(_) | Step::DisarmJump(_) => Text::Original,
                Step::Arm(_) | Step::Unoptimise(_) => Text::Trap,
                Step::ArmJump(_) | Step::JumpOnly(_) | Step::Optimise(_) => Text::Jump,
                Step::Redirect(_) => before,
            },
            (Step::ArmJump(_), Outcome::NotQuiescent | Outcome::Refused(_)) => Text::Trap,
            // Nothing is written, but it must have been allowed all the same.
            _ => {
                let mut other = self.clone();
                return other.act(registry, step, &Outcome::Done);
            }
        };
        self.write(registry, addr, after);
    }

    fn write(&mut self, registry: &Registry, addr: Addr, text: Text) {
        let site = registry.site(addr).expect("a step is for a site");
        let whole = registry.detour(addr).expect("a site has a detour").whole;
        let hole = site.hole().map(|hole| hole.start);
        let displaced = site.facts().window.as_ref().map_or(1, |&n| u64::from(n));
        // No instruction starts behind a short jump among what it displaces.
        let (displaced, reach) = match hole {
            Some(_) => (displaced.min(2), 2),
            None => (displaced, displaced.max(5)),
        };
        let old = self.armed.remove(&addr);
        for byte in old.iter().flat_map(|old| old.written(addr)) {
            let was = self.bytes.remove(&byte);
            let ours = matches!(was, Some(Byte::Int3(a) | Byte::Jump(a)) if a == addr);
            assert!(ours, "{was:?} at {byte} of {addr}");
        }
        if text == Text::Original {
            return;
        }
        let armed = Armed {
            text,
            probes: registry
                .detour(addr)
                .map_or(Vec::new(), |detour| detour.probes),
            displaced,
            reach,
            whole,
            hole,
        };
        for (start, end) in armed.spans(addr) {
            let held = self.bytes.range(start..=end).next();
            assert_eq!(held, None, "a byte of {addr} has an owner");
        }
        for (&other, site) in &self.armed {
            for (start, end) in armed.spans(addr) {
                let apart = |&(from, to): &(Addr, Addr)| end < from || to < start;
                let apart = site.spans(other).iter().all(apart);
                assert!(apart, "{addr} and {other} share a byte");
            }
            if site.whole && old.is_none() {
                assert!(
                    !(other < addr && addr.0 < other.0 + site.displaced),
                    "the detour of {other} runs past {addr}"
                );
            }
            if whole {
                assert!(
                    !(addr < other && other.0 < addr.0 + displaced),
                    "the new detour of {addr} runs past {other}"
                );
            }
        }
        assert!(
            whole || text == Text::Trap,
            "a jump displaces all or nothing"
        );
        let byte = match text {
            Text::Trap => Byte::Int3(addr),
            _ => Byte::Jump(addr),
        };
        if text == Text::Trap {
            self.traps_seen.insert(addr);
        }
        self.bytes
            .extend(armed.written(addr).into_iter().map(|at| (at, byte)));
        self.armed.insert(addr, armed);
    }

    /// Somebody writes over the first byte of a site.
    pub(super) fn become_foreign(&mut self, addr: Addr) {
        self.forget(addr);
        self.bytes.insert(addr, Byte::Foreign);
    }

    /// The mapping of a site is replaced.
    pub(super) fn forget(&mut self, addr: Addr) {
        self.armed.remove(&addr);
        self.bytes
            .retain(|_, byte| !matches!(byte, Byte::Int3(a) | Byte::Jump(a) if *a == addr));
        if self.bytes.get(&addr) == Some(&Byte::Foreign) {
            self.bytes.remove(&addr);
        }
    }

    /// The registry's view of memory is the truth, for sites that are not under way.
    pub(super) fn agrees_with(&self, registry: &Registry) {
        for site in registry.sites() {
            if let Some(text) = site.text() {
                assert_eq!(text, self.text(site.addr()), "{site:?}");
            }
        }
        for &addr in self.armed.keys() {
            assert!(
                registry.site(addr).is_some(),
                "{addr} is armed and forgotten"
            );
        }
        for (&addr, byte) in &self.bytes {
            if let Byte::Int3(owner) | Byte::Jump(owner) = byte {
                assert_eq!(registry.owner_of(addr), Some(*owner), "owner of {addr}");
            }
        }
    }

    /// Carries out everything with success, step by step, until nothing is left to do. Panics when
    /// that does not end.
    pub(super) fn drain(&mut self, registry: &mut Registry, now: &mut u64) {
        let bound = 8 * registry.sites().count() + 16;
        for _ in 0..bound {
            let batch = registry.next_batch(*now);
            if batch.is_empty() {
                match registry.next_due() {
                    Some(due) => *now = due,
                    None => return,
                }
            }
            for step in batch.steps {
                self.perform(registry, step, Outcome::Done);
            }
        }
        panic!("still not settled after {bound} batches: {registry:#?}");
    }
}
