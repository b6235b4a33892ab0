//! x86-64: registers, scan, relocation, code. The only place that knows iced-x86.

pub mod scan;
