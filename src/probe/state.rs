//! What stands at a site, and how it changes: a pure function from (state, event) to (state,
//! action). Does not know neighbours, probes or time; the registry condenses these into a [`Want`].
//!
//! Invariant: from text to text a site moves only by the steps below, and between a step and its
//! report it takes no other. A lost site (foreign, gone) takes none.

use super::Refusal;
use crate::base::Addr;

/// What memory holds at a site, as last known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Text {
    /// The file's bytes.
    Original,
    /// int3 on the first byte, the file's bytes after it.
    Trap,
    /// A jump to the detour.
    Jump,
}

/// What is to be done at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// See [`Step::Unoptimise`].
    Unoptimise,
    /// See [`Step::DisarmJump`].
    DisarmJump,
    /// See [`Step::Disarm`].
    Disarm,
    /// See [`Step::Redirect`].
    Redirect,
    /// See [`Step::Arm`].
    Arm,
    /// See [`Step::ArmJump`].
    ArmJump,
    /// See [`Step::JumpOnly`].
    JumpOnly,
    /// See [`Step::Optimise`].
    Optimise,
}

/// One thing to be done to the target, at the site of this address. The detour that
/// `Registry::detour` describes must be complete before bytes point to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Jump to int3, which may enter another detour than the jump did.
    Unoptimise(Addr),
    /// Jump to the original bytes, through int3, in one go.
    DisarmJump(Addr),
    /// int3 to the original byte.
    Disarm(Addr),
    /// The site stays what it is, but is to enter a new detour: its probes changed, or its present
    /// detour runs past another site. At a trap this writes no text.
    Redirect(Addr),
    /// Original to int3.
    Arm(Addr),
    /// Original to int3 and, when quiescent, to a jump in the same stop. When it is not, or is
    /// refused, the int3 stays.
    ArmJump(Addr),
    /// As `ArmJump`, but no int3 may stay behind: a jump, or the original bytes again.
    JumpOnly(Addr),
    /// int3 to a jump; needs quiescence.
    Optimise(Addr),
}

impl Step {
    /// The address of its site.
    pub fn addr(self) -> Addr {
        match self {
            Step::Unoptimise(a)
            | Step::DisarmJump(a)
            | Step::Disarm(a)
            | Step::Redirect(a)
            | Step::Arm(a)
            | Step::ArmJump(a)
            | Step::JumpOnly(a)
            | Step::Optimise(a) => a,
        }
    }

    /// Whether it writes a jump, so that nobody may be inside the displaced range.
    pub fn needs_quiescence(self) -> bool {
        matches!(
            self,
            Step::ArmJump(_) | Step::JumpOnly(_) | Step::Optimise(_)
        )
    }
}

impl Kind {
    /// The step of this kind at `addr`.
    pub fn at(self, addr: Addr) -> Step {
        match self {
            Kind::Unoptimise => Step::Unoptimise(addr),
            Kind::DisarmJump => Step::DisarmJump(addr),
            Kind::Disarm => Step::Disarm(addr),
            Kind::Redirect => Step::Redirect(addr),
            Kind::Arm => Step::Arm(addr),
            Kind::ArmJump => Step::ArmJump(addr),
            Kind::JumpOnly => Step::JumpOnly(addr),
            Kind::Optimise => Step::Optimise(addr),
        }
    }

    /// What stands there when it is done.
    pub fn done(self, from: Text) -> Text {
        match self {
            Kind::DisarmJump | Kind::Disarm => Text::Original,
            Kind::Unoptimise | Kind::Arm => Text::Trap,
            Kind::ArmJump | Kind::JumpOnly | Kind::Optimise => Text::Jump,
            Kind::Redirect => from,
        }
    }

    /// What stands there when it was postponed or refused: what was there before, except that
    /// `ArmJump` has come as far as int3.
    pub fn fallen_short(self, from: Text) -> Text {
        match self {
            Kind::ArmJump => Text::Trap,
            _ => from,
        }
    }

    /// Whether it ends in a jump.
    pub fn makes_jump(self) -> bool {
        matches!(self, Kind::ArmJump | Kind::JumpOnly | Kind::Optimise)
    }
}

/// How a step went. Unless said otherwise, other outcomes than `Done` mean that the bytes are as
/// they were before the step (after `ArmJump`: int3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// A thread is, or may be, inside: to be tried again later.
    NotQuiescent,
    /// It cannot become a jump for this reason; for `Arm`, the same as `Unarmed`.
    Refused(Refusal),
    /// Nothing was written, after `ArmJump` neither: the site cannot be armed at all.
    Unarmed(Refusal),
    /// Memory is not what it should be; nothing was written.
    Foreign,
    /// There is no such memory any more.
    Gone,
}

/// The state of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// At rest.
    Still(Text),
    /// A step was given out and is not reported yet.
    Moving {
        /// What stood there before.
        from: Text,
        /// What is being done.
        kind: Kind,
    },
    /// Somebody else's bytes; never written. With the widest text that stood there before.
    Foreign(Text),
    /// No longer mapped.
    Gone,
}

impl State {
    /// The widest text that memory may hold now: a step under way owns both ends of its way.
    pub fn widest(self) -> Option<Text> {
        match self {
            State::Still(text) | State::Foreign(text) => Some(text),
            State::Moving { from, kind } => Some(from.max(kind.done(from))),
            State::Gone => None,
        }
    }
}

/// What the circumstances ask of a site, and what they allow now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// What it should be.
    pub goal: Text,
    /// Whether its first byte may be written: no other site owns it, no detour runs past it.
    pub head_clear: bool,
    /// Whether all bytes a jump displaces are free of others.
    pub jump_clear: bool,
    /// Whether it must enter another detour.
    pub stale: bool,
    /// Whether an int3 may stay.
    pub traps: bool,
    /// A kind of step that was postponed and is not due yet.
    pub held: Option<Kind>,
}

/// What happens to a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Make what can be made now of what is wanted.
    Pursue(Want),
    /// The step under way came out so.
    Report(Outcome),
    /// Seen from outside: its bytes are somebody else's.
    Foreign,
    /// Its mapping vanished.
    Gone,
    /// Bytes that were foreign are ours again, and this.
    Ours(Text),
}

/// What a transition asks of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give out this step.
    Perform(Kind),
    /// The step is done: it, and its neighbours, are to be looked at again.
    Settle(Kind),
    /// Try this kind again later.
    Postpone(Kind),
    /// Keep the reason why it does not jump.
    Refuse(Refusal),
    /// Keep the reason why it is not armed.
    Unarm(Refusal),
    /// Lost: neighbours are to be looked at again.
    Lose,
}

/// The transition function. Events that do not concern a state leave it as it is.
pub fn transition(state: State, event: Event) -> (State, Option<Action>) {
    match (state, event) {
        (State::Gone, _) => (State::Gone, None),
        (_, Event::Gone) => (State::Gone, Some(Action::Lose)),
        (State::Foreign(_), Event::Ours(text)) => (State::Still(text), Some(Action::Lose)),
        (State::Foreign(was), _) => (State::Foreign(was), None),
        (state, Event::Foreign) => {
            let was = state.widest().unwrap_or(Text::Original);
            (State::Foreign(was), Some(Action::Lose))
        }
        (State::Still(text), Event::Pursue(want)) => match pursue(text, want) {
            Some(kind) => (
                State::Moving { from: text, kind },
                Some(Action::Perform(kind)),
            ),
            None => (state, None),
        },
        (State::Moving { from, kind }, Event::Report(outcome)) => report(from, kind, outcome),
        (State::Still(_), Event::Report(_) | Event::Ours(_))
        | (State::Moving { .. }, Event::Pursue(_) | Event::Ours(_)) => (state, None),
    }
}

/// The next step from `text` towards the goal, if one may be taken now.
fn pursue(text: Text, want: Want) -> Option<Kind> {
    let allowed = |kind: Kind| (want.held != Some(kind)).then_some(kind);
    match (text, want.goal) {
        (Text::Original, Text::Original) => None,
        (Text::Original, Text::Jump) if want.jump_clear && want.head_clear => {
            allowed(if want.traps {
                Kind::ArmJump
            } else {
                Kind::JumpOnly
            })
        }
        // What blocks the jump is on its way out. Until then a breakpoint delivers the hits.
        (Text::Original, _) => (want.head_clear && want.traps)
            .then_some(Kind::Arm)
            .and_then(allowed),
        (Text::Trap, Text::Original) => allowed(Kind::Disarm),
        (Text::Trap, goal) => (goal == Text::Jump && want.jump_clear)
            .then_some(Kind::Optimise)
            .and_then(allowed)
            .or_else(|| want.stale.then_some(Kind::Redirect).and_then(allowed)),
        (Text::Jump, Text::Original) => allowed(Kind::DisarmJump),
        (Text::Jump, Text::Trap) => allowed(Kind::Unoptimise),
        (Text::Jump, Text::Jump) => want.stale.then_some(Kind::Redirect).and_then(allowed),
    }
}

fn report(from: Text, kind: Kind, outcome: Outcome) -> (State, Option<Action>) {
    let short = State::Still(kind.fallen_short(from));
    match outcome {
        Outcome::Done => (State::Still(kind.done(from)), Some(Action::Settle(kind))),
        // The int3 of `ArmJump` stands: what is left to do is `Optimise`.
        Outcome::NotQuiescent if kind == Kind::ArmJump => {
            (short, Some(Action::Postpone(Kind::Optimise)))
        }
        Outcome::NotQuiescent => (short, Some(Action::Postpone(kind))),
        Outcome::Refused(why) if kind.makes_jump() => (short, Some(Action::Refuse(why))),
        Outcome::Refused(why) | Outcome::Unarmed(why) if from == Text::Original => {
            (State::Still(from), Some(Action::Unarm(why)))
        }
        Outcome::Unarmed(why) if kind.makes_jump() => (short, Some(Action::Refuse(why))),
        // A step back, or to another detour, that cannot be: it must be tried again.
        Outcome::Refused(_) | Outcome::Unarmed(_) => (short, Some(Action::Postpone(kind))),
        Outcome::Foreign => {
            let was = from.max(kind.done(from));
            (State::Foreign(was), Some(Action::Lose))
        }
        Outcome::Gone => (State::Gone, Some(Action::Lose)),
    }
}
