//! Durations by function: how often, how long, and how they are spread. Percentiles are those of a
//! sort of all durations; of functions with more than are kept they are within a 64th, and said so.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::calls::{Call, Ended, FunctionId, Functions, Reader};
use super::escape::escaped;
use super::number;
use super::style::Style;
use crate::data::Hit;

/// Durations kept of one function, and of all together: 64 MiB.
const EXACT_OF_ONE: usize = 1 << 20;
const EXACT_OF_ALL: usize = 1 << 23;
/// Buckets that a power of two is cut into, as a power of two.
const BITS: u32 = 6;

/// What is known of the durations of one function's calls.
#[derive(Debug)]
pub(super) struct Spread {
    count: u64,
    total: u64,
    own: u64,
    least: u64,
    most: u64,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    All(Vec<u64>),
    Buckets(BTreeMap<u64, u64>),
}

/// The lower end of a duration's bucket.
fn bucket(duration: u64) -> u64 {
    let shift = (u64::BITS - duration.leading_zeros()).saturating_sub(BITS + 1);
    duration >> shift << shift
}

impl Spread {
    fn new() -> Spread {
        Spread {
            count: 0,
            total: 0,
            own: 0,
            least: u64::MAX,
            most: 0,
            kept: Kept::All(Vec::new()),
        }
    }

    fn add(&mut self, duration: u64, own: u64, room: &mut usize) {
        self.count += 1;
        self.total = self.total.saturating_add(duration);
        self.own = self.own.saturating_add(own);
        self.least = self.least.min(duration);
        self.most = self.most.max(duration);
        match &mut self.kept {
            Kept::All(all) if *room > 0 && all.len() < EXACT_OF_ONE => {
                *room -= 1;
                all.push(duration);
            }
            Kept::All(all) => {
                *room += all.len();
                let mut buckets = BTreeMap::new();
                for duration in all.drain(..).chain([duration]) {
                    *buckets.entry(bucket(duration)).or_default() += 1;
                }
                self.kept = Kept::Buckets(buckets);
            }
            Kept::Buckets(buckets) => *buckets.entry(bucket(duration)).or_default() += 1,
        }
    }

    /// The durations that so many hundredths of all do not exceed.
    fn percentiles<const N: usize>(&mut self, hundredths: [u64; N]) -> [u64; N] {
        let count = self.count;
        let rank = |hundredth: u64| {
            let rank = u128::from(count) * u128::from(hundredth);
            u64::try_from(rank.div_ceil(100)).unwrap_or(count).max(1)
        };
        match &mut self.kept {
            Kept::All(all) => {
                all.sort_unstable();
                let at = |rank: u64| all.get(usize::try_from(rank - 1).unwrap_or(0));
                hundredths.map(|hundredth| at(rank(hundredth)).copied().unwrap_or(0))
            }
            Kept::Buckets(buckets) => hundredths.map(|hundredth| {
                let mut left = rank(hundredth);
                let mut found = buckets.iter().filter_map(|(&from, &count)| {
                    let here = left <= count;
                    left = left.saturating_sub(count);
                    here.then_some(from)
                });
                found.next().unwrap_or(0).clamp(self.least, self.most)
            }),
        }
    }
}

/// The durations of all functions.
#[derive(Debug)]
pub(super) struct Times {
    spreads: BTreeMap<FunctionId, Spread>,
    /// Durations that may still be kept.
    room: usize,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            spreads: BTreeMap::new(),
            room: EXACT_OF_ALL,
        }
    }
}

impl Reader for Times {
    fn values(&self, _out: &mut Vec<u8>, _hit: &Hit<'_>) {}

    fn ended(&mut self, _functions: &Functions, _stack: &mut [Call], ended: &Ended<'_>) {
        let Some(duration) = ended.duration else {
            return;
        };
        let spread = self.spreads.entry(ended.call.function);
        let spread = spread.or_insert_with(Spread::new);
        spread.add(duration, ended.own, &mut self.room);
    }
}

const HEAD: [&str; 9] = [
    "CALLS", "TOTAL", "SELF", "AVG", "MIN", "MAX", "P50", "P95", "P99",
];

impl Times {
    /// The table, the function that took longest first. Nothing when there was no call.
    pub(super) fn print(
        &mut self,
        functions: &Functions,
        out: &mut impl Write,
        style: Style,
    ) -> io::Result<()> {
        let mut rows: Vec<(u64, String, [String; 9])> = Vec::new();
        let mut cut = false;
        for (&function, spread) in &mut self.spreads {
            let function = functions.get(function);
            let mut name = escaped(&function.name);
            if !function.module.is_empty() {
                name = format!("{}:{name}", escaped(&function.module));
            }
            if matches!(spread.kept, Kept::Buckets(_)) {
                name.push_str(" ~");
                cut = true;
            }
            let [half, most, nearly] = spread.percentiles([50, 95, 99]);
            let average = spread.total / spread.count.max(1);
            let times = [
                spread.total,
                spread.own,
                average,
                spread.least,
                spread.most,
                half,
                most,
                nearly,
            ];
            let mut cells: [String; 9] = Default::default();
            let count = std::iter::once(spread.count.to_string());
            for (cell, text) in cells.iter_mut().zip(count.chain(times.map(duration))) {
                *cell = text;
            }
            rows.push((spread.total, name, cells));
        }
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        let mut widths = HEAD.map(str::len);
        for (_, _, cells) in &rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.len().max(*width);
            }
        }
        write!(out, "{}", style.strong())?;
        for (width, head) in widths.iter().zip(HEAD) {
            write!(out, "{head:>width$}  ")?;
        }
        writeln!(out, "FUNCTION{}", style.end())?;
        for (_, name, cells) in &rows {
            for (width, cell) in widths.iter().zip(cells) {
                write!(out, "{cell:>width$}  ")?;
            }
            writeln!(out, "{name}")?;
        }
        if cut {
            let (dim, end) = (style.dim(), style.end());
            writeln!(
                out,
                "{dim}~ too many calls to keep every duration: percentiles are within 1/64{end}"
            )?;
        }
        Ok(())
    }
}

fn duration(nanoseconds: u64) -> String {
    let mut text = Vec::new();
    number::duration(&mut text, nanoseconds);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spread(durations: &[u64], mut room: usize) -> Spread {
        let mut spread = Spread::new();
        for &duration in durations {
            spread.add(duration, 0, &mut room);
        }
        spread
    }

    const ALL: [u64; 5] = [1, 50, 95, 99, 100];

    fn of_a_sort(durations: &[u64]) -> [u64; 5] {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        ALL.map(|p| {
            let enough = |n: &usize| 100 * (*n as u64) >= p * sorted.len() as u64;
            let n = (1..=sorted.len()).find(enough).unwrap();
            sorted[n - 1]
        })
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_a_sort(durations in prop::collection::vec(any::<u64>(), 1..300)) {
            let mut exact = spread(&durations, usize::MAX);
            prop_assert_eq!(exact.percentiles(ALL), of_a_sort(&durations));
        }

        #[test]
        fn without_room_percentiles_are_within_a_64th(
            durations in prop::collection::vec((any::<u64>(), 0_u32..64), 1..300),
            room in 0_usize..300,
        ) {
            let durations: Vec<u64> = durations.into_iter().map(|(n, shift)| n >> shift).collect();
            let mut about = spread(&durations, room);
            for (told, exact) in about.percentiles(ALL).into_iter().zip(of_a_sort(&durations)) {
                prop_assert!(told <= exact.saturating_add(exact / 64), "{} {}", told, exact);
                prop_assert!(exact - exact / 64 <= told + 1, "{} {}", told, exact);
            }
        }
    }

    #[test]
    fn room_is_given_back_when_durations_are_not_kept() {
        let mut room = 2;
        let mut first = Spread::new();
        for duration in [10, 20, 30] {
            first.add(duration, 0, &mut room);
        }
        assert_eq!(room, 2);
        assert!(matches!(first.kept, Kept::Buckets(_)));
        assert_eq!(first.percentiles([50, 100]), [20, 30]);
    }
}
