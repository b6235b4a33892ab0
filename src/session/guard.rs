//! What the session tells its guardian: a target before it is changed, a site before a breakpoint is
//! written there, and that all is well again.

use std::sync::Arc;

use super::run::Session;
use super::write::Edit;
use crate::guardian::{Guardian, Handle, Site, Target};
use crate::probe::Text;

/// A session's guardian.
pub(super) struct Guard {
    guardian: Arc<Guardian>,
    /// The target's journal, once there is something to write into it.
    handle: Option<Handle>,
    /// Whether it has ended, or does not listen, and that was told.
    lost: bool,
}

impl Session {
    /// Lets a guardian look after the target. `warn` is called with what a user should know at once.
    pub fn guarded(
        mut self,
        guardian: Option<Arc<Guardian>>,
        warn: impl Fn(&str) + 'static,
    ) -> Session {
        self.warn = Some(Box::new(warn));
        self.guard = guardian.map(|guardian| Guard {
            guardian,
            handle: None,
            lost: false,
        });
        self
    }

    /// Says something now; it is no use at the end.
    pub(super) fn warn(&mut self, what: String) {
        match &self.warn {
            Some(warn) => warn(&what),
            None => self.notes.push(what),
        }
    }

    /// Our memory is in the target; nothing points to it yet.
    pub(super) fn guard_target(&mut self) {
        let (Some(guard), Some(live)) = (&mut self.guard, &self.live) else {
            return;
        };
        let target = Target {
            pid: self.process.pid,
            memory: &self.process.memory,
            alive: live.injected.alive,
        };
        match guard.guardian.target(&target) {
            Ok(handle) => guard.handle = Some(handle),
            Err(_) if guard.guardian.has_ended() => self.look_at_guardian(),
            Err(error) => {
                guard.lost = true;
                self.warn(lost(&format!(
                    "the guardian could not be told of it: {error}"
                )));
            }
        }
    }

    /// Says once that the guardian has ended.
    pub(super) fn look_at_guardian(&mut self) {
        let Some(guard) = &mut self.guard else {
            return;
        };
        if !guard.lost && guard.guardian.has_ended() {
            guard.lost = true;
            self.warn(lost("the guardian has ended"));
        }
    }

    /// Breakpoints are about to be written.
    pub(super) fn about_to_trap(&mut self, edits: &[Edit]) {
        let Some(handle) = self.guard.as_mut().and_then(|guard| guard.handle.as_mut()) else {
            return;
        };
        let traps = edits.iter().filter(|edit| edit.traps()).map(|edit| {
            let mut original = [0; 5];
            let len = edit.original.len().min(5);
            original[..len].copy_from_slice(&edit.original[..len]);
            // The new tail, or the one that is there.
            let jump = edit.jump[usize::from(edit.to == Text::Jump)];
            Site {
                at: edit.at,
                original,
                len: u8::try_from(len).unwrap_or(0),
                tail: jump.and_then(|jump| jump[1..].try_into().ok()),
            }
        });
        let left_out = handle.about_to_trap(traps);
        if left_out > 0 {
            self.warn(lost(&format!(
                "its journal is full, {left_out} sites are not in it"
            )));
        }
    }

    /// First bytes are final.
    pub(super) fn settled(&mut self, edits: &[Edit]) {
        for edit in edits {
            let (was, is) = (edit.from == Text::Trap, edit.to == Text::Trap);
            if let Some(live) = &mut self.live {
                live.traps = (live.traps + usize::from(is)).saturating_sub(usize::from(was));
            }
        }
        if let Some(handle) = self.guard.as_mut().and_then(|guard| guard.handle.as_mut()) {
            let final_ones = edits.iter().filter(|edit| edit.to != Text::Trap);
            handle.settled(final_ones.map(|edit| edit.at));
        }
    }

    /// The target is as it was, or is gone.
    pub(super) fn guard_no_more(&mut self) {
        if let Some(handle) = self.guard.as_mut().and_then(|guard| guard.handle.take()) {
            handle.let_go();
        }
    }
}

fn lost(why: &str) -> String {
    format!("{why}; tracing goes on, but if kptrace is killed now, breakpoints stay in the target")
}
