//! What outlives the tracer: a process that puts breakpoints back when the tracer is gone without
//! having done so, and counts down semaphores, and the journal that tells it where they are. Jumps stay: they need nobody, and
//! pass straight through once the alive word is 0.
//!
//! The tracer has a [`Guardian`] and, for each process that it changes, a [`Handle`]; descriptors of
//! the process's memory and of its journal are passed to the guardian when it becomes a target, so
//! targets may come at any time. The guardian does nothing while the tracer lives, and holds nothing
//! of the caller's: no pipe, no terminal, no directory.
//!
//! Invariant: a site is in the journal before a breakpoint is written there, and until the first
//! byte is final.
//!
//! Knows neither probes nor programs.

mod handle;
mod orphan;
mod packet;
mod record;

pub use handle::{Guardian, Handle, Target};
pub use record::Site;
