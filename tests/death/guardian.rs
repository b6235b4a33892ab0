//! The guardian itself: what it holds, that it goes, and what its own death does.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::orphans::{adopt, children, end_of, guardian};
use super::support::*;

fn at_work() -> Running {
    let mut line = command(c("own_trap").flags(&["-pthread"]).build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

fn attach(target: &Running, options: &[&str]) -> Running {
    let mut line = command(launch::binary());
    line.args(["attach", "-c", "--format", "json"])
        .args(["-p", "only_trap", "--trap-limit", "0"])
        .args(options)
        .arg(target.pid().to_string());
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    kptrace
}

fn goes_on(target: &mut Running) {
    target.write("\n");
    target.out.wait_for("sum right");
}

fn kill_process(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a number"));
    kill(pid, Signal::SIGKILL).expect("it is there");
}

#[test]
fn it_holds_nothing_of_the_callers_and_is_deaf() {
    let target = at_work();
    let kptrace = attach(&target, &[]);
    let guardian = guardian(kptrace.pid());
    let links = || -> Vec<String> {
        let links = fs::read_dir(format!("/proc/{guardian}/fd")).expect("it is ours");
        let mut links: Vec<String> = links
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .map(|link| link.display().to_string())
            .map(|link| link.split([':', '(']).next().unwrap_or_default().to_owned())
            .map(|link| link.replace(&target.pid().to_string(), "PID"))
            .collect();
        links.sort();
        links
    };
    let null = "/dev/null";
    let own = ["/memfd", "/proc/PID/task/PID/mem", "anon_inode", "socket"];
    let wanted = [&[null; 3][..], &own].concat().map_sorted();
    // It is told of the target, and nobody waits until it has read that.
    let end = Instant::now() + LIMIT;
    while links() != wanted && Instant::now() < end {
        std::thread::yield_now();
    }
    assert_eq!(links(), wanted);
    let stat = fs::read_to_string(format!("/proc/{guardian}/stat")).expect("it is there");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .collect();
    let number = guardian.to_string();
    assert_eq!((fields[2], fields[3], fields[4]), (&*number, &*number, "0"));
    let line = fs::read_to_string(format!("/proc/{guardian}/cmdline")).expect("it is there");
    assert_eq!(line.trim_end_matches('\0'), "kptrace-guard");
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        kill(Pid::from_raw(number.parse().expect("a number")), signal).expect("it is there");
    }
    kptrace.signal(Signal::SIGINT);
    kptrace.end().expect(0);
    target.end().expect(0);
    assert!(!fs::exists(format!("/proc/{guardian}")).expect("a directory"));
}

trait Sorted {
    fn map_sorted(self) -> Self;
}

impl<T: Ord> Sorted for Vec<T> {
    fn map_sorted(mut self) -> Self {
        self.sort();
        self
    }
}

#[test]
fn tracing_goes_on_without_it_and_says_so_once() {
    let mut target = at_work();
    let mut kptrace = attach(&target, &[]);
    kill_process(guardian(kptrace.pid()));
    kptrace.err.wait_for("the guardian has ended");
    goes_on(&mut target);
    goes_on(&mut target);
    // No zombie stays while tracing goes on.
    assert_eq!(children(kptrace.pid()), []);
    kptrace.signal(Signal::SIGINT);
    let ended = kptrace.end().expect(0);
    assert_eq!(ended.err.matches("guardian").count(), 1, "{}", ended.err);
    assert!(json::count(&summary(&ended.out), "only_trap") > 0);
    goes_on(&mut target);
    target.end().expect(0);
}

#[test]
fn a_landing_needs_neither() {
    adopt();
    let mut target = at_work();
    let kptrace = attach(&target, &["--trap", "landing"]);
    let guardian = guardian(kptrace.pid());
    kill_process(guardian);
    kptrace.signal(Signal::SIGKILL);
    kptrace.end();
    end_of(guardian);
    for _ in 0..3 {
        goes_on(&mut target);
    }
    assert_eq!(breakpoints(target.pid()), 1, "nobody took it back");
    target.end().expect(0);
}

#[test]
fn breakpoints_are_taken_back_when_the_tracer_dies() {
    adopt();
    let mut target = at_work();
    let kptrace = attach(&target, &["-p", "*", "--no-opt", "--trap", "landing"]);
    assert!(breakpoints(target.pid()) > 5);
    let guardian = guardian(kptrace.pid());
    kptrace.signal(Signal::SIGKILL);
    kptrace.end();
    end_of(guardian);
    assert_eq!(breakpoints(target.pid()), 0);
    goes_on(&mut target);
    target.end().expect(0);
}

#[test]
fn without_breakpoints_nobody_is_needed() {
    adopt();
    let mut target = at_work();
    let kptrace = attach(&target, &["-p", "*", "--trap", "never"]);
    assert_eq!(breakpoints(target.pid()), 0);
    let guardian = guardian(kptrace.pid());
    kill_process(guardian);
    kptrace.signal(Signal::SIGKILL);
    kptrace.end();
    end_of(guardian);
    for _ in 0..3 {
        goes_on(&mut target);
    }
    target.end().expect(0);
}

/// How many bytes of the program's text are int3 in memory and not in its file.
fn breakpoints(pid: u32) -> usize {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it is there");
    let line = maps
        .lines()
        .find(|line| line.contains(" r-xp ") && line.ends_with("/own_trap"))
        .expect("its text");
    let words: Vec<&str> = line.split_whitespace().collect();
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    let (start, end) = words[0].split_once('-').expect("a range");
    let (start, end, offset) = (hex(start), hex(end), hex(words[2]));
    let mut now = vec![0; usize::try_from(end - start).expect("small")];
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("ours");
    memory.read_exact_at(&mut now, start).expect("mapped");
    let file = fs::read(format!("/proc/{pid}/exe")).expect("its program");
    let file = &file[usize::try_from(offset).expect("small")..];
    let pairs = now.iter().zip(file);
    pairs
        .filter(|(now, was)| **now == 0xcc && **was != 0xcc)
        .count()
}

#[test]
fn a_pipe_ends_when_kptrace_does() {
    let program = c("small").build();
    let line = format!(
        "{} run -c -p '*' -- {} 2>&1 | head -n 1; x=$({} run -p main -- {} 2>&1); echo \"got $?\"",
        launch::binary(),
        program.display(),
        launch::binary(),
        program.display()
    );
    let mut shell = command("sh");
    shell.args(["-c", &line]);
    let ended = start(shell).end().expect(0);
    assert!(ended.out.ends_with("got 0\n"), "{}", ended.out);
}
