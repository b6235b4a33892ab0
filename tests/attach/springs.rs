//! Springboards: two jumps, and padding between functions that is written and comes back. Threads
//! may stand between the two, and handlers return there.

use std::process::Stdio;

use super::every::{at_work, attach, let_go, round};
use super::looks::{different, look};
use super::support::*;

const SPRINGS: [&str; 6] = ["label_3", "pushes", "sums", "calls", "returns", "close_by"];

fn state(told: &serde_json::Value, name: &str) -> String {
    probe(told, name)["state"].as_str().expect("a state").into()
}

#[test]
fn threads_that_run_through_springboards_survive_many_rounds() {
    let mut target = at_work(&c("springboards").flags(&["-pthread"]));
    round(&mut target);
    let_go(attach(&target, &["-p", "*"]));
    let before = look(target.pid());
    for turn in 0..40 {
        let traps: &[&str] = &["-p", "*", "--no-opt", "--trap-limit", "0"];
        let kptrace = attach(&target, if turn % 8 == 7 { traps } else { &["-p", "*"] });
        if turn % 4 == 0 {
            round(&mut target);
        }
        let told = let_go(kptrace);
        for name in SPRINGS {
            let wanted = if turn % 8 == 7 { "trap" } else { "jump" };
            assert_eq!(state(&told, name), wanted, "{name} in round {turn}: {told}");
        }
        assert_eq!(told["notes"], serde_json::json!([]), "round {turn}");
        assert_eq!(different(target.pid()), [""; 0], "round {turn}");
    }
    let after = look(target.pid());
    assert_eq!(after.executable, before.executable);
    assert_eq!(after.descriptors, before.descriptors);
    round(&mut target);
    assert!(target.end().expect(0).out.ends_with("right\n"));
}

#[test]
fn every_call_of_a_springboard_is_counted() {
    let program = c("springboards").flags(&["-pthread"]).build();
    let program = program.to_str().expect("UTF-8");
    for way in [&[][..], &["--no-opt", "--trap-limit", "0"]] {
        let mut line = vec!["run", "-c", "--format", "json", "-p", "*"];
        line.extend(way);
        line.extend(["--", program]);
        let traced = kptrace(&line).expect(0);
        assert_eq!(traced.out, "right\n");
        let told = summary(&traced.err);
        for name in SPRINGS.into_iter().chain(["neighbour", "walled"]) {
            assert_eq!(json::count(&told, name), 50 * 4 * 200, "{name}: {told}");
        }
        assert_eq!(json::count(&told, "label_1"), 50 * 4);
    }
}

/// The second instruction of `pushes` starts within its two bytes, that of `label_3` behind them.
#[test]
fn a_probe_behind_the_two_bytes_is_in_nobodys_way() {
    let program = c("springboards").flags(&["-pthread"]).build();
    let program = program.to_str().expect("UTF-8");
    let places = ["label_3", "label_3+0x3", "pushes", "pushes+0x1"];
    let mut line = vec!["run", "-c", "--trap-limit", "0", "--format", "json"];
    line.extend(places.iter().flat_map(|place| ["-p", place]));
    line.extend(["--", program]);
    let traced = kptrace(&line).expect(0);
    assert_eq!(traced.out, "right\n");
    let told = summary(&traced.err);
    for place in places {
        let blocked = place.starts_with("pushes");
        assert_eq!(state(&told, place), if blocked { "trap" } else { "jump" });
        // A loop of turns, 1 + n % 7 for n from 1 to 200, comes to the label each time.
        let turns: u64 = (1..=200).map(|n| 1 + n % 7).sum();
        let hits = if place == "label_3+0x3" { turns } else { 200 };
        assert_eq!(json::count(&told, place), 50 * 4 * hits, "{place}: {told}");
    }
    let reason = &probe(&told, "pushes")["reason"];
    assert_eq!(reason, "blocked by springboards:pushes+0x1");
}

/// A target whose handler stays between the two jumps of `spring`, and who traces it.
fn between(extra: &[&str], options: &[&str]) -> (Running, Running) {
    let mut line = command(c("between_jumps").build());
    line.args(extra).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let kptrace = attach(&target, &[&["-p", "spring"], options].concat());
    target.write("\n");
    target.out.wait_for("between");
    (target, kptrace)
}

#[test]
fn a_handler_returns_between_the_two_jumps_and_the_hit_is_counted() {
    let (mut target, kptrace) = between(&[], &[]);
    target.write("\n");
    target.out.wait_for("right");
    let told = let_go(kptrace);
    assert_eq!(state(&told, "spring"), "jump");
    assert_eq!(json::count(&told, "spring"), 1001, "{told}");
    assert_eq!(different(target.pid()), [""; 0]);
    target.end().expect(0);
}

#[test]
fn letting_go_while_a_handler_will_return_between_the_two_jumps_leaves_it_a_way() {
    let (mut target, kptrace) = between(&[], &[]);
    let told = let_go(kptrace);
    let notes = told["notes"].to_string();
    assert!(notes.contains("some code was left"), "{told}");
    // The function is as it was; what it jumped through is not.
    let left = different(target.pid());
    let (code, text): (Vec<_>, Vec<_>) = left.iter().partition(|d| d.starts_with("code"));
    assert!(!code.is_empty(), "{left:?}");
    assert!((1..=5).contains(&text.len()), "{left:?}");
    assert!(text[0].contains(": e9 for "), "{left:?}");
    target.write("\n");
    target.out.wait_for("right");
    // The handler has returned: who attaches next takes away what was left, and jumps.
    let told = let_go(attach(&target, &["-p", "spring"]));
    assert_eq!(state(&told, "spring"), "jump", "{told}");
    assert_eq!(different(target.pid()), [""; 0]);
    target.end().expect(0);
}

#[test]
fn a_forked_child_returns_between_the_two_jumps() {
    for options in [&["--no-follow"][..], &["--follow"]] {
        let (mut target, kptrace) = between(&["fork"], options);
        target.write("\n");
        // It says so when its child has come out right.
        target.out.wait_for("right");
        let told = let_go(kptrace);
        // The child comes out of the call it was born in too, and makes one of its own.
        let of_child = if options == ["--follow"] { 2 } else { 0 };
        assert_eq!(json::count(&told, "spring"), 1001 + of_child, "{told}");
        assert_eq!(different(target.pid()), [""; 0]);
        target.end().expect(0);
    }
}
