//! Targets that are in an unusual state when they are attached to, or when they are let go: the
//! first thread has ended, stopped by job control, in a signal handler that stays.

use std::process::Stdio;

use nix::sys::signal::Signal;

use super::every::{at_work, attach, let_go, round};
use super::looks::{different, look};
use super::support::*;

/// The state letter of a process; waits until it is `wanted`.
fn state(pid: u32, wanted: char) {
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if state == Some(wanted) {
            return;
        }
        assert!(std::time::Instant::now() < end, "{state:?} is not {wanted}");
        std::thread::yield_now();
    }
}

#[test]
fn a_process_whose_first_thread_has_ended_is_traced_and_let_go() {
    let mut line = command(c("late").flags(&["-pthread"]).build());
    line.arg("go").stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    for options in [&["-p", "*:*"][..], &["-p", "*:*", "--no-opt", "--trap-limit", "0"]] {
        let kptrace = attach(&target, options);
        let told = let_go(kptrace);
        assert!(told["armed"].as_u64() > Some(1000), "{told}");
    }
    let ended = target.end().expect(0);
    assert_eq!(ended.out, "ready\nright\n");
}

#[test]
fn a_stopped_process_stays_stopped_when_it_is_let_go() {
    let mut target = at_work(&c("thread_storm").flags(&["-pthread"]));
    round(&mut target);
    target.signal(Signal::SIGSTOP);
    state(target.pid(), 'T');
    let kptrace = attach(&target, &["-p", "*:*"]);
    let_go(kptrace);
    state(target.pid(), 'T');
    assert_eq!(different(target.pid()), [""; 0]);
    target.signal(Signal::SIGCONT);
    round(&mut target);
    target.end().expect(0);
}

#[test]
fn stop_and_continue_pass_through_a_traced_process() {
    let mut target = at_work(&c("thread_storm").flags(&["-pthread"]));
    let kptrace = attach(&target, &["-p", "*:*"]);
    round(&mut target);
    for _ in 0..3 {
        target.signal(Signal::SIGSTOP);
        // Traced threads in a group stop show as `t`; the target says nothing meanwhile.
        state(target.pid(), 't');
        target.signal(Signal::SIGCONT);
        round(&mut target);
    }
    let_go(kptrace);
    round(&mut target);
    target.end().expect(0);
}

#[test]
fn a_process_that_continues_after_it_was_attached_to_stopped_is_traced() {
    let mut target = at_work(&c("window_branches"));
    round(&mut target);
    target.signal(Signal::SIGSTOP);
    state(target.pid(), 'T');
    let kptrace = attach(&target, &["-p", "*:*"]);
    target.signal(Signal::SIGCONT);
    round(&mut target);
    let told = let_go(kptrace);
    assert!(json::count(&told, "check") > 0);
    round(&mut target);
    target.end().expect(0);
}

/// A handler that interrupted a function between its first two instructions will return there: a
/// jump may not be written over them while it stays, also when its frame is on another stack.
fn stays(extra: &[&str]) {
    let mut line = command(c("stays_in_handler").build());
    line.args(extra).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let before = look(target.pid());
    let kptrace = attach(&target, &["-p", "*"]);
    target.write("\n");
    // It ends by itself; the probes say what they were.
    let traced = kptrace.end().expect(0);
    let told = summary(&traced.out);
    assert_eq!(json::count(&told, "inside"), 1001, "{told}");
    let ended = target.end().expect(0);
    assert_eq!(ended.out, "ready\nright\n");
    assert!(!before.executable.is_empty());
}

#[test]
fn a_handler_that_stays_returns_into_a_whole_instruction() {
    stays(&[]);
}

#[test]
fn a_handler_that_stays_on_another_stack_returns_into_a_whole_instruction() {
    stays(&["alternate"]);
}

#[test]
fn letting_go_while_a_handler_stays_leaves_the_text_as_it_was() {
    for extra in [&[][..], &["alternate"]] {
        let mut line = command(c("stays_in_handler").build());
        line.args(extra).stdin(Stdio::piped());
        let mut target = start(line);
        target.out.wait_for("ready");
        let before = look(target.pid());
        let_go(attach(&target, &["-p", "*:*"]));
        assert_eq!(different(target.pid()), [""; 0]);
        assert_eq!(look(target.pid()), before);
        target.write("\n");
        assert_eq!(target.end().expect(0).out, "ready\nright\n");
    }
}
