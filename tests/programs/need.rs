//! Programs that may be missing. Knows nothing of what is done with them. Invariant: with
//! `KPTRACE_REQUIRE_PROGRAMS` set nothing is skipped.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Completion, Failed};

/// The program in `PATH`, or where Debian puts what is not for everyone.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|place| place.join(name))
        .find(|path| path.is_file())
}

/// All of `names`, or what to report of a case that needs them.
pub fn all<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N], Result<Completion, Failed>> {
    let found = names.map(find);
    let missing = names.iter().zip(&found).find(|(_, path)| path.is_none());
    match missing {
        Some((name, _)) => Err(missing_one(&format!("no {name} here"))),
        None => Ok(found.map(Option::unwrap_or_default)),
    }
}

/// One of the files, the first there is.
pub fn first(paths: &[&str]) -> Option<PathBuf> {
    paths
        .iter()
        .map(|path| Path::new(path).to_owned())
        .find(|path| path.exists())
}

/// Ignored with the reason, or a failure where everything must be there.
pub fn missing_one(why: &str) -> Result<Completion, Failed> {
    match std::env::var_os("KPTRACE_REQUIRE_PROGRAMS") {
        Some(_) => Err(format!("{why}, and KPTRACE_REQUIRE_PROGRAMS is set").into()),
        None => Ok(Completion::ignored_with(why)),
    }
}

/// Where postgres has its programs; the newest one.
pub fn postgres() -> Option<PathBuf> {
    if let Some(initdb) = find("initdb") {
        let real = fs::canonicalize(initdb).ok()?;
        let place = real.parent()?.to_owned();
        if place.join("postgres").exists() {
            return Some(place);
        }
    }
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut places: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|place| place.join("initdb").exists())
        .collect();
    places.sort();
    places.pop()
}
