//! Which padding a springboard jumps through. Plain numbers; knows no bytes.
//!
//! Invariant: a hole lies in one gap, within reach of its site, and shares no byte with another
//! hole or with anything taken. The same input always gives the same holes.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::arch::native::scan::{JUMP, SHORT_JUMP};

const HOLE: u64 = JUMP as u64;
/// Padding behind a function that a window at its last instructions may run into: one byte of that
/// window at least is code.
const NEXT_TO_CODE: u64 = HOLE - 1;

/// Where the hole of a site may start: as far as a short jump there leads.
pub(super) fn reach(site: u64) -> Range<u64> {
    let from = site.saturating_add(SHORT_JUMP.into());
    from.saturating_sub(0x80)..from.saturating_add(0x80)
}

/// Gives each site a hole, as long as there are any: `None` for the others. `sites` ascend, and the
/// gaps of each of `kinds`, which are disjoint; of all kinds, the first is preferred. `taken` are
/// spans that somebody else needs, in any order; none is longer than a hole.
///
/// Sites are served in order, each from the lowest gap that has room; there from its end, away from
/// the code before it. Only those that are left over take padding next to code, which a probe inside
/// that code might want.
pub(super) fn assign(
    sites: &[u64],
    kinds: &[&[(u64, u64)]],
    taken: impl IntoIterator<Item = (u64, u64)>,
) -> Vec<Option<u64>> {
    let mut owned: BTreeMap<u64, u64> = BTreeMap::new();
    for (start, end) in taken {
        let known = owned.entry(start).or_insert(end);
        *known = end.max(*known);
    }
    let mut holes = vec![None; sites.len()];
    let rounds = kinds
        .iter()
        .flat_map(|gaps| [(gaps, NEXT_TO_CODE), (gaps, 0)]);
    for (gaps, spare) in rounds {
        for (site, hole) in sites.iter().zip(&mut holes) {
            if hole.is_some() {
                continue;
            }
            let reach = reach(*site);
            let first = gaps.partition_point(|gap| gap.1 <= reach.start);
            let near = gaps.get(first..).unwrap_or_default().iter();
            let mut near = near.take_while(|gap| gap.0 < reach.end);
            *hole = near.find_map(|&(start, end)| {
                let from = start.saturating_add(spare).max(reach.start);
                highest(from, end.min(reach.end - 1 + HOLE), &owned)
            });
            if let Some(hole) = *hole {
                owned.insert(hole, hole + HOLE);
            }
        }
    }
    holes
}

/// The highest start of a hole in `[from, to)` that shares no byte with what is owned: ends by
/// start, of spans that are no longer than a hole.
fn highest(from: u64, to: u64, owned: &BTreeMap<u64, u64>) -> Option<u64> {
    let mut at = to.checked_sub(HOLE)?;
    while at >= from {
        let near = owned.range(at.saturating_sub(HOLE)..at + HOLE);
        match near.rev().find(|&(_, &end)| at < end) {
            None => return Some(at),
            Some((start, _)) => at = start.checked_sub(HOLE)?,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hole_is_within_a_short_jump_and_not_a_byte_further() {
        let site = 0x1000;
        for (gap, hole) in [
            ((site - 126, site - 121), Some(site - 126)),
            ((site - 127, site - 122), None),
            ((site + 129, site + 134), Some(site + 129)),
            ((site + 130, site + 135), None),
            ((site + 100, site + 104), None),
        ] {
            assert_eq!(assign(&[site], &[&[gap]], []), [hole], "{gap:x?}");
        }
    }

    #[test]
    fn holes_stay_away_from_code_while_others_are_left() {
        let gaps = [(0x1005, 0x100a), (0x1014, 0x1020)];
        assert_eq!(assign(&[0x1000], &[&gaps], []), [Some(0x101b)]);
        let both = assign(&[0x1000, 0x1010, 0x1011], &[&gaps], []);
        assert_eq!(both, [Some(0x101b), Some(0x1005), Some(0x1016)]);
    }

    #[test]
    fn padding_inside_functions_is_for_those_that_are_left_over() {
        let (between, inside) = ([(0x1020, 0x102a)], [(0x1008, 0x100d)]);
        let sites = [0x1000, 0x1001, 0x1002, 0x1003];
        let holes = assign(&sites, &[&between, &inside], []);
        assert_eq!(holes, [Some(0x1025), Some(0x1020), Some(0x1008), None]);
    }

    #[test]
    fn a_window_that_runs_into_padding_keeps_its_bytes() {
        let gaps = [(0x1001, 0x1008)];
        assert_eq!(assign(&[0x1000], &[&gaps], [(0x1001, 0x1005)]), [None]);
        assert_eq!(
            assign(&[0x1000], &[&gaps], [(0x1001, 0x1003)]),
            [Some(0x1003)]
        );
    }

    proptest! {
        #[test]
        fn every_hole_has_one_owner_and_none_is_wasted(
            sites in prop::collection::btree_set(0x1000_u64..0x1400, 0..40),
            cuts in prop::collection::btree_set(0x0f00_u64..0x1500, 0..60),
            taken in prop::collection::vec((0x0f00_u64..0x1500, 1_u64..=4), 0..20),
        ) {
            let sites: Vec<u64> = sites.into_iter().collect();
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let gaps: Vec<(u64, u64)> = cuts.chunks_exact(2).map(|c| (c[0], c[1])).collect();
            let taken: Vec<(u64, u64)> = taken.into_iter().map(|(at, len)| (at, at + len)).collect();
            let holes = assign(&sites, &[&gaps], taken.iter().copied());
            prop_assert_eq!(&holes, &assign(&sites, &[&gaps], taken.iter().copied()));
            let mut owned = taken.clone();
            for (site, hole) in sites.iter().zip(&holes) {
                let Some(hole) = *hole else { continue };
                prop_assert!(reach(*site).contains(&hole));
                prop_assert!(gaps.iter().any(|g| g.0 <= hole && hole + 5 <= g.1));
                prop_assert!(owned.iter().all(|o| hole + 5 <= o.0 || o.1 <= hole));
                owned.push((hole, hole + 5));
            }
            // Who has none could have had none of what is left.
            for (site, _) in sites.iter().zip(&holes).filter(|(_, hole)| hole.is_none()) {
                for at in reach(*site) {
                    let inside = gaps.iter().any(|g| g.0 <= at && at + 5 <= g.1);
                    let free = owned.iter().all(|o| at + 5 <= o.0 || o.1 <= at);
                    prop_assert!(!(inside && free), "{at:#x} is free for {site:#x}");
                }
            }
        }
    }
}
