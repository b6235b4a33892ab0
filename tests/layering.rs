//! The map of `src/`: which module may import which, where a crate may be named, where `unsafe`
//! may stand, how long a file may be, and that every file says what it is for; and that the limits
//! in README.md name tests. What is read is the text, comments left out, so that a module and a test
//! of it are held to the same.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Each module and what of ours it may import. A module stands below those it imports, so the
/// table cannot hold a circle. `session` and `output` meet only through `data::Sink`.
const IMPORTS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("abi", &["base"]),
    ("program", &["base", "abi"]),
    ("spec", &["base", "program"]),
    ("language", &["base", "abi", "program", "spec"]),
    ("symbols", &["base"]),
    ("arch", &["base", "abi", "program"]),
    ("probe", &["base", "program", "arch"]),
    ("analysis", &["base", "symbols", "arch"]),
    ("sys", &["base", "arch"]),
    ("target", &["base", "abi", "arch", "sys"]),
    ("data", &["base", "abi", "program", "language", "sys"]),
    ("guardian", &["base", "sys"]),
    (
        "output",
        &["base", "program", "language", "symbols", "data"],
    ),
    (
        "session",
        &[
            "base", "abi", "program", "language", "spec", "symbols", "arch", "probe", "analysis",
            "sys", "target", "data", "guardian",
        ],
    ),
    (
        "cli",
        &[
            "base", "spec", "language", "symbols", "probe", "analysis", "sys", "target", "data",
            "output", "guardian", "session",
        ],
    ),
];

/// Crates, and the only place that may name them.
const FENCES: &[(&str, &str)] = &[
    ("nix", "src/sys"),
    ("libc", "src/sys"),
    ("iced_x86", "src/arch/x86_64"),
    ("object", "src/symbols"),
    ("gimli", "src/symbols"),
    ("addr2line", "src/symbols"),
    ("framehop", "src/symbols"),
    ("clap", "src/cli"),
    ("clap_complete", "src/cli"),
    ("clap_mangen", "src/cli"),
    ("indicatif", "src/cli"),
    ("ratatui", "src/cli/top"),
];

/// The only files that may ask which machine they are compiled for: the seam, and the registers
/// as the kernel hands them out.
const MACHINES: &[&str] = &["src/arch.rs", "src/sys/regs.rs"];

/// Lines of a file, unit tests included.
const CAP: usize = 600;

struct File {
    /// From the package's root, with `/`.
    path: String,
    text: String,
}

impl File {
    /// The text without comments; strings stay.
    fn code(&self) -> String {
        let comment = |line: &&str| !line.trim_start().starts_with("//");
        self.text
            .lines()
            .filter(comment)
            .map(|line| line.split_once(" // ").map_or(line, |(code, _)| code))
            .fold(String::new(), |code, line| code + line + "\n")
    }

    /// `session` of `src/session/run.rs` and of `src/session.rs`.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        Some(rest.split(['/', '.']).next().unwrap_or(rest))
    }

    fn is_in(&self, place: &str) -> bool {
        self.path
            .strip_prefix(place)
            .is_some_and(|rest| rest.starts_with(['/', '.']))
    }
}

fn collect(directory: &Path, root: &Path, extension: &str, into: &mut Vec<File>) {
    let entries = fs::read_dir(directory).expect("a directory of the package");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, root, extension, into);
        } else if path.extension().is_some_and(|e| e == extension) {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let path = path.strip_prefix(root).expect("below the root");
            let path = path.to_str().expect("UTF-8").to_owned();
            into.push(File { path, text });
        }
    }
}

fn files(directories: &[&str], extension: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in directories {
        collect(&root.join(directory), root, extension, &mut files);
    }
    assert!(!files.is_empty(), "no .{extension} in {directories:?}");
    files
}

fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Modules of ours that code names, by `crate::x` or `crate::{x, y::z}`.
fn imported(code: &str) -> Vec<String> {
    let single = Regex::new(r"\bcrate::([a-z_0-9]+)").expect("a pattern");
    let group = Regex::new(r"\bcrate::\{").expect("a pattern");
    let mut found: Vec<String> = single
        .captures_iter(code)
        .map(|found| found[1].to_owned())
        .collect();
    for start in group.find_iter(code) {
        let mut depth = 1;
        let mut name = String::new();
        let mut fresh = true;
        for c in code[start.end()..].chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if fresh && (c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()) {
                name.push(c);
            } else if !name.is_empty() {
                found.push(std::mem::take(&mut name));
                fresh = false;
            }
            match (c, depth) {
                (_, 0) => break,
                (',', 1) => fresh = true,
                _ => {}
            }
        }
    }
    found
}

#[test]
fn groups_of_imports_are_read() {
    let code = "use crate::{base::{Addr, Span}, sys,\n program};\nlet x = crate::data::count();";
    let mut found = imported(code);
    found.sort();
    assert_eq!(found, ["base", "data", "program", "sys"]);
}

#[test]
fn the_table_goes_one_way() {
    let mut below: Vec<&str> = Vec::new();
    for (module, imports) in IMPORTS {
        for import in *imports {
            assert!(below.contains(import), "{module} imports {import}");
        }
        below.push(module);
    }
}

#[test]
fn modules_import_what_the_table_allows() {
    let mut wrong = Vec::new();
    for file in files(&["src"], "rs") {
        let module = file.module().expect("in src");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: `{module}` is not in the table", file.path));
            continue;
        };
        for import in imported(&file.code()) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: `{module}` imports `{import}`", file.path));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn the_library_declares_the_modules_of_the_table() {
    let root = files(&["src"], "rs");
    let library = root
        .iter()
        .find(|f| f.path == "src/lib.rs")
        .expect("lib.rs");
    let declared = Regex::new(r"(?m)^pub mod ([a-z_0-9]+);").expect("a pattern");
    let mut declared: Vec<String> = declared
        .captures_iter(&library.text)
        .map(|found| found[1].to_owned())
        .collect();
    declared.sort();
    let mut table: Vec<&str> = IMPORTS.iter().map(|(name, _)| *name).collect();
    table.sort_unstable();
    assert_eq!(declared, table);
}

#[test]
fn crates_stay_in_their_places() {
    let mut wrong = Vec::new();
    let all = files(&["src"], "rs");
    let all: Vec<(&File, String)> = all.iter().map(|file| (file, file.code())).collect();
    for (name, place) in FENCES {
        let named = Regex::new(&format!(
            r"(^|[^:\w])({name}::|use {name}\b|extern crate {name}\b)"
        ));
        let named = named.expect("a pattern");
        let mut used = false;
        for (file, code) in &all {
            let Some(found) = code.lines().find(|line| named.is_match(line)) else {
                continue;
            };
            if file.is_in(place) {
                used = true;
            } else {
                wrong.push(format!("{}: `{name}` in {}", file.path, found.trim()));
            }
        }
        if !used && *name != "libc" {
            wrong.push(format!(
                "{place} does not use `{name}`: is the fence right?"
            ));
        }
    }
    nothing(&wrong);
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let pattern = Regex::new(r"\bunsafe\s*(\{|fn\b|impl\b|trait\b|extern\b|\()|allow\(unsafe_code");
    let pattern = pattern.expect("a pattern");
    let (inside, outside): (Vec<File>, Vec<File>) = files(&["src", "tests"], "rs")
        .into_iter()
        .filter(|file| file.path != "tests/layering.rs" && pattern.is_match(&file.code()))
        .partition(|file| file.is_in("src/sys"));
    assert!(!inside.is_empty(), "the pattern finds what there is");
    let outside: Vec<String> = outside.into_iter().map(|file| file.path).collect();
    nothing(&outside);
}

#[test]
fn the_machine_is_asked_for_in_two_places_only() {
    let asking: Vec<String> = files(&["src"], "rs")
        .into_iter()
        .filter(|file| file.code().contains("target_arch"))
        .map(|file| file.path)
        .collect();
    let seam = asking.iter().any(|path| path == MACHINES[0]);
    assert!(seam, "the seam is in {}", MACHINES[0]);
    let elsewhere = asking
        .into_iter()
        .filter(|p| !MACHINES.contains(&p.as_str()));
    nothing(&elsewhere.collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    let mut all = files(&["src", "tests"], "rs");
    all.extend(files(&["tests"], "c"));
    for file in all {
        let lines = file.text.lines().count();
        if lines > CAP {
            wrong.push(format!("{}: {lines} lines", file.path));
        }
    }
    nothing(&wrong);
}

#[test]
fn the_binary_is_thin() {
    let all = files(&["src"], "rs");
    let main = all
        .iter()
        .find(|f| f.path == "src/main.rs")
        .expect("main.rs");
    assert!(main.text.lines().count() < 60);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for file in files(&["src", "tests"], "rs") {
        if !file.text.starts_with("//! ") {
            wrong.push(format!("{}: does not begin with `//! `", file.path));
        }
    }
    for file in files(&["tests"], "c") {
        if !(file.text.starts_with("/* ") || file.text.starts_with("// ")) {
            wrong.push(format!("{}: does not begin with a comment", file.path));
        }
    }
    nothing(&wrong);
}

/// Each limit that README.md names tells which test pins it, by file and name, or why none can.
#[test]
fn every_limit_of_the_readme_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    let from = readme.find("| limit | why | test |").expect("the table");
    let table = readme[from..]
        .lines()
        .take_while(|line| line.starts_with('|'));
    let named = Regex::new(r"`tests/([a-z_/]+): ([a-z0-9_]+)`").expect("a pattern");
    let mut wrong = Vec::new();
    let rows: Vec<&str> = table.skip(2).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit("| ").next().unwrap_or("");
        let mut names = named.captures_iter(tests).peekable();
        if names.peek().is_none() && !tests.starts_with("none: ") {
            wrong.push(format!("no test: {row}"));
        }
        for name in names {
            let path = root.join(format!("tests/{}.rs", &name[1]));
            let text = fs::read_to_string(&path).unwrap_or_default();
            // A row of a macro's table is a test too.
            let there = [format!("fn {}(", &name[2]), format!("    {}: ", &name[2])];
            if !there.iter().any(|there| text.contains(there)) {
                wrong.push(format!("not there: {}", &name[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
