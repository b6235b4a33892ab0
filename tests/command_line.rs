//! The command line as its users meet it, on programs that are always there and on targets of
//! our own. Needs a C compiler, no root.

mod support;

#[path = "command_line/counts.rs"]
mod counts;
