//! What can be seen of a process from outside: mappings, text compared with its files, descriptors,
//! signals. Two looks that are equal mean that nothing stayed behind.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::os::unix::fs::FileExt;

/// A process as seen from outside.
#[derive(Debug, PartialEq, Eq)]
pub struct Look {
    /// Executable mappings.
    pub executable: Vec<String>,
    /// All mappings that are no heap or stack.
    pub mappings: Vec<String>,
    pub descriptors: Vec<String>,
    /// Signals ignored and caught, of the process; those each thread blocks, by thread.
    pub signals: Vec<String>,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Lines of `maps`: span, access, offset, path.
fn mappings(pid: u32) -> Vec<(u64, u64, String, u64, String)> {
    let maps = read(&format!("/proc/{pid}/maps"));
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let access = words.next()?.to_owned();
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let path = words.nth(2).unwrap_or("").to_owned();
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some((number(from)?, number(to)?, access, offset, path))
    };
    maps.lines().filter_map(line).collect()
}

/// Where its text is.
pub fn text(pid: u32) -> Vec<(u64, u64)> {
    let maps = mappings(pid).into_iter();
    let text = maps.filter(|map| map.2.contains('x') && map.4.starts_with('/'));
    text.map(|map| (map.0, map.1)).collect()
}

/// Looks at a process.
pub fn look(pid: u32) -> Look {
    let maps = mappings(pid);
    let shown = |(from, to, access, offset, path): &(u64, u64, String, u64, String)| {
        format!("{from:x}-{to:x} {access} {offset:x} {path}")
    };
    let mut descriptors: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .flatten()
        .map(|entry| {
            let to = fs::read_link(entry.path()).unwrap_or_default();
            format!("{:?} {}", entry.file_name(), to.display())
        })
        .collect();
    descriptors.sort();
    let mut signals = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .expect("its threads")
        .flatten()
    {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        for line in status.lines() {
            if ["SigBlk", "SigIgn", "SigCgt", "TracerPid"]
                .iter()
                .any(|k| line.starts_with(k))
            {
                signals.push(format!("{:?} {line}", task.file_name()));
            }
        }
    }
    signals.sort();
    let executable = maps.iter().filter(|map| map.2.contains('x'));
    let fixed = maps
        .iter()
        .filter(|map| !(map.4.starts_with("[heap") || map.4.starts_with("[stack")));
    Look {
        executable: executable.map(shown).collect(),
        mappings: fixed.map(shown).collect(),
        descriptors,
        signals,
    }
}

/// The bytes of text, of all executable mappings, that differ from the files they come from.
pub fn different(pid: u32) -> Vec<String> {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let mut different = Vec::new();
    for (from, to, access, offset, path) in mappings(pid) {
        if !access.contains('x') || !path.starts_with('/') {
            continue;
        }
        if path.starts_with("/memfd:") {
            different.push(format!("code of no file at {from:#x}"));
            continue;
        }
        let file = fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut text = vec![0; usize::try_from(to - from).expect("a size")];
        let read = memory.read_exact_at(&mut text, from);
        // A library that was closed while it was looked at is not there to differ.
        if !mappings(pid)
            .iter()
            .any(|map| map.0 == from && map.4 == path)
        {
            continue;
        }
        read.expect("its text");
        let start = usize::try_from(offset).expect("an offset");
        // Beyond the end of the file memory is zero.
        let there = file.get(start..).unwrap_or(&[]);
        let zeros = std::iter::repeat(&0);
        for (index, (ours, theirs)) in text.iter().zip(there.iter().chain(zeros)).enumerate() {
            if ours != theirs {
                different.push(format!(
                    "{path}+{:#x}: {ours:02x} for {theirs:02x}",
                    start + index
                ));
            }
        }
    }
    different
}
