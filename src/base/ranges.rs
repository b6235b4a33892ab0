//! An ordered map of disjoint spans that never merges neighbours: two mappings side by side stay
//! two, a byte has at most one owner.

use std::collections::BTreeMap;

use super::{Addr, Span};

/// Disjoint spans, each with a value.
#[derive(Clone, Debug)]
pub struct Ranges<T> {
    by_start: BTreeMap<Addr, (Addr, T)>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Ranges {
            by_start: BTreeMap::new(),
        }
    }
}

impl<T> Ranges<T> {
    /// Adds a span. Fails, giving the value back, when a byte of it is taken or it is empty.
    pub fn insert(&mut self, span: Span, value: T) -> Result<(), T> {
        if span.is_empty() || self.overlapping(span).next().is_some() {
            return Err(value);
        }
        self.by_start.insert(span.start, (span.end, value));
        Ok(())
    }

    /// Removes the span that starts at `start`.
    pub fn remove(&mut self, start: Addr) -> Option<(Span, T)> {
        let (end, value) = self.by_start.remove(&start)?;
        Some((Span { start, end }, value))
    }

    /// The span that holds `addr`.
    pub fn containing(&self, addr: Addr) -> Option<(Span, &T)> {
        let (&start, (end, value)) = self.by_start.range(..=addr).next_back()?;
        let span = Span { start, end: *end };
        span.contains(addr).then_some((span, value))
    }

    /// Every span that shares a byte with `span`, in order.
    pub fn overlapping(&self, span: Span) -> impl Iterator<Item = (Span, &T)> {
        let first = self
            .containing(span.start)
            .map_or(span.start, |(s, _)| s.start);
        self.by_start
            .range(first..)
            .map(|(&start, (end, value))| (Span { start, end: *end }, value))
            .take_while(move |(s, _)| s.start < span.end)
            .filter(move |(s, _)| s.overlaps(span))
    }

    /// All spans in order.
    pub fn iter(&self) -> impl Iterator<Item = (Span, &T)> {
        self.by_start
            .iter()
            .map(|(&start, (end, value))| (Span { start, end: *end }, value))
    }

    /// How many spans there are.
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, end: u64) -> Span {
        Span {
            start: Addr(start),
            end: Addr(end),
        }
    }

    #[test]
    fn a_taken_byte_refuses_a_second_owner() {
        let mut ranges = Ranges::default();
        assert!(ranges.insert(span(10, 15), 'a').is_ok());
        assert!(ranges.insert(span(15, 20), 'b').is_ok());
        assert_eq!(ranges.insert(span(14, 16), 'c'), Err('c'));
        assert_eq!(ranges.insert(span(8, 11), 'd'), Err('d'));
        assert_eq!(ranges.len(), 2);
    }

    #[test]
    fn neighbours_stay_two_spans() {
        let mut ranges = Ranges::default();
        ranges.insert(span(10, 15), 1).unwrap();
        ranges.insert(span(15, 20), 1).unwrap();
        assert_eq!(
            ranges.containing(Addr(14)).map(|(s, _)| s),
            Some(span(10, 15))
        );
        assert_eq!(
            ranges.containing(Addr(15)).map(|(s, _)| s),
            Some(span(15, 20))
        );
        assert_eq!(ranges.overlapping(span(0, 100)).count(), 2);
        assert_eq!(ranges.remove(Addr(10)).map(|(s, _)| s), Some(span(10, 15)));
        assert!(ranges.containing(Addr(12)).is_none());
    }
}
