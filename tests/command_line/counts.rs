//! Counts of own targets' calls are exact, however the target was built.

use super::support::*;

/// Every `NAME COUNT` that the target printed is what kptrace counted.
fn agree(ended: &Ended, summary: &serde_json::Value) {
    let own: Vec<(&str, u64)> = ended
        .out
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| !matches!(*name, "result" | "sum"))
        .map(|(name, count)| (name, count.parse().expect("a count")))
        .collect();
    assert_eq!(own.len(), 3, "{}", ended.out);
    for (name, calls) in own {
        assert!(calls > 0, "{name}");
        assert_eq!(json::count(summary, name), calls, "{name}");
    }
}

fn exact(flags: &[&str], options: &[&str]) {
    let flags = [&["-pthread", "-fno-optimize-sibling-calls"], flags].concat();
    let program = c("calls").flags(&flags).build();
    let program = program.to_str().expect("UTF-8");
    let untraced = start(command(program)).end().expect(7);
    let probes = [
        "-c",
        "--format",
        "json",
        "-p",
        "fib",
        "-p",
        "in_thread",
        "-p",
        "twice",
        "-p",
        "never",
    ];
    let line = [&["run"], options, &probes, &["--", program]].concat();
    let traced = kptrace(&line).expect(7);
    assert_eq!(traced.out, untraced.out);
    let summary = json::summary(&traced.err);
    agree(&traced, &summary);
    assert_eq!(json::count(&summary, "never"), 0);
}

#[test]
fn counts_are_exact_in_a_pie() {
    exact(&["-O1", "-pie", "-fPIE"], &[]);
}

#[test]
fn counts_are_exact_in_a_position_dependent_program() {
    exact(&["-O2", "-no-pie", "-fno-pie"], &[]);
}
