//! Sites whose bytes are somebody else's: what stands there is looked at now and then while the target
//! runs, and once more before the report, so that hits are not lost in silence; the probe comes back
//! when the bytes are what we know again.
//!
//! Invariant: nothing is written here and nobody is stopped; only what was read there changes a site's
//! state, through the registry.

use std::collections::BTreeSet;

use super::text::{Check, Text as Pages};
use super::tracee::Tracee;
use super::write::standing;
use crate::base::Addr;
use crate::probe::{Refusal, Text};
use crate::sys::clock;

/// Nanoseconds between two looks at sites that are foreign, and at how many.
const OFTEN: u64 = 200_000_000;
const SOME: usize = 1024;
/// Nanoseconds between two looks at those that are ours, and how long one may take: what is left then
/// is looked at the next time. That is enough for some 9,000 sites.
const SELDOM: u64 = 1_000_000_000;
const LONG: u64 = 5_000_000;
/// How many sites are compared before the clock is looked at.
const PIECE: usize = 256;
/// How many sites are named.
const NAMED: usize = 20;

/// What is known of bytes that somebody else wrote.
#[derive(Clone, Debug, Default)]
pub(super) struct Foreign {
    /// Sites that are foreign, and when they are looked at next.
    sites: BTreeSet<Addr>,
    due: Option<u64>,
    ours_from: Addr,
    /// Those that ever were, and those that came back.
    seen: BTreeSet<Addr>,
    again: BTreeSet<Addr>,
    /// When the others are looked at next, and from where on.
    others_due: Option<u64>,
    from: Addr,
}

impl Tracee {
    /// When something is to be looked at.
    pub(super) fn foreign_due(&self) -> Option<u64> {
        let due = [self.foreign.due, self.foreign.others_due];
        due.into_iter().flatten().min()
    }

    /// The bytes of a site were seen to be somebody else's.
    pub(super) fn seen_foreign(&mut self, at: Addr) {
        if let Some(landing) = self.process.landing() {
            landing.disown(at);
        }
        if !self.foreign.sites.insert(at) {
            return;
        }
        let due = clock::monotonic() + OFTEN;
        self.foreign.due.get_or_insert(due);
        if self.foreign.seen.insert(at) && self.foreign.seen.len() <= NAMED {
            self.notes.push(format!(
                "{}: its bytes were changed by somebody else; left alone",
                self.plan.name_at(at)
            ));
        }
    }

    /// Says how many there were that were not named.
    pub(super) fn note_foreign(&mut self) {
        let more = self.foreign.seen.len().saturating_sub(NAMED);
        if more > 0 {
            let note = format!("of {more} more sites bytes were changed by somebody else");
            self.notes.push(note);
        }
    }

    /// Looks at foreign sites, and at all others, when it is time to.
    pub(super) fn look_at_foreign(&mut self) {
        let now = clock::monotonic();
        if self.foreign.due.is_some_and(|due| due <= now) {
            self.look_for_ours(SOME);
            let more = !self.foreign.sites.is_empty();
            self.foreign.due = more.then_some(now + OFTEN);
        }
        if self.foreign.others_due.is_some_and(|due| due <= now) {
            let from = self.foreign.from;
            let next = self.look_for_others(from, now + LONG);
            self.foreign.from = next.unwrap_or_default();
            self.foreign.others_due = None;
        }
        self.foreign.others_due.get_or_insert(now + SELDOM);
    }

    /// Looks at all sites, now.
    pub(super) fn look_at_all(&mut self) {
        self.foreign.ours_from = Addr::default();
        self.look_for_ours(usize::MAX);
        self.look_for_others(Addr::default(), u64::MAX);
    }

    /// Sites that were foreign and hold what we know, among the next `most`.
    fn look_for_ours(&mut self, most: usize) {
        let next = self.foreign.sites.range(self.foreign.ours_from..);
        let known: Vec<Addr> = next.take(most).copied().collect();
        let last = known.last().filter(|_| known.len() == most);
        self.foreign.ours_from = last.map_or(Addr::default(), |&at| at + 1);
        for at in known {
            let site = self.registry.site(at);
            if !site.is_some_and(crate::probe::Site::foreign) {
                self.foreign.sites.remove(&at);
            } else if let Some(text) = self.known_again(at) {
                self.foreign.sites.remove(&at);
                if self.foreign.again.insert(at) && self.foreign.again.len() <= NAMED {
                    self.notes.push(format!(
                        "{}: its bytes are as they were, and it is armed again",
                        self.plan.name_at(at)
                    ));
                }
                self.registry.ours_again(at, text);
            }
        }
    }

    /// Armed sites from an address on that do not hold what we wrote, as far as time allows: where to
    /// go on, if not all were looked at.
    fn look_for_others(&mut self, mut from: Addr, until: u64) -> Option<Addr> {
        let memory = self.process.memory.clone();
        loop {
            let piece: Vec<(Addr, Text)> = self.registry.standing(from).take(PIECE).collect();
            let mut pages = Pages::glance(&memory);
            for &(at, text) in &piece {
                self.look_at_one(&mut pages, at, text);
            }
            from = piece.last()?.0 + 1;
            if clock::monotonic() >= until {
                return Some(from);
            }
        }
    }

    fn look_at_one(&mut self, pages: &mut Pages<'_>, at: Addr, text: Text) {
        let Some(ground) = self.plan.ground.get(&at) else {
            return;
        };
        let jump = ground.jump.as_ref().filter(|_| text == Text::Jump);
        let expected = standing(ground.kept(), text, jump);
        let hole = jump.and_then(super::jump::Jump::hole);
        let hole = hole.map(|(at, bytes)| pages.check(at, bytes));
        match self.compare(pages, at, &expected) {
            Check::Foreign => {
                self.seen_foreign(at);
                self.registry.foreign(at);
            }
            // The short jump is taken back, and that is told when it is written.
            Check::Same if hole == Some(Check::Foreign) => {
                let why = "the padding it would jump through was changed";
                self.registry.confine(at, Refusal::Window(why.into()));
            }
            Check::Same | Check::Gone => {}
        }
    }

    /// What stands at a site, if it is something of the file's or of ours.
    fn known_again(&self, at: Addr) -> Option<Text> {
        let ground = self.plan.ground.get(&at)?;
        let original = ground.original();
        let mut now = vec![0; original.len()];
        self.process.memory.read(at, &mut now).ok()?;
        let hole = |expected: Option<(Addr, &[u8])>| {
            let mut bytes = [0; 5];
            expected.is_none_or(|(at, expected)| {
                self.process.memory.read(at, &mut bytes).is_ok() && bytes == expected
            })
        };
        if now == original {
            let unused = ground.hole.as_ref();
            return hole(unused.map(|h| (h.at, &h.original[..]))).then_some(Text::Original);
        }
        let jump = ground.jump.as_ref()?;
        let (head, tail) = now.split_at_checked(jump.head().len())?;
        let ours = head == jump.head() && original.get(head.len()..) == Some(tail);
        (ours && hole(jump.hole())).then_some(Text::Jump)
    }
}
