//! kptrace is killed while a process is inside of calls whose returns are probed: it goes on unharmed, and
//! is restored.

use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::leaving::ours;
use crate::support::build;
use crate::support::launch::{self, Running, kptrace};

/// A program that waits inside of calls, and its tracer, killed after it had entered these.
fn left_inside(functions: &[&str]) -> Running {
    let program = build::c("inside").flags(&["-O2"]).build();
    let mut command = launch::command(program);
    command.stdin(Stdio::piped());
    let mut target = launch::start(command);
    target.out.wait_for("ready");
    let mut command = launch::command(launch::binary());
    command.args(["attach", "-c", "--format", "json"]);
    for function in functions {
        command.args(["-p", function]);
    }
    command.arg(target.pid().to_string());
    let mut tracer = launch::start(command);
    tracer.out.wait_for("attached_probes");
    // It enters eleven calls, and a coroutine's that is left in the middle.
    target.write("hello\n");
    target.out.wait_for("round 0 17");
    tracer.signal(Signal::SIGKILL);
    assert_eq!(tracer.end().signal(), Some(9));
    target
}

fn goes_on(mut target: Running) {
    target.write("abc\n");
    target.out.wait_for("round 1 15");
    target.write("abcde\n");
    target.out.wait_for("round 2 17");
    target.out.wait_for("suspended 42");
    target.end().expect(0);
}

const EVERY: [&str; 2] = ["*%call", "libc:*%call"];

#[test]
fn a_process_whose_tracer_is_killed_returns_from_its_calls() {
    let target = left_inside(&EVERY);
    assert_ne!(ours(target.pid()), Vec::<String>::new());
    goes_on(target);
}

#[test]
fn a_process_whose_tracer_was_killed_is_restored_in_the_middle_of_calls() {
    for functions in [&EVERY[..], &["nested%return", "suspended%return"]] {
        let target = left_inside(functions);
        let pid = target.pid();
        let memory = |pid: u32| {
            let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
            // Our own words lie below all that a program has at a random address.
            let low = |line: &&str| {
                let start = line.split('-').next().unwrap_or_default();
                u64::from_str_radix(start, 16).expect("an address") < 1 << 31
            };
            maps.lines().filter(low).count()
        };
        assert_ne!(memory(pid), 0);
        let ended = kptrace(&["restore", &pid.to_string()]).expect(0);
        assert!(
            ended.err.contains("its memory unmapped"),
            "{functions:?}: {}",
            ended.err
        );
        assert_eq!(ours(pid), Vec::<String>::new());
        assert_eq!(memory(pid), 0, "the words of its calls are gone too");
        let ended = kptrace(&["restore", &pid.to_string()]).expect(0);
        assert!(ended.err.contains("nothing of kptrace's"), "{}", ended.err);
        goes_on(target);
    }
}

#[test]
fn attaching_again_restores_first_what_calls_return_through() {
    let target = left_inside(&EVERY);
    let mut command = launch::command(launch::binary());
    command.args(["attach", "-c", "--format", "json", "-p", "*%call"]);
    command.arg(target.pid().to_string());
    let mut tracer = launch::start(command);
    tracer.out.wait_for("attached_probes");
    goes_on(target);
    let ended = tracer.end().expect(0);
    assert!(ended.err.contains("its memory unmapped"), "{}", ended.err);
}

/// A function of greenlet's copies the stack away, with return addresses in it.
#[test]
fn calls_on_stacks_that_were_copied_away_keep_what_they_return_through() {
    let python = "/usr/bin/python3";
    let mut command = launch::command(python);
    command.args(["-c", "import greenlet"]);
    if !std::path::Path::new(python).exists() || launch::start(command).end().code() != 0 {
        println!("skipped: there is no python3-greenlet");
        return;
    }
    let text = "
import sys, greenlet
def deep(n): return main.switch() if n == 0 else deep(n - 1) + 1
main = greenlet.getcurrent()
print('ready', flush=True)
sys.stdin.readline()
class Key:
    def __lt__(self, other): deep(3); return False
all = [greenlet.greenlet(lambda: sorted([Key(), Key()])) for _ in range(5)]
for one in all: one.switch()
print('suspended', flush=True)
sys.stdin.readline()
print([len(one.switch(7)) for one in all], flush=True)
";
    for let_go in [true, false] {
        let mut command = launch::command(python);
        command.args(["-c", text]).stdin(Stdio::piped());
        let mut target = launch::start(command);
        target.out.wait_for("ready");
        let pid = target.pid().to_string();
        let mut command = launch::command(launch::binary());
        command.args(["attach", "-c", "--format", "json", "-p", "*:*%call", &pid]);
        let mut tracer = launch::start(command);
        tracer.out.wait_for("attached_probes");
        target.write("\n");
        target.out.wait_for("suspended");
        if let_go {
            tracer.signal(Signal::SIGINT);
            let ended = tracer.end().expect(0);
            assert!(
                ended.out.contains("calls return through it"),
                "{}",
                ended.out
            );
        } else {
            tracer.signal(Signal::SIGKILL);
            assert_eq!(tracer.end().signal(), Some(9));
            let ended = kptrace(&["restore", &pid]).expect(1);
            let left = "memory with code that a thread, a call, or a signal handler may return";
            assert!(ended.err.contains(left), "{}", ended.err);
        }
        target.write("\n");
        target.out.wait_for("[2, 2, 2, 2, 2]");
        target.end().expect(0);
    }
}
