//! One address with the probes that share it. Does not know its neighbours.
//!
//! Invariant: `enabled` and `stops` are the numbers of its probes that are enabled, and of those that
//! need a stop; `revision` grows whenever what its detour must do changes.

use super::Refusal;
use super::queue::Held;
use super::state::{State, Text};
use crate::base::{Addr, ProbeId, Span};

/// No site concerns more bytes than this. A displaced range is at most 4 + 15 bytes on x86-64.
pub const MAX_REACH: u8 = 32;
/// A hole starts at most so far from its site, before or behind it: a short jump leads no further.
pub const MAX_HOLE: u8 = 130;
/// Bytes of a hole: those of a jump.
pub const HOLE: u8 = 5;

/// What is known of an address before it becomes a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Length of the displaced instructions in bytes, or why a jump cannot stand here. With
    /// padding behind a short function it may be less than `patched`.
    pub window: Result<u8, Refusal>,
    /// Bytes that a jump overwrites.
    pub patched: u8,
    /// Where the padding starts, from the site on, that a springboard jumps through: the site's
    /// too while the jump stands.
    pub hole: Option<i16>,
    /// Why not even a breakpoint can stand here.
    pub trap: Result<(), Refusal>,
}

impl Facts {
    /// A site where a 5-byte jump displaces `displaced` bytes of instructions.
    pub fn jump(displaced: u8) -> Facts {
        Facts {
            window: Ok(displaced),
            patched: 5,
            hole: None,
            trap: Ok(()),
        }
    }

    /// A site where a 2-byte jump displaces `displaced` bytes of instructions, and leads to a jump
    /// in the padding at `hole`.
    pub fn springboard(displaced: u8, hole: i16) -> Facts {
        Facts {
            window: Ok(displaced),
            patched: 2,
            hole: Some(hole),
            trap: Ok(()),
        }
    }

    /// A site that can only be a breakpoint.
    pub fn trap_only(why: Refusal) -> Facts {
        Facts {
            window: Err(why),
            patched: 5,
            hole: None,
            trap: Ok(()),
        }
    }

    /// With lengths that cannot be refused as a window. They come from the analysis of a file.
    pub(super) fn checked(mut self) -> Facts {
        let sound = |n: u8| (1..=MAX_REACH).contains(&n);
        if matches!(self.window, Ok(n) if !sound(n) || !sound(self.patched)) {
            self.window = Err(Refusal::Window("displaced range out of bounds".into()));
        }
        let apart = |hole: i16| {
            hole.unsigned_abs() <= MAX_HOLE.into()
                && (hole <= -i16::from(HOLE) || hole >= self.patched.into())
        };
        if self.hole.is_some_and(|hole| !apart(hole)) {
            self.window = Err(Refusal::Window("padding out of reach".into()));
            self.hole = None;
        }
        self
    }

    /// The bytes at the site that a jump concerns: displaced or overwritten. What a short jump
    /// displaces without overwriting it nobody can tell from what it was.
    pub(super) fn reach(&self) -> u8 {
        let displaced = |n: u8| match self.hole {
            Some(_) => self.patched,
            None => n.max(self.patched),
        };
        self.window.as_ref().map_or(1, |&n| displaced(n))
    }
}

/// What the detour of a site must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    /// The probes it serves, in order: those that are enabled.
    pub probes: Vec<ProbeId>,
    /// Whether it holds all displaced instructions. If not, only the first: another site stands
    /// at one of the others, and control must come past it.
    pub whole: bool,
}

/// The detour that was last built, or is being built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Built {
    pub(super) revision: u32,
    pub(super) whole: bool,
}

/// State of a probe as users see it; the names are those of every output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Wanted, and not armed yet.
    Pending,
    /// A breakpoint.
    Trap,
    /// A breakpoint that waits to become a jump.
    Queued,
    /// A jump.
    Jump,
    /// Switched off.
    Disabled,
    /// Its mapping went away.
    Gone,
    /// Its bytes are somebody else's.
    Foreign,
    /// Not armed, for the reason beside it.
    Refused,
}

impl Status {
    /// The word in every output.
    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Trap => "trap",
            Status::Queued => "queued",
            Status::Jump => "jump",
            Status::Disabled => "disabled",
            Status::Gone => "gone",
            Status::Foreign => "foreign",
            Status::Refused => "refused",
        }
    }
}

/// One address and what the registry knows of it.
#[derive(Clone, Debug)]
pub struct Site {
    pub(super) addr: Addr,
    pub(super) facts: Facts,
    pub(super) probes: Vec<ProbeId>,
    pub(super) enabled: u32,
    pub(super) stops: u32,
    /// How many of its probes are our own.
    pub(super) own: u32,
    pub(super) state: State,
    /// Why it did not become a jump when that was tried.
    pub(super) refusal: Option<Refusal>,
    /// Why it could not be armed when that was tried.
    pub(super) unarmed: Option<Refusal>,
    pub(super) hot: bool,
    pub(super) held: Option<Held>,
    pub(super) revision: u32,
    pub(super) built: Built,
    pub(super) building: Built,
    /// Whether it stands in the queue to be looked at.
    pub(super) dirty: bool,
}

impl Site {
    pub(super) fn new(addr: Addr, facts: Facts) -> Site {
        Site {
            addr,
            facts,
            probes: Vec::new(),
            enabled: 0,
            stops: 0,
            own: 0,
            state: State::Still(Text::Original),
            refusal: None,
            unarmed: None,
            hot: false,
            held: None,
            revision: 0,
            built: Built::default(),
            building: Built::default(),
            dirty: false,
        }
    }

    /// Takes in one more probe.
    pub(super) fn join(&mut self, id: ProbeId, enabled: bool, (needs_stop, own): (bool, bool)) {
        self.probes.push(id);
        self.enabled += u32::from(enabled);
        self.stops += u32::from(needs_stop && enabled);
        self.own += u32::from(own);
        self.hot = false;
        self.revision = self.revision.wrapping_add(1);
    }

    /// Its address, which is its identity.
    pub fn addr(&self) -> Addr {
        self.addr
    }
    /// What was known of the address when it became a site.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
    /// Its probes, oldest first. None: the site is being removed, or is foreign.
    pub fn probes(&self) -> &[ProbeId] {
        &self.probes
    }
    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }
    /// What memory holds there as last reported; `None` where it is not ours.
    pub fn text(&self) -> Option<Text> {
        match self.state {
            State::Still(text) | State::Moving { from: text, .. } => Some(text),
            State::Foreign(_) | State::Gone => None,
        }
    }

    /// The bytes at its address that it would displace as a jump; of a trap-only site, its first.
    pub fn claim(&self) -> Span {
        span(self.addr, self.facts.reach())
    }

    /// The padding it would jump through.
    pub fn hole(&self) -> Option<Span> {
        let hole = self.facts.hole?;
        let start = self.addr.0.wrapping_add_signed(hole.into());
        Some(span(Addr(start), HOLE))
    }

    /// Whether it would displace or overwrite a byte of `span`.
    pub fn claims(&self, span: Span) -> bool {
        self.claim().overlaps(span) || self.hole().is_some_and(|hole| hole.overlaps(span))
    }

    /// Whether it owns a byte of `span` now, or did before that became foreign.
    pub fn owns(&self, span: Span) -> bool {
        let jump = self.state.widest() == Some(Text::Jump);
        let hole = self.hole().filter(|_| jump);
        self.owned().is_some_and(|owned| owned.overlaps(span))
            || hole.is_some_and(|hole| hole.overlaps(span))
    }

    /// The bytes at its address that it owns now, or did before they became foreign.
    pub fn owned(&self) -> Option<Span> {
        match self.state.widest()? {
            Text::Jump => Some(self.claim()),
            Text::Trap => Some(span(self.addr, 1)),
            // Foreign bytes were seen at its head, whatever stood there.
            Text::Original => matches!(self.state, State::Foreign(_)).then(|| span(self.addr, 1)),
        }
    }

    /// Whether its bytes are somebody else's.
    pub fn foreign(&self) -> bool {
        matches!(self.state, State::Foreign(_))
    }

    /// Whether it should be armed, as far as it alone is concerned.
    pub(super) fn live(&self) -> bool {
        self.enabled > 0 && !self.hot && self.unarmed.is_none() && !self.foreign()
    }

    /// Whether threads may run a detour of this site that holds all displaced instructions.
    pub(super) fn runs_past(&self) -> bool {
        if self.facts.window.is_err() {
            return false;
        }
        match self.state {
            State::Still(Text::Original) | State::Foreign(_) | State::Gone => false,
            State::Still(_) => self.built.whole,
            State::Moving { from, .. } => {
                self.building.whole || (from != Text::Original && self.built.whole)
            }
        }
    }
}

fn span(addr: Addr, len: u8) -> Span {
    Span {
        start: addr,
        end: Addr(addr.0.saturating_add(len.into())),
    }
}
