//! Address to name, for messages. Knows no run-time addresses.

use super::entries::{Entry, Symbols};
use crate::base::LinkAddr;

impl Symbols {
    /// The function or cold part that holds `at`, and how far inside. One of unknown size reaches
    /// to the next; past the end of a known size there is no name.
    pub fn lookup(&self, at: LinkAddr) -> Option<(&str, u64)> {
        [&self.entries, &self.fragments]
            .into_iter()
            .filter_map(|list| before(list, at))
            .max_by_key(|e| e.at)
            .filter(|e| e.size == 0 || at.0.saturating_sub(e.at.0) < e.size)
            .map(|e| (self.name(e), at.0.saturating_sub(e.at.0)))
    }
}

/// The last of a sorted list that starts at or before `at`.
fn before(list: &[Entry], at: LinkAddr) -> Option<&Entry> {
    list.get(list.partition_point(|e| e.at <= at).checked_sub(1)?)
}
