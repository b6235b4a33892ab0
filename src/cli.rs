//! The human: arguments, plan, exit codes.

pub mod args;
pub mod exit;
pub mod habits;
pub mod pages;
mod texts;
mod values;

use std::process::ExitCode;

/// Runs the command line.
pub fn main() -> ExitCode {
    ExitCode::from(125)
}
