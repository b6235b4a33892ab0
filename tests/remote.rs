//! Calls made in a target by a tracer that is killed meanwhile: whatever the thread was doing, and
//! wherever in the call the tracer dies, the thread goes on as if nothing had happened. The tracer
//! is this program once more, which kills itself.

#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod support;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use kptrace::base::{Pid, Tid};
use kptrace::sys::{poll, ptrace};
use kptrace::target::{self, Process, Remote};
use libtest_mimic::{Arguments, Trial};
use support::*;

/// Where the tracer is killed.
const STEPS: [&str; 5] = ["begun", "entry", "exit", "again", "finished"];
/// What the thread was doing that makes the call.
const KINDS: [&str; 6] = ["work", "read", "nanosleep", "futex", "timed", "epoll"];
/// How many times a tracer is killed anywhere at all.
const KILLS: usize = 40;

/// A call that changes nothing: `munmap` of a page that nobody has.
const UNMAP: (u64, [u64; 2]) = (11, [1 << 20, 4096]);
const KILL: i32 = 9;

fn stopped(process: &mut Process, tid: Tid) {
    ptrace::interrupt(tid).unwrap();
    let mut other = target::Reports::default();
    assert!(process.await_stop(tid, &mut other).unwrap());
}

fn die() -> ! {
    let own = Pid(std::process::id().cast_signed());
    poll::kill(own, KILL).unwrap();
    loop {
        std::thread::park();
    }
}

/// Attaches, makes a call in a thread, and dies at a step of it.
fn tracer(pid: Pid, tid: Tid, step: &str) -> ! {
    let mut process = target::attach(pid).unwrap();
    stopped(&mut process, tid);
    let mut remote = Remote::begin(&mut process, tid).unwrap();
    assert!(remote.is_insured());
    if step == "begun" {
        die();
    }
    remote.enter(UNMAP.0, &UNMAP.1).unwrap();
    if step == "entry" {
        die();
    }
    remote.complete().unwrap();
    if step == "exit" {
        die();
    }
    remote.enter(UNMAP.0, &UNMAP.1).unwrap();
    if step == "again" {
        die();
    }
    remote.complete().unwrap();
    remote.finish().unwrap();
    die()
}

/// Attaches and makes calls in one thread after the other until it is killed. Not in one that waits
/// in `epoll_wait`: that a stop alone makes it fail nobody can undo who is killed right then. Nor in
/// one that goes on with a wait by `restart_syscall`: which wait that is only its last tracer knew.
fn restless(pid: Pid) -> ! {
    let mut process = target::attach(pid).unwrap();
    let spared = |tid: Tid| {
        let call = std::fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap();
        call.starts_with("232 ") || call.starts_with("219 ")
    };
    let tids = process.threads.keys().copied();
    let tids: Vec<Tid> = tids.filter(|&tid| !spared(tid)).collect();
    println!("begins");
    std::io::stdout().flush().unwrap();
    loop {
        for &tid in &tids {
            stopped(&mut process, tid);
            let mut remote = Remote::begin(&mut process, tid).unwrap();
            for _ in 0..8 {
                remote.call(UNMAP.0, &UNMAP.1).unwrap();
            }
            remote.finish().unwrap();
            target::restart_call(pid, tid).unwrap();
            process.resume(tid, 0).unwrap();
        }
    }
}

/// A target, and the threads it has: its first, and one of each kind.
fn begin() -> (Running, Vec<(String, String)>) {
    let mut line = command(c("insured").flags(&["-pthread"]).build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    let mut threads = vec![("first".to_owned(), target.pid().to_string())];
    for _ in KINDS {
        let said = target.out.wait_for("thread ");
        let mut words = said.split_whitespace().skip(1);
        let name = words.next().unwrap().to_owned();
        let tid = words.next().unwrap().to_owned();
        settled(&tid, &name);
        threads.push((name, tid));
    }
    settled(&threads[0].1, "first");
    (target, threads)
}

/// Waits until a thread is in the call it is named for; one at work is in none.
fn settled(tid: &str, name: &str) {
    // 219 is restart_syscall(2): how the kernel itself goes on with a call that has a time.
    let numbers: &[&str] = match name {
        "work" => return,
        "first" | "read" => &["0"],
        "nanosleep" => &["230", "219"],
        "futex" => &["202"],
        "timed" => &["202", "219"],
        "epoll" => &["232"],
        other => panic!("{other}"),
    };
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let now = std::fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap();
        if now
            .split_whitespace()
            .next()
            .is_some_and(|n| numbers.contains(&n))
        {
            return;
        }
        assert!(std::time::Instant::now() < end, "{name} is in {now}");
        std::thread::yield_now();
    }
}

/// This program as a tracer.
fn start_tracer(words: &[&str]) -> Running {
    let mut line = command(std::env::current_exe().unwrap());
    line.arg("tracer").args(words);
    start(line)
}

fn right(mut target: Running) {
    target.write("\n");
    let ended = target.end().expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
}

/// One thread after the other of one target makes a call for a tracer that dies at this step.
fn dies_at(step: &str) {
    let (target, threads) = begin();
    let pid = target.pid().to_string();
    for (name, tid) in &threads {
        let ended = start_tracer(&[&pid, tid, step]).end();
        assert_eq!(ended.signal(), Some(KILL), "{name}: {}", ended.err);
        settled(tid, name);
    }
    right(target);
}

/// Tracers that make calls all the time are killed at any time.
fn dies_anywhere() {
    let (target, _) = begin();
    let pid = target.pid().to_string();
    for round in 0..KILLS {
        let mut tracer = start_tracer(&[&pid]);
        tracer.out.wait_for("begins");
        // A little later each time: the calls are well under way.
        let later =
            std::time::Instant::now() + std::time::Duration::from_micros(137) * round as u32;
        while std::time::Instant::now() < later {
            std::hint::spin_loop();
        }
        tracer.signal(nix::sys::signal::Signal::SIGKILL);
        let ended = tracer.end();
        assert_eq!(ended.status.signal(), Some(KILL), "{}", ended.err);
    }
    right(target);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |word: &str| word.parse().unwrap();
    match &words[..] {
        [word, pid] if word == "tracer" => restless(Pid(number(pid))),
        [word, pid, tid, step] if word == "tracer" => {
            tracer(Pid(number(pid)), Tid(number(tid)), step)
        }
        _ => {}
    }
    let mut trials: Vec<Trial> = STEPS
        .into_iter()
        .map(|step| {
            let name = format!("threads_come_back_from_a_tracer_that_dies_at_{step}");
            Trial::test(name, move || {
                dies_at(step);
                Ok(())
            })
        })
        .collect();
    trials.push(Trial::test(
        "threads_come_back_from_tracers_that_die_anywhere",
        || {
            dies_anywhere();
            Ok(())
        },
    ));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
