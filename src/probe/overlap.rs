//! Who owns each text byte, and which sites are in each other's way. Derived from the sites
//! themselves at each question, so that there is no second table to keep in step.
//!
//! Two sites collide when what their jumps would displace or overwrite shares a byte: the higher
//! address lies strictly inside the lower site's range, or one lies in the padding that a springboard
//! jumps through (its hole), or both want the same padding. What counts for a collision is
//! whether the other site should be armed; what counts for writing is what memory may hold now.

use std::collections::BTreeMap;
use std::ops::Range;

use super::site::{HOLE, MAX_HOLE, MAX_REACH, Site};
use crate::base::{Addr, Span};

/// Sites by address.
pub type Sites = BTreeMap<Addr, Site>;

/// Addresses of sites that may claim a byte of `span`.
pub(super) fn near(span: Span) -> Range<Addr> {
    let before = u64::from(MAX_REACH.max(MAX_HOLE + HOLE));
    let behind = u64::from(MAX_HOLE);
    Addr(span.start.0.saturating_sub(before))..Addr(span.end.0.saturating_add(behind))
}

/// The sites whose claimed bytes share one with `span`, in order.
pub fn around(sites: &Sites, span: Span) -> impl Iterator<Item = &Site> {
    sites
        .range(near(span))
        .map(|(_, site)| site)
        .filter(move |site| site.claims(span))
}

/// The other sites that a site collides with.
pub fn neighbours<'a>(sites: &'a Sites, site: &Site) -> impl Iterator<Item = &'a Site> {
    let (addr, claim, hole) = (site.addr(), site.claim(), site.hole());
    let mut all = near(claim);
    if let Some(hole) = hole.map(near) {
        all = all.start.min(hole.start)..all.end.max(hole.end);
    }
    sites
        .range(all)
        .map(|(_, other)| other)
        .filter(move |other| {
            let collides = other.claims(claim) || hole.is_some_and(|hole| other.claims(hole));
            other.addr() != addr && collides
        })
}

/// The site that owns a byte: whose int3 or jump it is, will be, or was when it was lost.
pub fn owner(sites: &Sites, byte: Addr) -> Option<&Site> {
    let span = one(byte);
    around(sites, span).find(|site| site.owns(span))
}

fn one(byte: Addr) -> Span {
    Span {
        start: byte,
        end: Addr(byte.0.saturating_add(1)),
    }
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
    let (addr, claim, hole) = (site.addr(), site.claim(), site.hole());
    let mut found = Surroundings {
        blocker: None,
        head_clear: true,
        jump_clear: true,
        whole: site.facts().window.is_ok(),
    };
    for other in neighbours(sites, site) {
        let wanted = other.live();
        if found.blocker.is_none() && (wanted || other.foreign()) {
            found.blocker = Some(other.addr());
        }
        if other.claims(one(addr)) {
            // No detour runs past what stands in padding.
            let past = other.claim().contains(addr) && other.runs_past();
            found.head_clear &= !other.owns(one(addr)) && !past;
        }
        found.jump_clear &= !other.owns(claim) && !hole.is_some_and(|hole| other.owns(hole));
        if claim.interior(other.addr()) {
            found.whole &= !wanted && other.owned().is_none();
        }
    }
    found
}
