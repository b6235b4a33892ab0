//! Trees of calls beside those that uftrace shows of the same program, built for it: the functions
//! of the program and how they nest, in each thread. Besides our own programs, those of uftrace's
//! tests (`s-*.c`), where its source is: `KPTRACE_UFTRACE=DIRECTORY`. Most of these must be the
//! same; of some uftrace itself sees less (children, destructors of threads), and a few do not build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Completion;

use super::Verdict;
use super::need::all;
use super::support::launch::binary;
use super::support::*;

/// How uftrace builds its tests, so that calls are what the source says.
const FLAGS: [&str; 12] = [
    "-fno-inline",
    "-fno-builtin",
    "-fno-ipa-cp",
    "-fno-ipa-sra",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-U_FORTIFY_SOURCE",
    "-w",
    "-pthread",
    "-ldl",
    "-lm",
    "-lrt",
];

/// How many of uftrace's programs must have the same tree.
const SAME: usize = 40;

/// Calls of one thread as they began: how deep, and the name.
type Calls = Vec<(usize, String)>;

/// The calls in what either prints. Threads are in no order.
fn calls(text: &str) -> Vec<Calls> {
    let mut threads: Vec<(&str, Calls)> = Vec::new();
    for line in text.lines() {
        let Some((margin, call)) = line.split_once("] | ") else {
            continue;
        };
        let tid = margin.rsplit('[').next().unwrap_or_default();
        let name = call.trim_start();
        if name.starts_with(['}', '/']) || name.ends_with("/* entry */") {
            continue;
        }
        let depth = (call.len() - name.len()) / 2;
        let name = name.split('(').next().unwrap_or_default().to_owned();
        match threads.iter_mut().find(|(thread, _)| *thread == tid) {
            Some((_, calls)) => calls.push((depth, name)),
            None => threads.push((tid, vec![(depth, name)])),
        }
    }
    let mut all: Vec<Calls> = threads.into_iter().map(|(_, calls)| calls).collect();
    all.sort();
    all
}

/// Runs one program under both. `None` if it does not build, or uftrace sees nothing of it.
fn both(uftrace: &Path, name: &str, text: &str) -> Option<(Vec<Calls>, Vec<Calls>)> {
    let source = |more: &[&str]| {
        let source = Source::new("cc", "c", name, text).flags(&FLAGS).flags(more);
        source.try_build().ok()
    };
    let (instrumented, plain) = (source(&["-pg"])?, source(&[])?);
    let place = instrumented.parent()?;
    let mut line = Command::new(uftrace);
    line.args(["live", "--no-pager", "--no-libcall", "--no-event"]);
    let theirs = start(within(line.arg(&instrumented), place)).end();
    let theirs = calls(&theirs.out);
    let tree = plain.with_extension("tree");
    let mut line = command(binary());
    line.args(["run", "--format", "tree", "-p", &format!("{name}:*"), "-o"]);
    line.arg(&tree).arg("--").arg(&plain);
    let ended = start(within(&mut line, plain.parent()?)).end();
    assert!(!ended.err.contains("missed"), "{name}: {}", ended.err);
    let ours = calls(&fs::read_to_string(&tree).unwrap_or_default());
    (!theirs.is_empty()).then_some((theirs, ours))
}

/// In a directory of its own: programs write files.
fn within(line: &mut Command, place: &Path) -> Command {
    line.current_dir(place).stdin(std::process::Stdio::null());
    std::mem::replace(line, Command::new(""))
}

/// The programs of uftrace's tests.
fn theirs(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory.join("tests")).expect("tests/ of uftrace");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let program = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix("s-")?;
        let name = name.strip_suffix(".c")?.to_owned();
        Some((name, fs::read_to_string(&path).ok()?))
    };
    paths.into_iter().filter_map(program).collect()
}

pub fn trees() -> Verdict {
    let uftrace = match all(["uftrace", "cc"]) {
        Ok([uftrace, _]) => uftrace,
        Err(verdict) => return verdict,
    };
    let nested = fs::read_to_string(targets().join("nested.c")).unwrap();
    let (expected, found) = both(&uftrace, "nested", &nested).expect("it builds");
    assert!(expected.iter().flatten().count() > 5, "{expected:?}");
    assert_eq!(found, expected);
    let Some(directory) = std::env::var_os("KPTRACE_UFTRACE") else {
        println!("without uftrace's own: KPTRACE_UFTRACE names no source");
        return Ok(Completion::Completed);
    };
    let (mut same, mut others) = (Vec::new(), Vec::new());
    for (name, text) in theirs(Path::new(&directory)) {
        match both(&uftrace, &name, &text) {
            Some((expected, found)) if expected == found => same.push(name),
            Some(_) => others.push(name),
            None => {}
        }
    }
    println!("{} the same; others: {}", same.len(), others.join(" "));
    assert!(same.len() >= SAME, "only {}: {same:?}", same.len());
    Ok(Completion::Completed)
}
