//! `cargo bench`: what a hit costs, what arming costs, what fits through; beside the least it can
//! cost and beside other tools of this machine. Prints tables; judges nothing.
//!
//! `cargo bench -- WORD...` runs the rows whose names contain one of the words, `--quick` repeats
//! less. Invariant: every difference is taken within one process, between slices that alternate;
//! what is printed is a median, with the range beside it.

mod arming;
mod control;
mod kptrace;
mod language;
mod machine;
mod peers;
mod per_hit;
mod programs;
mod startup;
mod table;
mod target;
mod throughput;

use machine::Machine;
use programs::Programs;

/// What was asked for, and what everything runs with.
struct Bench {
    words: Vec<String>,
    quick: bool,
    machine: Machine,
    programs: Programs,
}

impl Bench {
    /// Whether a row was asked for.
    fn wants(&self, row: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| row.contains(word.as_str()))
    }

    /// Whether one of these rows was asked for.
    fn wants_any<'a>(&self, rows: impl IntoIterator<Item = &'a str>) -> bool {
        rows.into_iter().any(|row| self.wants(row))
    }

    /// The first number, or the second when time is short.
    fn or_quick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|word| word == "--bench") {
        println!("benchmarks: run them with cargo bench");
        return Ok(());
    }
    let (flags, words): (Vec<String>, Vec<String>) = arguments
        .into_iter()
        .partition(|word| word.starts_with('-'));
    let bench = Bench {
        words,
        quick: flags.iter().any(|flag| flag == "--quick"),
        machine: Machine::look(),
        programs: Programs::build()?,
    };
    println!("{}", bench.machine);
    let floor = per_hit::run(&bench)?;
    language::run(&bench)?;
    control::run(&bench)?;
    arming::run(&bench)?;
    startup::run(&bench)?;
    throughput::run(&bench)?;
    peers::run(&bench, &floor)
}
