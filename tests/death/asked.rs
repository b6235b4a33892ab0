//! Ends that kptrace is asked for, or cannot help: it disarms, says why it stops, and the target
//! does not notice.

use std::fs::OpenOptions;
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::support::*;

fn at_work() -> Running {
    let mut line = command(c("own_trap").flags(&["-pthread"]).build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

fn attach(target: &Running, options: &[&str]) -> std::process::Command {
    let mut line = command(launch::binary());
    line.arg("attach")
        .args(["-p", "only_trap", "-p", "main", "--trap-limit", "0"])
        .args(options)
        .arg(target.pid().to_string());
    line
}

/// The target does what it did, and nothing of ours is in it.
fn is_as_it_was(mut target: Running) {
    target.write("\n");
    target.out.wait_for("sum right");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid()));
    assert!(!maps.expect("it is there").contains("memfd"));
    target.end().expect(0);
}

#[test]
fn signals_end_tracing_and_nothing_else() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let target = at_work();
        let mut kptrace = start(attach(&target, &["-c", "--format", "json"]));
        kptrace.out.wait_for("attached_probes");
        kptrace.signal(signal);
        let ended = kptrace.end().expect(0);
        assert_eq!(summary(&ended.out)["armed"], 2);
        is_as_it_was(target);
    }
}

#[test]
fn a_reader_that_leaves_ends_tracing() {
    let target = at_work();
    let mut line = attach(&target, &[]);
    let mut head = command("head");
    let (read, write) = std::io::pipe().expect("a pipe");
    head.args(["-n", "3"]).stdin(read);
    line.stdout(write).stderr(Stdio::null());
    let mut kptrace = line.spawn().expect("kptrace");
    // This process's copy of the pipe's end.
    drop(line);
    let head = start(head).end().expect(0);
    assert_eq!(head.out.lines().count(), 3);
    assert!(kptrace.wait().expect("our child").success());
    is_as_it_was(target);
}

#[test]
fn a_full_disk_ends_tracing_with_one_message() {
    let target = at_work();
    let full = OpenOptions::new().write(true).open("/dev/full");
    let mut line = attach(&target, &[]);
    line.stdout(full.expect("/dev/full")).stderr(Stdio::piped());
    let ended = line
        .spawn()
        .expect("kptrace")
        .wait_with_output()
        .expect("our child");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("cannot write").count(), 1, "{said}");
    is_as_it_was(target);
}

#[test]
fn a_kptrace_without_descriptors_touches_nothing() {
    let target = at_work();
    let mut shell = command("sh");
    let line = attach(&target, &[]);
    let words = line.get_args().map(|word| word.to_str().expect("UTF-8"));
    let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let limited = format!("ulimit -n 5; exec {} {}", launch::binary(), words.join(" "));
    shell.args(["-c", &limited]);
    let ended = start(shell).end();
    assert_eq!(ended.code(), 1, "{}", ended.err);
    assert!(ended.err.contains("kptrace: "), "{}", ended.err);
    is_as_it_was(target);
}
