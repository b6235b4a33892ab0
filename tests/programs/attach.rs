//! Attached to under load: redis-server goes on without an error, and nothing stays behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Completion;

use super::Verdict;
use super::case::finished;
use super::need::all;
use super::redis::{self, Client, READY};
use super::sites::Sites;
use super::support;

/// What of a process must be as it was.
#[derive(Debug, PartialEq)]
struct State {
    /// Executable mappings, and those of memory without a name in the file system.
    mappings: Vec<String>,
    descriptors: BTreeMap<String, String>,
    /// Blocked, ignored and caught signals of each thread.
    masks: BTreeMap<String, Vec<String>>,
}

impl State {
    fn of(pid: u32) -> State {
        let process = Path::new("/proc").join(pid.to_string());
        let maps = fs::read_to_string(process.join("maps")).unwrap();
        let names = |path: &Path| -> Vec<String> {
            let entries = fs::read_dir(path).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        let link = |name: &String| {
            let target = fs::read_link(process.join("fd").join(name)).unwrap();
            target.to_string_lossy().into_owned()
        };
        let masks = |thread: &String| -> Vec<String> {
            let status = fs::read_to_string(process.join("task").join(thread).join("status"));
            let status = status.unwrap();
            let lines = status.lines().filter(|line| {
                ["SigBlk", "SigIgn", "SigCgt", "TracerPid"]
                    .iter()
                    .any(|key| line.starts_with(key))
            });
            lines.map(str::to_owned).collect()
        };
        State {
            mappings: maps
                .lines()
                .filter(|line| line.contains("xp ") || line.contains("memfd:"))
                .map(str::to_owned)
                .collect(),
            descriptors: names(&process.join("fd"))
                .into_iter()
                .map(|name| (name.clone(), link(&name)))
                .collect(),
            masks: names(&process.join("task"))
                .into_iter()
                .map(|thread| (thread.clone(), masks(&thread)))
                .collect(),
        }
    }

    /// Text that is not as in its file, in bytes.
    fn differing_text(&self, pid: u32) -> usize {
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        let mut differing = 0;
        for mapping in &self.mappings {
            let words: Vec<&str> = mapping.split_whitespace().collect();
            let Some(path) = words.get(5).filter(|path| path.starts_with('/')) else {
                continue;
            };
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let (start, end) = words[0].split_once('-').unwrap();
            let (start, end) = (number(start), number(end));
            let mut here = vec![0; usize::try_from(end - start).unwrap()];
            memory.read_exact_at(&mut here, start).unwrap();
            let mut there = vec![0; here.len()];
            // A mapping's last page may go past the end of its file, and is zero there.
            let file = File::open(path).unwrap();
            let mut filled = 0;
            while filled < there.len() {
                let at = number(words[2]) + filled as u64;
                match file.read_at(&mut there[filled..], at).unwrap() {
                    0 => break,
                    read => filled += read,
                }
            }
            differing += here.iter().zip(&there).filter(|(a, b)| a != b).count();
        }
        differing
    }
}

pub fn redis() -> Verdict {
    let [server, benchmark] = match all(["redis-server", "redis-benchmark"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let mut command = support::command(support::c("traceable").build());
    command.args(redis::server(&server, place));
    let mut running = support::start(command);
    running.out.wait_for(READY);
    let pid = running.pid();
    let mut client = Client::new(place);
    redis::is_right(&mut client);
    let before = State::of(pid);
    assert_eq!(
        before.differing_text(pid),
        0,
        "text is as in the files before all"
    );

    let summary = place.join("summary.json");
    let detached = AtomicBool::new(false);
    let (attached, loaded) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut rounds = 0;
            while !detached.load(Ordering::Acquire) || rounds == 0 {
                redis::benchmark(&benchmark, place, 3000)?;
                rounds += 1;
            }
            // And without kptrace again.
            redis::benchmark(&benchmark, place, 3000)
        });
        let counter = scope.spawn(|| {
            let mut own = Client::new(place);
            let mut n = 0;
            while !detached.load(Ordering::Acquire) {
                n += 1;
                assert_eq!(own.ask("INCR turns"), n.to_string());
            }
        });
        let mut attach = support::command(env!("CARGO_BIN_EXE_kptrace"));
        attach
            .args([
                "attach",
                "-q",
                "-c",
                "-p",
                "*",
                "-p",
                "libc:*",
                "--duration",
                "2",
            ])
            .args(["--format", "json", "-o"])
            .arg(&summary)
            .arg(pid.to_string());
        let attached = attach.spawn().unwrap();
        let attached = finished(attached, Duration::from_secs(120));
        detached.store(true, Ordering::Release);
        counter.join().unwrap();
        (attached, load.join().unwrap())
    });
    let status = attached?;
    loaded?;
    if !status.success() {
        return Err(format!("kptrace attach: {status}").into());
    }
    redis::is_right(&mut client);
    // Connections are closed some time after their clients are gone.
    let limit = std::time::Instant::now() + support::LIMIT;
    while client
        .ask("CLIENT LIST")
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count()
        > 1
    {
        assert!(std::time::Instant::now() < limit, "clients stay connected");
    }
    let after = State::of(pid);
    assert_eq!(after.differing_text(pid), 0, "text is as in the files");
    assert_eq!(after.mappings, before.mappings, "no mapping stays");
    assert_eq!(after.descriptors, before.descriptors, "no descriptor stays");
    for (thread, masks) in &before.masks {
        assert_eq!(after.masks.get(thread), Some(masks), "thread {thread}");
    }
    let sites = Sites::read(&summary)?;
    print!("{}", sites.report("attach to redis-server"));
    sites.check()?;
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.end().expect(0);
    Ok(Completion::Completed)
}
