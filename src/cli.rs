//! The human: arguments, plan, exit codes.

use std::process::ExitCode;

/// Runs the command line.
pub fn main() -> ExitCode {
    ExitCode::from(125)
}
