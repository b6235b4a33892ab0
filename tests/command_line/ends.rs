//! How kptrace ends: as its target ended, or with a code of its own; streams stay the target's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::support::*;

fn steps() -> String {
    let program = c("steps").flags(&["-O2"]).build();
    program.to_str().expect("UTF-8").to_owned()
}

/// `kptrace run OPTIONS -- steps`, which has said `ready`.
fn start_steps(options: &[&str]) -> Running {
    let mut line = command(launch::binary());
    line.arg("run")
        .args(options)
        .args(["--", &steps()])
        .stdin(Stdio::piped());
    let mut running = start(line);
    running.out.wait_for("ready");
    running
}

fn step(running: &mut Running, n: u32) {
    running.write("\n");
    running.out.wait_for(&format!("step {n}"));
}

/// Sum that `steps` prints after `n` steps.
fn sum(n: u32) -> u32 {
    (1..=n).map(|n| 3 * n + (n & 1)).sum()
}

fn tracer_of(pid: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    line.expect("a tracer").trim().to_owned()
}

#[test]
fn the_targets_streams_are_its_own() {
    let mut line = command(launch::binary());
    line.args([
        "run",
        "-q",
        "-c",
        "-p",
        "main",
        "-o",
        "/dev/null",
        "--",
        &steps(),
    ]);
    line.stdin(Stdio::piped());
    let mut running = start(line);
    running.write("one\ntwo\n");
    let ended = running.end().expect(7);
    assert_eq!(ended.err, "steps says good-bye\n");
    let own: Vec<&str> = ended
        .out
        .lines()
        .filter(|l| !l.starts_with("pid "))
        .collect();
    assert_eq!(
        own,
        ["ready", "step 1", "step 2", &format!("sum {}", sum(2))]
    );
}

#[test]
fn under_run_the_trace_is_on_standard_error() {
    let mut running = start_steps(&["-p", "step n=%di:s32"]);
    running.write("\n");
    running.err.wait_for("steps:step n=1");
    let ended = running.end().expect(7);
    assert!(!ended.out.contains("steps:step"), "{}", ended.out);
}

#[test]
fn under_attach_the_trace_is_on_standard_output_and_the_target_goes_on() {
    let mut target = command(steps());
    target.stdin(Stdio::piped());
    let mut target = start(target);
    target.out.wait_for("ready");
    let mut line = command(launch::binary());
    line.args([
        "attach",
        "-p",
        "step n=%di:s32",
        "--format",
        "json",
        &target.pid().to_string(),
    ]);
    let mut tracer = start(line);
    tracer.out.wait_for("attached_probes");
    step(&mut target, 1);
    step(&mut target, 2);
    tracer.signal(Signal::SIGINT);
    let traced = tracer.end().expect(0);
    assert_eq!(
        json::count(&json::summary(&traced.out), "step"),
        2,
        "{}",
        traced.out
    );
    assert_eq!(json::hits(&traced.out).len(), 2);
    assert!(traced.err.contains("armed 1 site"), "{}", traced.err);
    assert_eq!(tracer_of(&target.pid().to_string()), "0");
    step(&mut target, 3);
    let ended = target.end().expect(7);
    assert!(
        ended.out.contains(&format!("sum {}\n", sum(3))),
        "{}",
        ended.out
    );
}

#[test]
fn run_ends_with_the_targets_status() {
    for status in [0, 1, 42, 125, 127, 255] {
        let script = format!("exit {status}");
        kptrace(&[
            "run",
            "-q",
            "-c",
            "-p",
            "libc:malloc",
            "--",
            "sh",
            "-c",
            &script,
        ])
        .expect(status);
    }
}

#[test]
fn run_ends_by_the_targets_signal() {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGKILL,
        Signal::SIGUSR1,
        Signal::SIGSEGV,
        Signal::SIGPIPE,
    ] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!("ulimit -c 0; kill -{name} $$");
        let line = ["run", "-c", "-p", "libc:malloc", "--", "sh", "-c", &script];
        let ended = kptrace(&line);
        assert_eq!(ended.signal(), Some(signal as i32), "{name}: {ended:?}");
        assert!(ended.err.contains("armed 1 site"), "{}", ended.err);
    }
}

#[test]
fn what_cannot_be_run_is_told_from_what_is_not_there() {
    let missing = kptrace(&["run", "-c", "-p", "f", "--", "/nonexistent/program"]).expect(127);
    assert!(
        missing.err.contains("/nonexistent/program"),
        "{}",
        missing.err
    );
    plain_path(&["run", "-c", "-p", "f", "--", "no-such-command-anywhere"]).expect(127);
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("file");
    fs::write(&file, "#!/bin/sh\n").expect("written");
    for path in [file.as_path(), place.path()] {
        let path = path.to_str().expect("UTF-8");
        let refused = kptrace(&["run", "-c", "-p", "f", "--", path]).expect(126);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    fs::write(&file, "#!/nonexistent/shell\n").expect("written");
    let ended = kptrace(&["run", "-c", "-p", "f", "--", file.to_str().expect("UTF-8")]);
    assert!(matches!(ended.code(), 126 | 127), "{ended:?}");
}

#[test]
fn a_script_is_traced_in_its_interpreter() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("script");
    fs::write(&file, "#!/bin/sh\nread line; echo \"got $line\"; exit 9\n").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    let path = file.to_str().expect("UTF-8");
    let mut line = command(launch::binary());
    line.args([
        "run",
        "-c",
        "--format",
        "json",
        "-p",
        "libc:read",
        "--",
        path,
    ])
    .stdin(Stdio::piped());
    let mut running = start(line);
    running.write("it\n");
    let ended = running.end().expect(9);
    assert_eq!(ended.out, "got it\n");
    assert!(json::count(&json::summary(&ended.err), "read") > 0);
}

#[test]
fn children_run_untouched() {
    let script = "ls / | sort -r; (exit 5); echo $?; exec sh -c 'echo last; exit 6'";
    let untraced = {
        let mut line = command("sh");
        line.args(["-c", script]);
        start(line).end().expect(6)
    };
    let traced = kptrace(&[
        "run", "-c", "-p", "*", "-p", "libc:*", "--", "sh", "-c", script,
    ]);
    let traced = traced.expect(6);
    assert_eq!(traced.out, untraced.out);
    assert!(traced.err.contains("armed"), "{}", traced.err);
}

/// A signal to kptrace alone lets go; the target runs on to its right end.
fn lets_go(signal: Signal, options: &[&str]) {
    let mut running = start_steps(&[&["-p", "step n=%di:s32"], options].concat());
    let pid = running.out.so_far();
    let pid = pid
        .lines()
        .find_map(|line| line.strip_prefix("pid "))
        .expect("its number")
        .to_owned();
    step(&mut running, 1);
    step(&mut running, 2);
    assert_ne!(tracer_of(&pid), "0");
    running.signal(signal);
    let report = running.err.wait_for("armed 1 site");
    assert!(!report.contains("missed"), "{report}");
    assert_eq!(tracer_of(&pid), "0");
    step(&mut running, 3);
    let ended = running.end().expect(7);
    assert!(
        ended.out.contains(&format!("sum {}\n", sum(3))),
        "{}",
        ended.out
    );
    for n in [1, 2] {
        assert!(
            ended.err.contains(&format!("steps:step n={n}\n")),
            "{}",
            ended.err
        );
    }
    assert!(!ended.err.contains("n=3"), "{}", ended.err);
}

#[test]
fn an_interrupt_of_kptrace_alone_lets_go() {
    lets_go(Signal::SIGINT, &[]);
}

#[test]
fn a_termination_lets_go() {
    lets_go(Signal::SIGTERM, &[]);
    lets_go(Signal::SIGTERM, &["--no-opt"]);
}

#[test]
fn a_hangup_lets_go() {
    lets_go(Signal::SIGHUP, &[]);
}

#[test]
fn a_target_that_is_killed_meanwhile_is_reported() {
    let running = start_steps(&["-p", "step"]);
    let pid = running.out.so_far();
    let pid: i32 = pid
        .lines()
        .find_map(|line| line.strip_prefix("pid "))
        .and_then(|pid| pid.parse().ok())
        .expect("its number");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
    let ended = running.end();
    assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32));
    assert!(ended.err.contains("armed 1 site"), "{}", ended.err);
}

#[test]
fn a_duration_ends_tracing_and_not_the_target() {
    let mut running = start_steps(&["--duration", "0.1", "-c", "--format", "json", "-p", "step"]);
    running.err.wait_for("armed 1 site");
    step(&mut running, 1);
    let ended = running.end().expect(7);
    assert!(
        ended.out.contains(&format!("sum {}\n", sum(1))),
        "{}",
        ended.out
    );
    assert_eq!(json::count(&json::summary(&ended.err), "step"), 0);
}

#[test]
fn a_full_disk_is_told_once_and_the_target_runs_on() {
    for options in [&["-p", "step"][..], &["-c", "-p", "step"]] {
        let mut running = start_steps(&[options, &["-o", "/dev/full"]].concat());
        step(&mut running, 1);
        let ended = running.end().expect(7);
        assert!(
            ended.out.contains(&format!("sum {}\n", sum(1))),
            "{}",
            ended.out
        );
        let told = ended.err.matches("No space left on device").count();
        assert_eq!(told, 1, "{}", ended.err);
    }
}

#[test]
fn a_closed_pipe_is_quiet_and_the_target_runs_on() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a FIFO");
    let program = c("flood").flags(&["-O2", "-pthread"]).build();
    let program = program.to_str().expect("UTF-8");
    let mut line = command(launch::binary());
    let fifo = path.to_str().expect("UTF-8");
    line.args([
        "run",
        "-p",
        "hot n=%di",
        "-o",
        fifo,
        "--",
        program,
        "2",
        "100000",
    ]);
    let running = start(line);
    drop(fs::File::open(&path).expect("kptrace writes"));
    let ended = running.end().expect(0);
    assert_eq!(ended.out, "made 200000\n");
    // Where it was let go of before it ended, that took a pause.
    let report = |line: &str| line.starts_with("armed ") || line.starts_with("cost ");
    assert!(ended.err.lines().all(report), "{}", ended.err);
}

#[test]
fn attach_tells_who_is_not_there() {
    let mut short = command("true");
    short.stdout(Stdio::null());
    let mut child = short.spawn().expect("it starts");
    let pid = child.id().to_string();
    child.wait().expect("it ends");
    let refused = kptrace(&["attach", "-c", "-p", "main", &pid]).expect(1);
    assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    assert!(refused.err.contains(&pid), "{}", refused.err);
}

#[test]
fn a_target_under_a_busy_timer_is_attached_to_and_left() {
    let mut target = command(c("timer").flags(&["-O2"]).build());
    target.stdin(Stdio::piped());
    let mut target = start(target);
    target.out.wait_for("ready");
    let pid = target.pid().to_string();
    for _ in 0..10 {
        let line = [
            "attach",
            "-p",
            "work",
            "-o",
            "/dev/null",
            "--duration",
            "0.02",
            &pid,
        ];
        kptrace(&line).expect(0);
    }
    target.write("\n");
    let ended = target.end().expect(0);
    assert!(ended.out.contains("all work done"), "{}", ended.out);
}

#[test]
fn a_termination_of_the_whole_group_ends_both_as_the_target_ends() {
    for _ in 0..10 {
        let mut running = start_steps(&["-p", "step"]);
        step(&mut running, 1);
        running.signal_group(Signal::SIGTERM);
        let ended = running.end();
        assert_eq!(ended.signal(), Some(Signal::SIGTERM as i32), "{ended:?}");
        assert!(
            ended.err.contains("steps:step\n") && ended.err.contains("armed 1 site"),
            "{}",
            ended.err
        );
    }
}

#[test]
fn the_target_starts_as_it_would_alone() {
    // What a program is born with: signals, descriptors, limits, environment, place, priority.
    let script = "grep -E '^(Sig(Blk|Ign|Cgt|Pnd)|ShdPnd|CapEff|NoNewPrivs|Seccomp|Cpus_allowed):' \
                  /proc/self/status; ls /proc/self/fd; cat /proc/self/limits /proc/self/personality \
                  /proc/self/oom_score_adj /proc/self/coredump_filter; cut -d' ' -f18-20 /proc/self/stat; \
                  env | grep -v '^_='; umask; pwd; id; ps -o stat= -p $$ 2>/dev/null | tr -d +";
    let mut alone = command("sh");
    alone.args(["-c", script]);
    let alone = start(alone).end();
    let line = [
        "run",
        "-q",
        "-c",
        "-p",
        "libc:malloc",
        "-o",
        "/dev/null",
        "--",
        "sh",
        "-c",
        script,
    ];
    let traced = kptrace(&line);
    // The C library's own two signals are whatever a launcher with threads leaves of them.
    let without_internal = |text: &str| -> String {
        text.lines().fold(String::new(), |all, line| {
            match line.strip_prefix("SigIgn:") {
                Some(mask) => {
                    let mask = u64::from_str_radix(mask.trim(), 16).expect("a mask");
                    all + &format!("SigIgn: {:x}\n", mask & !(3 << 31))
                }
                None => all + line + "\n",
            }
        })
    };
    assert_eq!(without_internal(&traced.out), without_internal(&alone.out));
    assert!(alone.out.contains("SigBlk:"), "{}", alone.out);
    assert_eq!(traced.status.code(), alone.status.code());
}

#[test]
fn a_stop_probe_stops_the_target_until_it_is_continued() {
    let mut running = start_steps(&["-p", "step%stop", "-p", "step n=%di:s32"]);
    let pid = running.out.so_far();
    let pid = pid.lines().find_map(|line| line.strip_prefix("pid "));
    let pid: i32 = pid.and_then(|pid| pid.parse().ok()).expect("its number");
    for n in 1..=3 {
        running.write("\n");
        let begun = std::time::Instant::now();
        let stopped = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
            status.contains("State:\tt")
        };
        // Nothing else tells that it has stopped.
        while !stopped() {
            assert!(begun.elapsed() < LIMIT, "{}", running.err.so_far());
            std::thread::yield_now();
        }
        assert!(!running.out.so_far().contains(&format!("step {n}")));
        let done = format!("step {n}");
        loop {
            let target = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(target, Signal::SIGCONT).expect("it runs");
            let pause = std::time::Duration::from_millis(20);
            if running.out.wait_within(&done, pause).is_some() {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "{}", running.err.so_far());
        }
    }
    let ended = running.end().expect(7);
    assert!(
        ended.out.contains(&format!("sum {}\n", sum(3))),
        "{}",
        ended.out
    );
    assert!(ended.err.contains("kill -CONT"), "{}", ended.err);
    for n in 1..=3 {
        assert!(
            ended.err.contains(&format!("steps:step n={n}\n")),
            "{}",
            ended.err
        );
    }
}

#[test]
fn closed_streams_are_no_obstacle() {
    let kptrace = launch::binary();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let mut line = command("sh");
        let run = format!("'{kptrace}' run -c -p libc:malloc -- sh -c 'exit 5' {closed}");
        line.args(["-c", &run]);
        start(line).end().expect(5);
    }
}

#[test]
fn a_target_that_has_gone_under_seccomp_is_let_go_without_a_call_in_it() {
    let program = c("strict").build();
    let mut line = command(launch::binary());
    line.args(["run", "-c", "-p", "work", "--"])
        .arg(program)
        .stdin(Stdio::piped());
    let mut running = start(line);
    running.out.wait_for("strict");
    running.signal(Signal::SIGTERM);
    running.err.wait_for("memory of ours was left");
    running.write("go on\n");
    let ended = running.end().expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
}

#[test]
fn a_program_may_have_blocks_of_its_own_only() {
    let program = "BEGIN { printf(\"first\\n\"); } interval:ms:5 { @ = count(); } END { printf(\"last\\n\"); }";
    let ended = kptrace(&["run", "-q", "-e", program, "--", "sh", "-c", "exit 4"]).expect(4);
    assert!(ended.err.starts_with("first\nlast\n"), "{}", ended.err);
}

#[test]
fn a_program_that_exits_gives_attach_its_status_and_leaves_the_target() {
    let mut line = command(steps());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let pid = target.pid().to_string();
    let ended = kptrace(&["attach", "-q", "-e", "interval:ms:5 { exit(7); }", &pid]).expect(7);
    assert_eq!(ended.err, "");
    assert_eq!(tracer_of(&pid), "0");
    step(&mut target, 1);
    drop(target.stdin.take());
    target.end();
}
