//! Start-up with every function of a large program: node, when it is installed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Bench;
use super::kptrace;
use super::table::{Sample, Table, ms};

const ROWS: [&str; 5] = [
    "node -e 0",
    "run node: cold cache",
    "run node: warm cache",
    "run node: peak memory, cold (MB)",
    "run node: peak memory, warm (MB)",
];

/// Runs the rows if one of them is wanted.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    if !bench.wants_any(ROWS) {
        return Ok(());
    }
    let mut table = Table::new("Start-up: run -c -p '*' -- node -e 0", "ms");
    if Command::new("node").arg("-e").arg("0").output().is_err() {
        table.missing(ROWS[0], "not installed");
        return Ok(());
    }
    let cache = bench.programs.dir.join("node-cache");
    let rounds = bench.or_quick(5, 3);
    let mut all: [Vec<f64>; 5] = Default::default();
    // In turns, so that all see the same load.
    for _ in 0..rounds {
        let _ = std::fs::remove_dir_all(&cache);
        let (alone, _) = time(Command::new("node").args(["-e", "0"]))?;
        let (cold, cold_peak) = time(&mut traced(bench, &cache))?;
        let (warm, warm_peak) = time(&mut traced(bench, &cache))?;
        let values = [alone, cold - alone, warm - alone, cold_peak, warm_peak];
        for (list, value) in all.iter_mut().zip(values) {
            list.push(value);
        }
    }
    let notes = [
        "by itself",
        "beyond node's own; goal: 3000",
        "beyond node's own; goal: 1000",
        "goal: 400",
        "goal: 400",
    ];
    let samples = all.map(Sample::new);
    table.base(samples[0].median());
    for ((name, sample), note) in ROWS.iter().zip(&samples).zip(notes) {
        if name.ends_with("(MB)") {
            table.base(None);
        }
        table.row(name, sample, note);
    }
    Ok(())
}

fn traced(bench: &Bench, cache: &Path) -> Command {
    let mut command = kptrace::command(&bench.programs.dir);
    command
        .env("XDG_CACHE_HOME", cache)
        .args(["run", "-q", "-c", "-p", "*", "-o", "/dev/null", "--"])
        .args(["node", "-e", "0"]);
    command
}

/// Milliseconds until it ended, and megabytes it had at most.
fn time(command: &mut Command) -> anyhow::Result<(f64, f64)> {
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting it")?;
    let mut peak: f64 = 0.0;
    while child.try_wait()?.is_none() {
        peak = peak.max(kptrace::peak(child.id()).unwrap_or(0.0));
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok((ms(begun.elapsed()), peak))
}
