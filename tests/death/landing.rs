//! The handler of SIGTRAP in the target: where it is, where it is not, and that the program never
//! learns of it.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::orphans::{adopt, end_of, guardian};
use super::support::*;

fn at_work(what: &str) -> Running {
    let mut line = command(c("own_trap").flags(&["-pthread"]).build());
    line.arg(what).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

fn attach(target: &Running, options: &[&str]) -> Running {
    let mut line = command(launch::binary());
    line.args(["attach", "-c", "--format", "json", "--trap-limit", "0"])
        .args(options)
        .arg(target.pid().to_string());
    start(line)
}

fn attached(target: &Running, options: &[&str]) -> Running {
    let mut kptrace = attach(target, options);
    kptrace.out.wait_for("attached_probes");
    kptrace
}

fn let_go(kptrace: Running) -> Ended {
    kptrace.signal(Signal::SIGINT);
    kptrace.end().expect(0)
}

fn killed(kptrace: Running) {
    let guardian = guardian(kptrace.pid());
    kptrace.signal(Signal::SIGKILL);
    kptrace.end();
    end_of(guardian);
}

/// Whether the process has a handler of SIGTRAP.
fn catches(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = status.lines().find(|line| line.starts_with("SigCgt:"));
    let mask = line.expect("a mask").rsplit('\t').next().expect("a number");
    u64::from_str_radix(mask, 16).expect("hexadecimal") >> (Signal::SIGTRAP as u32 - 1) & 1 != 0
}

#[test]
fn it_is_there_while_breakpoints_are() {
    let target = at_work("");
    let kptrace = attached(&target, &["-p", "only_trap"]);
    assert!(catches(target.pid()));
    let_go(kptrace);
    assert!(!catches(target.pid()));
    // Jumps alone need none, once they are written.
    let kptrace = attached(&target, &["-p", "main"]);
    assert!(!catches(target.pid()));
    let_go(kptrace);
    target.end().expect(0);
}

#[test]
fn it_is_not_put_where_the_program_acts_on_sigtrap() {
    for (what, says) in [
        ("handler", "handles SIGTRAP itself"),
        ("ignore", "ignores SIGTRAP"),
    ] {
        let mut target = at_work(what);
        let told = attach(&target, &["-p", "only_trap", "--trap", "landing"])
            .end()
            .expect(1);
        assert!(
            told.err.contains(says) && told.err.contains("--trap"),
            "{}",
            told.err
        );
        let mut kptrace = attach(&target, &["-p", "only_trap"]);
        let told = kptrace.err.wait_for(says);
        assert!(told.contains("1 breakpoint"), "{told}");
        kptrace.out.wait_for("attached_probes");
        target.write("\n");
        target.out.wait_for("sum right");
        let ended = let_go(kptrace);
        assert_eq!(ended.err.matches(says).count(), 1, "{}", ended.err);
        let kptrace = attached(&target, &["-p", "only_trap", "--trap", "never"]);
        let ended = let_go(kptrace);
        assert!(!ended.err.contains(says), "{}", ended.err);
        target.write("\n");
        target.out.wait_for("sum right");
        target.end().expect(0);
    }
}

#[test]
fn threads_that_block_sigtrap_are_told_of() {
    let target = at_work("blocked");
    let mut kptrace = attach(&target, &["-p", "only_trap"]);
    kptrace.err.wait_for("1 thread with SIGTRAP blocked");
    kptrace.out.wait_for("attached_probes");
    let_go(kptrace);
    target.end().expect(0);
}

#[test]
fn a_trap_of_the_programs_own_ends_it_as_it_would() {
    adopt();
    for what in ["int3", "raise"] {
        // Alone, traced, and when kptrace was killed.
        for traced in [None, Some(false), Some(true)] {
            let mut target = at_work(what);
            let kptrace = traced.map(|_| attached(&target, &["-p", "only_trap"]));
            let kptrace = match (kptrace, traced) {
                (Some(kptrace), Some(true)) => {
                    killed(kptrace);
                    assert!(catches(target.pid()));
                    None
                }
                (kptrace, _) => kptrace,
            };
            target.write("\n");
            let ended = target.end();
            assert_eq!(
                ended.signal(),
                Some(Signal::SIGTRAP as i32),
                "{what} {traced:?}"
            );
            if let Some(kptrace) = kptrace {
                kptrace.end().expect(0);
            }
        }
    }
}

#[test]
fn an_action_that_the_program_sets_later_is_its_own() {
    let mut target = at_work("later");
    let kptrace = attached(&target, &["-p", "only_trap"]);
    target.write("\n");
    target.out.wait_for("sum right, handled 1");
    let_go(kptrace);
    assert!(catches(target.pid()), "it is not taken away");
    target.write("\n");
    target.out.wait_for("sum right, handled 2");
    target.end().expect(0);
}

#[test]
fn what_a_killed_kptrace_left_is_not_taken_for_the_programs() {
    adopt();
    let mut target = at_work("");
    killed(attached(&target, &["-p", "only_trap"]));
    assert!(catches(target.pid()));
    let kptrace = attached(&target, &["-p", "only_trap", "--trap", "landing"]);
    target.write("\n");
    target.out.wait_for("sum right");
    let_go(kptrace);
    assert!(!catches(target.pid()));
    target.write("\n");
    target.out.wait_for("sum right");
    target.end().expect(0);
}
