//! Sites and their states. Pure: decides, never acts; no IO, no byte of the target is read or
//! written here, and time is a number passed in.
//!
//! The [`Registry`] knows what each address should be (original, int3, jump) and what it last was,
//! and gives the difference out in batches of [`Step`]s. The session carries them out and reports
//! an [`Outcome`] for each. What bytes mean, and whether a thread is inside them, is its business.
//!
//! # Invariants kept here
//!
//! * Every text byte has at most one owner: a trap owns its first byte, a jump the whole range it
//!   displaces, a springboard the padding it jumps through as well ([`overlap`]). A step that is under way owns what it had and what it will have.
//! * No step of a batch depends on another of the same batch: all of them may be carried out in
//!   any order, or in one stop, and any of them may fail.
//! * Bytes that are somebody else's, or no longer mapped, get no step.
//! * No hit is skipped: a site is armed only when no detour runs past it without hitting it.

pub mod overlap;
pub mod queue;
pub mod refusal;
pub mod registry;
pub mod site;
pub mod state;
pub mod throttle;
pub mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod switches;

pub use queue::Batch;
pub use refusal::Refusal;
pub use registry::{Policy, Registry, TrapPolicy};
pub use site::{Detour, Facts, Site, Status};
pub use state::{Outcome, Step, Text};
pub use throttle::{Limit, Throttle};
pub use view::Counts;
