//! How long calls took: between what passed in the call they are made in and in the one they make, by
//! the program's own clock, and by bpftrace, which watches these two in the same run.

use std::path::{Path, PathBuf};

use crate::support::build;
use crate::support::json;
use crate::support::launch::{self, kptrace};

/// Five calls alone, then four and eleven in each other.
const CALLS: usize = 5 + 4 + 11;
const NAP: u64 = 3_000_000;

fn naps() -> PathBuf {
    build::c("naps").flags(&["-O2"]).build()
}

fn options(program: &Path) -> Vec<String> {
    let probe = "timed%call";
    ["run", "-q", "--format", "json", "-p", probe, "--"]
        .map(str::to_owned)
        .into_iter()
        .chain([program.to_str().expect("UTF-8").to_owned()])
        .collect()
}

/// What kptrace said of the calls, in the order they ended.
fn durations(err: &str) -> Vec<u64> {
    let lines: String = err
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let hits = json::objects(&lines);
    let ended = hits
        .iter()
        .filter(|hit| hit["type"] == "hit" && hit["kind"] == "return");
    ended
        .map(|hit| hit["duration"].as_u64().expect("a number"))
        .collect()
}

/// Two clocks that are made of different counters run apart a little.
fn about(time: u64) -> u64 {
    time / 2_000 + 100
}

fn lies_between(inside: u64, duration: u64, outside: u64) {
    assert!(
        inside <= duration + about(duration),
        "{inside} in {duration}"
    );
    assert!(
        duration <= outside + about(duration),
        "{duration} in {outside}"
    );
}

fn own(out: &str) -> Vec<(u64, u64)> {
    let pair = |line: &str| {
        let (inside, outside) = line.split_once(' ').expect("two numbers");
        (
            inside.parse().expect("a number"),
            outside.parse().expect("a number"),
        )
    };
    out.lines().map(pair).collect()
}

#[test]
fn nested_and_recursive_calls_last_what_they_last() {
    let ended = kptrace(&options(&naps())).expect(0);
    let (durations, own) = (durations(&ended.err), own(&ended.out));
    assert_eq!((durations.len(), own.len()), (CALLS, CALLS));
    for (&duration, &(inside, outside)) in durations.iter().zip(&own) {
        lies_between(inside, duration, outside);
        assert!(duration + about(duration) >= NAP, "{duration}");
    }
    // In a call that calls itself so often are so many naps.
    assert!(durations[CALLS - 1] + about(11 * NAP) >= 11 * NAP);
}

const PROGRAM: &str = r#"
    uprobe:TARGET:around { @a[@around] = nsecs; @around++; }
    uretprobe:TARGET:around { @around--; printf("around %d\n", nsecs - @a[@around]); }
    uprobe:TARGET:within { @w[@within] = nsecs; @within++; }
    uretprobe:TARGET:within { @within--; printf("within %d\n", nsecs - @w[@within]); }
    END { clear(@a); clear(@w); clear(@around); clear(@within); }
"#;

#[test]
fn bpftrace_agrees_in_the_same_run() {
    let tried = std::process::Command::new("bpftrace")
        .args(["-e", "BEGIN { exit(); }"])
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: bpftrace is not here, or may not trace");
        return;
    }
    let program = naps();
    let mut command = launch::command("bpftrace");
    let text = PROGRAM.replace("TARGET", program.to_str().expect("UTF-8"));
    // What it traces is what kptrace runs: the other's command would be another run.
    command.args(["-e", &text, "-c"]).arg(format!(
        "{} {}",
        launch::binary(),
        options(&program).join(" ")
    ));
    let ended = launch::start(command).end().expect(0);
    let of = |what: &str| -> Vec<u64> {
        let lines = ended.out.lines().filter_map(|line| line.strip_prefix(what));
        lines.map(|n| n.parse().expect("a number")).collect()
    };
    let (inside, outside) = (of("within "), of("around "));
    let durations = durations(&ended.err);
    assert_eq!(
        (inside.len(), outside.len(), durations.len()),
        (CALLS, CALLS, CALLS)
    );
    for ((inside, duration), outside) in inside.into_iter().zip(durations).zip(outside) {
        lies_between(inside, duration, outside);
    }
}
