//! IFUNC symbols: the implementation that the resolver chose, read where the loader put it.

use super::module::Module;
use crate::base::LinkAddr;

/// The entry that the indirect function at `resolver` stands for, if its slot can be found.
pub(super) fn implementation(
    modules: &[Module],
    module: usize,
    resolver: LinkAddr,
) -> Option<(usize, LinkAddr)> {
    let chosen = modules[module].chosen(resolver)?;
    let index = modules
        .iter()
        .position(|other| other.span.contains(chosen))?;
    Some((index, LinkAddr(chosen.0.wrapping_sub(modules[index].bias))))
}
