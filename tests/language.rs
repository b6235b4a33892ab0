//! The probe language, from text to the checked tree. Programs stand in files of their own:
//! `malformed/` with the messages they give, `wellformed/` with the tree they become, `bpftrace/`
//! and `bpftrace-0.17/` as bpftrace ships them. `KPTRACE_WRITE=1 cargo test --test language` writes
//! what is expected; it is then read by eye.

#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "language/fake.rs"]
mod fake;
#[path = "language/meaning.rs"]
mod meaning;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use fake::Fake;
use kptrace::language::{Source, Warning, compile};

fn programs(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/language")
        .join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "bt"))
        .collect();
    all.sort();
    all
}

/// What a program gives: its tree and warnings, or its errors.
fn outcome(path: &Path) -> (bool, String) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = fs::read_to_string(path).unwrap();
    // The first line may give parameters: `// $ a b c`.
    let first = text.lines().next().unwrap_or_default();
    let given = first.strip_prefix("// $ ").unwrap_or_default();
    let parameters: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
    let source = Source::new(name, &text);
    let mut out = String::new();
    let unsafe_too = text.contains("// --unsafe");
    match compile(&source, &parameters, unsafe_too, &Fake) {
        Ok((checked, warnings)) => {
            for warning in &warnings {
                writeln!(out, "{}", Warning(warning)).unwrap();
            }
            write!(out, "{checked}").unwrap();
            (true, out)
        }
        Err(errors) => {
            for error in errors {
                writeln!(out, "{error}").unwrap();
            }
            (false, out)
        }
    }
}

/// Holds a program against what is expected of it, or writes that.
fn expect(path: &Path, out: &str, wrong: &mut Vec<String>) {
    let expected = path.with_extension("txt");
    if std::env::var_os("KPTRACE_WRITE").is_some() {
        fs::write(&expected, out).unwrap();
    }
    let stored = fs::read_to_string(&expected).unwrap_or_default();
    if stored != out {
        wrong.push(format!("--- {}:\n{out}", expected.display()));
    }
}

fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn malformed_programs_give_the_messages_they_should() {
    let mut wrong = Vec::new();
    let all = programs("malformed");
    assert!(all.len() >= 100, "{} programs", all.len());
    for path in all {
        let (compiled, out) = outcome(&path);
        if compiled {
            wrong.push(format!("{} compiles", path.display()));
        }
        expect(&path, &out, &mut wrong);
    }
    nothing(&wrong);
}

#[test]
fn well_formed_programs_become_the_tree_they_should() {
    let mut wrong = Vec::new();
    for path in programs("wellformed") {
        let (compiled, out) = outcome(&path);
        if !compiled {
            wrong.push(format!("{} does not compile:\n{out}", path.display()));
            continue;
        }
        expect(&path, &out, &mut wrong);
    }
    nothing(&wrong);
}

#[test]
fn bpftraces_user_space_tools_compile() {
    let mut wrong = Vec::new();
    for folder in ["bpftrace", "bpftrace-0.17"] {
        let all = programs(folder);
        assert_eq!(all.len(), 5);
        for path in all {
            let (compiled, out) = outcome(&path);
            if !compiled || out.contains("warning:") {
                wrong.push(format!("{}:\n{out}", path.display()));
            }
            expect(&path, &out, &mut wrong);
        }
    }
    nothing(&wrong);
}
