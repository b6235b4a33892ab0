//! System calls that wait: attaching, arming and letting go disturb none of them, and what is seen
//! from outside is the same afterwards. The target measures its calls itself.

use std::process::Stdio;

use super::every::{attach, let_go};
use super::looks::{Look, different, look};
use super::support::*;

const JUMPS: &[&str] = &["-p", "*:*"];
const TRAPS: &[&str] = &["-p", "*:*", "--no-opt", "--trap-limit", "0"];

#[test]
fn calls_that_wait_are_not_disturbed() {
    let mut line = command(c("restartable").flags(&["-pthread"]).build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let before = look(target.pid());
    for options in [JUMPS, TRAPS] {
        for _ in 0..3 {
            let_go(attach(&target, options));
            assert_eq!(different(target.pid()), [""; 0]);
            assert_eq!(look(target.pid()), before);
        }
    }
    let kptrace = attach(&target, JUMPS);
    target.write("\n");
    kptrace.end().expect(0);
    let ended = target.end().expect(0);
    assert_eq!(ended.out, "ready\nright\n");
}

/// What a call saw.
struct Seen {
    name: String,
    calls: u64,
    interrupted: u64,
    early: u64,
    wrong: u64,
    /// Nanoseconds that it came later than its time-out at most.
    latest: i64,
}

/// A line of the target, after its first word.
fn seen(line: &str) -> Vec<Seen> {
    let one = |word: &str| {
        let [name, calls, interrupted, early, wrong, latest] =
            word.split(':').collect::<Vec<_>>().try_into().ok()?;
        Some(Seen {
            name: name.to_owned(),
            calls: calls.parse().ok()?,
            interrupted: interrupted.parse().ok()?,
            early: early.parse().ok()?,
            wrong: wrong.parse().ok()?,
            latest: latest.parse().ok()?,
        })
    };
    let words = line.split(' ').skip(1);
    words
        .map(|word| one(word).unwrap_or_else(|| panic!("{word} of {line}")))
        .collect()
}

fn waits(arguments: &[&str]) -> Running {
    let mut line = command(c("waits").flags(&["-pthread"]).build());
    line.args(arguments).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

/// Waits until every call that has a time-out was made anew; what they saw since the last turn,
/// none of it wrong.
fn turn(target: &mut Running) -> Vec<Seen> {
    target.write("\n");
    let all = seen(&target.out.wait_for("turn"));
    for seen in &all {
        let Seen { name, calls, .. } = seen;
        assert_eq!(seen.interrupted, 0, "{name}: EINTR of {calls}");
        assert_eq!(seen.early, 0, "{name}: before its time, of {calls}");
        assert_eq!(seen.wrong, 0, "{name}: failed, of {calls}");
        assert_eq!(*calls == 0, name.starts_with("long"), "{name}: {calls}");
    }
    all
}

fn latest(all: &[Seen]) -> i64 {
    all.iter().map(|seen| seen.latest).max().expect("calls")
}

/// What a machine with two processors that others use as well adds to a pause, beyond waiting for
/// a processor and beyond what the calls were late without us: its host may run something else.
const MARGIN: i64 = 25_000_000;

/// A call that the kernel ends with EINTR even where its time was over when it was stopped: it
/// begins anew. Only a thread that wakes up in the instant in which it is stopped is in that case.
const ANEW: &str = "recv_stream";

/// 20 rounds: calls that began before the target was armed, before it was let go, and between.
fn waiting(options: &[&str]) {
    let mut target = waits(&[]);
    let mut alone = latest(&turn(&mut target)).max(latest(&turn(&mut target)));
    let before = look(target.pid());
    let mut traced = Vec::new();
    for round in 0..20 {
        let kptrace = attach(&target, options);
        let mut seen = turn(&mut target);
        let told = let_go(kptrace);
        seen.extend(turn(&mut target));
        let pause = told["cost"]["longest_pause"].as_i64().expect("a pause");
        assert!(pause > 0, "{told}");
        let late = seen.into_iter().map(|seen| (seen.name, seen.latest, pause));
        traced.extend(late);
        if round % 5 == 4 {
            alone = alone.max(latest(&turn(&mut target)));
        }
    }
    // One that wakes up where it gets no processor before the next pause meets that too: rare, and
    // so is what makes a call begin anew. On the whole a call is late by no more than a pause.
    let late = |(_, late, pause): &&(String, i64, i64)| late - 2 * pause > alone + MARGIN;
    let late: Vec<_> = traced.iter().filter(late).collect();
    assert!(
        late.len() < 3,
        "{alone} ns late without kptrace; late by, and the longest pause: {late:?}"
    );
    let (mut latest, mut pauses) = (0, 0);
    for round in traced.chunk_by(|a, b| a.2 == b.2) {
        let others = round.iter().filter(|(name, ..)| name != ANEW);
        latest += others.map(|(_, late, _)| late).max().expect("calls");
        pauses += round[0].2 + alone;
    }
    assert!(
        latest <= pauses,
        "late by {latest} ns in all, paused for {pauses}"
    );
    assert_eq!(different(target.pid()), [""; 0]);
    let after = look(target.pid());
    assert_eq!(after.descriptors, before.descriptors);
    // While a thread waits for a signal it does not block it.
    let signals = |look: &Look| -> Vec<String> {
        let lines = look.signals.iter().filter(|line| !line.contains("SigBlk"));
        lines.cloned().collect()
    };
    assert_eq!(signals(&after), signals(&before));
    assert_eq!(after.mappings, before.mappings);
    let ended = target.end().expect(0);
    let last = ended.out.lines().last().expect("lines").to_owned();
    let long = seen(&last);
    assert_eq!(long.len(), 7, "{last}");
    for seen in long {
        let well = (seen.calls, seen.interrupted, seen.wrong) == (1, 0, 0);
        assert!(well, "{} of {last}", seen.name);
    }
}

#[test]
fn calls_that_wait_keep_their_time_through_20_rounds_of_jumps() {
    waiting(JUMPS);
}

#[test]
fn calls_that_wait_keep_their_time_through_20_rounds_of_breakpoints() {
    waiting(&["-p", "*", "--no-opt", "--trap-limit", "0"]);
}

/// Where a process has no other thread, calls for us are made in the one that waits. The kernel
/// keeps the time of some calls; others it makes us begin anew, with their whole time-out.
#[test]
fn a_call_in_the_only_thread_is_never_cut_short() {
    let kept = [("poll", 0), ("select", 0), ("futex", 0), ("nanosleep", 0)];
    let anew = [
        ("epoll_wait", 60),
        ("sigtimedwait", 50),
        ("semtimedop", 90),
        ("recv", 100),
        ("recv_stream", 100),
        ("msgrcv", 0),
    ];
    for (name, again) in kept.into_iter().chain(anew) {
        let mut target = waits(&[name]);
        let alone = latest(&turn(&mut target));
        for options in [JUMPS, TRAPS] {
            for _ in 0..2 {
                let kptrace = attach(&target, options);
                let armed = latest(&turn(&mut target));
                let told = let_go(kptrace);
                let late = armed.max(latest(&turn(&mut target)));
                let pause = told["cost"]["longest_pause"].as_i64().expect("a pause");
                let most = 2 * pause + alone + again * 1_000_000 + MARGIN;
                assert!(late <= most, "{name}: {late} ns late, {most} at most");
            }
        }
        assert_eq!(different(target.pid()), [""; 0]);
        target.end().expect(0);
    }
}
