//! Many rounds of attaching and letting go, with threads that never rest; targets that are killed
//! while they are armed.

use std::process::Stdio;

use nix::sys::signal::Signal;

use super::every::{at_work, attach, let_go, round};
use super::looks::{different, look};
use super::support::*;

/// Attaches and lets go so many times; the target is the same, and right, afterwards.
fn rounds(count: u32) {
    let mut target = at_work(&c("busy").flags(&["-pthread"]));
    round(&mut target);
    // The first round may touch memory for the first time.
    let_go(attach(&target, &["-p", "*:*"]));
    let before = look(target.pid());
    for turn in 0..count {
        let traps: &[&str] = &["-p", "*", "--no-opt", "--trap-limit", "0"];
        let options = if turn % 5 == 4 { traps } else { &["-p", "*:*"] };
        let kptrace = attach(&target, options);
        if turn % 8 == 0 {
            round(&mut target);
        }
        let_go(kptrace);
        if turn % 16 == 0 {
            assert_eq!(different(target.pid()), [""; 0], "round {turn}");
        }
    }
    assert_eq!(different(target.pid()), [""; 0]);
    assert_eq!(look(target.pid()), before);
    round(&mut target);
    let ended = target.end().expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
}

#[test]
fn sixteen_busy_threads_survive_50_rounds() {
    rounds(50);
}

#[test]
#[ignore = "takes minutes; the same as the 50 rounds"]
fn sixteen_busy_threads_survive_1000_rounds() {
    rounds(1000);
}

#[test]
fn threads_that_come_and_go_survive_rounds() {
    let mut target = at_work(&c("thread_storm").flags(&["-pthread"]));
    for _ in 0..15 {
        let_go(attach(&target, &["-p", "*:*"]));
    }
    round(&mut target);
    assert_eq!(different(target.pid()), [""; 0]);
    target.end().expect(0);
}

#[test]
fn a_target_that_is_killed_while_armed_ends_the_trace_and_the_summary_comes() {
    for turn in 0..20 {
        let target = at_work(&c("thread_storm").flags(&["-pthread"]));
        let mut line = command(launch::binary());
        let options: &[&str] = if turn % 2 == 0 { &[] } else { &["--no-opt"] };
        line.args(["attach", "-c", "--format", "json", "-p", "*:*"])
            .args(options)
            .arg(target.pid().to_string())
            .stdin(Stdio::null());
        let mut kptrace = start(line);
        // From the first turns, which are killed when armed, to those killed while that happens.
        if turn < 10 {
            kptrace.out.wait_for("attached_probes");
        }
        target.signal(Signal::SIGKILL);
        let ended = kptrace.end();
        let code = ended.status.code();
        assert!(
            matches!(code, Some(0 | 1)),
            "{} {}",
            ended.status,
            ended.err
        );
        if turn < 10 {
            summary(&ended.out);
        }
    }
}

fn everything_moves() -> Source {
    let library = c("everything_moves").flags(&["-DLIBRARY", "-shared", "-fPIC"]);
    let library = library.named("libmoves.so").build();
    let plugin = format!("-DPLUGIN=\"{}\"", library.display());
    c("everything_moves").flags(&["-pthread", "-ldl", &plugin])
}

fn survive(rounds: usize) {
    let mut target = at_work(&everything_moves());
    for turn in 0..rounds {
        let way: &[&str] = match turn % 4 {
            0 => &["-p", "*:*"],
            1 => &["--follow", "-p", "*:*"],
            2 => &["--no-opt", "--trap-limit", "0", "-p", "*"],
            _ => &["-p", "libmoves.so:*", "--pending", "ignore"],
        };
        let_go(attach(&target, way));
    }
    round(&mut target);
    assert_eq!(different(target.pid()), [""; 0]);
    target.end().expect(0);
}

#[test]
fn threads_libraries_children_and_signals_at_once_survive_12_rounds() {
    survive(12);
}

#[test]
#[ignore = "takes minutes; the same as the 12 rounds"]
fn threads_libraries_children_and_signals_at_once_survive_100_rounds() {
    survive(100);
}
