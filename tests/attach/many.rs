//! Several processes in one session: counts are of all together and of each, and what becomes of one
//! is its own business. Processes are named by numbers, or by a name that nobody else has.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::every::let_go;
use super::looks::different;
use super::redis;
use super::support::*;

fn several() -> Source {
    c("several").flags(&["-pthread"])
}

/// Starts a program that does what it is asked for.
fn started(program: &Path) -> Running {
    let mut line = command(program);
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

/// `count` of the same.
fn at_work(count: usize) -> Vec<Running> {
    let program = several().build();
    (0..count).map(|_| started(&program)).collect()
}

/// A directory with a program that is called as no other is.
fn unique(program: &Path) -> (tempfile::TempDir, std::path::PathBuf, String) {
    let place = tempfile::tempdir().expect("a directory");
    let unique = place.path().file_name().expect("a name").to_string_lossy();
    let name = format!("many-{}", unique.trim_start_matches('.'));
    let path = place.path().join(&name);
    std::fs::copy(program, &path).expect("it can be copied");
    (place, path, name)
}

fn ask(target: &mut Running, what: &str) {
    target.write(&format!("{what}\n"));
    target.out.wait_for(&format!("did {what}"));
}

fn pids(targets: &[Running]) -> Vec<String> {
    targets.iter().map(|t| t.pid().to_string()).collect()
}

/// Starts `attach` and waits until all is armed.
fn attach<S: AsRef<std::ffi::OsStr>>(options: &[&str], which: &[S]) -> Running {
    let mut line = command(launch::binary());
    line.args(["attach", "-c", "--format", "json"]);
    line.args(options).args(which);
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    kptrace
}

/// How often each process's probes were hit.
fn of_process(summary: &Value, pid: u32) -> u64 {
    let all = summary["processes"].as_array().expect("processes");
    let own = all.iter().filter(|process| process["pid"] == pid);
    own.map(|process| process["hits"].as_u64().expect("a count"))
        .sum()
}

#[test]
fn hits_are_counted_together_and_of_each() {
    let mut targets = at_work(3);
    let kptrace = attach(&["-p", "work"], &pids(&targets));
    for (target, count) in targets.iter_mut().zip([1_000, 20_000, 300]) {
        ask(target, &format!("work {count}"));
    }
    let told = let_go(kptrace);
    assert_eq!(json::count(&told, "work"), 21_300, "{told}");
    for (target, count) in targets.iter().zip([1_000, 20_000, 300]) {
        assert_eq!(of_process(&told, target.pid()), count, "{told}");
        assert_eq!(different(target.pid()), [""; 0]);
    }
    assert_eq!(told["armed"], 3, "{told}");
    for target in targets {
        assert!(target.end().expect(0).out.ends_with("right\n"));
    }
}

#[test]
fn every_function_of_busy_processes_is_armed_and_let_go_again_and_again() {
    let mut targets = at_work(3);
    for _ in 0..8 {
        let kptrace = attach(&["-p", "*", "-p", "libc:*"], &pids(&targets));
        targets
            .iter_mut()
            .for_each(|target| ask(target, "work 100"));
        let told = let_go(kptrace);
        assert_eq!(json::count(&told, "work"), 300, "{told}");
        for target in &targets {
            assert_eq!(different(target.pid()), [""; 0]);
        }
    }
    targets.into_iter().for_each(|t| drop(t.end().expect(0)));
}

#[test]
fn one_that_ends_or_crashes_leaves_the_others_traced() {
    let mut targets = at_work(3);
    let pids = pids(&targets);
    let kptrace = attach(&["-p", "work"], &pids);
    targets.iter_mut().for_each(|target| ask(target, "work 10"));
    let mut crashes = targets.remove(2);
    let ends = targets.remove(1);
    crashes.write("crash\n");
    assert_eq!(crashes.end().signal(), Some(Signal::SIGSEGV as i32));
    ends.end().expect(0);
    ask(&mut targets[0], "work 500");
    let told = let_go(kptrace);
    assert_eq!(json::count(&told, "work"), 530, "{told}");
    let notes = told["notes"].to_string();
    let crashed = format!("({}) was ended by signal 11", pids[2]);
    assert!(notes.contains(&crashed), "{told}");
    assert_eq!(different(targets[0].pid()), [""; 0]);
    targets.remove(0).end().expect(0);
}

#[test]
fn kptrace_ends_with_the_last_of_them() {
    let targets = at_work(2);
    let mut kptrace = attach(&["-p", "work"], &pids(&targets));
    let mut targets = targets.into_iter();
    targets.next().expect("two").end().expect(0);
    assert!(
        !kptrace.ends_within(std::time::Duration::from_millis(300)),
        "the other is still there"
    );
    let mut last = targets.next().expect("two");
    ask(&mut last, "work 7");
    last.end().expect(0);
    let told = summary(&kptrace.end().expect(0).out);
    assert_eq!(json::count(&told, "work"), 7, "{told}");
}

#[test]
fn one_that_begins_a_program_is_traced_in_it_and_so_are_the_others() {
    let mut targets = at_work(2);
    let kptrace = attach(&["-p", "work"], &pids(&targets));
    targets.iter_mut().for_each(|target| ask(target, "work 10"));
    targets[0].write("exec\n");
    targets[0].out.wait_for("ready");
    ask(&mut targets[0], "work 200");
    ask(&mut targets[1], "work 3000");
    let told = let_go(kptrace);
    assert_eq!(json::count(&told, "work"), 3_220, "{told}");
    assert_eq!(of_process(&told, targets[0].pid()), 210, "{told}");
    for target in targets {
        assert_eq!(different(target.pid()), [""; 0]);
        target.end().expect(0);
    }
}

/// Programs at fixed addresses have the same code of ours at the same places.
#[test]
fn children_are_told_from_those_of_others() {
    let program = c("several").flags(&["-pthread", "-no-pie"]).build();
    for follow in ["--follow", "--no-follow"] {
        let mut targets: Vec<Running> = (0..3).map(|_| started(&program)).collect();
        let kptrace = attach(&["-p", "*", follow], &pids(&targets));
        for turn in 0..20 {
            for target in &mut targets {
                ask(target, &format!("fork {turn}"));
            }
        }
        let told = let_go(kptrace);
        let hits = if follow == "--follow" { 3 * 190 } else { 0 };
        assert_eq!(json::count(&told, "work"), hits, "{told}");
        for target in targets {
            assert_eq!(different(target.pid()), [""; 0]);
            assert!(target.end().expect(0).out.ends_with("right\n"));
        }
    }
}

#[test]
fn a_probe_that_names_something_in_one_of_them_is_armed_there() {
    let mut other = started(&c("several").flags(&["-pthread", "-DALONE"]).build());
    let mut targets = at_work(1);
    let which = [targets[0].pid().to_string(), other.pid().to_string()];
    let mut kptrace = attach(&["-p", "alone"], &which);
    kptrace.err.wait_for(&format!(
        "several ({}) is not traced: no probe matched",
        targets[0].pid()
    ));
    ask(&mut targets[0], "work 10");
    ask(&mut other, "work 20");
    let told = let_go(kptrace);
    assert_eq!(json::count(&told, "alone"), 20, "{told}");
    assert_eq!(told["processes"].as_array().map(Vec::len), Some(1));
    let ended = kptrace_on(&["-p", "nowhere", "-p", "nor_here"], &which).expect(3);
    assert!(ended.err.contains("no probe matched"), "{}", ended.err);
    let some = ["-p", "alone", "-p", "work"];
    let kptrace = attach(&[&some[..], &["--pending", "error"]].concat(), &which);
    ask(&mut other, "work 20");
    assert_eq!(json::count(&let_go(kptrace), "work"), 20);
    let some = ["-p", "work", "-p", "nowhere", "--pending", "error"];
    let ended = kptrace_on(&some, &which).expect(3);
    assert!(ended.err.contains("nowhere"), "{}", ended.err);
    for target in targets.into_iter().chain([other]) {
        assert_eq!(different(target.pid()), [""; 0]);
        target.end().expect(0);
    }
}

/// Runs `attach -c` to its end.
fn kptrace_on(options: &[&str], which: &[String]) -> Ended {
    let mut args: Vec<&str> = vec!["attach", "-c"];
    args.extend(options);
    args.extend(which.iter().map(String::as_str));
    kptrace(&args)
}

#[test]
fn where_one_of_several_numbers_cannot_be_traced_nobody_is() {
    let targets = at_work(3);
    let mut pids = pids(&targets);
    let first = attach(&["-p", "work"], &pids[1..2]);
    let mut gone = started(&several().build());
    pids.push(gone.pid().to_string());
    gone.stdin = None;
    gone.end().expect(0);
    let ended = kptrace_on(&["-p", "work"], &pids).expect(1);
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ended.err);
    let traced = format!("cannot attach to {}: already traced by", pids[1]);
    assert!(lines.iter().any(|l| l.contains(&traced)), "{}", ended.err);
    let gone = format!("cannot attach to {}: no such process", pids[3]);
    assert!(lines.iter().any(|l| l.contains(&gone)), "{}", ended.err);
    let_go(first);
    for mut target in targets {
        assert_eq!(different(target.pid()), [""; 0]);
        ask(&mut target, "work 10");
        target.end().expect(0);
    }
}

#[test]
fn by_name_all_that_can_be_traced_are_and_the_others_are_named() {
    let (_place, program, name) = unique(&several().build());
    let mut targets: Vec<Running> = (0..3).map(|_| started(&program)).collect();
    let mut others = at_work(1);
    let first = attach(&["-p", "work"], &[targets[1].pid().to_string()]);
    let mut kptrace = attach(&["-p", "work"], &["--name", &name]);
    kptrace.err.wait_for(&format!(
        "cannot attach to {}: already traced by",
        targets[1].pid()
    ));
    for target in targets.iter_mut().chain(&mut others) {
        ask(target, "work 100");
    }
    let told = let_go(kptrace);
    assert_eq!(json::count(&told, "work"), 200, "{told}");
    assert_eq!(of_process(&told, targets[0].pid()), 100, "{told}");
    assert_eq!(of_process(&told, targets[2].pid()), 100, "{told}");
    assert_eq!(json::count(&let_go(first), "work"), 100);
    let kptrace = attach(&["-p", "work"], &["--name", &format!("{}*", &name[..8])]);
    targets.iter_mut().for_each(|target| ask(target, "work 5"));
    assert!(json::count(&let_go(kptrace), "work") >= 15);
    targets.into_iter().for_each(|t| drop(t.end().expect(0)));
    others.into_iter().for_each(|t| drop(t.end().expect(0)));
    let ended = kptrace_on(&["-p", "work", "--name", &name], &[]).expect(1);
    assert!(
        ended.err.contains(&format!("no process is called {name}")),
        "{}",
        ended.err
    );
}

#[test]
fn by_name_it_is_an_error_if_none_can_be_traced() {
    let (_place, program, name) = unique(&several().build());
    let target = started(&program);
    let first = attach(&["-p", "work"], &[target.pid().to_string()]);
    let ended = kptrace_on(&["-p", "work", "--name", &name], &[]).expect(1);
    assert!(ended.err.contains("already traced by"), "{}", ended.err);
    let_go(first);
    target.end().expect(0);
}

#[test]
fn a_program_of_the_language_has_one_map_for_all() {
    let mut targets = at_work(2);
    let mut line = command(launch::binary());
    line.args(["attach", "--format", "json"]);
    line.args(["-e", "uprobe:work { @[pid] = count(); @all = count(); }"]);
    line.args(pids(&targets));
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    ask(&mut targets[0], "work 10");
    ask(&mut targets[1], "work 20");
    kptrace.signal(Signal::SIGINT);
    let out = kptrace.end().expect(0).out;
    let maps = json::of_type(&out, "map");
    let data: Vec<&Value> = maps.iter().map(|map| &map["data"]).collect();
    let of = |index: usize| targets[index].pid().to_string();
    assert!(data.iter().any(|d| d["@all"] == 30), "{out}");
    assert!(data.iter().any(|d| d["@"][of(0)] == 10), "{out}");
    assert!(data.iter().any(|d| d["@"][of(1)] == 20), "{out}");
    targets.into_iter().for_each(|t| drop(t.end().expect(0)));
}

#[test]
fn killed_together_with_its_guardian_or_not_none_of_several_is_harmed() {
    let mut targets = at_work(3);
    for _ in 0..3 {
        let kptrace = attach(&["-p", "*", "-p", "libc:*"], &pids(&targets));
        kptrace.signal(Signal::SIGKILL);
        drop(kptrace.end());
        targets
            .iter_mut()
            .for_each(|target| ask(target, "work 100"));
    }
    let kptrace = attach(&["-p", "work"], &pids(&targets));
    targets
        .iter_mut()
        .for_each(|target| ask(target, "work 100"));
    assert_eq!(json::count(&let_go(kptrace), "work"), 300);
    for target in targets {
        assert_eq!(different(target.pid()), [""; 0]);
        target.end().expect(0);
    }
}

#[test]
fn one_of_several_is_let_go_of_by_its_own_socket_and_the_others_are_traced() {
    let mut targets = at_work(2);
    let pids = pids(&targets);
    let attached = attach(&["-p", "work"], &pids);
    targets.iter_mut().for_each(|target| ask(target, "work 10"));
    kptrace(&["ctl", &pids[0], "detach"]).expect(0);
    assert_eq!(different(targets[0].pid()), [""; 0]);
    targets
        .iter_mut()
        .for_each(|target| ask(target, "work 100"));
    let told = let_go(attached);
    assert_eq!(json::count(&told, "work"), 120, "{told}");
    assert_eq!(of_process(&told, targets[0].pid()), 10, "{told}");
    targets.into_iter().for_each(|t| drop(t.end().expect(0)));
}

/// How many commands of a kind a server has run, by its own account.
fn ran(client: &mut redis::Client, command: &str) -> u64 {
    let said = client.ask("INFO commandstats");
    let line = format!("cmdstat_{command}:calls=");
    let found = said.lines().find_map(|l| l.strip_prefix(&line));
    found.map_or(0, |rest| {
        let digits = rest.split(',').next().expect("a number");
        digits.parse().expect("a number")
    })
}

#[test]
fn two_servers_of_one_name_under_load_are_counted_exactly() {
    if !(has("redis-server") && has("redis-benchmark")) {
        eprintln!("no redis-server here");
        return;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|d| d.join("redis-server"));
    let server = found
        .into_iter()
        .find(|path| path.exists())
        .expect("it runs");
    let (_program_place, program, name) = unique(&server);
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let mut servers: Vec<Running> = Vec::new();
    for place in &places {
        let argv = redis::server(&program, place.path());
        let mut line = command(&argv[0]);
        line.args(&argv[1..]);
        let mut server = start(line);
        server.out.wait_for(redis::READY);
        servers.push(server);
    }
    let load = |requests: u32| {
        std::thread::scope(|scope| {
            for place in &places {
                let benchmark = Path::new("redis-benchmark");
                let run = move || redis::benchmark(benchmark, place.path(), requests);
                scope.spawn(move || run().expect("no error"));
            }
        });
    };
    load(500);
    let counts = || -> Vec<u64> {
        let mut clients = places.iter().map(|place| redis::Client::new(place.path()));
        clients
            .by_ref()
            .map(|mut client| ran(&mut client, "get"))
            .collect()
    };
    let before = counts();
    let kptrace = attach(
        &["-p", "getCommand", "--duration", "600"],
        &["--name", &name],
    );
    load(5_000);
    let told = let_go(kptrace);
    let after = counts();
    let calls: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    assert_eq!(calls, [5_000, 5_000]);
    assert_eq!(json::count(&told, "getCommand"), 10_000, "{told}");
    for (server, calls) in servers.iter().zip(&calls) {
        assert_eq!(of_process(&told, server.pid()), *calls, "{told}");
    }
    // And every function of both, begun and ended while they work.
    std::thread::scope(|scope| {
        let loaded = scope.spawn(|| load(10_000));
        for _ in 0..2 {
            let kptrace = attach(&["-p", "*", "-p", "libc:*"], &["--name", &name]);
            let_go(kptrace);
        }
        loaded.join().expect("no error");
    });
    for (server, place) in servers.iter().zip(&places) {
        redis::is_right(&mut redis::Client::new(place.path()));
        assert_eq!(different(server.pid()), [""; 0]);
        server.signal(Signal::SIGTERM);
    }
    servers.into_iter().for_each(|s| drop(s.end()));
}
