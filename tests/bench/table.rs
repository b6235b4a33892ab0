//! Numbers to lines: medians, ranges, ratios.

use std::time::Duration;

/// A sample of one quantity.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Takes over the values; those that are no numbers are dropped.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Sample {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        Sample(values)
    }

    /// The middle value.
    pub fn median(&self) -> Option<f64> {
        self.0.get(self.0.len() / 2).copied()
    }

    fn range(&self) -> String {
        match (self.0.first(), self.0.last()) {
            (Some(low), Some(high)) => format!("{}..{}", short(*low), short(*high)),
            _ => "-".to_owned(),
        }
    }
}

/// Three significant digits or so.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Milliseconds of a duration.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A table that is printed row by row.
pub struct Table {
    base: Option<f64>,
}

impl Table {
    /// Prints the head. `unit`: of the medians.
    pub fn new(title: &str, unit: &str) -> Table {
        println!("\n{title}");
        println!(
            "  {:<44} {:>9} {:>17} {:>7}  note",
            "", unit, "min..max", "ratio"
        );
        Table { base: None }
    }

    /// Ratios are to this median from here on.
    pub fn base(&mut self, value: Option<f64>) {
        self.base = value;
    }

    /// A measured row.
    pub fn row(&self, name: &str, sample: &Sample, note: &str) {
        let ratio = match (self.base, sample.median()) {
            (Some(base), Some(median)) if base > 0.0 => {
                format!("{:.2}", median / base)
            }
            _ => "-".to_owned(),
        };
        let median = sample.median().map_or("-".to_owned(), short);
        let range = sample.range();
        println!("  {name:<44} {median:>9} {range:>17} {ratio:>7}  {note}");
    }

    /// A row that could not be measured, and why.
    pub fn missing(&self, name: &str, why: &str) {
        println!("  {name:<44} {:>9} {:>17} {:>7}  {why}", "-", "-", "-");
    }
}
