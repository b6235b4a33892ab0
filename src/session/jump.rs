//! The bytes of a jump: five at the site, or a springboard's two there and five in the padding (the
//! hole) that they lead to. Writes nothing.

use super::ground::Hole;
use crate::arch::native::relocate;
use crate::base::{Addr, Span};

/// A jump to a detour, as it stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    head: [u8; 5],
    len: u8,
    hole: Option<(Addr, [u8; 5])>,
}

impl Jump {
    /// The jump of a site to `detour`; `None` beyond its reach.
    pub(super) fn to(site: Addr, hole: Option<&Hole>, detour: Addr) -> Option<Jump> {
        let Some(hole) = hole else {
            let head = relocate::jump(site.0, detour.0)?;
            return Some(Jump {
                head,
                len: 5,
                hole: None,
            });
        };
        let [opcode, distance] = relocate::short_jump(site.0, hole.at.0)?;
        Some(Jump {
            head: [opcode, distance, 0, 0, 0],
            len: 2,
            hole: Some((hole.at, relocate::jump(hole.at.0, detour.0)?)),
        })
    }

    /// What stands at the site.
    pub(super) fn head(&self) -> &[u8] {
        self.head.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// What stands in the hole, and where that is.
    pub(super) fn hole(&self) -> Option<(Addr, &[u8])> {
        self.hole.as_ref().map(|(at, bytes)| (*at, &bytes[..]))
    }
}

/// The bytes of a hole.
pub(super) fn span(at: Addr) -> Span {
    Span {
        start: at,
        end: at + 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_springboard_leads_through_its_hole_to_the_detour() {
        let hole = |at| Hole {
            at: Addr(at),
            original: [0x90; 5],
        };
        let jump = Jump::to(Addr(0x1000), Some(&hole(0x1020)), Addr(0x2000)).unwrap();
        assert_eq!(jump.head(), [0xeb, 0x1e]);
        let (at, bytes) = jump.hole().unwrap();
        assert_eq!((at, bytes), (Addr(0x1020), &[0xe9, 0xdb, 0x0f, 0, 0][..]));
        assert!(Jump::to(Addr(0x1000), Some(&hole(0x1082)), Addr(0x2000)).is_none());
        assert!(Jump::to(Addr(0x1000), Some(&hole(0xf82)), Addr(0x2000)).is_some());
    }
}
