//! What a hit costs when its probe is written in the language: the same work by hand, the product, and
//! bpftrace with the same text, side by side.
//!
//! Invariant: the floor and the product take turns, pair by pair, so that a busy machine is as busy
//! for both.

use std::fs::File;
use std::io::{BufRead as _, BufReader};

use super::Bench;
use super::kptrace::Traced;
use super::peers::{Clock, Peer, installed, measure};
use super::per_hit::{CALLS, Hot};
use super::table::{Sample, Table};
use super::target::Target;

/// A program: its body, the same by hand, and what both are measured with.
struct Row {
    name: &'static str,
    /// What stands behind the probe.
    body: &'static str,
    /// `hot`'s name of the detour.
    floor: &'static str,
    /// Calls a slice: what a ring of 8 MiB holds, where it prints.
    calls: u64,
    prints: bool,
    /// Length of the text that is passed.
    text: u32,
    goal: &'static str,
}

const ROWS: [Row; 6] = [
    Row {
        name: "count()",
        body: "{ @ = count() }",
        floor: "count",
        calls: CALLS,
        prints: false,
        text: 20,
        goal: "floor + 0.5",
    },
    Row {
        name: "predicate that fails",
        body: "/arg0 == 12345/ { @ = count() }",
        floor: "predicate",
        calls: CALLS,
        prints: false,
        text: 20,
        goal: "floor + 0.5",
    },
    Row {
        name: "hist(arg0)",
        body: "{ @ = hist(arg0) }",
        floor: "hist",
        calls: CALLS,
        prints: false,
        text: 20,
        goal: "floor + 0.5",
    },
    Row {
        name: "count() by one number",
        body: "{ @[arg0 & 63] = count() }",
        floor: "keyed",
        calls: CALLS,
        prints: false,
        text: 20,
        goal: "10",
    },
    Row {
        name: "printf of two numbers",
        body: "{ printf(\"%d %d\\n\", arg0, arg1) }",
        floor: "record_arguments",
        calls: 150_000,
        prints: true,
        text: 20,
        goal: "floor + 2",
    },
    Row {
        name: "printf of a string of 64 bytes",
        body: "{ printf(\"%s\\n\", str(arg0, 64)) }",
        floor: "record_string",
        calls: 70_000,
        prints: true,
        text: 64,
        goal: "floor + 2",
    },
];

/// Calls a slice under bpftrace, and where it prints: its buffers hold few records.
const PEER_CALLS: u64 = 100_000;
const PEER_PRINTS: u64 = 20_000;

/// Runs the rows that are wanted.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let rows: Vec<(String, &Row)> = ROWS
        .iter()
        .map(|row| (format!("language: {}", row.name), row))
        .filter(|(name, _)| bench.wants(name))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    bench.machine.step_aside();
    let mut table = Table::new(
        "Programs in the language, one thread (ratio: to the same by hand)",
        "ns",
    );
    for (name, row) in rows {
        let (floor, product, note) = both(bench, row)?;
        table.base(floor.median());
        table.row(&format!("{name}, floor"), &floor, "");
        table.row(&name, &product, &note);
        let name = format!("{name}, bpftrace");
        if !installed("bpftrace") {
            table.missing(&name, "not installed");
            continue;
        }
        match peer(bench, row) {
            Ok((sample, note)) => table.row(&name, &sample, &note),
            Err(error) => table.missing(&name, &format!("failed: {error:#}")),
        }
    }
    bench.machine.run_anywhere();
    Ok(())
}

/// The text for `-e`.
fn text(bench: &Bench, row: &Row) -> String {
    let hot = bench.programs.hot.to_string_lossy();
    format!("uprobe:{hot}:hot {}", row.body)
}

/// The floor and the product, pair by pair in turn.
fn both(bench: &Bench, row: &Row) -> anyhow::Result<(Sample, Sample, String)> {
    let hot = Hot {
        calls: row.calls,
        text: row.text,
        ..Hot::default()
    };
    let mut by_hand = Target::start(hot.command(bench).args(["-d", row.floor]))?;
    let program = text(bench, row);
    let args = hot.args(bench);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let options = ["-e", &program];
    let mut traced = Traced::run(&bench.programs.dir, &options, &bench.programs.hot, &args)?;
    // The first laps through a ring are the kernel giving it memory: not measured.
    let laps = if row.prints { 3 } else { 1 };
    let pairs = bench.or_quick(9, 5) * if row.prints { 3 } else { 1 };
    let (mut floor, mut product) = (Vec::new(), Vec::new());
    for pair in 0..pairs + laps {
        let least = by_hand.pair("go")?.cpu;
        let cost = traced.without_tracer(|target| target.pair("go"))?.cpu;
        if row.prints {
            traced.wait_for_lines((pair as u64 + 1) * row.calls);
        }
        if pair >= laps {
            floor.push(least);
            product.push(cost);
        }
    }
    by_hand.end()?;
    let made = row.calls * (pairs + laps) as u64;
    let ended = traced.end()?;
    let seen = if row.prints {
        // Behind the records stands an empty line or two.
        ended.lines.min(made)
    } else if row.floor == "predicate" {
        // Nothing is printed, as nothing was counted.
        if ended.last.is_empty() { made } else { 0 }
    } else {
        let numbers = ended.last.split_whitespace();
        let numbers = numbers.filter_map(|word| word.parse().ok());
        numbers.max().unwrap_or(0)
    };
    let goal = row.goal;
    let note = match made.abs_diff(seen) {
        0 => format!("goal: {goal}; exact"),
        off => format!("goal: {goal}; {off} of {made} off, last: {}", ended.last),
    };
    Ok((Sample::new(floor), Sample::new(product), note))
}

fn peer(bench: &Bench, row: &Row) -> anyhow::Result<(Sample, String)> {
    let program = text(bench, row);
    let output = bench.programs.dir.join("bpftrace");
    let to = output.to_string_lossy();
    let peer = Peer {
        name: row.name,
        program: "bpftrace",
        words: &["-o", &to, "-e", &program, "-c", "{target}"],
        calls: if row.prints { PEER_PRINTS } else { PEER_CALLS },
        text: row.text,
        clock: Clock::Processor,
    };
    let sample = measure(bench, &peer)?;
    if !row.prints {
        return Ok((sample, String::new()));
    }
    let made = peer.calls * bench.or_quick(9, 5);
    let printed = BufReader::new(File::open(&output)?).lines();
    let printed = printed.map_while(Result::ok);
    let printed = printed.filter(|line| line.starts_with(|c: char| c == '/' || c.is_ascii_digit()));
    let lost = made.saturating_sub(printed.count() as u64);
    let note = match lost {
        0 => format!("{made} records, none lost"),
        lost => format!("{lost} of {made} lost"),
    };
    Ok((sample, note))
}
