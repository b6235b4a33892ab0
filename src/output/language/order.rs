//! In what order the entries of a map are shown. Knows nothing of text.
//!
//! bpftrace's rules: integers, `count`, `sum`, `min` and `max` ascend by value, `avg` and `stats` by
//! their average, histograms by how many values they hold, everything else by key. Equal ones
//! ascend by key here, so that the order is one.

use std::cmp::Ordering;

use super::value::average;
use crate::data::{Cell, Datum, MapData};

/// A key and what it holds.
pub(super) type Entry = (Vec<Datum>, Cell);

/// The entries in order; of more than `top`, the last, unless that is 0. `stats` are never cut.
pub(super) fn entries(map: &MapData, top: u64) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = map.entries.iter().collect();
    entries.sort_by(|a, b| rank(&a.1, &b.1).then_with(|| keys(&a.0, &b.0)));
    let top = usize::try_from(top).unwrap_or(usize::MAX);
    let stats = matches!(entries.first(), Some((_, Cell::Stats { .. })));
    if top > 0 && !stats {
        let cut = entries.len().saturating_sub(top);
        entries.drain(..cut);
    }
    entries
}

/// Two cells by what they hold.
fn rank(a: &Cell, b: &Cell) -> Ordering {
    match (a, b) {
        (Cell::Value(a) | Cell::Number(a), Cell::Value(b) | Cell::Number(b)) => integer(a)
            .zip(integer(b))
            .map_or(Ordering::Equal, |(a, b)| a.cmp(&b)),
        (
            Cell::Avg { count, total } | Cell::Stats { count, total },
            Cell::Avg { count: n, total: t } | Cell::Stats { count: n, total: t },
        ) => data(&average(total, *count), &average(t, *n)),
        (
            Cell::Hist { buckets, .. } | Cell::Lhist { buckets, .. },
            Cell::Hist { buckets: b, .. } | Cell::Lhist { buckets: b, .. },
        ) => held(buckets).cmp(&held(b)),
        _ => Ordering::Equal,
    }
}

fn integer(value: &Datum) -> Option<i128> {
    match value {
        Datum::Int(n) => Some(i128::from(*n)),
        Datum::Uint(n) => Some(i128::from(*n)),
        _ => None,
    }
}

fn held(buckets: &[u64]) -> u128 {
    buckets.iter().map(|n| u128::from(*n)).sum()
}

/// Two keys: their first parts, then the second, and so on.
fn keys(a: &[Datum], b: &[Datum]) -> Ordering {
    let parts = a.iter().zip(b).map(|(a, b)| data(a, b));
    let unequal = parts.into_iter().find(|order| order.is_ne());
    unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// Two values. Those of one map are of one kind; others are set apart only to have an order.
fn data(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Float(a), Datum::Float(b)) => a.total_cmp(b),
        (Datum::Tuple(a), Datum::Tuple(b)) => keys(a, b),
        (Datum::Stack(_, a), Datum::Stack(_, b)) => a.cmp(b),
        (Datum::Pointer(a), Datum::Pointer(b)) | (Datum::Fault(a), Datum::Fault(b)) => a.cmp(b),
        _ => match (integer(a), integer(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => (kind(a), bytes(a)).cmp(&(kind(b), bytes(b))),
        },
    }
}

fn bytes(value: &Datum) -> &[u8] {
    match value {
        Datum::Str(bytes) | Datum::Literal(bytes) | Datum::Buf(bytes) => bytes,
        Datum::Text(text) => text.as_bytes(),
        _ => &[],
    }
}

fn kind(value: &Datum) -> u8 {
    match value {
        Datum::Int(_) | Datum::Uint(_) => 0,
        Datum::Pointer(_) => 1,
        Datum::Float(_) => 2,
        Datum::Str(_) | Datum::Literal(_) | Datum::Buf(_) | Datum::Text(_) => 3,
        Datum::Tuple(_) | Datum::Record(_) | Datum::List(_) => 4,
        Datum::Stack(..) => 5,
        Datum::Fault(_) => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys in the order in which they are shown.
    fn order(entries: Vec<(Datum, Cell)>, top: u64) -> Vec<Datum> {
        let entries = entries.into_iter().map(|(key, cell)| (vec![key], cell));
        let map = MapData {
            name: "@".to_owned(),
            entries: entries.collect(),
        };
        let shown = super::entries(&map, top);
        shown.iter().map(|entry| entry.0[0].clone()).collect()
    }

    fn ints(keys: &[i64]) -> Vec<Datum> {
        keys.iter().map(|n| Datum::Int(*n)).collect()
    }

    #[test]
    fn integers_ascend_by_value_and_equal_ones_by_key() {
        let entries = |cell: fn(Datum) -> Cell| {
            [(1, 5), (-4, 2), (3, 2), (2, -7)]
                .map(|(key, n)| (Datum::Int(key), cell(Datum::Int(n))))
                .to_vec()
        };
        assert_eq!(order(entries(Cell::Value), 0), ints(&[2, -4, 3, 1]));
        assert_eq!(order(entries(Cell::Number), 2), ints(&[3, 1]));
        assert_eq!(order(entries(Cell::Number), 9), ints(&[2, -4, 3, 1]));
    }

    #[test]
    fn strings_and_tuples_ascend_by_key() {
        let text = |s: &str| Datum::Str(s.as_bytes().to_vec());
        let entries = [(2, "a"), (-1, "z"), (10, "b")]
            .map(|(key, s)| (Datum::Int(key), Cell::Value(text(s))));
        assert_eq!(order(entries.to_vec(), 0), ints(&[-1, 2, 10]));
        let pair = |n, s| Datum::Tuple(vec![Datum::Int(n), text(s)]);
        let entries =
            [pair(2, "b"), pair(10, "a"), pair(2, "a")].map(|key| (key, Cell::Value(text("x"))));
        assert_eq!(
            order(entries.to_vec(), 0),
            [pair(2, "a"), pair(2, "b"), pair(10, "a")]
        );
    }

    #[test]
    fn averages_and_histograms_ascend_and_stats_are_not_cut() {
        let avg = |count, total| Cell::Avg {
            count,
            total: Datum::Int(total),
        };
        let entries = vec![
            (Datum::Int(1), avg(2, 10)),
            (Datum::Int(2), avg(10, -20)),
            (Datum::Int(3), avg(0, 0)),
        ];
        assert_eq!(order(entries, 0), ints(&[2, 3, 1]));
        let stats = |total| Cell::Stats {
            count: 1,
            total: Datum::Int(total),
        };
        let entries = vec![(Datum::Int(1), stats(4)), (Datum::Int(2), stats(3))];
        assert_eq!(order(entries, 1), ints(&[2, 1]));
        let hist = |buckets: &[u64]| Cell::Hist {
            bits: 0,
            buckets: buckets.to_vec(),
        };
        let entries = vec![
            (Datum::Int(1), hist(&[0, u64::MAX, 3])),
            (Datum::Int(2), hist(&[2, 0, 0])),
        ];
        assert_eq!(order(entries, 0), ints(&[2, 1]));
    }
}
