//! Address kinds are types: an address in the running target and an address in an ELF file never
//! mix without the load bias being named.

use std::fmt;
use std::ops::{Add, Sub};

/// A run-time (virtual) address in the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(pub u64);

/// A link-time address: a `p_vaddr`-space address of one ELF file, before the load bias.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct LinkAddr(pub u64);

impl Addr {
    /// Signed distance `self - other`, in bytes.
    pub fn distance(self, other: Addr) -> i64 {
        self.0.wrapping_sub(other.0).cast_signed()
    }
}

impl LinkAddr {
    /// The run-time address of this link-time address under a load bias (which may wrap).
    pub fn at(self, bias: u64) -> Addr {
        Addr(self.0.wrapping_add(bias))
    }
}

impl Add<u64> for Addr {
    type Output = Addr;
    fn add(self, n: u64) -> Addr {
        Addr(self.0.wrapping_add(n))
    }
}

impl Sub<u64> for Addr {
    type Output = Addr;
    fn sub(self, n: u64) -> Addr {
        Addr(self.0.wrapping_sub(n))
    }
}

impl Add<u64> for LinkAddr {
    type Output = LinkAddr;
    fn add(self, n: u64) -> LinkAddr {
        LinkAddr(self.0.wrapping_add(n))
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for LinkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A half-open range of target addresses, `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// First address inside.
    pub start: Addr,
    /// First address past the end.
    pub end: Addr,
}

impl Span {
    /// The span of `len` bytes from `start`.
    pub fn new(start: Addr, len: u64) -> Span {
        Span {
            start,
            end: start + len,
        }
    }
    /// Length in bytes.
    pub fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
    /// Whether nothing is inside.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }
    /// Whether `addr` is inside.
    pub fn contains(self, addr: Addr) -> bool {
        self.start <= addr && addr < self.end
    }
    /// Whether `addr` is strictly inside: not the first byte. Where no thread may stand while the
    /// bytes change, and where no branch may lead.
    pub fn interior(self, addr: Addr) -> bool {
        self.start < addr && addr < self.end
    }
    /// Whether the two spans share a byte.
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_of_a_span_is_not_interior() {
        let span = Span::new(Addr(0x10), 5);
        assert!(span.contains(Addr(0x10)) && !span.interior(Addr(0x10)));
        assert!(span.interior(Addr(0x14)) && !span.interior(Addr(0x15)));
    }

    #[test]
    fn neighbours_do_not_overlap() {
        assert!(!Span::new(Addr(0), 5).overlaps(Span::new(Addr(5), 5)));
        assert!(Span::new(Addr(0), 6).overlaps(Span::new(Addr(5), 5)));
    }
}
