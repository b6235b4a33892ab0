//! How many records a second fit through into a file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::Context as _;

use super::Bench;
use super::kptrace;
use super::table::{Sample, Table};

/// A row's name, calls a second, and options.
const ROWS: [(&str, u64, &[&str]); 4] = [
    ("throughput: 1 M/s, text", 1_000_000, &["-p", "paced"]),
    (
        "throughput: 1 M/s, text, one argument",
        1_000_000,
        &["-p", "paced n=%di"],
    ),
    (
        "throughput: 1 M/s, json",
        1_000_000,
        &["-p", "paced", "--format", "json"],
    ),
    ("throughput: 50 M/s, text", 50_000_000, &["-p", "paced"]),
];

/// Runs the rows that are wanted.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    if !bench.wants_any(ROWS.iter().map(|(name, ..)| *name)) {
        return Ok(());
    }
    let table = Table::new("Records a second into a file", "M/s");
    for (name, rate, options) in ROWS {
        if !bench.wants(name) {
            continue;
        }
        let seconds = match rate {
            1_000_000 => bench.or_quick(10, 2),
            _ => 1,
        };
        let output = bench.programs.dir.join("records");
        let begun = Instant::now();
        let result = kptrace::command(&bench.programs.dir)
            .arg("run")
            .args(options)
            .arg("-o")
            .arg(&output)
            .arg("--")
            .arg(&bench.programs.paced)
            .args([rate.to_string(), (seconds * 1000).to_string()])
            .stdin(Stdio::null())
            .output()
            .context("starting kptrace")?;
        let took = begun.elapsed().as_secs_f64();
        let answer = String::from_utf8_lossy(&result.stdout);
        let made: u64 = answer
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .context("the target said nothing")?;
        let recorded = hit_lines(&output)?;
        let _ = std::fs::remove_file(&output);
        let sample = Sample::new([recorded as f64 / took / 1e6]);
        let lost = made.saturating_sub(recorded);
        let goal = if rate == 1_000_000 {
            "; goal: none lost"
        } else {
            ""
        };
        let note = format!("{made} made in {seconds} s, {lost} lost{goal}");
        table.row(name, &sample, &note);
    }
    Ok(())
}

/// Lines that are hits: those that name the function.
fn hit_lines(path: &Path) -> anyhow::Result<u64> {
    let mut file = File::open(path)?;
    let (mut lines, mut buffer, mut kept) = (0, vec![0; 1 << 20], Vec::new());
    loop {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            return Ok(lines);
        }
        kept.extend_from_slice(&buffer[..got]);
        let mut rest = &kept[..];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = &rest[..end];
            let summary =
                line.starts_with(b"{\"type\":\"") && !line.starts_with(b"{\"type\":\"hit\"");
            lines += u64::from(!summary && line.windows(5).any(|word| word == b"paced"));
            rest = &rest[end + 1..];
        }
        kept = rest.to_vec();
    }
}
