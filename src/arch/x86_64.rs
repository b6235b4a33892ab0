//! x86-64: registers, scan, relocation, code. The only place that knows iced-x86.

pub mod emit;
pub mod regs;
pub mod relocate;
pub mod scan;
