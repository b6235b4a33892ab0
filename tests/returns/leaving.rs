//! Letting go of a process that is inside of calls whose returns are probed.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::accounts;
use crate::support::build;
use crate::support::json;
use crate::support::launch;

/// What of ours is mapped in a process.
pub fn ours(pid: u32) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
    let lines = maps.lines().map(str::to_owned);
    lines.filter(|line| line.contains("memfd:")).collect()
}

#[test]
fn a_process_that_is_let_go_of_in_nested_calls_returns_from_them_by_itself() {
    let program = build::c("inside").flags(&["-O2"]).build();
    let mut command = launch::command(&program);
    command.stdin(Stdio::piped());
    let mut target = launch::start(command);
    target.out.wait_for("ready");
    let pid = target.pid();
    let mut round = |line: &str, expected: &str, probed: bool, left: [u64; 3]| {
        let mut command = launch::command(launch::binary());
        command.args(["attach", "-c", "-p", "*%call", "-p", "libc:*%call"]);
        command.arg("--format").arg("json").arg(pid.to_string());
        let mut tracer = launch::start(command);
        tracer.out.wait_for("attached_probes");
        if probed {
            target.write(line);
            target.out.wait_for(expected);
        }
        tracer.signal(Signal::SIGINT);
        assert!(tracer.ends_within(Duration::from_secs(60)));
        let ended = tracer.end();
        assert!(!ended.err.contains("left in the target"), "{}", ended.err);
        assert_eq!(ours(pid), Vec::<String>::new());
        let summary = json::summary(&ended.out);
        assert_eq!(accounts::check(&summary).wrong, [""; 0]);
        let inside = |name: &str| {
            let probes = summary["probes"].as_array().expect("probes");
            let of = |p: &&Value| p["name"] == name && p["kind"] == "return";
            let found = probes.iter().find(of).expect("it is probed");
            found["inside"].as_u64().expect("a number")
        };
        let all = ["nested", "innermost", "suspended"].map(inside);
        assert_eq!(all, left, "{line}");
        if !probed {
            target.write(line);
            target.out.wait_for(expected);
        }
    };
    // It enters eleven calls, and a coroutine's that is left in the middle, while it is probed.
    round("hello\n", "round 0 17", true, [11, 1, 1]);
    round("abc\n", "round 1 15", false, [0, 0, 0]);
    // Nobody is inside of a call that began while it was probed.
    round("abcde\n", "round 2 17", true, [0, 0, 0]);
    target.out.wait_for("suspended 42");
    target.end().expect(0);
}
