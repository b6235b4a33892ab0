//! Seccomp filters: calls are made in a thread that has none; where all have them, and they are
//! others than ours, the target is refused by name. Under filters that are ours too, the calls are
//! tried first.

use std::path::PathBuf;
use std::process::Stdio;

use super::every::{attach, let_go};
use super::looks::{different, look};
use super::support::*;

fn program() -> PathBuf {
    c("filters").flags(&["-pthread"]).build()
}

fn started(mode: &str) -> Running {
    let mut line = command(program());
    line.arg(mode).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

#[test]
fn a_thread_without_filters_makes_the_calls() {
    let mut target = started("one");
    let before = look(target.pid());
    let kptrace = attach(&target, &["-p", "*"]);
    let told = let_go(kptrace);
    assert!(told["armed"].as_u64() > Some(1), "{told}");
    assert_eq!(different(target.pid()), [""; 0]);
    assert_eq!(look(target.pid()).mappings, before.mappings);
    target.write("\n");
    assert_eq!(target.end().expect(0).out, "ready\nright\n");
}

#[test]
fn a_program_that_asks_for_tid_is_refused_where_filters_may_end_a_thread_for_it() {
    let mut target = started("one");
    let pid = target.pid().to_string();
    let program = "uprobe:work { @[tid] = count(); }";
    let ended = kptrace(&["attach", "-e", program, &pid]).expect(1);
    assert!(
        ended.err.contains("asks for `tid`") && ended.err.contains("seccomp filters of its own"),
        "{}",
        ended.err
    );
    assert_eq!(different(target.pid()), [""; 0]);
    target.write("\n");
    assert_eq!(target.end().expect(0).out, "ready\nright\n");
}

#[test]
fn filters_of_all_threads_are_a_reason() {
    let mut target = started("all");
    let ended = kptrace(&["attach", "-p", "work", &target.pid().to_string()]).expect(1);
    assert!(
        ended.err.contains("seccomp filters of its own"),
        "{}",
        ended.err
    );
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    target.write("\n");
    assert_eq!(target.end().expect(0).out, "ready\nright\n");
}

/// `kptrace run` under a filter, over a target that waits for the end of its input.
fn under(filter: &str) -> Ended {
    let mut line = command(program());
    line.arg(filter).arg(launch::binary());
    line.args(["run", "-c", "-p", "work", "--"]).arg(program());
    start(line).end()
}

#[test]
fn filters_that_are_ours_too_are_tried_first() {
    let allowed = under("allow").expect(0);
    assert_eq!(allowed.out, "ready\nright\n");
    assert!(allowed.err.contains("1 jump"), "{}", allowed.err);
    let refused = under("refuse").expect(125);
    assert_eq!(refused.out, "", "it does not run untraced");
    assert!(
        refused.err.contains("do not allow memfd_create"),
        "{}",
        refused.err
    );
}
