//! Something for a compiler to do: generics, closures, collections and formatting.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// How often each word occurs.
pub struct Words<'a>(BTreeMap<&'a str, usize>);

impl<'a> Words<'a> {
    /// Counts the words of a text.
    pub fn of(text: &'a str) -> Words<'a> {
        let mut counts = BTreeMap::new();
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            *counts.entry(word).or_insert(0) += 1;
        }
        Words(counts)
    }

    /// The most frequent first.
    pub fn ranked(&self) -> Vec<(&'a str, usize)> {
        let mut all: Vec<_> = self.0.iter().map(|(word, count)| (*word, *count)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all
    }
}

impl Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, count) in self.ranked() {
            writeln!(f, "{count:>6} {word}")?;
        }
        Ok(())
    }
}
