//! Sites whose bytes are somebody else's: looked at now and then, until the bytes are what we know
//! again; then the probe comes back.
//!
//! Invariant: nothing is written at such a site; only what was read there changes its state.

use super::tracee::Tracee;
use crate::base::Addr;
use crate::probe::Text;
use crate::sys::clock;

/// Nanoseconds between two looks.
const OFTEN: u64 = 200_000_000;

impl Tracee {
    /// The bytes of a site were seen to be somebody else's.
    pub(super) fn seen_foreign(&mut self, at: Addr) {
        if self.foreign.insert(at) {
            self.notes.push(format!(
                "{}: its bytes were changed by somebody else; left alone",
                self.plan.name_at(at)
            ));
            self.foreign_due.get_or_insert(clock::monotonic() + OFTEN);
        }
    }

    /// Looks at foreign sites when it is time to.
    pub(super) fn look_at_foreign(&mut self) {
        let now = clock::monotonic();
        if self.foreign_due.is_none_or(|due| due > now) {
            return;
        }
        let known: Vec<Addr> = self.foreign.iter().copied().collect();
        for at in known {
            let site = self.registry.site(at);
            if !site.is_some_and(crate::probe::Site::foreign) {
                self.foreign.remove(&at);
            } else if let Some(text) = self.known_again(at) {
                self.foreign.remove(&at);
                self.notes.push(format!(
                    "{}: its bytes are as they were, and it is armed again",
                    self.plan.name_at(at)
                ));
                self.registry.ours_again(at, text);
            }
        }
        self.foreign_due = (!self.foreign.is_empty()).then_some(now + OFTEN);
    }

    /// What stands at a site, if it is something of the file's or of ours.
    fn known_again(&self, at: Addr) -> Option<Text> {
        let ground = self.plan.ground.get(&at)?;
        let original = ground.original();
        let mut now = vec![0; original.len()];
        self.process.memory.read(at, &mut now).ok()?;
        if now == original {
            return Some(Text::Original);
        }
        let jump = ground.jump?;
        (now.get(..5)? == jump && now.get(5..) == original.get(5..)).then_some(Text::Jump)
    }
}
