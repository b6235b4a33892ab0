//! Many rounds of attaching and letting go, with threads that never rest; targets that are killed
//! while they are armed.

use std::collections::HashMap;
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

/// A round of everything; what the target made in it and in all, by name.
fn made(target: &mut Running) -> HashMap<String, u64> {
    target.write("more\n");
    let told = target.out.wait_for("made ");
    target.out.wait_for("round");
    let mut words = told.split(' ');
    let mut number = || -> Option<u64> { words.next()?.parse().ok() };
    number();
    let own = number().expect("calls of its own");
    let others = number().expect("calls of others");
    let mut made = HashMap::from([("own".to_owned(), own), ("others".to_owned(), others)]);
    while let (Some(name), Some(count)) = (words.next(), words.next()) {
        made.insert(name.to_owned(), count.parse().expect("a count"));
    }
    made
}

/// Recorded and missed are what was made: `traced` is all that kptrace printed.
fn adds_up(traced: &str, made: u64) {
    let told = summary(traced);
    let counted = json::probe(&told, "counted");
    assert_eq!(counted["hits"].as_u64(), Some(made), "{counted}");
    let missed = counted["missed"].as_object().expect("causes").values();
    let missed: u64 = missed.filter_map(serde_json::Value::as_u64).sum();
    let recorded = hits(traced)
        .into_iter()
        .filter(|hit| hit["probe"] == "everything_moves:counted");
    assert_eq!(recorded.count() as u64 + missed, made, "{counted}");
}

/// Arms and lets go so many times while everything goes on; at least so much is made meanwhile.
fn survive(rounds: usize, least: &[(&str, u64)]) {
    const COUNTED: &str = "everything_moves:counted n=%di:s32";
    let mut target = at_work(&everything_moves());
    let mut all = made(&mut target);
    for turn in 0..rounds {
        let way: &[&str] = match turn % 4 {
            0 => &["--no-follow", "-c", "-p", "*:*"],
            1 => &["--follow", "-c", "-p", "*:*"],
            2 => &[
                "--no-follow",
                "-c",
                "--no-opt",
                "--trap-limit",
                "0",
                "-p",
                "*",
            ],
            _ => &[
                "--follow",
                "-p",
                COUNTED,
                "-p",
                "libmoves.so:*",
                "--pending",
                "ignore",
            ],
        };
        let mut line = command(launch::binary());
        let records = turn % 4 == 3;
        line.args(["attach", "--format", "json"])
            .args(way)
            .arg(target.pid().to_string());
        let mut kptrace = start(line);
        kptrace.out.wait_for("attached_probes");
        // Every fifth meets another way each time.
        let calls = (turn % 5 == 0).then(|| {
            all = made(&mut target);
            let others = if turn % 2 == 1 { all["others"] } else { 0 };
            all["own"] + others
        });
        kptrace.signal(Signal::SIGINT);
        let traced = kptrace.end().expect(0).out;
        if let Some(calls) = calls {
            if records {
                adds_up(&traced, calls);
            } else {
                assert_eq!(
                    json::count(&summary(&traced), "counted"),
                    calls,
                    "turn {turn}"
                );
            }
        }
    }
    while least.iter().any(|(name, least)| all[*name] < *least) {
        let_go(attach(&target, &["-p", "*:*"]));
        all = made(&mut target);
    }
    println!("{rounds} rounds: {all:?}");
    assert_eq!(different(target.pid()), [""; 0]);
    target.end().expect(0);
}

#[test]
fn threads_libraries_children_and_signals_at_once_survive_100_rounds() {
    let least = [
        ("threads", 4000),
        ("opened", 1000),
        ("trees", 1),
        ("chains", 1),
    ];
    survive(100, &least);
}
