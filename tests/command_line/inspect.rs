//! `list` and `check`: what could be probed, told without touching anything.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use super::support::*;

fn program() -> String {
    let flags = ["-O2", "-pthread", "-fno-optimize-sibling-calls"];
    let program = c("calls").flags(&flags).build();
    program.to_str().expect("UTF-8").to_owned()
}

#[test]
fn list_has_a_line_for_each_function_of_the_symbol_table() {
    let program = program();
    let nm = Command::new("nm")
        .args(["--defined-only", &program])
        .output()
        .expect("nm runs");
    let nm = String::from_utf8(nm.stdout).expect("UTF-8");
    let functions: HashSet<&str> = nm
        .lines()
        .filter_map(|line| line.split(' ').collect::<Vec<_>>().try_into().ok())
        .filter(|[_, kind, _]: &[&str; 3]| matches!(*kind, "T" | "t"))
        .map(|[_, _, name]| name)
        .collect();
    let listed = kptrace(&["list", "--json", &program]).expect(0);
    let listed = json::of_type(&listed.out, "entry");
    let names: HashSet<&str> = listed
        .iter()
        .map(|e| e["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, functions);
    let mut addresses = HashSet::new();
    for entry in &listed {
        for key in [
            "name", "module", "address", "size", "verdict", "window", "reason",
        ] {
            assert!(entry.get(key).is_some(), "{key} in {entry}");
        }
        let verdict = entry["verdict"].as_str().expect("a word");
        assert!(["jump", "trap", "refused"].contains(&verdict), "{entry}");
        assert_eq!(verdict == "jump", entry["reason"].is_null(), "{entry}");
        assert!(
            addresses.insert(entry["address"].to_string()),
            "twice: {entry}"
        );
    }
    assert_eq!(
        listed.iter().find(|e| e["name"] == "fib").expect("fib")["verdict"],
        "jump"
    );
}

#[test]
fn the_text_of_list_says_the_same_as_its_json() {
    let program = program();
    let text = kptrace(&["list", &program]).expect(0);
    let objects = json::objects(&kptrace(&["list", "--json", &program]).expect(0).out);
    let lines: Vec<&str> = text.out.lines().collect();
    assert_eq!(lines.len(), objects.len());
    for (line, object) in lines.iter().zip(&objects) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], object["address"].as_str().expect("an address"));
        assert_eq!(words[1], object["size"].to_string());
        assert_eq!(words[2], object["verdict"].as_str().expect("a verdict"));
        let name = format!("calls:{}", object["name"].as_str().expect("a name"));
        assert_eq!(words[4], name);
    }
}

#[test]
fn list_takes_a_pattern_and_says_when_nothing_matches() {
    let program = program();
    let names = |pattern: &str| -> Vec<String> {
        let listed = kptrace(&["list", "--json", &program, pattern]).expect(0);
        let mut names: Vec<String> = json::objects(&listed.out)
            .iter()
            .map(|e| e["name"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("fib"), ["fib"]);
    assert_eq!(names("/^(fib|twice)$/"), ["fib", "twice"]);
    assert_eq!(names("calls:in_*"), ["in_thread"]);
    kptrace(&["list", &program, "nothing*"]).expect(3);
    kptrace(&["list", &program, "/(/"]).expect(2);
}

#[test]
fn a_stripped_program_is_listed_by_its_frames() {
    let flags = ["-O2", "-pthread", "-fno-optimize-sibling-calls"];
    let stripped = c("calls").flags(&[&flags[..], &["-s"]].concat()).build();
    let stripped = stripped.to_str().expect("UTF-8");
    let addresses = |path: &str, pattern: &str| -> HashSet<String> {
        let listed = kptrace(&["list", "--json", path, pattern]).expect(0);
        let objects = json::objects(&listed.out).into_iter();
        objects
            .map(|e| e["address"].as_str().expect("an address").to_owned())
            .collect()
    };
    let ours = addresses(&program(), "/^(fib|in_thread|twice|never|thread|main)$/");
    assert_eq!(ours.len(), 6);
    let listed = addresses(stripped, "*");
    assert!(ours.is_subset(&listed), "{ours:?} in {listed:?}");
}

#[test]
fn a_process_is_listed_with_its_libraries_and_goes_on() {
    let mut target = command(c("steps").build());
    target.stdin(Stdio::piped());
    let mut target = start(target);
    target.out.wait_for("ready");
    let pid = target.pid().to_string();
    let listed = kptrace(&["list", "--json", &pid, "/^(step|malloc)$/"]).expect(0);
    let found: Vec<String> = json::objects(&listed.out)
        .iter()
        .map(|e| {
            format!(
                "{}:{}",
                e["module"].as_str().unwrap_or("?"),
                e["name"].as_str().unwrap_or("?")
            )
        })
        .collect();
    for name in ["steps:step", "libc.so.6:malloc"] {
        assert!(found.iter().any(|f| f == name), "{name}");
    }
    let checked = kptrace(&["check", "--json", &pid, "step n=%di", "libc:malloc"]).expect(0);
    let checks = json::of_type(&checked.out, "check");
    assert_eq!(checks.len(), 2);
    let step = json::objects(&listed.out)
        .into_iter()
        .find(|e| e["name"] == "step")
        .expect("step");
    assert_eq!(step["address"], checks[0]["address"]);
    target.write("\n");
    target.out.wait_for("step 1");
    target.end().expect(7);
}

#[test]
fn check_says_what_each_probe_would_become_and_what_all_cost() {
    let program = program();
    let checked = kptrace(&["check", "--json", &program, "fib n=%di", "twice"]).expect(0);
    let checks = json::of_type(&checked.out, "check");
    assert_eq!(checks.len(), 2);
    for check in &checks {
        for key in ["name", "module", "address", "verdict", "reason", "bytes"] {
            assert!(check.get(key).is_some(), "{key} in {check}");
        }
        assert_eq!(check["verdict"], "jump", "{check}");
        let bytes = check["bytes"].as_str().expect("bytes").split(' ').count();
        assert!(bytes >= 5, "{check}");
    }
    let summaries = json::of_type(&checked.out, "check_summary");
    let [summary] = &summaries[..] else {
        panic!("one summary in {}", checked.out);
    };
    assert_eq!(
        (&summary["probes"], &summary["jump"]),
        (&2.into(), &2.into())
    );
    let text = kptrace(&["check", "-v", &program, "fib n=%di"]).expect(0);
    assert!(
        text.out.contains("jump") && text.out.contains("calls:fib"),
        "{}",
        text.out
    );
    let short = kptrace(&["check", &program, "fib n=%di"]).expect(0);
    assert!(
        text.out.lines().count() > short.out.lines().count(),
        "{}",
        text.out
    );
}

#[test]
fn check_says_how_a_jump_fits() {
    let program = c("springboards").flags(&["-pthread"]).build();
    let program = program.to_str().expect("UTF-8");
    for (name, verdict, window) in [
        ("early", "jump", Some("plain")),
        ("label_3", "jump", Some("springboard")),
        ("walled", "trap", None),
    ] {
        let checked = kptrace(&["check", "--json", program, name]).expect(0);
        let [check] = &json::of_type(&checked.out, "check")[..] else {
            panic!("one check in {}", checked.out);
        };
        assert_eq!(check["verdict"], verdict, "{check}");
        assert_eq!(check["window"].as_str(), window, "{check}");
    }
    let text = kptrace(&["check", "-v", program, "label_3"]).expect(0).out;
    assert!(text.contains(" springboard "), "{text}");
}

#[test]
fn check_refuses_what_run_refuses() {
    let program = program();
    let wrong = kptrace(&["check", &program, "fib x="]).expect(2);
    assert!(
        wrong.err.contains('^') && wrong.out.is_empty(),
        "{}",
        wrong.err
    );
    let none = kptrace(&["check", &program, "fibb"]).expect(3);
    assert!(none.err.contains("did you mean fib"), "{}", none.err);
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let mut line = command(launch::binary());
    line.args(["list", "--json", &program()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = line.spawn().expect("it starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert!(
        ended.status.success() && ended.stderr.is_empty(),
        "{ended:?}"
    );
}

#[test]
fn a_full_disk_is_a_failure() {
    for line in [
        &["list", "/proc/self/exe"][..],
        &["man"],
        &["completions", "zsh"],
    ] {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("a device");
        let mut command = command(launch::binary());
        let ended = command
            .args(line)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{line:?}: {said}");
        assert!(
            said.contains("No space left") && said.lines().count() == 1,
            "{line:?}: {said}"
        );
    }
}

#[test]
fn list_knows_usdt_probes() {
    let program = c("usdt").flags(&["-pthread"]).build();
    let program = program.to_str().expect("UTF-8");
    let names = |pattern: &str| -> Vec<String> {
        let listed = kptrace(&["list", "--json", program, pattern]).expect(0);
        let probes = json::of_type(&listed.out, "usdt").into_iter();
        let name = |probe: &serde_json::Value| format!("{}:{}", probe["provider"], probe["name"]);
        let mut names: Vec<String> = probes.map(|p| name(&p).replace('"', "")).collect();
        names.sort();
        names
    };
    assert_eq!(names("usdt:s*d").len(), 4, "sold thrice, and stored");
    assert_eq!(names("usdt:shop:tick"), ["shop:tick"]);
    assert_eq!(names("usdt:*").len(), 8);
    kptrace(&["list", program, "usdt:other:*"]).expect(3);
    let listed = kptrace(&["list", program, "usdt:sold"]).expect(0).out;
    let sold = "usdt:usdt:shop:sold -4@$-7 8@$7000000000";
    assert!(listed.contains(sold), "{listed}");
    assert!(listed.contains(" semaphore "), "{listed}");
}
