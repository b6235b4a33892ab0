//! The seam between machines: the same four names for every architecture. One of the two places
//! with `cfg(target_arch)`.

#[cfg(target_arch = "x86_64")]
pub mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64 as native;
