//! What the session tells its guardian: a target before it is changed, a site before a breakpoint is
//! written there, and that all is well again.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::jump::Jump;
use super::run::Session;
use super::tracee::{Common, Tracee};
use super::write::Edit;
use crate::base::Addr;
use crate::guardian::{Guardian, Site, Target};
use crate::probe::Text;

/// A session's guardian, and how to tell of it.
#[derive(Default)]
pub(super) struct Guard {
    guardian: RefCell<Option<Arc<Guardian>>>,
    /// Whether it has ended, or does not listen, and that was told.
    lost: Cell<bool>,
    warn: RefCell<Option<Warn>>,
}

/// Says something to the user at once.
type Warn = Box<dyn Fn(&str)>;

impl Session {
    /// Lets a guardian look after all processes. `warn` is called with what a user should know at
    /// once.
    pub fn guarded(
        self,
        guardian: Option<Arc<Guardian>>,
        warn: impl Fn(&str) + 'static,
    ) -> Session {
        self.common.guard.warn.replace(Some(Box::new(warn)));
        self.common.guard.guardian.replace(guardian);
        self
    }
}

impl Common {
    /// Says something now; it is no use at the end.
    pub(super) fn warn(&self, what: &str) {
        if let Some(warn) = &*self.guard.warn.borrow() {
            warn(what);
        }
    }

    /// Says once that the guardian has ended.
    pub(super) fn look_at_guardian(&self) {
        let guardian = self.guard.guardian.borrow();
        if guardian
            .as_ref()
            .is_some_and(|guardian| guardian.has_ended())
        {
            self.lose("the guardian has ended");
        }
    }

    fn lose(&self, why: &str) {
        if !self.guard.lost.replace(true) {
            self.warn(&format!(
                "{why}; tracing goes on, but if kptrace is killed now, breakpoints stay in the target"
            ));
        }
    }
}

impl Tracee {
    /// Our memory is in the target; nothing points to it yet.
    pub(super) fn guard_target(&mut self) {
        let guardian = self.common.guard.guardian.borrow();
        let (Some(guardian), Some(live)) = (&*guardian, &self.live) else {
            return;
        };
        let target = Target {
            pid: self.process.pid,
            memory: &self.process.memory,
            alive: live.injected.alive,
        };
        match guardian.target(&target) {
            Ok(handle) => self.journal = Some(handle),
            Err(_) if guardian.has_ended() => self.common.look_at_guardian(),
            Err(error) => {
                let why = format!("the guardian could not be told of it: {error}");
                self.common.lose(&why);
            }
        }
    }

    /// The same for a forked child, in which breakpoints stand already.
    pub(super) fn guard_inherited(&mut self) {
        self.guard_target();
        let Some(journal) = &mut self.journal else {
            return;
        };
        let trap = |site: &&crate::probe::Site| site.text() == Some(Text::Trap);
        let traps = self.registry.sites().filter(trap).filter_map(|site| {
            let ground = self.plan.ground.get(&site.addr())?;
            Some(written_down(site.addr(), ground.original(), None))
        });
        if journal.about_to_trap(traps) > 0 {
            self.common.lose(FULL);
        }
    }

    /// Breakpoints are about to be written.
    pub(super) fn about_to_trap(&mut self, edits: &[Edit]) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let traps = edits.iter().filter(|edit| edit.traps()).map(|edit| {
            // The new tail, or the one that is there.
            let jump = edit.jump[usize::from(edit.to == Text::Jump)].as_ref();
            written_down(edit.at, &edit.original, jump)
        });
        if journal.about_to_trap(traps) > 0 {
            self.common.lose(FULL);
        }
    }

    /// First bytes are final.
    pub(super) fn settled(&mut self, edits: &[Edit]) {
        if let Some(live) = &mut self.live {
            for edit in edits {
                if edit.to == Text::Trap {
                    live.traps.insert(edit.at);
                } else if edit.from == Text::Trap {
                    live.traps.remove(&edit.at);
                }
            }
        }
        if let Some(journal) = &mut self.journal {
            let final_ones = edits.iter().filter(|edit| edit.to != Text::Trap);
            journal.settled(final_ones.map(|edit| edit.at));
        }
    }

    /// The target is as it was, or is gone.
    pub(super) fn guard_no_more(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.let_go();
        }
    }
}

const FULL: &str = "the journal is full";

fn written_down(at: Addr, bytes: &[u8], jump: Option<&Jump>) -> Site {
    let mut original = [0; 5];
    let len = bytes.len().min(5);
    original[..len].copy_from_slice(&bytes[..len]);
    // A springboard changes two bytes; what it leads to is padding, and harmless.
    let jump = jump.map(|jump| {
        let mut standing = original;
        standing[..jump.head().len()].copy_from_slice(jump.head());
        standing
    });
    Site {
        at,
        original,
        len: u8::try_from(len).unwrap_or(0),
        tail: jump.and_then(|jump| jump[1..].try_into().ok()),
    }
}
