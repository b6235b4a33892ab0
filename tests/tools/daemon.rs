//! nginx, which becomes a daemon with a worker: traced from its start to its end, let go of when it
//! leaves, and attached to while it serves. Each is a test's own, in a directory and on a port of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tempfile::TempDir;

use super::looks::{different, look};
use super::need;
use super::support::*;

/// What nginx does once for each request.
const REQUEST: &str = "ngx_http_process_request";

struct Daemon {
    directory: TempDir,
    port: u16,
}

impl Daemon {
    fn new() -> Daemon {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let place = directory.path().display().to_string();
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its number").port();
        let user = if geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {place}/{what};"))
            .concat();
        let settings = format!(
            "{user} worker_processes 1; daemon on; pid {place}/pid; error_log {place}/errors;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"served $request_uri\\n\"; }} }} }}\n"
        );
        fs::write(directory.path().join("settings"), settings).expect("written");
        Daemon { directory, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The words of nginx with its settings.
    fn words(&self, more: &[&str]) -> Vec<String> {
        let nginx = need::find("nginx").expect("it is here");
        let place = self.directory.path().display();
        let mut words = vec![nginx.display().to_string()];
        words.extend(["-p".to_owned(), place.to_string()]);
        words.extend(["-e".to_owned(), format!("{place}/errors")]);
        words.extend(["-c".to_owned(), format!("{place}/settings")]);
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    }

    fn nginx(&self, more: &[&str]) -> Ended {
        let words = self.words(more);
        let mut line = command(&words[0]);
        line.args(&words[1..]);
        start(line).end().expect(0)
    }

    /// kptrace from the start; it reports to a file.
    fn traced(&self, options: &[&str]) -> Running {
        let mut line = command(launch::binary());
        line.args(["run", "-q", "-c", "--format", "json", "-o"])
            .arg(self.path("report"))
            .args(options)
            .arg("--")
            .args(self.words(&[]));
        start(line)
    }

    fn report(&self) -> serde_json::Value {
        summary(&fs::read_to_string(self.path("report")).expect("a report"))
    }

    /// The master, once it serves.
    fn master(&self) -> u32 {
        self.serve(1);
        let pid = fs::read_to_string(self.path("pid")).expect("its number");
        pid.trim().parse().expect("a number")
    }

    /// So many requests, each on a connection of its own, and answered.
    fn serve(&self, requests: usize) {
        let end = Instant::now() + LIMIT;
        for n in 0..requests {
            let mut stream = loop {
                match TcpStream::connect(("127.0.0.1", self.port)) {
                    Ok(stream) => break stream,
                    Err(error) => assert!(Instant::now() < end, "it does not listen: {error}"),
                }
                std::thread::yield_now();
            };
            stream.set_read_timeout(Some(LIMIT)).expect("a limit");
            write!(stream, "GET /page{n} HTTP/1.0\r\n\r\n").expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers");
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            assert!(
                answer.ends_with(&format!("\r\nserved /page{n}\n")),
                "{answer}"
            );
        }
    }

    /// Ends it; both its processes are gone then.
    fn stop(&self, pids: &[u32]) {
        self.nginx(&["-s", "stop"]);
        let end = Instant::now() + LIMIT;
        let there = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while pids.iter().any(there) {
            assert!(Instant::now() < end, "it does not end");
            std::thread::yield_now();
        }
    }

    fn errors(&self) {
        let errors = fs::read_to_string(self.path("errors")).expect("its log");
        let bad = |line: &&str| {
            ["[alert]", "[crit]", "[emerg]"]
                .iter()
                .any(|w| line.contains(w))
        };
        let bad: Vec<&str> = errors.lines().filter(bad).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}

/// Whatever fails, no daemon stays.
impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// The worker: a master has one child.
fn worker(master: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
    let children = children.expect("it runs");
    children.trim().parse().expect("one worker")
}

/// Whether a daemon, which cannot ask for it, may be attached to.
fn may() -> Result<(), String> {
    let scope = Path::new("/proc/sys/kernel/yama/ptrace_scope");
    let scope = fs::read_to_string(scope).unwrap_or_else(|_| "0".to_owned());
    match scope.trim() {
        "0" => Ok(()),
        "1" if geteuid().is_root() => Ok(()),
        scope => Err(format!(
            "kernel.yama.ptrace_scope is {scope}: no daemon is attached to"
        )),
    }
}

/// Text as in the files, no code of no file.
fn clean(pid: u32) {
    assert_eq!(different(pid), [""; 0], "{pid}");
    let ours = |map: &&String| !(map.contains(" /") || map.contains(" [v"));
    let all = look(pid);
    assert_eq!(all.executable.iter().find(ours), None, "{pid}");
    let objects = all.mappings.iter().find(|map| map.contains("memfd:"));
    assert_eq!(objects, None, "{pid}");
    let traced = all
        .signals
        .iter()
        .find(|line| line.contains("TracerPid") && !line.ends_with("\t0"));
    assert_eq!(traced, None, "{pid}");
}

pub fn followed() -> Result<(), String> {
    for options in [
        &["-p", "*"][..],
        &["-p", "*", "--no-opt", "--trap-limit", "0"],
        &["-p", "*:*"],
    ] {
        let daemon = Daemon::new();
        let mut kptrace = daemon.traced(options);
        let master = daemon.master();
        let serving = worker(master);
        daemon.serve(40);
        assert!(
            !kptrace.ends_within(std::time::Duration::ZERO),
            "it is traced"
        );
        daemon.stop(&[master, serving]);
        let ended = kptrace.end().expect(0);
        assert_eq!(ended.out, "");
        let told = daemon.report();
        assert_eq!(json::count(&told, REQUEST), 41, "{options:?}");
        // It, the daemon that it becomes, and the worker.
        let processes = told["processes"].as_array().expect("processes");
        assert_eq!(processes.len(), 3, "{options:?}");
        let pids: Vec<_> = processes.iter().filter_map(|p| p["pid"].as_u64()).collect();
        assert!(
            pids.contains(&master.into()) && pids.contains(&serving.into()),
            "{pids:?}"
        );
        let hits = |of: &serde_json::Value| of["hits"].as_u64().expect("hits");
        let probes = told["probes"].as_array().expect("probes").iter();
        assert_eq!(
            processes.iter().map(hits).sum::<u64>(),
            probes.map(hits).sum::<u64>()
        );
        daemon.errors();
    }
    Ok(())
}

pub fn not_followed() -> Result<(), String> {
    for options in [
        &["-p", "*:*"][..],
        &["-p", "*", "--no-opt", "--trap-limit", "0"],
    ] {
        let daemon = Daemon::new();
        let kptrace = daemon.traced(&[&["--no-follow"], options].concat());
        // It ends as the program that was asked for does.
        let ended = kptrace.end().expect(0);
        assert_eq!(ended.out, "");
        let told = daemon.report();
        assert_eq!(told["processes"].as_array().map(Vec::len), Some(1));
        assert!(json::count(&told, "ngx_daemon") == 1, "{options:?}");
        let master = daemon.master();
        let serving = worker(master);
        clean(master);
        clean(serving);
        daemon.serve(40);
        daemon.stop(&[master, serving]);
        daemon.errors();
    }
    Ok(())
}

/// Attaches until the end of a round.
fn attached(
    daemon: &Daemon,
    pid: u32,
    options: &[&str],
    round: impl FnOnce(),
) -> serde_json::Value {
    let mut line = command(launch::binary());
    line.args(["attach", "-c", "--format", "json"])
        .args(options)
        .arg(pid.to_string());
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    round();
    kptrace.signal(Signal::SIGINT);
    let told = summary(&kptrace.end().expect(0).out);
    clean(pid);
    daemon.serve(5);
    told
}

pub fn attached_to() -> Result<(), String> {
    may()?;
    let daemon = Daemon::new();
    daemon.nginx(&[]);
    let master = daemon.master();
    let mut serving = worker(master);
    for options in [
        &["-p", "*"][..],
        &["-p", "*:*"],
        &["-p", "*", "--no-opt", "--trap-limit", "0"],
    ] {
        let told = attached(&daemon, serving, options, || daemon.serve(60));
        assert_eq!(json::count(&told, REQUEST), 60, "{options:?}");
        // A new worker is born of the armed master; followed, it is counted, else it is clean.
        for follow in ["--no-follow", "--follow"] {
            let options = [&[follow], options].concat();
            let old = serving;
            let told = attached(&daemon, master, &options, || {
                daemon.nginx(&["-s", "reload"]);
                let end = Instant::now() + LIMIT;
                while Path::new(&format!("/proc/{old}")).exists() {
                    assert!(Instant::now() < end, "the old worker stays");
                    std::thread::yield_now();
                }
                serving = worker(master);
                if follow == "--no-follow" {
                    clean(serving);
                }
                daemon.serve(30);
            });
            let counted = if follow == "--follow" { 30 } else { 0 };
            assert_eq!(json::count(&told, REQUEST), counted, "{options:?}");
            clean(serving);
        }
    }
    daemon.stop(&[master, serving]);
    daemon.errors();
    Ok(())
}
