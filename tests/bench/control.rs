//! What switches do to the cost of a hit, and how fast sites change under calling threads.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::Bench;
use super::kptrace::{Traced, command};
use super::per_hit::{CALLS, Hot};
use super::table::{Sample, Table};

const ALL: [&str; 4] = [
    "control: two probes at a site",
    "control: one of the two disabled",
    "control: one probe alone",
    "control: all switched off",
];
const RATE: &str = "control: sites that change, 16 threads call";

/// Runs the rows that are wanted.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    if bench.wants_any(ALL) {
        costs(bench)?;
    }
    if bench.wants(RATE) {
        rate(bench)?;
    }
    Ok(())
}

/// Asks the tracer of a process for something.
fn ctl(bench: &Bench, pid: i32, words: &[&str]) -> anyhow::Result<()> {
    let mut line = command(&bench.programs.dir);
    line.arg("ctl").arg(pid.to_string()).args(words);
    let done = line.stdout(Stdio::null()).status()?;
    ensure!(done.success(), "ctl {words:?}: {done}");
    Ok(())
}

/// All in one process, so that nothing else differs.
fn costs(bench: &Bench) -> anyhow::Result<()> {
    bench.machine.step_aside();
    let mut table = Table::new(
        "Cost of a hit while probes are switched (processor time)",
        "ns",
    );
    let args = Hot {
        calls: CALLS,
        ..Hot::default()
    }
    .args(bench);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let options = ["-c", "--format", "json", "-p", "hot", "-p", "hot"];
    let hot = &bench.programs.hot;
    let mut traced = Traced::run(&bench.programs.dir, &options, hot, &args)?;
    let pid = traced.target.pid;
    let steps: [(&str, &[&str], &str); 4] = [
        (ALL[0], &["list"], ""),
        (ALL[1], &["disable", "1"], ""),
        (
            ALL[2],
            &["remove", "1"],
            "goal: as with one disabled, within 0.5",
        ),
        (ALL[3], &["off"], "goal: 0, within 0.5"),
    ];
    for (name, words, note) in steps {
        ctl(bench, pid, words)?;
        let mut values = Vec::new();
        for _ in 0..bench.or_quick(9, 5) {
            values.push(traced.without_tracer(|target| target.pair("go"))?.cpu);
        }
        let sample = Sample::new(values);
        table.row(name, &sample, note);
        table.base(sample.median());
    }
    traced.end()?;
    bench.machine.run_anywhere();
    Ok(())
}

/// The target of the tests, off and on again and again.
fn rate(bench: &Bench) -> anyhow::Result<()> {
    let table = Table::new(
        "Switching a thousand sites while 16 threads call them",
        "1/s",
    );
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/targets/crowd.c");
    let program = bench.programs.dir.join("crowd");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-pthread", "-DSAYS_PID", "-o"])
        .arg(&program);
    ensure!(
        cc.arg(source).status()?.success(),
        "crowd.c is not compiled"
    );
    let options = ["-c", "--format", "json", "-p", "small_*"];
    let traced = Traced::run(&bench.programs.dir, &options, &program, &["16"])?;
    let pid = traced.target.pid;
    let mut rates = Vec::new();
    for _ in 0..bench.or_quick(9, 3) {
        let begun = Instant::now();
        for _ in 0..bench.or_quick(20, 5) {
            ctl(bench, pid, &["off"]).context("switching it")?;
            ctl(bench, pid, &["on"])?;
        }
        let made = 2000 * bench.or_quick(20, 5);
        rates.push(f64::from(made) / begun.elapsed().as_secs_f64());
    }
    table.row(
        RATE,
        &Sample::new(rates),
        "transitions; a request a thousand",
    );
    traced.end().map(drop)
}
