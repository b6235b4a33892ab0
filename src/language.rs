//! The probe language: bpftrace's dialect for user space, from text to a checked tree. Pure: knows
//! neither processes nor files nor machines; what debug information says comes through
//! [`debug::Debug`].
//!
//! Passes, a file or folder each: `token` (text to tokens), `parse` (tokens to the `tree`, going on
//! after errors), `macros` (expanded), `check` (names and types: the tree to the [`typed`] tree), and
//! [`lower`] (to the IR, with values as they [`layout`] in memory).
//! All errors of a text are reported together. [`compile()`] is the way in.

mod builtins;
mod check;
mod compile;
mod config;
pub mod debug;
mod dump;
pub mod layout;
pub mod lower;
mod macros;
mod parse;
mod points;
pub mod prototypes;
mod source;
mod structs;
mod token;
mod tree;
pub mod typed;

pub use compile::compile;
pub use source::{MAX_TEXT, Source, Warning};
