//! Sums of the counters that detours keep in every block. Only blocks that were ever used are
//! read: touching the others would give them memory.

use crate::abi::{self, Fate, Layout};
use crate::base::ProbeId;
use crate::sys::shm::Shared;

fn sum(shared: &Shared, layout: &Layout, blocks: &[u32], offset: u32) -> u64 {
    let at = |&block: &u32| shared.load(layout.block(block) + u64::from(offset));
    blocks.iter().map(at).fold(0, u64::wrapping_add)
}

/// How often a probe was hit.
pub fn count(shared: &Shared, layout: &Layout, blocks: &[u32], probe: ProbeId) -> u64 {
    sum(shared, layout, blocks, layout.hits(probe))
}

/// How many hits of all probes together found the ring full.
pub fn all_losses(shared: &Shared, layout: &Layout, blocks: &[u32]) -> u64 {
    sum(shared, layout, blocks, abi::LOST)
}

/// How many of a probe's hits found the ring full.
pub fn ring_losses(shared: &Shared, layout: &Layout, blocks: &[u32], probe: ProbeId) -> u64 {
    sum(shared, layout, blocks, layout.lost(probe))
}

/// How many calls of a return probe's function fared so.
pub fn fates(
    shared: &Shared,
    layout: &Layout,
    blocks: &[u32],
    (fate, probe): (Fate, ProbeId),
) -> u64 {
    if layout.returns {
        sum(shared, layout, blocks, layout.fate(fate, probe))
    } else {
        0
    }
}
