//! The programs of `tests/language_reference`, run whole: what they print is what was recorded, to the
//! byte. Those that cannot run yet are named, with the reason, and must fail for just that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Completion;
use serde_json::Value;

use super::Verdict;
use super::support::{self, Source};

/// What does not run, and why.
const NOT_YET: [(&str, &str); 0] = [];

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language_reference")
}

fn target() -> PathBuf {
    let text = fs::read_to_string(place().join("target.c")).unwrap();
    Source::new("cc", "c", "target", text).build()
}

fn names() -> Vec<String> {
    let files = fs::read_dir(place()).unwrap();
    let names = files.filter_map(|file| {
        let path = file.unwrap().path();
        let name = path.file_stem()?.to_str()?.to_owned();
        (path.extension()? == "bt").then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// What a program prints, or the error it is refused with.
fn run(name: &str, target: &Path, format: &str) -> Result<String, String> {
    let place_of_output = tempfile::tempdir().unwrap();
    let output = place_of_output.path().join("printed");
    let mut command = support::command(support::launch::binary());
    command.current_dir(target.parent().unwrap());
    command.args(["run", "-q", "--format", format, "-o"]);
    command.arg(&output).arg("-f");
    command.arg(place().join(format!("{name}.bt")));
    command.args(["--", "./target"]);
    let ended = support::start(command).end();
    match ended.status.code() {
        Some(0) => Ok(fs::read_to_string(&output).unwrap()),
        Some(2) => Err(ended.err),
        _ => panic!("{name}: {ended:?}"),
    }
}

/// The objects that a program prints.
fn values(text: &str) -> Vec<Value> {
    let not = ["attached_probes", "summary"];
    let mut objects = support::objects(text);
    objects.retain(|object| !not.iter().any(|kind| object["type"] == *kind));
    objects
}

fn all(format: &str, extension: &str, same: impl Fn(&str, &str) -> bool) -> Verdict {
    let target = target();
    let names = names();
    assert!(names.len() >= 90, "{names:?}");
    for (name, _) in NOT_YET {
        assert!(names.iter().any(|one| one == name), "{name} is there");
    }
    let mut wrong = Vec::new();
    for name in &names {
        let reason = NOT_YET.iter().find(|(one, _)| one == name);
        match (run(name, &target, format), reason) {
            (Ok(printed), None) => {
                let recorded = place().join(format!("{name}.{extension}"));
                let recorded = fs::read_to_string(recorded).unwrap();
                if !same(&printed, &recorded) {
                    wrong.push(format!("{name} prints\n{printed}\nnot\n{recorded}"));
                }
            }
            (Ok(_), Some(_)) => wrong.push(format!("{name} runs: it need not be listed")),
            (Err(error), Some((_, reason))) => {
                let errors = error.lines().filter(|line| line.contains(": error: "));
                for line in errors.filter(|line| !line.ends_with(reason)) {
                    wrong.push(format!("{name}: {line}, not {reason}"));
                }
                if !error.contains(reason) {
                    wrong.push(format!("{name}: {error}, not {reason}"));
                }
            }
            (Err(error), None) => wrong.push(format!("{name}: {error}")),
        }
    }
    match wrong.is_empty() {
        true => Ok(Completion::Completed),
        false => Err(wrong.join("\n").into()),
    }
}

pub fn text() -> Verdict {
    all("text", "txt", |printed, recorded| printed == recorded)
}

pub fn json() -> Verdict {
    all("json", "json", |printed, recorded| {
        values(printed) == values(recorded)
    })
}

/// Records anew, in a copy, with the installed bpftrace.
pub fn anew() -> Verdict {
    let version = Command::new("bpftrace").arg("--version").output();
    let version = version.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let version = version.unwrap_or_default();
    if !version.contains("v0.17") {
        return Ok(Completion::ignored_with("no bpftrace 0.17 here"));
    }
    let tried = Command::new("bpftrace")
        .args(["-e", "BEGIN { exit(); }"])
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return Ok(Completion::ignored_with("bpftrace may not trace here"));
    }
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(place()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    // Left without what was recorded: what is not written again is missed.
    let recorded_now = |name: &String| {
        let program = fs::read_to_string(place().join(format!("{name}.bt"))).unwrap();
        !program.contains("// newer:")
    };
    let names: Vec<String> = names().into_iter().filter(recorded_now).collect();
    for name in &names {
        fs::remove_file(copy.path().join(format!("{name}.txt"))).unwrap();
        fs::remove_file(copy.path().join(format!("{name}.json"))).unwrap();
    }
    let said = Command::new("sh")
        .arg(copy.path().join("record.sh"))
        .output();
    let said = said.unwrap();
    let mut wrong = Vec::new();
    let mut agree = 0;
    let target = target();
    for name in &names {
        for extension in ["txt", "json"] {
            let file = format!("{name}.{extension}");
            let now = fs::read_to_string(copy.path().join(&file)).unwrap_or_default();
            let then = fs::read_to_string(place().join(&file)).unwrap();
            let same = match extension {
                "json" => values(&now) == values(&then),
                _ => now == then,
            };
            if !same {
                wrong.push(format!("{file} is now\n{now}\nand was\n{then}"));
            }
        }
        // And beside it, now.
        let now = fs::read_to_string(copy.path().join(format!("{name}.txt"))).unwrap_or_default();
        match run(name, &target, "text") {
            Ok(printed) if printed == now => agree += 1,
            Err(_) if NOT_YET.iter().any(|(one, _)| one == name) => {}
            other => wrong.push(format!("{name}: {other:?}, and bpftrace prints {now:?}")),
        }
    }
    assert!(agree >= 40, "{agree} programs");
    let errors = String::from_utf8_lossy(&said.stderr);
    match wrong.is_empty() {
        true => Ok(Completion::Completed),
        false => Err(format!("{}\n{errors}", wrong.join("\n")).into()),
    }
}
