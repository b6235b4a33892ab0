//! While probes are armed, text holds what the summary says of each: 0xe9 where it jumps, 0xeb where
//! it does so through padding that holds 0xe9, 0xcc where it is a breakpoint. Invariant: text is read when a hit has shown that probes are armed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use libtest_mimic::Completion;
use nix::sys::signal::Signal;

use super::Verdict;
use super::sites::Sites;
use super::support;

/// The executable mappings of a process with their bytes.
fn texts(pid: u32) -> BTreeMap<u64, Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let executable = maps
        .lines()
        .filter(|line| line.contains("xp ") && line.contains('/'));
    let text = executable.map(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (start, end) = (number(start), number(end));
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.read_exact_at(&mut bytes, start).unwrap();
        (start, bytes)
    });
    text.collect()
}

fn byte(texts: &BTreeMap<u64, Vec<u8>>, at: u64) -> Option<u8> {
    let (start, bytes) = texts.range(..=at).next_back()?;
    bytes.get(usize::try_from(at - start).ok()?).copied()
}

pub fn text() -> Verdict {
    let mut command = support::command(support::c("traceable").build());
    command.arg("cat").stdin(Stdio::piped());
    let mut target = support::start(command);
    target.write("it runs\n");
    target.out.wait_for("it runs");
    let original = texts(target.pid());

    let directory = tempfile::tempdir().unwrap();
    let summary = directory.path().join("summary.json");
    let mut command = support::command(env!("CARGO_BIN_EXE_kptrace"));
    command.args([
        "attach",
        "-p",
        "*:*",
        "--trap-limit",
        "0",
        "--format",
        "json",
    ]);
    command.arg(target.pid().to_string());
    let mut attach = support::start(command);
    attach.out.wait_for("attached_probes");
    // Everything is armed by now.
    target.write("more\n");
    target.out.wait_for("more");
    attach.out.wait_for("\"type\":\"hit\"");
    let armed = texts(target.pid());
    attach.signal(Signal::SIGINT);
    let ended = attach.end().expect(0);
    fs::write(&summary, ended.out).unwrap();
    let sites = Sites::read(&summary)?;
    sites.check()?;

    let (mut jumps, mut springs) = (0, 0);
    for probe in sites.probes() {
        let address = probe["address"].as_str().unwrap();
        let address = u64::from_str_radix(address.strip_prefix("0x").unwrap(), 16).unwrap();
        let held = byte(&armed, address);
        let right = match (probe["state"].as_str().unwrap(), held) {
            ("jump", Some(0xe9)) => true,
            ("jump", Some(0xeb)) => {
                let distance = byte(&armed, address + 1).unwrap().cast_signed();
                let hole = (address + 2).wrapping_add_signed(distance.into());
                springs += 1;
                byte(&armed, hole) == Some(0xe9)
            }
            ("jump", _) => false,
            ("trap", held) => held == Some(0xcc),
            (_, held) => held == byte(&original, address),
        };
        if !right {
            return Err(format!("text holds {held:x?} at {probe}").into());
        }
        jumps += usize::from(probe["state"] == "jump");
    }
    println!("{jumps} sites hold a jump while armed, {springs} of them through padding");
    assert!(springs > 0, "libc has some");
    assert!(
        texts(target.pid()) == original,
        "text is as it was after the end"
    );
    target.end().expect(0);
    Ok(Completion::Completed)
}
