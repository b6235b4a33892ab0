//! The operating system: the only `unsafe`, the only raw libc. Thin and typed; decides nothing.
//!
//! Real-time signals pass through everything here, so waits and resumes are raw: nix decodes them
//! wrongly and has then consumed the stop.

pub mod apart;
pub mod canary;
pub mod clock;
pub mod errno;
pub mod file;
pub mod local;
pub mod mem;
pub mod native;
pub mod packets;
pub mod pagemap;
pub mod poll;
pub mod procfs;
pub mod ptrace;
pub mod regs;
pub mod shm;
pub mod sigframe;
pub mod spawn;
pub mod wait;
