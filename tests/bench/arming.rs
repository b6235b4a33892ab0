//! Arming a running program: how long until all probes stand, and how long the target was stopped
//! for it, as the target itself saw it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::Bench;
use super::kptrace;
use super::table::{Sample, Table, ms};
use super::target::Target;

/// A row's name and its pattern; the last function is among the sites of each.
const ROWS: [(&str, &str); 3] = [
    ("arm 1 site", "fn_09999"),
    ("arm 1,000 sites", "fn_09*"),
    ("arm 10,000 sites", "fn_*"),
];

/// Longest that arming may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the rows that are wanted.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    if !bench.wants_any(ROWS.iter().map(|(name, _)| *name)) {
        return Ok(());
    }
    bench.machine.step_aside();
    let table = Table::new("Arming a running program (attach), warm cache", "ms");
    for (name, pattern) in ROWS {
        if !bench.wants(name) {
            continue;
        }
        let mut all: [Vec<f64>; 4] = Default::default();
        // The first round fills the cache of analyses.
        for round in 0..=bench.or_quick(5, 3) {
            let times = once(bench, pattern)?;
            if round > 0 {
                for (values, time) in all.iter_mut().zip(times) {
                    values.push(time);
                }
            }
        }
        let [armed, pause, noise, disarm] = all.map(Sample::new);
        table.row(&format!("{name}: start until armed"), &armed, "");
        let goal = if pattern == "fn_*" { "goal: 10" } else { "" };
        table.row(&format!("{name}: pause of the target"), &pause, goal);
        let note = "longest gap of as long a time with no tracer";
        table.row(&format!("{name}: gaps without us"), &noise, note);
        table.row(&format!("{name}: pause at the end"), &disarm, "");
    }
    bench.machine.run_anywhere();
    Ok(())
}

/// Milliseconds: until armed, pause, gaps without a tracer, pause while disarming.
fn once(bench: &Bench, pattern: &str) -> anyhow::Result<[f64; 4]> {
    let processor = bench.machine.target.to_string();
    let mut target = Target::start(Command::new(&bench.programs.many).args(["-p", &processor]))?;
    let pid = target.pid.to_string();
    target.ask("reset", "ok")?;
    let started = now()?;
    let begun = Instant::now();
    let mut tracer = kptrace::command(&bench.programs.dir)
        .args(["attach", "-q", "-c", "-p", pattern, &pid])
        .stdout(Stdio::null())
        .spawn()
        .context("starting kptrace")?;
    let (armed, pause) = loop {
        let (pause, armed) = report(&mut target)?;
        if armed > 0 {
            break (armed, pause);
        }
        if begun.elapsed() > PATIENCE || tracer.try_wait()?.is_some() {
            bail!("{pattern}: it was never armed");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let armed = armed.saturating_sub(started) as f64 / 1e6;
    let took = begun.elapsed();
    target.ask("reset", "ok")?;
    kill(Pid::from_raw(tracer.id().cast_signed()), Signal::SIGINT)?;
    tracer.wait()?;
    let (disarm, _) = report(&mut target)?;
    target.ask("reset", "ok")?;
    std::thread::sleep(took);
    let (noise, _) = report(&mut target)?;
    target.end()?;
    Ok([armed, pause / 1e3, noise / 1e3, disarm / 1e3])
}

fn now() -> anyhow::Result<u64> {
    let time: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)?.into();
    debug_assert!(ms(time) > 0.0);
    Ok(u64::try_from(time.as_nanos())?)
}

/// The target's longest pause in microseconds, and when it saw itself armed.
fn report(target: &mut Target) -> anyhow::Result<(f64, u64)> {
    let answer = target.ask("report", "pause ")?;
    let mut words = answer.split(' ');
    let pause = words.next().and_then(|word| word.parse().ok());
    let armed = words.nth(1).and_then(|word| word.parse().ok());
    pause.zip(armed).context("a strange report")
}
