//! What tests make values from: formats of `printf` as text, and what the functions of
//! `tests/language_reference/target.c` are called with.

use crate::base::histogram;
use crate::data::{Cell, Datum, MapData};
use crate::language::typed::{Conversion, Piece};
use crate::program::Width;

/// A conversion as C writes it, such as `%-5.2hd`. Good enough for tests.
pub(super) fn parsed(format: &str) -> Conversion {
    let flags_end = format[1..].find(|c| !"-0+ #".contains(c)).unwrap() + 1;
    let (flags, rest) = (&format[1..flags_end], &format[flags_end..]);
    let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap();
    let (width, rest) = rest.split_at(digits(rest));
    let (precision, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let (precision, rest) = rest.split_at(digits(rest));
            (Some(precision.parse().unwrap_or(0)), rest)
        }
        None => (None, rest),
    };
    let (size, kind) = rest.split_at(rest.len() - 1);
    Conversion {
        left: flags.contains('-'),
        zeros: flags.contains('0'),
        plus: flags.contains('+'),
        space: flags.contains(' '),
        alternate: flags.contains('#'),
        width: width.parse().ok(),
        precision,
        size: match size {
            "hh" => Width::W8,
            "h" => Width::W16,
            _ => Width::W64,
        },
        kind: kind.chars().next().unwrap(),
    }
}

/// A whole format.
pub(super) fn pieces(format: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            pieces.push(Piece::Text(rest[..at].to_owned()));
        }
        let end = rest[at + 1..].find(|c| "duxXocpsrf%".contains(c)).unwrap() + at + 2;
        pieces.push(match &rest[at..end] {
            "%%" => Piece::Text("%".to_owned()),
            conversion => Piece::Arg(parsed(conversion)),
        });
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    pieces
}

/// The values of `spread` in the target.
pub(super) const SPREAD: [i64; 13] = [0, 1, 2, 3, 7, 8, 1023, 1024, 1500, 1 << 20, 1 << 33, -1, -7];

/// The strings of `text` in the target, as far as the programs copy them.
pub(super) const TEXTS: [&[u8]; 7] = [
    b"plain",
    b"",
    b"",
    b"a string that is lon",
    b"plain",
    b"with \"quotes\"",
    b"two words",
];

pub(super) fn int(n: i64) -> Datum {
    Datum::Int(n)
}

pub(super) fn uint(n: u64) -> Datum {
    Datum::Uint(n)
}

pub(super) fn text(s: &str) -> Datum {
    Datum::Str(s.as_bytes().to_vec())
}

/// A map without keys.
pub(super) fn one(name: &str, cell: Cell) -> MapData {
    MapData {
        name: name.to_owned(),
        entries: vec![(Vec::new(), cell)],
    }
}

/// A map whose keys have one part.
pub(super) fn keyed(name: &str, entries: impl IntoIterator<Item = (Datum, Cell)>) -> MapData {
    let entries = entries.into_iter().map(|(key, cell)| (vec![key], cell));
    MapData {
        name: name.to_owned(),
        entries: entries.collect(),
    }
}

/// A map of four keys, those of `pair` in the target, in a wrong order.
pub(super) fn pairs(name: &str, cell: impl Fn(Vec<i64>) -> Cell) -> MapData {
    let values = |key: i64| (1..=key * key).map(|i| i * key).collect();
    keyed(name, [3, 1, 4, 2].map(|key| (int(key), cell(values(key)))))
}

/// All values of `pair` in the target.
pub(super) fn all_pairs() -> Vec<i64> {
    (1..=4_i64)
        .flat_map(|key| (1..=key * key).map(move |i| i * key))
        .collect()
}

pub(super) fn hist(bits: u8, values: impl IntoIterator<Item = i64>) -> Cell {
    let mut buckets = vec![0; histogram::buckets(bits)];
    for value in values {
        buckets[histogram::bucket(value, bits)] += 1;
    }
    Cell::Hist { bits, buckets }
}

pub(super) fn lhist(min: i64, max: i64, step: i64, values: impl IntoIterator<Item = i64>) -> Cell {
    let steps = (max - min) / step;
    let mut buckets = vec![0; usize::try_from(steps + 2).unwrap()];
    for value in values {
        let bucket = match value {
            value if value < min => 0,
            value if value >= max => steps + 1,
            value => 1 + (value - min) / step,
        };
        buckets[usize::try_from(bucket).unwrap()] += 1;
    }
    Cell::Lhist {
        min,
        max,
        step,
        buckets,
    }
}

pub(super) fn count(values: &[i64]) -> u64 {
    u64::try_from(values.len()).unwrap()
}

pub(super) fn sum(values: Vec<i64>) -> Cell {
    Cell::Number(int(values.iter().sum()))
}

pub(super) fn avg(values: Vec<i64>) -> Cell {
    let (count, total) = (count(&values), int(values.iter().sum()));
    Cell::Avg { count, total }
}

pub(super) fn stats(values: Vec<i64>) -> Cell {
    let (count, total) = (count(&values), int(values.iter().sum()));
    Cell::Stats { count, total }
}

pub(super) fn counted(n: u64) -> Cell {
    Cell::Number(uint(n))
}

pub(super) fn plain(value: Datum) -> Cell {
    Cell::Value(value)
}
