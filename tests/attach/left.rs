//! What is left in a target when kptrace is killed, and taken out of it afterwards: the target is as
//! it was before, whatever it does meanwhile.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::every::{at_work, attach, let_go, round};
use super::looks::{Look, different, look};
use super::redis;
use super::support::*;

/// Every function of the program and its libraries, where it can jump.
const JUMPS: [&str; 4] = ["-p", "*:*", "--trap", "never"];

/// Kills a kptrace, as nobody can foresee.
fn kill(kptrace: Running) {
    kptrace.signal(Signal::SIGKILL);
    assert_eq!(kptrace.end().signal(), Some(9));
}

fn restore(pid: u32) -> Ended {
    kptrace(&["restore", &pid.to_string()])
}

/// Restores, and says how many sites were.
fn restored(pid: u32) -> usize {
    let ended = restore(pid).expect(0);
    let mark = format!("process {pid} was left traced by a kptrace that died: ");
    let (_, said) = ended.err.split_once(&mark).expect(&ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    let sites = said.split_whitespace().next().expect("a number");
    sites.parse().expect("a number")
}

/// As before but for what the program itself did to its heap and stacks.
fn as_before(pid: u32, before: &Look) {
    assert_eq!(different(pid), [""; 0]);
    let after = look(pid);
    assert_eq!(after.executable, before.executable);
    assert_eq!(after.descriptors, before.descriptors);
    assert_eq!(after.signals, before.signals);
    let ours = |mapping: &&String| mapping.contains("memfd");
    assert_eq!(after.mappings.iter().find(ours), None);
}

fn works_before_and_after(source: &Source) {
    let mut target = at_work(source);
    round(&mut target);
    let before = look(target.pid());
    for _ in 0..2 {
        let kptrace = attach(&target, &JUMPS);
        round(&mut target);
        kill(kptrace);
        round(&mut target);
        assert!(different(target.pid()).len() > 1000, "the jumps stay");
        assert!(restored(target.pid()) > 500);
        as_before(target.pid(), &before);
        assert_eq!(look(target.pid()).mappings, before.mappings);
        round(&mut target);
    }
    let ended = target.end().expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
}

macro_rules! work_before_and_after {
    ($($test:ident: $name:literal $(, $flag:literal)*;)*) => {$(
        #[test]
        fn $test() {
            works_before_and_after(&c($name).flags(&[$($flag),*]));
        }
    )*};
}

work_before_and_after! {
    loops_in_the_window_are_restored: "window_branches";
    system_calls_in_the_window_are_restored: "raw_syscall", "-pthread";
    vector_registers_are_kept_when_it_is_restored: "vectors";
    a_program_at_a_fixed_address_is_restored: "short_branches", "-no-pie", "-fno-pie";
}

#[test]
fn threads_come_and_go_while_it_is_restored() {
    let mut target = at_work(&c("thread_storm").flags(&["-pthread"]));
    let before = look(target.pid());
    for _ in 0..4 {
        let kptrace = attach(&target, &JUMPS);
        round(&mut target);
        kill(kptrace);
        assert!(restored(target.pid()) > 500);
        assert_eq!(different(target.pid()), [""; 0]);
        assert_eq!(look(target.pid()).executable, before.executable);
        round(&mut target);
    }
    let ended = target.end().expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
}

#[test]
fn calls_that_wait_are_not_disturbed_by_restoring() {
    let mut line = command(c("restartable").flags(&["-pthread"]).build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let before = look(target.pid());
    kill(attach(&target, &JUMPS));
    assert!(restored(target.pid()) > 500);
    as_before(target.pid(), &before);
    assert_eq!(look(target.pid()).mappings, before.mappings);
    target.write("\n");
    assert_eq!(target.end().expect(0).out, "ready\nright\n");
}

/// A program that waits for its input and does nothing else.
fn waiting() -> Running {
    let mut line = command(c("foreign_bytes").build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

#[test]
fn breakpoints_are_taken_back_too() {
    let mut target = waiting();
    let before = look(target.pid());
    kill(attach(&target, &["-p", "*:*", "--no-opt"]));
    restore(target.pid()).expect(0);
    as_before(target.pid(), &before);
    target.write("\n");
    target.out.wait_for("wrote 9 2");
    target.write("\n");
    target.out.wait_for("have 9 2");
    target.end().expect(0);
}

#[test]
fn bytes_of_others_are_left_alone_and_told() {
    let mut target = waiting();
    let options = ["-p", "patched", "-p", "neighbour", "--trap", "never"];
    kill(attach(&target, &options));
    target.write("\n");
    target.out.wait_for("wrote 9 2");
    let ended = restore(target.pid()).expect(0);
    // The neighbour, and where the loader tells of libraries.
    assert!(ended.err.contains("2 sites restored"), "{}", ended.err);
    let told = "1 byte of its text was changed by somebody else, and left alone";
    assert!(ended.err.contains(told), "{}", ended.err);
    target.write("\n");
    target.out.wait_for("have 9 2");
    target.end().expect(0);
}

/// Killed at any moment of attaching, arming and letting go, over a target that is not at work: what
/// is left is found and taken away, or nothing is.
#[test]
fn whenever_it_was_killed_it_is_restored() {
    let mut target = waiting();
    let mut before = look(target.pid());
    let mut line = vec!["attach".to_owned(), "-c".to_owned(), "-q".to_owned()];
    line.extend(["-p", "*:*", "--duration", "0.02"].map(str::to_owned));
    line.push(target.pid().to_string());
    // How long it takes on this machine, from start to end.
    let begun = Instant::now();
    kptrace(&line).expect(0);
    let whole = begun.elapsed();
    const TIMES: u32 = 24;
    let mut found = 0;
    for time in 1..=TIMES {
        let mut tracer = command(launch::binary());
        tracer.args(&line);
        let begun = Instant::now();
        let mut tracer = start(tracer);
        let left = (whole * time / TIMES).saturating_sub(begun.elapsed());
        if !tracer.ends_within(left.max(Duration::from_millis(1))) {
            // It may end by itself in this very moment.
            tracer.signal(Signal::SIGKILL);
            tracer.end();
        }
        let said = restore(target.pid()).expect(0).err;
        found += u32::from(said.contains("by a kptrace that died"));
        if said.contains("is an empty memory file without a name") {
            before.descriptors = look(target.pid()).descriptors;
        }
        as_before(target.pid(), &before);
        assert_eq!(look(target.pid()).mappings, before.mappings);
    }
    assert!(found > 0, "it was never killed in time");
    target.write("\n");
    target.out.wait_for("wrote 9 2");
    target.end().expect(0);
}

#[test]
fn attaching_again_restores_first_and_says_so() {
    let mut target = at_work(&c("window_branches"));
    round(&mut target);
    let before = look(target.pid());
    kill(attach(&target, &JUMPS));
    let kptrace = attach(&target, &JUMPS);
    round(&mut target);
    kptrace.signal(Signal::SIGINT);
    let ended = kptrace.end().expect(0);
    assert!(
        ended.err.contains("by a kptrace that died"),
        "{}",
        ended.err
    );
    let told = summary(&ended.out);
    assert!(json::count(&told, "check") > 0, "{told}");
    assert!(
        !told["notes"].to_string().contains("somebody else"),
        "{told}"
    );
    as_before(target.pid(), &before);
    round(&mut target);
    target.end().expect(0);
}

#[test]
fn a_process_that_is_traced_is_not_restored() {
    let mut target = at_work(&c("window_branches"));
    let kptrace = attach(&target, &JUMPS);
    let ended = restore(target.pid()).expect(1);
    let tracer = format!("already traced by pid {} (kptrace)", kptrace.pid());
    assert!(ended.err.contains(&tracer), "{}", ended.err);
    round(&mut target);
    let_go(kptrace);
    let ended = restore(target.pid()).expect(0);
    assert!(
        ended.err.contains("nothing of kptrace's was left"),
        "{}",
        ended.err
    );
    target.end().expect(0);
}

/// Forked while nobody traces its parent, it has the jumps and the code, and no more.
#[test]
fn a_child_that_inherited_jumps_is_restored() {
    let text = "#include <sys/wait.h>\n#include <unistd.h>\n#include \"target.h\"\n\
        int main(void) {\n ready();\n wait_for_go();\n int child = fork();\n\
        if (!child) { printf(\"child %d\\n\", getpid()); fflush(stdout); wait_for_go();\n\
        puts(\"right\"); return 0; }\n\
        int status = 1; waitpid(child, &status, 0); return status != 0;\n}\n";
    let mut line = command(Source::new("cc", "c", "forks", text).build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let before = look(target.pid());
    kill(attach(&target, &JUMPS));
    target.write("\n");
    let said = target.out.wait_for("child ");
    let child: u32 = said
        .trim()
        .rsplit(' ')
        .next()
        .unwrap_or("")
        .parse()
        .expect("a number");
    assert!(restored(child) > 500);
    assert_eq!(different(child), [""; 0]);
    assert_eq!(look(child).executable, before.executable);
    assert!(restored(target.pid()) > 500);
    as_before(target.pid(), &before);
    target.write("\n");
    target.out.wait_for("right");
    target.end().expect(0);
}

/// Does the same work for every line it gets, with modules that are loaded at the first.
const SCRIPT: &str = "import sys\n\
    def work():\n\
    \x20 import hashlib, json, re, zlib\n\
    \x20 data = [{'n': i, 's': str(i) * 3} for i in range(2000)]\n\
    \x20 text = json.dumps(data).encode()\n\
    \x20 return hashlib.sha256(zlib.compress(text)).hexdigest() + str(len(re.findall(rb'77', text)))\n\
    print('ready', flush=True)\n\
    right = work()\n\
    for line in sys.stdin:\n\
    \x20 print('round' if work() == right else 'wrong', flush=True)\n\
    print('right')\n";

/// The processes that a process started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    let all: String = tasks.flatten().flat_map(of).collect();
    all.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Traced from its first instruction, with libraries that came later and have code of their own.
#[test]
fn a_program_that_was_started_traced_is_restored() {
    if !has("python3") {
        eprintln!("no python3 here");
        return;
    }
    let mut line = command(launch::binary());
    // What each library has is called when it is loaded, and never again.
    line.args(["run", "-c", "-p", "libc:malloc", "-p", "*:PyInit_*"]);
    line.args(["--", "python3", "-c", SCRIPT])
        .stdin(Stdio::piped());
    let mut traced = start(line);
    traced.out.wait_for("ready");
    round(&mut traced);
    let maps = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let children = children(traced.pid());
    let ours = |pid: &&u32| maps(**pid).contains("memfd");
    let pid = *children.iter().find(ours).expect("it is traced");
    traced.signal(Signal::SIGKILL);
    while std::path::Path::new(&format!("/proc/{}/maps", traced.pid())).exists()
        && !maps(traced.pid()).is_empty()
    {
        std::thread::yield_now();
    }
    round(&mut traced);
    assert_ne!(different(pid), [""; 0], "the jumps stay");
    assert!(restored(pid) > 2);
    assert_eq!(different(pid), [""; 0]);
    assert!(!maps(pid).contains("memfd"));
    round(&mut traced);
    drop(traced.stdin.take());
    traced.out.wait_for("right");
}

#[test]
fn python_is_restored_at_work() {
    if !has("python3") {
        eprintln!("no python3 here");
        return;
    }
    let mut line = command("python3");
    line.args(["-c", SCRIPT]).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    round(&mut target);
    let before = look(target.pid());
    let kptrace = attach(&target, &JUMPS);
    round(&mut target);
    kill(kptrace);
    round(&mut target);
    assert!(restored(target.pid()) > 1000);
    as_before(target.pid(), &before);
    round(&mut target);
    target.end().expect(0);
}

/// Says stop when it goes.
struct Over<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A thread that has just begun has not set its signal mask yet.
fn wait_until_all_sleep(pid: u32) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let sleeps = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('S'))
    };
    let tasks = || std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    while !tasks().flatten().all(sleeps) {
        assert!(
            std::time::Instant::now() < end,
            "a thread runs all the time"
        );
        std::thread::yield_now();
    }
}

#[test]
fn redis_is_restored_under_load() {
    if !has("redis-server") {
        eprintln!("no redis-server here");
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let program = std::path::Path::new("redis-server");
    let argv = redis::server(program, place.path());
    let mut line = command(&argv[0]);
    line.args(&argv[1..]);
    let mut target = start(line);
    target.out.wait_for(redis::READY);
    let mut client = redis::Client::new(place.path());
    redis::is_right(&mut client);
    wait_until_all_sleep(target.pid());
    let before = look(target.pid());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = redis::Client::new(place.path());
            let mut asked = 0;
            while !stop.load(order) {
                assert_eq!(client.ask("PING"), "PONG");
                asked += 1;
            }
            asked
        });
        // Also when something here is wrong.
        let _over = Over(&stop);
        let kptrace = attach(&target, &JUMPS);
        redis::is_right(&mut client);
        kill(kptrace);
        redis::is_right(&mut client);
        assert!(restored(target.pid()) > 1000);
        redis::is_right(&mut client);
        assert_eq!(different(target.pid()), [""; 0]);
        stop.store(true, order);
        assert!(load.join().expect("it was answered") > 0);
    });
    let after = look(target.pid());
    assert_eq!(after.executable, before.executable);
    assert_eq!(after.signals, before.signals);
    target.signal(Signal::SIGTERM);
    target.end().expect(0);
}
