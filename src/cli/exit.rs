//! Exit codes. How `run` ends as its target ended (its status, or the same signal) is decided
//! where the target's end is seen.

use std::process::ExitCode;

/// How kptrace itself ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Success = 0,
    /// `attach`, `list` or `check` failed.
    Failure = 1,
    /// Bad options or a bad probe.
    Usage = 2,
    /// No probe matched anything.
    NoMatch = 3,
    /// `run` itself failed (as `env` and `timeout` say it).
    OwnFailure = 125,
    /// The command cannot be executed.
    NotExecutable = 126,
    /// The command was not found.
    NotFound = 127,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
