//! kptrace: kprobes for user space, without root and without a kernel module.
//!
//! An external tracer. It starts or attaches to a process with `ptrace(2)`, arms probes at
//! functions by writing breakpoints, and upgrades each breakpoint to a 5-byte jump into a
//! generated *detour* in the target. The detour counts and records into memory the tracer
//! shares, in a few nanoseconds; on detach every byte is as it was.
//!
//! # The one idea
//!
//! A breakpoint is a slow way into the same detour. For every site the detour is complete before
//! the first byte is patched. A jump enters it directly; an int3 hit enters it by the tracer
//! setting the instruction pointer to it and resuming: one stop, no single step, no byte removal,
//! one implementation of what a probe means.
//!
//! # Invariants
//!
//! 1. Memory at a site always equals what its state says, or we do not write. (`session::write`)
//! 2. The detour is complete before the first byte at the site points to it. (`session::patch`)
//! 3. Every text byte has at most one owner. (`probe::overlap`)
//! 4. No known branch target, function start or return address lies strictly inside a displaced
//!    range. (`analysis`, `arch::x86_64::scan`)
//! 5. At every instant the text is one of: original; int3 + original tail; int3 + new tail; full
//!    jump. (`session::write`)
//! 6. No detour address is ever a return address. (`arch::x86_64::relocate`)
//! 7. Detour memory is freed only when no register, signal frame or stack word points into it.
//!    (`session::detach`)
//! 8. Every hit is either delivered or counted as missed, with its cause. (`arch::x86_64::emit`,
//!    `data::ring`)
//! 9. What the target can observe is unchanged, but for the few documented exceptions.
//!
//! # Glossary
//!
//! * **probe**: what the user asked for at one place: a name, arguments, a [`program::Program`].
//! * **site**: one address in the target's text, with the probes that share it.
//! * **entry**: the first instruction of a function.
//! * **window**: the five bytes a jump needs. **displaced instructions**: the whole instructions
//!   that cover it; their bytes are the displaced range; its **interior** is all but its first byte.
//! * **detour**: the generated code of a site: handlers, displaced instructions, jump back.
//! * **hit**: control arrived at a site. **missed**: a hit that was counted but not delivered.
//! * **block**: the shared memory of one thread: owner, ring, counters.
//! * **ring**: where detours leave records for the tracer.
//!
//! # Map
//!
//! A pure middle ([`spec`], [`language`], [`program`], [`arch`], [`probe`], [`analysis`]) between two shells: the
//! OS ([`sys`], [`target`], [`guardian`]) and the human ([`cli`], [`output`]). Imports go one way; a test
//! (`tests/layering.rs`) enforces the table.

pub mod abi;
pub mod analysis;
pub mod arch;
pub mod base;
pub mod cli;
pub mod data;
pub mod guardian;
pub mod language;
pub mod output;
pub mod probe;
pub mod program;
pub mod session;
pub mod spec;
pub mod symbols;
#[expect(
    unsafe_code,
    reason = "the operating system's interface lives here and nowhere else"
)]
pub mod sys;
pub mod target;
