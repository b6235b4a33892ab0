//! Who owns each text byte, and which sites are in each other's way. Derived from the sites
//! themselves at each question, so that there is no second table to keep in step.
//!
//! Two sites collide when the ranges their jumps would displace share a byte, which means that the
//! higher address lies strictly inside the lower site's range. What counts for a collision is
//! whether the other site should be armed; what counts for writing is what memory may hold now.

use std::collections::BTreeMap;

use super::site::{MAX_REACH, Site};
use crate::base::{Addr, Span};

/// Sites by address.
pub type Sites = BTreeMap<Addr, Site>;

/// The sites whose claimed bytes share one with `span`, in order.
pub fn around(sites: &Sites, span: Span) -> impl Iterator<Item = &Site> {
    let first = Addr(span.start.0.saturating_sub(u64::from(MAX_REACH)));
    sites
        .range(first..span.end.max(first))
        .map(|(_, site)| site)
        .filter(move |site| site.claim().overlaps(span))
}

/// The other sites that a site collides with.
pub fn neighbours<'a>(sites: &'a Sites, site: &Site) -> impl Iterator<Item = &'a Site> {
    let addr = site.addr();
    around(sites, site.claim()).filter(move |other| other.addr() != addr)
}

/// The site that owns a byte: whose int3 or jump it is, will be, or was when it was lost.
pub fn owner(sites: &Sites, byte: Addr) -> Option<&Site> {
    let span = Span {
        start: byte,
        end: Addr(byte.0.saturating_add(1)),
    };
    around(sites, span).find(|site| site.owned().is_some_and(|owned| owned.contains(byte)))
}

/// What the other sites leave to one: the answers of one look around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// A site that keeps this one from being a jump: one that should be armed, or is foreign.
    pub blocker: Option<Addr>,
    /// Whether its first byte may become an int3: nobody else owns it, and no detour runs past it,
    /// which would lose its hits.
    pub head_clear: bool,
    /// Whether every byte that a jump displaces is free of others.
    pub jump_clear: bool,
    /// Whether its detour may hold all displaced instructions: no other site stands at one of
    /// them, or should.
    pub whole: bool,
}

/// Looks at the sites around one.
pub fn surroundings(sites: &Sites, site: &Site) -> Surroundings {
    let (addr, claim) = (site.addr(), site.claim());
    let mut found = Surroundings {
        blocker: None,
        head_clear: true,
        jump_clear: true,
        whole: site.facts().window.is_ok(),
    };
    for other in neighbours(sites, site) {
        let owned = other.owned();
        let wanted = other.live();
        if found.blocker.is_none() && (wanted || other.foreign()) {
            found.blocker = Some(other.addr());
        }
        if other.claim().contains(addr) {
            found.head_clear &= !owned.is_some_and(|o| o.contains(addr)) && !other.runs_past();
        }
        found.jump_clear &= !owned.is_some_and(|o| o.overlaps(claim));
        if claim.interior(other.addr()) {
            found.whole &= !wanted && owned.is_none();
        }
    }
    found
}
