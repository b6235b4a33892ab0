//! kptrace is killed at a moment that a seed chooses, while it arms, traces, or lets go, with every
//! function of the program and its libraries probed. The target must end as if nothing had been.
//!
//! `KPTRACE_SEED` chooses other moments; it is printed with what failed.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use super::orphans::{adopt, children, end_of};
use super::support::*;

/// What kptrace is doing when it is killed.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Attaching, reading files, injecting, arming.
    Arming,
    /// Tracing.
    Running,
    /// Disarming, clearing up, writing its report.
    LettingGo,
}

const PHASES: [Phase; 3] = [Phase::Arming, Phase::Running, Phase::LettingGo];

/// A moment within this time.
fn moment(rng: &mut Rng, within: Duration) -> Duration {
    let micros = usize::try_from(within.as_micros()).expect("short").max(1);
    Duration::from_micros(rng.below(micros) as u64)
}

fn target(options: &[&str]) -> Source {
    // A breakpoint that a thread hits while it blocks SIGTRAP resets the action, and for a moment
    // there is no landing: `fork` and `pthread_create` block every signal.
    if options.contains(&TRAPS[0]) {
        c("survives").flags(&["-pthread", "-DALONE"])
    } else if options.contains(&"never") {
        // Whoever opens a library waits for kptrace.
        c("survives").flags(&["-pthread", "-DOPENS", "-ldl"])
    } else {
        c("survives").flags(&["-pthread"])
    }
}

/// Lets a chosen moment come.
fn pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

fn kill(kptrace: &Running) {
    // It may have ended: then this run shows nothing, and harms nothing.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(kptrace.pid()).expect("a number"));
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("not waited for yet");
}

/// The target goes on to its end.
fn ends_right(mut target: Running) {
    for _ in 0..2 {
        // It may have ended; how is asked below.
        let stdin = target.stdin.as_mut().expect("a pipe to write to");
        if stdin.write_all(b"more\n").is_err() || target.out.wait_within("round", LIMIT).is_none() {
            break;
        }
    }
    let ended = target.end();
    let right = ended.status.success() && ended.out.ends_with("right\n");
    assert!(right, "{}\n{}", ended.status, ended.out);
}

fn attached(phase: Phase, options: &[&str], long: Duration, seed: &mut Rng) {
    let mut line = command(target(options).build());
    line.arg("go").stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target.write("more\n");
    target.out.wait_for("round");
    let mut line = command(launch::binary());
    line.args(["attach", "-c", "--format", "json", "-p", "*:*"])
        .args(options)
        .arg(target.pid().to_string());
    let mut kptrace = start(line);
    match phase {
        Phase::Arming => pass(moment(seed, long)),
        Phase::Running => {
            kptrace.out.wait_for("attached_probes");
            pass(moment(seed, Duration::from_millis(20)));
        }
        Phase::LettingGo => {
            kptrace.out.wait_for("attached_probes");
            kptrace.signal(Signal::SIGINT);
            pass(moment(seed, long / 4));
        }
    }
    let guardians = children(kptrace.pid());
    kill(&kptrace);
    kptrace.end();
    for (guardian, name) in guardians {
        assert!(name.starts_with("kptrace"), "{name}");
        end_of(guardian);
    }
    ends_right(target);
}

fn launched(phase: Phase, options: &[&str], long: Duration, seed: &mut Rng) {
    let mut line = command(launch::binary());
    line.args(["run", "-c", "--format", "json", "-p", "*:*"])
        .args(options)
        .arg("--")
        .arg(target(options).build())
        .arg("go")
        .stdin(Stdio::piped());
    let mut kptrace = start(line);
    match phase {
        Phase::Arming => pass(moment(seed, long)),
        Phase::Running => {
            kptrace.out.wait_for("ready");
            kptrace.write("more\n");
            kptrace.out.wait_for("round");
            pass(moment(seed, Duration::from_millis(20)));
        }
        Phase::LettingGo => {
            kptrace.out.wait_for("ready");
            kptrace.write("more\n");
            kptrace.out.wait_for("round");
            kptrace.signal(Signal::SIGINT);
            pass(moment(seed, long / 4));
        }
    }
    let others = children(kptrace.pid());
    kill(&kptrace);
    // The target has kptrace's pipes, and goes on when this ends.
    let ended = kptrace.end();
    let begun = ended.out.contains("ready\n");
    for (child, name) in others {
        match end_of(child) {
            _ if name == "kptrace-guard" => {}
            Some(WaitStatus::Exited(_, 0)) | None => {}
            // One that has not begun ends with its tracer.
            Some(WaitStatus::Signaled(_, Signal::SIGKILL, _)) if !begun => {}
            Some(WaitStatus::Exited(_, 125)) if !begun => {}
            status => panic!("{name} ended with {status:?}\n{}", ended.out),
        }
    }
    assert!(!begun || ended.out.ends_with("right\n"), "{}", ended.out);
}

type Way = fn(Phase, &[&str], Duration, &mut Rng);

/// How long kptrace takes from its start until all is armed.
fn arming() -> Duration {
    let mut line = command(target(&[]).build());
    line.arg("go").stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let begun = Instant::now();
    let mut line = command(launch::binary());
    line.args(["attach", "-c", "--format", "json", "-p", "*:*"])
        .arg(target.pid().to_string());
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    let took = begun.elapsed();
    kptrace.signal(Signal::SIGINT);
    kptrace.end().expect(0);
    target.end().expect(0);
    took
}

fn matrix(way: Way, options: &[&str], times: usize) {
    adopt();
    // Once more than it takes: the cache is warm then.
    arming();
    let long = arming();
    let mut seed = Rng::seeded(1);
    let given = seed.0;
    let mut failed = Vec::new();
    for turn in 0..times {
        let phase = match PHASES[turn % PHASES.len()] {
            // Its threads are made then.
            Phase::Arming if options.contains(&TRAPS[0]) => Phase::Running,
            phase => phase,
        };
        let at = seed.0;
        let run = || way(phase, options, long, &mut Rng(at));
        if let Err(why) = std::panic::catch_unwind(run) {
            let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
            failed.push(format!("{phase:?}, turn {turn}: {why}"));
        }
        seed.next();
    }
    assert!(
        failed.is_empty(),
        "seed {given}, {options:?}: {} of {times} failed\n{}",
        failed.len(),
        failed.join("\n")
    );
}

const TRAPS: [&str; 3] = ["--no-opt", "--trap-limit", "0"];

macro_rules! kills {
    ($($test:ident: $way:ident, $options:expr;)*) => {
        $(
            #[test]
            fn $test() {
                matrix($way, &$options, 24);
            }
        )*

        /// 1,000 for each row.
        mod thousand {
            use super::*;
            $(
                #[test]
                #[ignore = "takes minutes"]
                fn $test() {
                    matrix($way, &$options, 1_000);
                }
            )*
        }
    };
}

kills! {
    attached_with_what_can_be_had: attached, ["--trap", "auto"];
    attached_without_breakpoints: attached, ["--trap", "never"];
    attached_with_a_landing: attached, ["--trap", "landing"];
    attached_with_breakpoints_alone: attached, [TRAPS[0], TRAPS[1], TRAPS[2], "--trap", "landing"];
    launched_with_what_can_be_had: launched, ["--trap", "auto"];
    launched_without_breakpoints: launched, ["--trap", "never"];
    launched_with_a_landing: launched, ["--trap", "landing"];
    launched_with_breakpoints_alone: launched, [TRAPS[0], TRAPS[1], TRAPS[2], "--trap", "landing"];
}
