//! Bytes that somebody else wrote at a site: they are neither overwritten nor taken back.

use std::process::Stdio;

use super::every::{attach, let_go};
use super::looks::different;
use super::support::*;

#[test]
fn bytes_that_the_program_wrote_at_a_site_stay() {
    for options in [&[][..], &["--no-opt"]] {
        let mut line = command(c("foreign_bytes").build());
        line.stdin(Stdio::piped());
        let mut target = start(line);
        target.out.wait_for("ready");
        let kptrace = attach(
            &target,
            &[&["-p", "patched", "-p", "neighbour"], options].concat(),
        );
        target.write("\n");
        target.out.wait_for("wrote 9 2");
        let told = let_go(kptrace);
        assert_eq!(json::count(&told, "neighbour"), 1, "{told}");
        assert_eq!(
            json::count(&told, "patched"),
            0,
            "its site was gone: {told}"
        );
        let notes = told["notes"].to_string();
        assert!(notes.contains("changed by somebody else"), "{told}");
        target.write("\n");
        target.out.wait_for("have 9 2");
        target.end().expect(0);
    }
}

#[test]
fn a_probe_comes_back_when_the_bytes_do() {
    let mut line = command(c("changes_back").build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let mut tracer = command(launch::binary());
    let pid = target.pid().to_string();
    tracer.args(["attach", "--format", "json", "-p", "patched", &pid]);
    let mut tracer = start(tracer);
    tracer.out.wait_for("attached_probes");
    target.write("\n");
    target.out.wait_for("was 9");
    let soon = std::time::Duration::from_millis(50);
    let hit = (0..1000).any(|_| {
        target.write("\n");
        target.out.wait_for("called 1");
        tracer.out.wait_within("\"hit\"", soon).is_some()
    });
    assert!(hit, "{}", tracer.out.so_far());
    wait_for_a_jump(target.pid(), &mut tracer);
    tracer.signal(nix::sys::signal::Signal::SIGINT);
    let told = summary(&tracer.end().expect(0).out);
    assert_eq!(json::probe(&told, "patched")["state"], "jump", "{told}");
    let notes = told["notes"].to_string();
    assert!(notes.contains("changed by somebody else"), "{told}");
    assert!(notes.contains("armed again"), "{told}");
    drop(target.stdin.take());
    target.end().expect(0);
}

/// A site that is armed again is a trap first: waits until a jump stands in the target's text.
fn wait_for_a_jump(pid: u32, tracer: &mut Running) {
    let tick = std::time::Duration::from_millis(5);
    let jump = (0..5000).any(|_| {
        let _ = tracer.out.wait_within("no such line", tick);
        different(pid).iter().any(|byte| byte.contains(": e9 for"))
    });
    assert!(jump, "{:?}", different(pid));
}

/// The target that does what it is told.
fn obedient() -> Running {
    let mut line = command(c("patches_itself").build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

/// Has it do something, and gives what it said, if it was to say something.
fn told(target: &mut Running, letters: &str, says: &str) -> String {
    target.write(&format!("{letters}\n"));
    let said = target.out.wait_for(says);
    if says != "done" {
        target.out.wait_for("done");
    }
    said
}

#[test]
fn bytes_that_change_while_it_is_traced_are_told() {
    for options in [&[][..], &["--no-opt"]] {
        let mut target = obedient();
        let kptrace = attach(
            &target,
            &[&["-p", "patched", "-p", "other"], options].concat(),
        );
        told(&mut target, "cc", "called 1");
        // Hits from here on are not seen by anybody.
        told(&mut target, "pc", "called 2");
        let told_of = let_go(kptrace);
        let patched = json::probe(&told_of, "patched");
        assert_eq!(patched["state"], "foreign", "{told_of}");
        assert_eq!(patched["hits"], 2, "{told_of}");
        assert_eq!(json::count(&told_of, "other"), 1, "{told_of}");
        let notes = told_of["notes"].to_string();
        assert!(notes.contains("patched: its bytes were changed by somebody else"));
        assert_eq!(told(&mut target, "c", "called"), "called 2");
        assert_ne!(different(target.pid()), [""; 0]);
        told(&mut target, "f", "done");
        assert_eq!(different(target.pid()), [""; 0]);
        target.end().expect(0);
    }
}

#[test]
fn a_probe_whose_bytes_were_taken_back_is_armed_again() {
    let mut target = obedient();
    let mut tracer = command(launch::binary());
    let pid = target.pid().to_string();
    tracer.args(["attach", "--format", "json", "-p", "patched", &pid]);
    let mut tracer = start(tracer);
    tracer.out.wait_for("attached_probes");
    told(&mut target, "c", "called 1");
    tracer.out.wait_for("\"hit\"");
    // The file's bytes are back, and the jump is gone.
    told(&mut target, "pf", "done");
    let soon = std::time::Duration::from_millis(50);
    let hit = (0..1000).any(|_| {
        told(&mut target, "c", "called 1");
        tracer.out.wait_within("\"hit\"", soon).is_some()
    });
    assert!(hit, "{}", tracer.out.so_far());
    wait_for_a_jump(target.pid(), &mut tracer);
    tracer.signal(nix::sys::signal::Signal::SIGINT);
    let summary = summary(&tracer.end().expect(0).out);
    assert_eq!(json::probe(&summary, "patched")["state"], "jump");
    let notes = summary["notes"].to_string();
    assert!(notes.contains("changed by somebody else"), "{summary}");
    assert!(notes.contains("armed again"), "{summary}");
    assert_eq!(different(target.pid()), [""; 0]);
    target.end().expect(0);
}

#[test]
fn a_program_that_sums_its_text_finds_it_as_it_was() {
    let mut target = obedient();
    let before = told(&mut target, "s", "sum");
    for options in [&[][..], &["--no-opt"]] {
        let kptrace = attach(&target, &[&["-p", "*"], options].concat());
        assert_ne!(told(&mut target, "s", "sum"), before);
        let summary = let_go(kptrace);
        assert_eq!(summary["notes"], serde_json::json!([]), "{summary}");
        assert_eq!(told(&mut target, "s", "sum"), before);
    }
    target.end().expect(0);
}
