//! How a session ends.

use crate::data::{Sink, Summary};

/// How the target ended, or that it goes on without us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It ended by `exit` with this status.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// It goes on; we have let go of it.
    Detached,
}

/// What is left of a session.
pub struct Outcome {
    /// How the target ended; of several, that is noted in the summary.
    pub ended: Ended,
    /// The status that a program of the language gave to `exit`.
    pub exit: Option<u8>,
    /// What was seen.
    pub summary: Summary,
    /// The sink, for the summary; `None` if its thread died.
    pub sink: Option<Box<dyn Sink>>,
    /// Why output stopped early.
    pub output_error: Option<std::io::Error>,
}
