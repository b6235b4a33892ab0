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

/// A site that keeps this one from being a jump: one that should be armed, or is foreign.
pub fn blocker(sites: &Sites, site: &Site) -> Option<Addr> {
    neighbours(sites, site)
        .find(|other| other.live() || other.foreign())
        .map(Site::addr)
}

/// Whether the first byte of a site may become an int3: nobody else owns it, and no detour runs
/// past it, which would lose its hits.
pub fn head_clear(sites: &Sites, site: &Site) -> bool {
    let addr = site.addr();
    neighbours(sites, site)
        .filter(|other| other.claim().contains(addr))
        .all(|other| !other.owned().is_some_and(|owned| owned.contains(addr)) && !other.runs_past())
}

/// Whether every byte that a jump displaces is free of others.
pub fn jump_clear(sites: &Sites, site: &Site) -> bool {
    let claim = site.claim();
    neighbours(sites, site).all(|other| !other.owned().is_some_and(|owned| owned.overlaps(claim)))
}

/// Whether the detour of a site may hold all displaced instructions: no other site stands at one
/// of them, or should.
pub fn may_be_whole(sites: &Sites, site: &Site) -> bool {
    site.facts().window.is_ok()
        && neighbours(sites, site)
            .filter(|other| site.claim().interior(other.addr()))
            .all(|other| !other.live() && other.owned().is_none())
}
