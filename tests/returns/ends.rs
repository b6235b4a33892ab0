//! How calls end: by returning, in a sibling call, by an exception, a longjmp, on another thread, in a
//! forked child. Each is counted as what it is, and the program computes what it does alone.

use serde_json::Value;

use crate::accounts;
use crate::support::build::{self, Source};
use crate::support::json;
use crate::support::launch::{self, kptrace};

fn program() -> std::path::PathBuf {
    let source = build::c("returns").flags(&["-O2", "-pthread", "-foptimize-sibling-calls"]);
    source.build()
}

fn alone(program: &std::path::Path) -> String {
    launch::start(launch::command(program)).end().expect(0).out
}

/// What became of calls: returns, tails, unwound, missed.
fn fates(summary: &Value, name: &str) -> [u64; 4] {
    let probes = summary["probes"].as_array().expect("probes");
    let found = probes
        .iter()
        .find(|probe| probe["name"] == name && probe["kind"] == "return")
        .unwrap_or_else(|| panic!("no return probe of {name}"));
    let causes = ["untracked", "crowded", "runtime"].iter();
    let missed = causes.map(|cause| found["missed"][cause].as_u64().expect("a number"));
    let missed: u64 = missed.sum();
    let number = |key: &str| found[key].as_u64().expect("a number");
    [
        number("hits") - missed,
        number("tail"),
        number("unwound"),
        missed,
    ]
}

/// Calls that were under way at the end, and when the process was forked.
fn inside(summary: &Value, name: &str) -> [u64; 2] {
    let probes = summary["probes"].as_array().expect("probes");
    let of = |probe: &&Value| probe["name"] == name && probe["kind"] == "return";
    let found = probes.iter().find(of).expect("a return probe");
    ["inside", "inherited"].map(|key| found[key].as_u64().expect("a number"))
}

#[test]
fn calls_end_as_they_would_and_are_counted_as_what_they_are() {
    let program = program();
    let path = program.to_str().unwrap();
    let args = [
        "run", "-c", "-q", "--format", "json", "-p", "*%call", "--", path,
    ];
    let ended = kptrace(&args).expect(0);
    assert_eq!(ended.out, alone(&program));
    let summary = json::summary(&ended.err);
    assert_eq!(accounts::check(&summary).wrong, [""; 0]);
    // 5,050 calls, and four in the child.
    assert_eq!(fates(&summary, "down"), [5054, 0, 0, 0]);
    assert_eq!(fates(&summary, "chain"), [0, 100, 0, 0]);
    assert_eq!(fates(&summary, "end_of_chain"), [100, 0, 0, 0]);
    assert_eq!(fates(&summary, "many"), [100, 0, 0, 0]);
    assert_eq!(fates(&summary, "by_memory"), [100, 0, 0, 0]);
    // On either of two threads.
    assert_eq!(fates(&summary, "step"), [4000, 0, 0, 0]);
    // In the parent and in the child.
    assert_eq!(fates(&summary, "forks"), [2, 0, 0, 0]);
    // Left by longjmp.
    assert_eq!(fates(&summary, "jumps"), [0, 0, 0, 0]);
    assert_eq!(inside(&summary, "jumps"), [1100, 550]);
    // Two coroutines and their last calls, and the first of both in the child.
    assert_eq!(inside(&summary, "main"), [0, 1]);
    let (even, odd) = (fates(&summary, "even"), fates(&summary, "odd"));
    assert_eq!(even[0] + odd[0], 100, "{even:?} {odd:?}");
    assert_eq!(even[1] + odd[1], 4950, "{even:?} {odd:?}");
}

#[test]
fn a_child_that_is_not_followed_returns_through_what_it_inherited() {
    let program = program();
    let path = program.to_str().unwrap();
    let args = [
        "run",
        "-c",
        "--no-follow",
        "-q",
        "--format",
        "json",
        "-p",
        "*:*%return",
        "--",
        path,
    ];
    let ended = kptrace(&args).expect(0);
    assert_eq!(ended.out, alone(&program));
    let summary = json::summary(&ended.err);
    assert_eq!(fates(&summary, "forks"), [1, 0, 0, 0]);
}

#[test]
fn more_calls_than_there_is_room_for_are_missed_and_said() {
    let program = program();
    let path = program.to_str().unwrap();
    let args = [
        "run",
        "-c",
        "--max-active",
        "14",
        "-p",
        "down%return",
        "--",
        path,
    ];
    let ended = kptrace(&args).expect(0);
    assert_eq!(ended.out, alone(&program));
    assert!(ended.err.contains("help: --max-active"), "{}", ended.err);
    let row = ended
        .err
        .lines()
        .find(|line| line.ends_with(":down%return"));
    let numbers: Vec<u64> = row
        .unwrap_or_else(|| panic!("{}", ended.err))
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // All calls; those that are deeper than fourteen were not seen to return.
    assert_eq!(numbers[0], 5054);
    assert_eq!(
        numbers[1],
        5054 - (0..100).map(|n: u64| (n + 1).min(14)).sum::<u64>() - 4
    );
}

#[test]
fn a_return_is_told_with_its_value_and_how_long_it_took() {
    let program = program();
    let path = program.to_str().unwrap();
    let args = ["run", "-p", "end_of_chain%return n=$retval:s64", "--", path];
    let ended = kptrace(&args).expect(0);
    let lines: Vec<&str> = ended
        .err
        .lines()
        .filter(|line| line.contains("<- "))
        .collect();
    assert_eq!(lines.len(), 100, "{}", ended.err);
    for (n, line) in lines.iter().enumerate() {
        let told = format!("end_of_chain n={} ret=0x{:x} ", 3 * (n + 1), 3 * (n + 1));
        assert!(line.contains(&told), "{line}");
        assert!(line.ends_with("ns") || line.ends_with('s'), "{line}");
    }
}

#[test]
fn exceptions_and_cancellation_pass_through_calls_whose_returns_are_probed() {
    if !build::has("g++") {
        println!("skipped: there is no g++");
        return;
    }
    let text = std::fs::read_to_string(build::targets().join("thrown.cc")).unwrap();
    let source = Source::new("g++", "cc", "thrown", text).flags(&["-O2", "-pthread"]);
    let program = source.build();
    let path = program.to_str().unwrap();
    for probes in ["*%call", "*:*%call"] {
        let args = [
            "run", "-c", "-q", "--format", "json", "-p", probes, "--", path,
        ];
        let ended = kptrace(&args).expect(0);
        assert_eq!(ended.out, alone(&program), "{probes}");
        let summary = json::summary(&ended.err);
        assert_eq!(accounts::check(&summary).wrong, [""; 0]);
        assert_eq!(fates(&summary, "leaf"), [2000, 0, 1000, 0]);
        assert_eq!(fates(&summary, "nested"), [42_000, 0, 21_000, 0]);
        assert_eq!(fates(&summary, "again"), [2000, 0, 1000, 0]);
        assert_eq!(fates(&summary, "cancelled"), [0, 0, 1, 0]);
        assert_eq!(fates(&summary, "leaves"), [0, 0, 1, 0]);
    }
}
