//! Processes that lose their parent become this process's children, so that how they end is known,
//! and that nobody stays.

use std::fs;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::support::*;

/// From here on orphans come to this process.
pub fn adopt() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| nix::sys::prctl::set_child_subreaper(true).expect("prctl"));
}

/// The children of a process, by name.
pub fn children(pid: u32) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let mut found = Vec::new();
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            found.push((child, name.trim_end().to_owned()));
        }
    }
    found
}

/// The guardian of a kptrace, once it is there.
pub fn guardian(kptrace: u32) -> u32 {
    let end = Instant::now() + LIMIT;
    loop {
        let mut guardians = children(kptrace)
            .into_iter()
            .filter(|(_, name)| name == "kptrace-guard");
        if let Some((guardian, _)) = guardians.next() {
            return guardian;
        }
        assert!(Instant::now() < end, "no guardian");
        std::thread::yield_now();
    }
}

/// How an orphan ended; `None` if it is no child of ours and is gone.
pub fn end_of(pid: u32) -> Option<WaitStatus> {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process number"));
    let end = Instant::now() + LIMIT;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(status) => return Some(status),
            Err(Errno::ECHILD) => {
                // Not ours yet, or waited for by its parent.
                if !fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
                    return None;
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < end, "{pid} does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}
