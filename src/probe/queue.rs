//! The optimiser's queue: which sites are to be looked at now, which later, and how long a step
//! waits before it is tried again. Does not know what is decided about a site.
//!
//! Invariant: a site that is not settled is in the queue, held until a time, or under way.

use std::collections::BTreeSet;

use super::state::{Kind, Step};
use crate::base::Addr;

/// First delay before a postponed step is tried again, in ns; it doubles each time.
pub const FIRST_DELAY: u64 = 1_000_000;
/// Longest delay, in ns.
pub const LONGEST_DELAY: u64 = 1_000_000_000;
/// After so many tries a site stays a breakpoint: over 30 s with the delays above.
pub const MAX_TRIES: u32 = 40;

/// A step that was postponed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The kind of step.
    pub kind: Kind,
    /// How often it was tried.
    pub tries: u32,
    /// When it is due, in ns.
    pub due: u64,
}

impl Held {
    /// Postpones a step once more, at time `now`.
    pub fn again(before: Option<Held>, kind: Kind, now: u64) -> Held {
        let tries = match before {
            Some(held) if held.kind == kind => held.tries.saturating_add(1),
            _ => 1,
        };
        let delay = FIRST_DELAY
            .checked_shl(tries - 1)
            .filter(|_| tries < 32)
            .map_or(LONGEST_DELAY, |d| d.min(LONGEST_DELAY));
        Held {
            kind,
            tries,
            due: now.saturating_add(delay),
        }
    }
}

/// What is to be done next, in this order: no step depends on another of its batch, the order only
/// keeps breakpoints short-lived. Each is to be reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Batch {
    /// Whether there is nothing to do now.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a step in it writes a jump, so that nobody may be inside what it displaces.
    pub fn needs_quiescence(&self) -> bool {
        self.steps.iter().any(|step| step.needs_quiescence())
    }
}

/// Sites to look at.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    now: Vec<Addr>,
    later: BTreeSet<(u64, Addr)>,
}

impl Queue {
    /// To be looked at next. May be given twice.
    pub fn push(&mut self, addr: Addr) {
        self.now.push(addr);
    }

    /// To be looked at when `due` has come.
    pub fn push_later(&mut self, due: u64, addr: Addr) {
        self.later.insert((due, addr));
    }

    /// Takes what is to be looked at, in the order of addresses, each once.
    pub fn take(&mut self, now: u64) -> Vec<Addr> {
        while let Some(&(due, addr)) = self.later.first() {
            if due > now {
                break;
            }
            self.later.pop_first();
            self.now.push(addr);
        }
        let mut taken = std::mem::take(&mut self.now);
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    /// Whether something is to be looked at at once.
    pub fn is_pressing(&self) -> bool {
        !self.now.is_empty()
    }

    /// When the next postponed step is due.
    pub fn next_due(&self) -> Option<u64> {
        self.later.first().map(|&(due, _)| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut held = Held::again(None, Kind::Optimise, 100);
        assert_eq!((held.tries, held.due), (1, 100 + FIRST_DELAY));
        held = Held::again(Some(held), Kind::Optimise, 0);
        assert_eq!((held.tries, held.due), (2, 2 * FIRST_DELAY));
        for _ in 0..200 {
            held = Held::again(Some(held), Kind::Optimise, 0);
            assert!(held.due <= LONGEST_DELAY);
        }
        assert_eq!(held.due, LONGEST_DELAY);
    }

    #[test]
    fn another_kind_of_step_starts_anew() {
        let held = Held::again(None, Kind::Optimise, 0);
        let held = Held::again(Some(held), Kind::Disarm, 0);
        assert_eq!((held.kind, held.tries), (Kind::Disarm, 1));
    }

    #[test]
    fn what_is_not_due_stays() {
        let mut queue = Queue::default();
        queue.push(Addr(7));
        queue.push(Addr(3));
        queue.push(Addr(7));
        queue.push_later(50, Addr(9));
        assert_eq!(queue.take(49), [Addr(3), Addr(7)]);
        assert_eq!(queue.next_due(), Some(50));
        assert_eq!(queue.take(50), [Addr(9)]);
        assert_eq!(queue.next_due(), None);
    }
}
