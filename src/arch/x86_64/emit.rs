//! `Program`s to machine code: what a detour does before its displaced instructions.
//!
//! A [`Template`] is assembled once for each combination of programs and put in place for every
//! site by copying and patching counter offsets, so arming 85,000 functions costs no assembling.
//! It has a *hot* part, which runs straight through and falls into the displaced instructions, and
//! a *cold* part elsewhere: the copy for threads without a block, full rings, faults.
//!
//! Rules every template keeps: the red zone is skipped before the first push; every register used
//! is saved; flags are saved by `lahf`/`seto` when live and never by `pushf`; no vector state but what
//! `run` brings back, no string instructions, no calls; nothing of the target's thread-local storage
//! is touched.

mod ask;
mod assembler;
mod body;
mod calls;
mod copy;
mod find;
mod known;
pub mod landing;
mod listing;
mod live;
mod map;
mod needs;
mod plan;
mod record;
mod registers;
mod run;
mod stack;
mod template;
pub mod thunk;
mod unset;
pub mod unwind;
mod value;
mod walk;
mod wide;

pub use listing::listing;
pub use template::{Called, Environment, Place, Section, Template, Unsupported};
