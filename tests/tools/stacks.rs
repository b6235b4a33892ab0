//! Stacks are those that gdb tells: names, files, lines, and what is inlined, at hits chosen at random in
//! programs without frame pointers.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::support::*;

/// Hits of each program that are compared.
const COMPARED: usize = 100;
/// Hits that each program makes.
const HITS: usize = 500;

/// `deep.c`: through libc's callbacks and signals.
pub fn c_program() -> Result<(), String> {
    let source = build::c("deep").flags(&["-O2", "-fomit-frame-pointer"]);
    agree(&source.build(), 1)
}

/// `deep.c` with unwind tables that are not loaded.
pub fn debug_frame() -> Result<(), String> {
    let flags = [
        "-O2",
        "-fomit-frame-pointer",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
    ];
    let source = build::c("deep").flags(&flags);
    agree(&source.named("deep_tables").build(), 3)
}

/// `deep.cc`: through what the library's templates inline.
pub fn cxx_program() -> Result<(), String> {
    let text = std::fs::read_to_string(targets().join("deep.cc")).expect("a source");
    let source = Source::new("g++", "cc", "deep_cxx", text);
    agree(&source.flags(&["-O2", "-fomit-frame-pointer"]).build(), 2)
}

fn agree(program: &Path, seed: u64) -> Result<(), String> {
    let path = program.to_str().expect("UTF-8");
    let mut rng = Rng::seeded(seed);
    let mut wanted = BTreeMap::new();
    while wanted.len() < COMPARED {
        wanted.insert(rng.below(HITS), ());
    }
    let theirs = gdb(path, &wanted.keys().copied().collect::<Vec<_>>())?;
    let out = program.with_extension("json");
    let options = [
        "run",
        "-q",
        "--stack",
        "--stack-size",
        "15360",
        "--format",
        "json",
    ];
    let more = ["-o", out.to_str().expect("UTF-8"), "-p", "hit", "--", path];
    kptrace(&[&options[..], &more[..]].concat()).expect(0);
    let text = std::fs::read_to_string(&out).expect("what was traced");
    let ours = hits(&text);
    assert_eq!(ours.len(), HITS, "every hit is there");
    let mut wrong = Vec::new();
    let mut frames = 0;
    let mut inlined = 0;
    for (number, theirs) in &theirs {
        let ours = until_main(&ours[*number]["stack"]);
        let theirs = until_main(theirs);
        frames += theirs.len();
        inlined += theirs
            .iter()
            .filter(|frame| frame.ends_with("(inlined)"))
            .count();
        if ours != theirs {
            wrong.push(format!("hit {number}:\n{ours:#?}\ngdb:\n{theirs:#?}"));
        }
    }
    let first = wrong.first().cloned().unwrap_or_default();
    assert!(
        wrong.is_empty(),
        "{} of {COMPARED} differ, as {first}",
        wrong.len()
    );
    assert_eq!(theirs.len(), COMPARED);
    assert!(
        frames > 5 * COMPARED && inlined > COMPARED / 4,
        "{frames} {inlined}"
    );
    Ok(())
}

/// Stacks by the number of the hit, as gdb has them.
fn gdb(path: &str, numbers: &[usize]) -> Result<Vec<(usize, Value)>, String> {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let script = targets().join("backtrace.py");
    let mut gdb = command("gdb");
    gdb.args(["-nx", "-batch", "-ex", "set debuginfod enabled off"]);
    gdb.args(["-ex", "handle SIGUSR1 nostop noprint pass"]);
    gdb.args(["-ex", "set startup-with-shell off", "-x"]);
    gdb.arg(script).args(["--args", path]);
    gdb.env("INDEXES", numbers.join(","));
    let ended = start(gdb).end();
    let lines = ended
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("STACK "));
    let stacks: Vec<(usize, Value)> = lines
        .map(|line| serde_json::from_str(line).expect("a number and frames"))
        .collect();
    if stacks.is_empty() && ended.err.contains("Python") {
        return Err("this gdb has no Python".to_owned());
    }
    assert_eq!(stacks.len(), numbers.len(), "{}", ended.out + &ended.err);
    Ok(stacks)
}

/// The frames as text, the innermost first, without those that called `main`.
fn until_main(stack: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    for frame in stack.as_array().expect("frames") {
        let name = plain(frame["function"].as_str().unwrap_or("?"));
        // Where a signal handler returns to: a frame of gdb's own.
        if name == "__restore_rt" {
            continue;
        }
        let file = frame["file"].as_str().unwrap_or("?");
        let file = file.rsplit('/').next().unwrap_or(file);
        let inlined = if frame["inlined"] == true {
            " (inlined)"
        } else {
            ""
        };
        texts.push(format!("{name} {file}:{}{inlined}", frame["line"]));
        if name == "main" {
            break;
        }
    }
    texts
}

/// A function's own name: without scopes, arguments of templates, and parameters.
fn plain(name: &str) -> String {
    let mut depth = 0;
    let mut plain = String::new();
    for c in name.trim_end_matches(" const").chars() {
        match c {
            '<' | '(' | '{' | '[' => depth += 1,
            '>' | ')' | '}' | ']' => depth -= 1,
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let last = plain.rsplit("::").next().unwrap_or_default();
    last.rsplit(' ').next().unwrap_or_default().to_owned()
}
