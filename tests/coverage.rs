//! How many entries jump: in each of nine well-known files at least 99.85 %, in sum at least 99.95 %;
//! that the entries are those that readelf shows; and that text holds what the summary says.
//!
//! Files that are missing are reported as ignored; with `KPTRACE_REQUIRE_PROGRAMS=1` they fail.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "coverage/live.rs"]
mod live;
#[path = "programs/need.rs"]
mod need;
#[path = "coverage/readelf.rs"]
mod readelf;
#[path = "programs/sites.rs"]
mod sites;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::Value;

type Verdict = Result<Completion, Failed>;

/// Files by name and where they may be.
const FILES: [(&str, &[&str]); 9] = [
    (
        "libc",
        &["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"],
    ),
    (
        "libcrypto",
        &[
            "/lib/x86_64-linux-gnu/libcrypto.so.3",
            "/lib64/libcrypto.so.3",
        ],
    ),
    (
        "libstdc++",
        &[
            "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
            "/lib64/libstdc++.so.6",
        ],
    ),
    (
        "libsqlite3",
        &[
            "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0",
            "/lib64/libsqlite3.so.0",
        ],
    ),
    (
        "libpython3.11",
        &["/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0"],
    ),
    ("redis-server", &["/usr/bin/redis-server"]),
    ("git", &["/usr/bin/git"]),
    ("node", &["/usr/bin/node"]),
    ("postgres", &[]),
];

fn file(name: &str, places: &[&str]) -> Option<PathBuf> {
    let path = match name {
        "postgres" => need::postgres().map(|place| place.join("postgres")),
        _ => need::first(places).or_else(|| need::find(name)),
    };
    path.and_then(|path| path.canonicalize().ok())
}

/// What `kptrace list` says of a file.
struct Listed {
    addresses: BTreeSet<u64>,
    jump: usize,
    /// Each entry that does not jump, in words.
    others: Vec<String>,
}

impl Listed {
    fn of(path: &Path) -> Result<Listed, Failed> {
        let mut command = support::command(env!("CARGO_BIN_EXE_kptrace"));
        command.args(["list", "--json"]).arg(path);
        let done = command.output().map_err(|error| error.to_string())?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
        }
        let mut listed = Listed {
            addresses: BTreeSet::new(),
            jump: 0,
            others: Vec::new(),
        };
        for line in String::from_utf8(done.stdout).unwrap().lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let address = entry["address"]
                .as_str()
                .unwrap()
                .strip_prefix("0x")
                .unwrap();
            let address = u64::from_str_radix(address, 16).unwrap();
            assert!(listed.addresses.insert(address), "twice: {line}");
            match entry["verdict"].as_str().unwrap() {
                "jump" => {
                    assert!(
                        entry["window"].is_string() && entry["reason"].is_null(),
                        "{line}"
                    );
                    listed.jump += 1;
                }
                verdict @ ("trap" | "refused") => {
                    let reason = entry["reason"].as_str().expect("a reason");
                    listed
                        .others
                        .push(format!("{verdict} {}: {reason}", entry["name"]));
                }
                _ => panic!("{line}"),
            }
        }
        Ok(listed)
    }
}

fn one(name: &str, places: &[&str]) -> Verdict {
    let Some(path) = file(name, places) else {
        return need::missing_one(&format!("no {name} here"));
    };
    let listed = Listed::of(&path)?;
    let count = listed.addresses.len();
    let share = 100.0 * listed.jump as f64 / count as f64;
    println!(
        "{name}: {count} entries, {} jump, {share:.2} %",
        listed.jump
    );
    if count < 1000 || share < 99.85 {
        return Err(format!(
            "{name}: {share:.2} % of {count}\n{}",
            listed.others.join("\n")
        )
        .into());
    }
    readelf::agrees(&path, &listed.addresses).map_err(|why| format!("{name}: {why}"))?;
    Ok(Completion::Completed)
}

fn sum() -> Verdict {
    let (mut count, mut jump) = (0, 0);
    for (name, places) in FILES {
        let Some(path) = file(name, places) else {
            // Of fewer files the sum says something else.
            return need::missing_one(&format!("no {name} here"));
        };
        let listed = Listed::of(&path)?;
        count += listed.addresses.len();
        jump += listed.jump;
    }
    let share = 100.0 * jump as f64 / count as f64;
    println!("all nine: {count} entries, {jump} jump, {share:.2} %");
    if share < 99.95 {
        return Err(format!("{share:.2} % of {count}").into());
    }
    Ok(Completion::Completed)
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = FILES
        .into_iter()
        .map(|(name, places)| {
            Trial::ignorable_test(format!("entries_of_{name}_jump"), move || one(name, places))
        })
        .collect();
    trials.push(Trial::ignorable_test("entries_of_all_nine_jump", sum));
    trials.push(Trial::ignorable_test(
        "text_holds_what_the_summary_says",
        live::text,
    ));
    libtest_mimic::run(&arguments, trials).exit();
}
