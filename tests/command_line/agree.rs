//! One run of a real program in every format at once: what each says of the calls is what the recorded
//! hits say, put together here by other means. Knows nothing of how the formats do it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::support::*;

/// A call that ended.
#[derive(Debug)]
struct Call {
    number: usize,
    module: String,
    name: String,
    comm: String,
    tid: u64,
    /// Numbers of the calls around it, the outermost first.
    around: Vec<usize>,
    duration: u64,
    end: &'static str,
}

/// What a filter asks for.
#[derive(Clone, Copy, Default)]
struct Filter {
    depth: Option<usize>,
    at_least: u64,
    within: Option<&'static str>,
}

/// One run, as each format tells it.
struct Run {
    hits: Vec<Value>,
    summary: Value,
    tree: String,
    folded: String,
    table: String,
    chrome: Vec<Value>,
}

fn run(options: &[&str], command: &[&str]) -> Run {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name).to_str().expect("UTF-8").to_owned();
    let mut line: Vec<String> = ["run", "--mem", "512M", "--format", "json", "-o"]
        .map(String::from)
        .to_vec();
    line.push(path("json"));
    for format in ["tree", "folded", "summary", "chrome"] {
        line.extend(["--also".to_owned(), format!("{format}={}", path(format))]);
    }
    line.extend(
        options
            .iter()
            .chain(&["--"])
            .chain(command)
            .map(|word| (*word).to_owned()),
    );
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let ended = kptrace(&line).expect(0);
    assert!(!ended.err.contains("missed"), "{}", ended.err);
    let read = |name: &str| fs::read_to_string(path(name)).expect("what was written");
    let objects = objects(&read("json"));
    let of = |what: &str| -> Vec<Value> {
        let some = objects.iter().filter(|object| object["type"] == what);
        some.cloned().collect()
    };
    assert!(of("lost_events").is_empty());
    Run {
        hits: of("hit"),
        summary: of("summary").pop().expect("a summary"),
        tree: read("tree"),
        folded: read("folded"),
        table: read("summary"),
        chrome: serde_json::from_str(&read("chrome")).expect("JSON"),
    }
}

fn number(value: &Value) -> u64 {
    let text = value
        .as_str()
        .map(str::to_owned)
        .unwrap_or_else(|| value.to_string());
    text.parse().unwrap_or_else(|_| panic!("{value}"))
}

/// The calls that ended, in the order they did, and the names of all by their numbers; each thread's hits
/// are in order. A begun program has no calls of the one before.
fn calls(run: &Run) -> (Vec<Call>, Vec<String>) {
    let probes = run.summary["probes"].as_array().expect("probes");
    let returns: BTreeSet<&str> = probes
        .iter()
        .filter(|probe| probe["kind"] == "return" && probe["state"] != "refused")
        .map(|probe| probe["name"].as_str().expect("a name"))
        .collect();
    let mut names = Vec::new();
    let mut stacks: BTreeMap<u64, (String, Vec<usize>)> = BTreeMap::new();
    let mut calls = Vec::new();
    for hit in &run.hits {
        let tid = number(&hit["tid"]);
        let comm = hit["comm"].as_str().expect("a name").to_owned();
        let probe = hit["probe"].as_str().expect("a probe");
        let (module, name) = probe.split_once(':').expect("a module");
        let (last, stack) = stacks.entry(tid).or_default();
        if *last != comm {
            stack.clear();
            last.clone_from(&comm);
        }
        if hit["kind"] == "entry" {
            if returns.contains(name) {
                stack.push(names.len());
                names.push(name.to_owned());
            }
            continue;
        }
        let end = match hit.get("end").and_then(Value::as_str) {
            Some("tail") => "tail",
            Some("unwound") => "unwound",
            _ => "returned",
        };
        // The function that takes its place has begun by then.
        let at = stack.len() - if end == "tail" { 2 } else { 1 };
        let around = stack[..at].to_vec();
        let own = stack.remove(at);
        assert_eq!(names[own], name, "{hit}");
        calls.push(Call {
            number: own,
            module: module.to_owned(),
            name: name.to_owned(),
            comm,
            tid,
            around,
            duration: number(&hit["duration"]),
            end,
        });
    }
    (calls, names)
}

/// A call that a filter shows.
struct Shown<'a> {
    call: &'a Call,
    level: usize,
    /// Its stack, from the outermost that may be shown to itself.
    path: Vec<&'a str>,
    /// What it spent in no other call that is shown.
    own: u64,
}

fn shown<'a>(calls: &'a [Call], names: &'a [String], filter: Filter) -> Vec<Shown<'a>> {
    let mut inner: BTreeMap<usize, u64> = BTreeMap::new();
    let mut shown = Vec::new();
    for call in calls {
        let path = call.around.iter().map(|&around| names[around].as_str());
        let path: Vec<&str> = path.chain([call.name.as_str()]).collect();
        let outermost = path
            .iter()
            .position(|name| filter.within.is_none_or(|within| within == *name));
        let inside = inner.remove(&call.number).unwrap_or(0);
        let level = outermost.map(|outermost| path.len() - 1 - outermost);
        let fits = level.is_some_and(|level| filter.depth.is_none_or(|depth| level < depth))
            && call.duration >= filter.at_least;
        // What is not shown is a part of the call around it.
        let counted = if fits { call.duration } else { inside };
        if let Some(&around) = call.around.last() {
            *inner.entry(around).or_default() += counted;
        }
        if fits {
            shown.push(Shown {
                call,
                level: level.expect("it fits"),
                path: path[outermost.expect("it fits")..].to_vec(),
                own: call
                    .duration
                    .checked_sub(inside)
                    .expect("more than what is in it"),
            });
        }
    }
    shown
}

/// Lines of the tree that end a call: thread, level, name, duration, and how it ended.
fn of_tree(tree: &str) -> Vec<(u64, usize, String, String, &'static str)> {
    let mut ended = Vec::new();
    let mut open: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in tree.lines().skip(1) {
        let (margin, text) = line.split_once("] | ").expect("a margin");
        let (duration, tid) = margin.split_once('[').expect("a thread");
        let tid: u64 = tid.trim().parse().expect("a thread");
        let text_at = text.trim_start();
        let level = (text.len() - text_at.len()) / 2;
        let open = open.entry(tid).or_default();
        if let Some(opened) = text_at.strip_suffix("() {") {
            assert_eq!(open.len(), level, "{line}");
            open.push(opened.to_owned());
            continue;
        }
        let (name, rest) = match text_at.strip_prefix("} /* ") {
            Some(closes) => {
                let (name, rest) = closes.split_once(" */").expect("a name");
                assert_eq!(open.pop().as_deref(), Some(name), "{line}");
                (name, rest)
            }
            None => text_at.split_once("();").expect("a call"),
        };
        assert_eq!(open.len(), level, "{line}");
        let end = match rest {
            "" => "returned",
            " /* tail */" => "tail",
            " /* unwound */" => "unwound",
            " /* entry */" | " /* still inside */" => continue,
            other => panic!("{other} in {line}"),
        };
        ended.push((tid, level, name.to_owned(), duration.trim().to_owned(), end));
    }
    assert!(open.values().all(Vec::is_empty), "braces are even");
    ended
}

/// A duration as a tree has it.
fn long(nanoseconds: u64) -> String {
    let (unit, name) = match nanoseconds {
        0..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, " s"),
    };
    format!(
        "{}.{:03} {name}",
        nanoseconds / unit,
        nanoseconds % unit / (unit / 1_000)
    )
}

/// A duration as a table has it.
fn short(nanoseconds: u64) -> String {
    let (unit, name) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds}ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    format!(
        "{}.{}{name}",
        nanoseconds / unit,
        nanoseconds % unit / (unit / 10)
    )
}

/// What a table says of some durations.
fn row(durations: &[u64], own: u64) -> Vec<String> {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let count = sorted.len() as u64;
    let total: u64 = sorted.iter().sum();
    // The least that so many hundredths do not exceed.
    let percentile = |hundredths: u64| {
        let not_above = |n: u64| sorted.iter().filter(|&&other| other <= n).count() as u64;
        let enough = |&&n: &&u64| not_above(n) * 100 >= hundredths * count;
        *sorted.iter().find(enough).expect("one of them")
    };
    let times = [
        total,
        own,
        total / count,
        sorted[0],
        sorted[sorted.len() - 1],
        percentile(50),
        percentile(95),
        percentile(99),
    ];
    let mut row = vec![count.to_string()];
    row.extend(times.map(short));
    row
}

/// Digits as they were written: nanoseconds.
fn nanoseconds(value: &Value) -> u64 {
    let text = value.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let part = format!("{part:0<3}");
    assert_eq!(part.len(), 3, "{text}");
    number(&Value::from(whole)) * 1000 + number(&Value::from(part))
}

/// A complete event that ended.
fn of_chrome(events: &[Value]) -> Vec<(u64, String, u64)> {
    let mut ended = Vec::new();
    let mut spans: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let (tid, start, took) = (
            number(&event["tid"]),
            nanoseconds(&event["ts"]),
            nanoseconds(&event["dur"]),
        );
        spans.entry(tid).or_default().push((start, start + took));
        let end = event["args"].get("end").and_then(Value::as_str);
        if end != Some("still inside") {
            assert_ne!(end, Some("missed"), "{event}");
            ended.push((
                tid,
                event["name"].as_str().expect("a name").to_owned(),
                took,
            ));
        }
    }
    for spans in spans.values_mut() {
        // The outer first.
        spans.sort_by_key(|&(start, end)| (start, u64::MAX - end));
        let mut open: Vec<u64> = Vec::new();
        for &(start, end) in spans.iter() {
            open.retain(|&outer| outer > start || (outer == start && start == end));
            let outer = open.last().copied().unwrap_or(u64::MAX);
            assert!(end <= outer, "{start}..{end} within ..{outer}");
            open.push(end);
        }
    }
    ended
}

/// Every format says of the run what its hits say.
fn agrees(run: &Run, filter: Filter) -> usize {
    let (calls, names) = calls(run);
    let shown = shown(&calls, &names, filter);
    let expected: Vec<_> = shown
        .iter()
        .map(|shown| {
            let call = shown.call;
            (
                call.tid,
                shown.level,
                call.name.clone(),
                long(call.duration),
                call.end,
            )
        })
        .collect();
    let told = of_tree(&run.tree);
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(told.len(), expected.len());

    let expected: Vec<_> = shown
        .iter()
        .map(|shown| (shown.call.tid, shown.call.name.clone(), shown.call.duration))
        .collect();
    let told = of_chrome(&run.chrome);
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(told.len(), expected.len());

    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for shown in &shown {
        let stack = format!("{};{}", shown.call.comm, shown.path.join(";"));
        *stacks.entry(stack).or_default() += shown.own;
    }
    let told: BTreeMap<String, u64> = run
        .folded
        .lines()
        .map(|line| line.rsplit_once(' ').expect("a number"))
        .map(|(stack, own)| (stack.to_owned(), own.parse().expect("nanoseconds")))
        .collect();
    assert_eq!(told, stacks);

    let mut durations: BTreeMap<String, (Vec<u64>, u64)> = BTreeMap::new();
    for shown in &shown {
        let function = format!("{}:{}", shown.call.module, shown.call.name);
        let (all, own) = durations.entry(function).or_default();
        all.push(shown.call.duration);
        *own += shown.own;
    }
    let rows = run.table.lines().skip(1).take(durations.len());
    let told: BTreeMap<String, Vec<String>> = rows
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .map(|mut words: Vec<String>| (words.pop().expect("a function"), words))
        .collect();
    let expected = durations
        .iter()
        .map(|(name, (all, own))| (name.clone(), row(all, *own)));
    assert_eq!(told, expected.collect());
    let totals: u64 = stacks.values().sum();
    assert_eq!(totals, durations.values().map(|(_, own)| own).sum::<u64>());
    durations.len()
}

/// A program that calls a hundred functions of its libraries, and nobody else.
const QUERY: &str = "create table t(a, b text); create index i on t(b);\
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 40)\
    insert into t select i, hex(i * 7919) from n;\
    select count(*), sum(a), max(b), group_concat(b) from t where b like '%3%' order by b;\
    explain query plan select * from t join t as u on t.a = u.a; select json_array(a) from t limit 3";

#[test]
fn every_format_tells_the_same_calls_of_a_real_program() {
    let run = run(
        &["-p", "libc:*"],
        &["/usr/bin/env", "-i", "/bin/ls", "-l", "/usr/include"],
    );
    assert!(agrees(&run, Filter::default()) >= 30);
    // The first program is in the middle of its calls when the second begins: they have no end, and
    // the other's stand beside them.
    let mut lines = run
        .tree
        .lines()
        .skip_while(|line| !line.contains("execve(); /* still inside */"));
    lines.next().expect("what begins it");
    let inside = |line: &&str| line.ends_with(" /* still inside */");
    let around: Vec<&str> = lines.by_ref().take_while(inside).collect();
    let outermost = around.last().expect("calls around it");
    assert!(outermost.contains("] | } /* "), "{around:?}");
    assert_eq!(
        around.len(),
        run.tree.lines().filter(inside).count() - 1 - at_end(&run.tree)
    );
}

/// How many calls had not ended when the run did.
fn at_end(tree: &str) -> usize {
    let inside = |line: &&str| line.ends_with(" /* still inside */");
    tree.lines().rev().take_while(inside).count()
}

#[test]
fn every_format_tells_the_same_calls_of_a_hundred_functions() {
    if !Path::new("/usr/bin/sqlite3").exists() {
        eprintln!("skipped: no sqlite3 here");
        return;
    }
    let command = ["/usr/bin/sqlite3", ":memory:", QUERY];
    let run = run(&["-p", "libsqlite3:*", "-p", "sqlite3:*"], &command);
    assert!(agrees(&run, Filter::default()) >= 100);
}

#[test]
fn filters_give_what_filtering_every_hit_gives() {
    let command = ["/usr/bin/getent", "passwd", "root"];
    for (options, filter) in [
        (
            vec!["-D", "2"],
            Filter {
                depth: Some(2),
                ..Filter::default()
            },
        ),
        (
            vec!["-t", "5us"],
            Filter {
                at_least: 5_000,
                ..Filter::default()
            },
        ),
        (
            vec!["-F", "getpwnam_r"],
            Filter {
                within: Some("getpwnam_r"),
                ..Filter::default()
            },
        ),
        (
            vec!["-F", "getpwnam", "-D", "4", "-t", "1us"],
            Filter {
                depth: Some(4),
                at_least: 1_000,
                within: Some("getpwnam"),
            },
        ),
    ] {
        let all = [&["-p", "libc:*"][..], &options].concat();
        let run = run(&all, &command);
        assert!(agrees(&run, filter) >= 1, "{options:?}");
    }
}
