//! Bytes that somebody else wrote at a site: they are neither overwritten nor taken back.

use std::process::Stdio;

use super::every::{attach, let_go};
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
    tracer.signal(nix::sys::signal::Signal::SIGINT);
    let told = summary(&tracer.end().expect(0).out);
    assert_eq!(json::probe(&told, "patched")["state"], "jump", "{told}");
    let notes = told["notes"].to_string();
    assert!(notes.contains("changed by somebody else"), "{told}");
    assert!(notes.contains("armed again"), "{told}");
    drop(target.stdin.take());
    target.end().expect(0);
}
