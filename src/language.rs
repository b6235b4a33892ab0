//! The probe language: bpftrace's dialect for user space, from text to a checked tree. Pure: knows
//! neither processes nor files nor machines; what debug information says comes through
//! [`debug::Debug`].
//!
//! Passes, a file or folder each: `token` (text to tokens), `parse` (tokens to the `tree`, going on
//! after errors), `macros` (expanded), `check` (names and types: the tree to the [`typed`] tree).
//! All errors of a text are reported together.

pub mod debug;
pub mod layout;
pub mod lower;
pub mod typed;
