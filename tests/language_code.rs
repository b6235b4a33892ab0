//! The code that probe programs are compiled to, run in this process: against an evaluator, by many
//! threads at once, with signal handlers in the middle.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed step of a test is a failed test"
)]

#[path = "language_code/churn.rs"]
mod churn;
#[path = "language_code/concurrent.rs"]
mod concurrent;
#[path = "language_code/differential.rs"]
mod differential;
#[path = "language_code/edges.rs"]
mod edges;
#[path = "language_code/evaluator.rs"]
mod evaluator;
#[path = "language_code/native.rs"]
mod native;
#[path = "language_code/random.rs"]
mod random;
#[path = "language_code/single.rs"]
mod single;
#[path = "language_code/speed.rs"]
mod speed;
mod support;
