//! What is printed, in which format, and where to.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::support::*;

fn calls() -> String {
    let flags = ["-O2", "-pthread", "-fno-optimize-sibling-calls"];
    text(&c("calls").flags(&flags).build())
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// `kptrace run OPTIONS -- calls`, which ends with status 7.
fn run(options: &[&str]) -> Ended {
    let program = calls();
    let line = [&["run"], options, &["--", &program]].concat();
    kptrace(&line).expect(7)
}

fn is_time(text: &str) -> bool {
    let digits = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    matches!(parts[..], [h, m, s, us] if [h, m, s].iter().all(|p| digits(p, 2)) && digits(us, 6))
}

#[test]
fn a_line_of_text_has_time_command_thread_probe_and_arguments() {
    let traced = run(&["-p", "twice n=%di:s32 raw=%di"]);
    let lines: Vec<&str> = traced
        .err
        .lines()
        .filter(|l| l.contains(":twice"))
        .collect();
    assert_eq!(lines.len(), 1000);
    for (n, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let [time, thread, probe, decimal, hex] = words[..] else {
            panic!("{line}");
        };
        assert!(is_time(time), "{line}");
        let (command, tid) = thread.rsplit_once('-').expect("a dash");
        assert_eq!(command, "calls");
        assert!(tid.parse::<u32>().is_ok(), "{line}");
        assert_eq!(probe, "calls:twice");
        assert_eq!(decimal, format!("n={n}"));
        assert_eq!(hex, format!("raw={n:#x}"));
    }
}

#[test]
fn hits_of_one_thread_are_in_order_and_all_are_by_time() {
    let traced = run(&["--format", "json", "-p", "in_thread n=%si:s32"]);
    let hits = json::hits(&traced.err);
    assert_eq!(hits.len(), 40_000);
    let mut next = std::collections::HashMap::new();
    let mut last = 0;
    for hit in &hits {
        let n = hit["args"]["n"].as_i64().expect("a number");
        let before = next
            .entry(hit["tid"].as_u64().expect("a thread"))
            .or_insert(0);
        assert_eq!(n, *before, "{hit}");
        *before += 1;
        let ts: u64 = hit["ts"]
            .as_str()
            .expect("a string")
            .parse()
            .expect("nanoseconds");
        assert!(ts >= last, "{hit} after {last}");
        last = ts;
    }
    assert_eq!(next.len(), 4);
}

#[test]
fn json_has_the_keys_it_promises() {
    let traced = run(&["--format", "json", "-p", "twice n=%di:s32", "-p", "never"]);
    let objects = json::objects(&traced.err);
    assert_eq!(
        objects[0],
        serde_json::json!({"type": "attached_probes", "data": {"probes": 2}})
    );
    for hit in json::hits(&traced.err) {
        let keys: Vec<&str> = hit
            .as_object()
            .expect("an object")
            .keys()
            .map(|k| k.as_str())
            .collect();
        for key in ["type", "ts", "pid", "tid", "comm", "probe", "kind", "args"] {
            assert!(keys.contains(&key), "{hit}");
        }
        assert_eq!(
            (&hit["kind"], &hit["probe"]),
            (&"entry".into(), &"calls:twice".into())
        );
    }
    let summary = json::summary(&traced.err);
    for key in ["armed", "jump", "trap"] {
        assert!(summary[key].is_u64(), "{key}");
    }
    let probe = json::probe(&summary, "twice");
    for key in [
        "id", "name", "module", "kind", "address", "state", "reason", "hits", "missed",
    ] {
        assert!(probe.get(key).is_some(), "{key} in {probe}");
    }
    assert_eq!(probe["state"], "jump", "as it was before the target's end");
    assert!(probe["missed"]["ring_full"].is_u64(), "{probe}");
    assert!(
        probe["address"]
            .as_str()
            .expect("a string")
            .starts_with("0x")
    );
    assert_eq!(json::count(&summary, "never"), 0);
}

#[test]
fn the_summary_is_a_table_and_c_is_short_for_it() {
    let rows = |options: &[&str]| -> Vec<String> {
        let traced = run(options);
        let table = traced.err.lines();
        table
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let long = rows(&[
        "--format", "summary", "-p", "fib", "-p", "twice", "-p", "never",
    ]);
    assert_eq!(
        long,
        [
            "HITS MISSED STATE PROBE",
            "21891 0 jump calls:fib",
            "1000 0 jump calls:twice",
            "1 probe was not hit (-v lists it)",
            "armed 3 sites: 3 jumps",
        ]
    );
    assert_eq!(
        rows(&["-c", "-p", "fib", "-p", "twice", "-p", "never"]),
        long
    );
    let traps = rows(&[
        "-c",
        "-v",
        "--no-opt",
        "--trap-limit",
        "0",
        "-p",
        "twice",
        "-p",
        "never",
    ]);
    assert!(
        traps.contains(&"HITS MISSED STATE PROBE REASON".to_owned()),
        "{traps:?}"
    );
    assert!(
        traps
            .iter()
            .any(|row| row.starts_with("1000 0 trap calls:twice")),
        "{traps:?}"
    );
    assert!(
        traps
            .iter()
            .any(|row| row.starts_with("0 0 trap calls:never")),
        "{traps:?}"
    );
}

#[test]
fn quiet_keeps_the_trace_and_leaves_the_report_out() {
    let quiet = run(&["-q", "-c", "-p", "fib"]);
    assert!(
        quiet.err.contains("21891") && !quiet.err.contains("armed"),
        "{}",
        quiet.err
    );
    let aloud = run(&["-c", "-p", "fib"]);
    assert!(
        aloud.err.contains("armed 1 site: 1 jump\n"),
        "{}",
        aloud.err
    );
}

#[test]
fn colours_are_for_terminals_or_who_asks() {
    let plain = run(&["-c", "-p", "fib"]);
    assert!(!plain.err.contains('\u{1b}'), "{}", plain.err);
    let asked = run(&["--color", "always", "-c", "-p", "fib"]);
    assert!(asked.err.contains("\u{1b}["), "{}", asked.err);
    let never = run(&["--color", "never", "-c", "-p", "fib"]);
    assert_eq!(never.err, plain.err);
}

#[test]
fn a_count_leaves_records_out_whatever_the_probe_asks_for() {
    let traced = run(&["-c", "--format", "json", "-p", "twice n=%di:s32"]);
    assert!(json::hits(&traced.err).is_empty());
    assert_eq!(json::count(&json::summary(&traced.err), "twice"), 1000);
}

#[test]
fn without_jumps_the_text_is_the_same() {
    let stripped = |options: &[&str]| -> Vec<String> {
        let traced = run(&[options, &["-p", "twice n=%di:s32"]].concat());
        let lines = traced.err.lines().filter(|l| l.contains(":twice"));
        lines
            .map(|l| l.rsplit_once(' ').expect("an argument").1.to_owned())
            .collect()
    };
    let jumps = stripped(&[]);
    assert_eq!(jumps.len(), 1000);
    assert_eq!(jumps, stripped(&["--no-opt", "--trap-limit", "0"]));
}

#[test]
fn trap_never_leaves_out_what_cannot_jump() {
    let traced = run(&["-c", "--no-opt", "--trap", "never", "-p", "fib"]);
    assert!(traced.err.contains("armed 0 sites"), "{}", traced.err);
    assert!(
        traced.err.contains("not armed: 1 refused"),
        "{}",
        traced.err
    );
}

#[test]
fn a_breakpoint_that_is_hit_too_often_is_switched_off_and_said_so() {
    let options = [
        "-c",
        "--no-opt",
        "--trap-limit",
        "100",
        "-p",
        "fib",
        "-p",
        "never",
    ];
    let traced = run(&[&options[..], &["--format", "json"]].concat());
    let summary = json::summary(&traced.err);
    let fib = json::probe(&summary, "fib");
    assert_eq!(fib["state"], "disabled", "{fib}");
    let hits = json::count(&summary, "fib");
    assert!((100..21_891).contains(&hits), "{hits}");
    assert_eq!(json::probe(&summary, "never")["state"], "trap");
    assert!(traced.err.contains("--trap-limit"), "{}", traced.err);
}

#[test]
fn more_probes_than_allowed_are_refused_before_anything_runs() {
    let program = calls();
    let line = ["run", "--max-probes", "2", "-c", "-p", "*", "--", &program];
    let refused = kptrace(&line);
    assert!(!refused.status.success());
    assert!(refused.err.contains("--max-probes 2"), "{}", refused.err);
    assert_eq!(refused.out, "");
    run(&["--max-probes", "1", "-c", "-p", "fib"]);
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn the_trace_goes_to_a_file_of_the_users_own() {
    let place = Place::new();
    let path = place.path("trace");
    let traced = run(&["-p", "twice", "-o", &text(&path)]);
    assert!(!traced.err.contains(":twice"), "{}", traced.err);
    assert!(
        traced.err.contains("armed 1 site"),
        "the report stays on the terminal"
    );
    let written = fs::read_to_string(&path).expect("the trace");
    assert_eq!(
        written
            .lines()
            .filter(|l| l.contains("calls:twice"))
            .count(),
        1000
    );
    let mode = fs::metadata(&path).expect("the trace").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    fs::write(&path, "x".repeat(1 << 20)).expect("something longer");
    run(&["-c", "-p", "twice", "-o", &text(&path)]);
    let replaced = fs::read_to_string(&path).expect("the summary");
    assert!(
        replaced.starts_with("HITS") && replaced.len() < 200,
        "{replaced}"
    );
}

#[test]
fn links_and_directories_are_refused_before_anything_runs() {
    let place = Place::new();
    let (file, link) = (place.path("file"), place.path("link"));
    fs::write(&file, "precious").expect("written");
    symlink(&file, &link).expect("a link");
    let program = calls();
    for path in [
        &link,
        &place.path("nowhere/trace"),
        &place.0.path().to_owned(),
    ] {
        let refused = kptrace(&["run", "-p", "twice", "-o", &text(path), "--", &program]);
        let refused = refused.expect(125);
        assert!(refused.err.contains("cannot write to"), "{}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
        assert_eq!(refused.out, "");
    }
    assert_eq!(fs::read_to_string(&file).expect("the file"), "precious");
}

#[test]
fn a_dash_is_standard_output() {
    let traced = run(&["-p", "twice", "-o", "-"]);
    let hits = traced.out.lines().filter(|l| l.contains(" calls:twice"));
    assert_eq!(hits.count(), 1000);
    assert!(
        traced.out.contains("twice 1000\n"),
        "the target's own is there too"
    );
}

#[test]
fn a_fifo_is_written_to() {
    let place = Place::new();
    let path = place.path("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a FIFO");
    let program = calls();
    let mut line = command(launch::binary());
    line.args([
        "run",
        "--format",
        "json",
        "-p",
        "twice",
        "-o",
        &text(&path),
        "--",
        &program,
    ]);
    let running = start(line);
    let from = fs::File::open(&path).expect("kptrace writes");
    let lines = Lines::of(from);
    running.end().expect(7);
    let written = String::from_utf8(lines.into_rest()).expect("UTF-8");
    assert_eq!(json::hits(&written).len(), 1000);
    json::summary(&written);
}

#[test]
fn another_users_file_is_refused() {
    // Only root can make one.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let path = place.path("theirs");
    fs::write(&path, "precious").expect("written");
    nix::unistd::chown(&path, Some(65_534.into()), None).expect("root may");
    let program = calls();
    let refused = kptrace(&["run", "-p", "twice", "-o", &text(&path), "--", &program]).expect(125);
    assert!(refused.err.contains("another user's"), "{}", refused.err);
    assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
}
