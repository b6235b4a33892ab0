//! The formats made of calls, on a program whose nesting is known.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::support::*;

const FUNCTIONS: [&str; 8] = [
    "leaf",
    "sibling",
    "middle",
    "factorial",
    "nap",
    "outer",
    "thread",
    "main",
];

/// What kptrace says of `nested`, with an argument for threads, or without.
fn traced(options: &[&str], threads: bool) -> String {
    let built = c("nested").flags(&["-O2", "-pthread"]).build();
    let program = built.to_str().expect("UTF-8");
    let out = built.with_extension(format!("{}.out", name_of(options, threads)));
    let mut line = vec!["run", "-o", out.to_str().expect("UTF-8")];
    line.extend(options);
    let probes = FUNCTIONS.map(|name| format!("nested:{name}"));
    line.extend(probes.iter().flat_map(|probe| ["-p", probe.as_str()]));
    line.extend(["--", program]);
    line.extend(threads.then_some("threads"));
    let ended = kptrace(&line).expect(0);
    assert!(!ended.err.contains("missed"), "{}", ended.err);
    let text = fs::read_to_string(&out).expect("what was written");
    fs::remove_file(&out).expect("it can be removed");
    text
}

/// A file name of its own for each command line: tests run beside each other.
fn name_of(options: &[&str], threads: bool) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let options: String = options.join("_").chars().map(plain).collect();
    format!("{options}_{threads}")
}

/// Lines of a tree without what differs from run to run; `###` stands for a duration.
fn shape(tree: &str) -> Vec<String> {
    let head = tree.lines().next();
    assert_eq!(head, Some("# DURATION     TID     FUNCTION"));
    let lines = tree.lines().skip(1);
    lines
        .map(|line| {
            let (margin, call) = line.split_once("] | ").expect("a margin");
            let (duration, tid) = margin.split_once('[').expect("a thread");
            assert!(tid.trim().parse::<u32>().is_ok(), "{line}");
            let known = if duration.trim().is_empty() {
                "   "
            } else {
                "###"
            };
            format!("{known} {call}")
        })
        .collect()
}

const OUTER: [&str; 11] = [
    "      outer() {",
    "        middle() {",
    "###       leaf();",
    "###       sibling(); /* tail */",
    "###       leaf();",
    "###     } /* middle */",
    "        factorial() {",
    "          factorial() {",
    "###         factorial();",
    "###       } /* factorial */",
    "###     } /* factorial */",
];

#[test]
fn a_tree_shows_how_calls_nest() {
    let tree = traced(&["--format", "tree"], false);
    let mut expected = vec!["    main() {"];
    expected.extend(OUTER);
    expected.extend(["###   } /* outer */", "###   nap();", "### } /* main */"]);
    assert_eq!(shape(&tree), expected, "{tree}");
}

#[test]
fn a_tree_has_arguments_and_what_was_returned() {
    let tree = traced(
        &[
            "--format",
            "tree",
            "-p",
            "nested:factorial n=$arg1:s32",
            "-p",
            "nested:factorial%return r=$retval:s32",
            "-F",
            "factorial",
        ],
        false,
    );
    assert_eq!(
        shape(&tree),
        [
            "    factorial(n=3) {",
            "      factorial(n=2) {",
            "###     factorial(n=1) = 1;",
            "###   } = 2; /* factorial */",
            "### } = 6; /* factorial */",
        ],
        "{tree}"
    );
}

#[test]
fn filters_of_calls_leave_out_what_they_say() {
    let tree = |options: &[&str]| shape(&traced(&[&["--format", "tree"], options].concat(), false));
    assert_eq!(
        tree(&["-D", "2"]),
        [
            "    main() {",
            "###   outer();",
            "###   nap();",
            "### } /* main */"
        ]
    );
    assert_eq!(
        tree(&["--min-duration", "19ms"]),
        ["    main() {", "###   nap();", "### } /* main */"]
    );
    assert_eq!(
        tree(&["--filter", "mid*", "-D", "2"]),
        [
            "    middle() {",
            "###   leaf();",
            "###   sibling(); /* tail */",
            "###   leaf();",
            "### } /* middle */"
        ]
    );
    assert_eq!(tree(&["-F", "elsewhere:*"]), [""; 0]);
}

#[test]
fn each_thread_has_a_tree_of_its_own() {
    let tree = traced(&["--format", "tree"], true);
    let mut threads: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in tree.lines().skip(1) {
        let (margin, call) = line.split_once("] | ").expect("a margin");
        let (_, tid) = margin.split_once('[').expect("a thread");
        threads.entry(tid).or_default().push(call);
    }
    assert_eq!(threads.len(), 4);
    let mut of_threads = threads.values().filter(|calls| calls[0] == "thread() {");
    for _ in 0..3 {
        let calls = of_threads.next().expect("three threads");
        let rounds = &calls[1..calls.len() - 1];
        assert_eq!(rounds.len(), 100 * 12);
        for round in rounds.chunks(12) {
            let expected = OUTER.map(|line| &line[4..]);
            assert_eq!(round[..11], expected);
            assert_eq!(round[11], "  } /* outer */");
        }
        assert_eq!(calls.last(), Some(&"} /* thread */"));
    }
}

#[test]
fn trace_events_are_json_and_nest() {
    let text = traced(&["--format", "chrome"], true);
    let events: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let named = |name: &str| {
        let with = events.iter().filter(|event| event["name"] == name);
        with.count()
    };
    for (name, calls) in [
        ("leaf", 602),
        ("sibling", 301),
        ("factorial", 903),
        ("thread", 3),
        ("main", 1),
    ] {
        assert_eq!(named(name), calls, "{name}");
    }
    // Digits as they were written: nanoseconds.
    let nanoseconds = |value: &Value| -> u64 {
        let text = value.to_string();
        let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
        let part = format!("{part:0<3}");
        assert_eq!(part.len(), 3, "{text}");
        whole.parse::<u64>().expect("digits") * 1000 + part.parse::<u64>().expect("digits")
    };
    let mut threads: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let start = nanoseconds(&event["ts"]);
        let span = (start, start + nanoseconds(&event["dur"]));
        let tid = event["tid"].as_u64().expect("a thread");
        threads.entry(tid).or_default().push(span);
    }
    assert_eq!(threads.len(), 4);
    for spans in threads.values_mut() {
        // The outer first.
        spans.sort_by_key(|&(start, end)| (start, u64::MAX - end));
        let mut open: Vec<u64> = Vec::new();
        for &(start, end) in spans.iter() {
            while open.last().is_some_and(|&outer| outer <= start) {
                open.pop();
            }
            let outer = open.last().copied().unwrap_or(u64::MAX);
            assert!(end <= outer, "{start}..{end} within ..{outer}");
            open.push(end);
        }
    }
}

#[test]
fn folded_stacks_are_those_of_the_calls() {
    let text = traced(&["--format", "folded"], true);
    let mut stacks: Vec<&str> = Vec::new();
    for line in text.lines() {
        let (stack, own) = line.rsplit_once(' ').expect("a number");
        own.parse::<u64>().expect("nanoseconds");
        stacks.push(stack);
    }
    let inner = |root: &str| -> Vec<String> {
        [
            "",
            ";outer",
            ";outer;factorial",
            ";outer;factorial;factorial",
            ";outer;factorial;factorial;factorial",
            ";outer;middle",
            ";outer;middle;leaf",
            ";outer;middle;sibling",
        ]
        .map(|stack| format!("nested;{root}{stack}"))
        .to_vec()
    };
    let mut expected = inner("main");
    expected.push("nested;main;nap".to_owned());
    expected.extend(inner("thread"));
    expected.sort();
    stacks.sort_unstable();
    assert_eq!(stacks, expected);
}

#[test]
fn a_table_of_times_stands_before_that_of_hits() {
    let text = traced(&["--format", "summary", "--call"], true);
    let mut lines = text.lines();
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(
        words(lines.next().expect("a head")).join(" "),
        "CALLS TOTAL SELF AVG MIN MAX P50 P95 P99 FUNCTION"
    );
    let table: BTreeMap<String, Vec<String>> = lines
        .by_ref()
        .take(8)
        .map(words)
        .map(|words| (words[9].clone(), words))
        .collect();
    for (name, calls) in [("leaf", "602"), ("outer", "301"), ("nap", "1")] {
        assert_eq!(table[&format!("nested:{name}")][0], calls, "{name}");
    }
    let nap = &table["nested:nap"];
    assert!(nap[1].ends_with("ms"), "{nap:?}");
    // One call: all its times are one.
    assert!(nap[1..9].iter().all(|time| *time == nap[1]), "{nap:?}");
    assert_eq!(
        words(lines.next().expect("another head")).join(" "),
        "HITS MISSED STATE PROBE"
    );
    let rest: Vec<Vec<String>> = lines.map(words).collect();
    for probe in ["nested:leaf", "nested:leaf%return"] {
        let row = rest
            .iter()
            .find(|row| row.last().is_some_and(|p| p == probe));
        assert_eq!(row.expect(probe)[0], "602");
    }
}
