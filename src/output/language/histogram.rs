//! Rows of `hist` and `lhist`: empty buckets cut off at both ends, kept between. Knows neither maps
//! nor keys.

use super::super::number;
use crate::base::histogram;
use crate::data::Cell;

/// Columns of a bar.
const BAR: usize = 52;
/// Columns of a label; a longer one pushes the count to the right.
const LABEL: usize = 16;
/// Columns of a count.
const COUNT: usize = 8;

/// Where a bucket begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// The number.
    pub(super) at: i128,
    /// How many times 1,024 is taken out of it when it is shown.
    thousands: u8,
}

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its first value; `None` where it has no lower end.
    pub(super) from: Option<Edge>,
    /// The first value after it; `None` where it has no upper end.
    pub(super) to: Option<Edge>,
    /// How many values are in it.
    pub(super) count: u64,
}

/// The rows of a histogram, counts of `hist` divided; none of another cell.
pub(super) fn rows(cell: &Cell, div: u64) -> Vec<Row> {
    match cell {
        Cell::Hist { bits, buckets } => shown(buckets, |index, count| Row {
            from: (index > 0).then(|| log_edge(index, *bits)),
            to: Some(log_edge(index + 1, *bits)),
            count: count / div.max(1),
        }),
        Cell::Lhist {
            min,
            max,
            step,
            buckets,
        } => shown(buckets, |index, count| {
            let at = |index: usize| i128::from(*min) + index as i128 * i128::from(*step);
            let edge = |at| linear_edge(at, *step);
            Row {
                from: index.checked_sub(1).map(|before| edge(at(before))),
                to: Some(at(index))
                    .filter(|to| *to <= i128::from(*max))
                    .map(edge),
                count,
            }
        }),
        _ => Vec::new(),
    }
}

/// A row for each bucket from the first that is not empty to the last.
fn shown(buckets: &[u64], row: impl Fn(usize, u64) -> Row) -> Vec<Row> {
    let first = buckets.iter().position(|n| *n > 0).unwrap_or(buckets.len());
    let last = buckets.iter().rposition(|n| *n > 0).map_or(0, |at| at + 1);
    let numbered = buckets.iter().enumerate().take(last).skip(first);
    numbered.map(|(index, n)| row(index, *n)).collect()
}

/// Where a bucket of `hist` begins. The unit follows the power of two, not the number: with bits
/// there is `[960, 1024)`.
fn log_edge(bucket: usize, bits: u8) -> Edge {
    let bits = bits.min(histogram::MAX_BITS);
    let power = (bucket.saturating_sub(1) >> bits).saturating_sub(1);
    Edge {
        at: i128::from(histogram::start(bucket, bits)),
        thousands: u8::try_from(power / 10).unwrap_or(u8::MAX),
    }
}

/// Where a bucket of `lhist` begins: with a unit only when all of its map can have one.
fn linear_edge(at: i128, step: i64) -> Edge {
    const KILO: i128 = 1 << 10;
    const MEGA: i128 = 1 << 20;
    let thousands = match at {
        0 => 0,
        _ if i128::from(step) % KILO != 0 => 0,
        at if at % MEGA == 0 => 2,
        at if at % KILO == 0 => 1,
        _ => 0,
    };
    Edge { at, thousands }
}

/// Appends the rows as text, one a line.
pub(super) fn text(out: &mut Vec<u8>, rows: &[Row]) {
    let most = rows.iter().map(|row| row.count).fold(0, u64::max);
    for row in rows {
        let start = out.len();
        label(out, row);
        pad(out, LABEL.saturating_sub(out.len() - start));
        let mut count = Vec::new();
        number::decimal(&mut count, row.count);
        pad(out, COUNT.saturating_sub(count.len()));
        out.extend_from_slice(&count);
        out.extend_from_slice(b" |");
        let bar = bar(row.count, most);
        out.resize(out.len() + bar, b'@');
        pad(out, BAR - bar);
        out.extend_from_slice(b"|\n");
    }
}

fn pad(out: &mut Vec<u8>, columns: usize) {
    out.resize(out.len() + columns, b' ');
}

/// Length of a bar. In single precision, as bpftrace computes it: the rounding shows.
fn bar(count: u64, most: u64) -> usize {
    if most == 0 {
        return 0;
    }
    ((count as f32 / most as f32 * BAR as f32) as usize).min(BAR)
}

/// `(..., 0)`, `[1]`, `[2, 4)`, `[512, 1K)`, `[100, ...)`.
fn label(out: &mut Vec<u8>, row: &Row) {
    match (row.from, row.to) {
        (Some(from), Some(to)) if to.at == from.at + 1 => {
            out.push(b'[');
            edge(out, from);
            out.push(b']');
            return;
        }
        (Some(from), _) => {
            out.push(b'[');
            edge(out, from);
        }
        (None, _) => out.extend_from_slice(b"(..."),
    }
    out.extend_from_slice(b", ");
    match row.to {
        Some(to) => edge(out, to),
        None => out.extend_from_slice(b"..."),
    }
    out.push(b')');
}

fn edge(out: &mut Vec<u8>, edge: Edge) {
    let units = edge.at >> (10 * u32::from(edge.thousands)).min(127);
    if units < 0 {
        out.push(b'-');
    }
    number::decimal(out, u64::try_from(units.unsigned_abs()).unwrap_or(u64::MAX));
    let unit = usize::from(edge.thousands).checked_sub(1);
    out.extend(unit.and_then(|unit| b"KMGTPE".get(unit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(cell: &Cell) -> Vec<String> {
        let rows = rows(cell, 1);
        rows.iter()
            .map(|row| {
                let mut out = Vec::new();
                label(&mut out, row);
                String::from_utf8(out).unwrap()
            })
            .collect()
    }

    fn full(bits: u8) -> Cell {
        Cell::Hist {
            bits,
            buckets: vec![1; histogram::buckets(bits)],
        }
    }

    #[test]
    fn buckets_of_hist_are_named_from_below_0_to_2_63() {
        let labels = labels(&full(0));
        assert_eq!(labels.len(), 65);
        assert_eq!(labels[..5], ["(..., 0)", "[0]", "[1]", "[2, 4)", "[4, 8)"]);
        assert_eq!(labels[11..13], ["[512, 1K)", "[1K, 2K)"]);
        assert_eq!(labels[21], "[512K, 1M)");
        assert_eq!(labels[62..], ["[1E, 2E)", "[2E, 4E)", "[4E, 8E)"]);
    }

    #[test]
    fn with_bits_the_unit_follows_the_power_of_two() {
        let labels = labels(&full(3));
        assert_eq!(labels[15..19], ["[14]", "[15]", "[16, 18)", "[18, 20)"]);
        let at = labels.iter().position(|label| label == "[960, 1024)");
        let at = at.expect("the bucket below 1024");
        assert_eq!(labels[at + 1], "[1024, 1152)");
        assert!(labels.contains(&"[8K, 9K)".to_owned()), "{labels:?}");
    }

    fn linear(min: i64, max: i64, step: i64, count: usize) -> Vec<String> {
        labels(&Cell::Lhist {
            min,
            max,
            step,
            buckets: vec![1; count],
        })
    }

    #[test]
    fn buckets_of_lhist_have_a_unit_only_when_all_can() {
        assert_eq!(linear(0, 2, 1, 4), ["(..., 0)", "[0]", "[1]", "[2, ...)"]);
        assert_eq!(
            linear(630_000, 650_000, 10_000, 4)[1..3],
            ["[630000, 640000)", "[640000, 650000)"]
        );
        assert_eq!(
            linear(0, 2048, 1024, 4),
            ["(..., 0)", "[0, 1K)", "[1K, 2K)", "[2K, ...)"]
        );
        assert_eq!(linear(-2048, 0, 1024, 4)[1], "[-2K, -1K)");
    }

    #[test]
    fn a_last_step_that_does_not_fit_has_no_end() {
        assert_eq!(
            linear(0, 10, 4, 4),
            ["(..., 0)", "[0, 4)", "[4, 8)", "[8, ...)"]
        );
    }

    #[test]
    fn empty_ends_are_cut_and_gaps_are_kept() {
        let mut buckets = vec![0; 65];
        (buckets[3], buckets[5]) = (2, 1);
        let mut out = Vec::new();
        text(&mut out, &rows(&Cell::Hist { bits: 0, buckets }, 1));
        let bar = "@".repeat(52);
        let half = "@".repeat(26);
        let expected = format!(
            "[2, 4)                 2 |{bar}|\n\
             [4, 8)                 0 |{:52}|\n\
             [8, 16)                1 |{half:52}|\n",
            ""
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn nothing_in_all_buckets_gives_no_row_and_any_number_of_them_no_panic() {
        for buckets in [vec![], vec![0; 65], vec![u64::MAX; 5000]] {
            for bits in [0, 5, u8::MAX] {
                let buckets = buckets.clone();
                let rows = rows(&Cell::Hist { bits, buckets }, u64::MAX);
                text(&mut Vec::new(), &rows);
            }
            let cell = Cell::Lhist {
                min: i64::MIN,
                max: i64::MAX,
                step: i64::MAX,
                buckets,
            };
            text(&mut Vec::new(), &rows(&cell, 0));
        }
        let nothing = Cell::Hist {
            bits: 0,
            buckets: vec![0; 65],
        };
        assert_eq!(rows(&nothing, 1), []);
    }
}
