//! `top` on a real terminal (tmux), on a server under load: what it shows is what is, its keys switch
//! probes, and the terminal is as it was, however it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::every::{at_work, let_go};
use super::redis;
use super::support::*;

const WIDTH: &str = "110";
const HEIGHT: &str = "20";

/// A terminal with a shell.
struct Tmux {
    place: tempfile::TempDir,
}

impl Tmux {
    /// Without one where there is no tmux; that is said.
    fn start() -> Option<Tmux> {
        if !Command::new("tmux")
            .arg("-V")
            .output()
            .is_ok_and(|o| o.status.success())
        {
            eprintln!("no tmux here: top is not tested");
            return None;
        }
        let place = tempfile::tempdir().expect("a directory");
        let tmux = Tmux { place };
        let mut line = command("tmux");
        tmux.words(&mut line, &["new-session", "-d", "-x", WIDTH, "-y", HEIGHT]);
        line.args(["/bin/sh", "-i"])
            .env("PS1", "shell> ")
            .env("ENV", "");
        line.env("LC_ALL", "C.UTF-8").env("TERM", "xterm-256color");
        // A terminal of its own, whatever this test runs in.
        line.env_remove("TMUX");
        let done = line.output().expect("tmux runs");
        assert!(done.status.success(), "{done:?}");
        tmux.wait(|screen| screen.contains("shell>"));
        Some(tmux)
    }

    fn words(&self, line: &mut Command, words: &[&str]) {
        line.arg("-u").arg("-f").arg("/dev/null");
        line.arg("-S").arg(self.place.path().join("tmux"));
        line.args(words);
    }

    fn ask(&self, words: &[&str]) -> String {
        let mut line = command("tmux");
        self.words(&mut line, words);
        let done = line.output().expect("tmux runs");
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8(done.stdout).expect("UTF-8")
    }

    fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p"])
    }

    /// Waits until the screen is so.
    fn wait(&self, is: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "the screen stays:\n{screen}");
        }
    }

    /// Keys by their names, or one text.
    fn keys(&self, keys: &[&str]) {
        self.ask(&[&["send-keys"], keys].concat());
    }

    fn enter(&self, line: &str) {
        self.keys(&["-l", line]);
        self.keys(&["Enter"]);
    }

    /// What the terminal is set to, by its shell.
    fn modes(&self) -> String {
        let path = self.path("modes");
        let _ = std::fs::remove_file(&path);
        self.enter(&format!(
            "stty -a > {0}.new; mv {0}.new {0}",
            path.display()
        ));
        let end = Instant::now() + LIMIT;
        while !path.exists() {
            assert!(Instant::now() < end, "no stty:\n{}", self.screen());
            std::thread::yield_now();
        }
        let flags = self.ask(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        std::fs::read_to_string(&path).expect("stty wrote it") + &flags
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut line = command("tmux");
        self.words(&mut line, &["kill-server"]);
        let _ = line.stderr(Stdio::null()).status();
    }
}

/// The line that starts `top`; its status is told, behind a word.
fn top(pid: u32, options: &str, word: &str) -> String {
    let binary = launch::binary();
    format!("{binary} top {options} {pid}; echo {word} ended $?")
}

/// A probe as `ctl` lists it.
fn listed(pid: u32, name: &str) -> Value {
    let ended = kptrace(&["ctl", &pid.to_string(), "list", "--json"]).expect(0);
    let all = json::objects(&ended.out).into_iter();
    let mut named = all.filter(|probe| probe["symbol"] == name);
    named
        .next()
        .unwrap_or_else(|| panic!("no {name}: {}", ended.out))
}

/// The cells of a probe's line.
fn line<'a>(screen: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let cells = |line: &'a str| line.split_whitespace().collect::<Vec<_>>();
    let mut lines = screen.lines().map(cells);
    lines.find(|cells| cells.len() > 3 && cells.last().is_some_and(|cell| cell.ends_with(name)))
}

/// Hits a second.
fn rate(screen: &str, name: &str) -> Option<f64> {
    line(screen, name)?.first()?.parse().ok()
}

#[test]
fn it_shows_a_server_under_load_and_its_keys_switch_probes() {
    let Some(tmux) = Tmux::start() else { return };
    if !(has("redis-server") && has("redis-benchmark")) {
        eprintln!("no redis-server here");
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let argv = redis::server(Path::new("redis-server"), place.path());
    let mut words = command(&argv[0]);
    words.args(&argv[1..]);
    let mut server = start(words);
    server.out.wait_for(redis::READY);
    let pid = server.pid();
    let mut words = command(launch::binary());
    words.args(["attach", "-c", "--format", "json", "-p", "*Command"]);
    words.arg(pid.to_string());
    let mut kptrace = start(words);
    kptrace.out.wait_for("attached_probes");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                redis::benchmark(Path::new("redis-benchmark"), place.path(), 2_000)
                    .expect("no error");
            }
        });
        // Whatever fails, the load ends.
        let ends = Ends(&stop);
        tmux.enter("echo it was here before");
        tmux.wait(|screen| screen.contains("\nit was here before"));
        let before = tmux.modes();
        tmux.enter(&top(pid, "-d 0.3", "it"));
        let busy = |name: &'static str| {
            move |screen: &str| rate(screen, name).is_some_and(|rate| rate > 0.0)
        };
        let screen = tmux.wait(busy("processCommand"));
        assert!(
            screen.contains("HITS/S↓") && !screen.contains("it was here"),
            "{screen}"
        );
        assert_eq!(
            tmux.ask(&["display-message", "-p", "#{alternate_on}"]),
            "1\n"
        );
        tmux.keys(&["-l", "/processcommand"]);
        tmux.keys(&["Enter"]);
        tmux.wait(|screen| screen.contains("1 shown: processcommand"));
        tmux.keys(&["Down"]);
        tmux.keys(&["Space"]);
        tmux.wait(|screen| {
            line(screen, ":processCommand").is_some_and(|cells| cells.contains(&"disabled"))
                && rate(screen, ":processCommand") == Some(0.0)
        });
        let off = listed(pid, "processCommand");
        assert_eq!(off["state"], "disabled", "{off}");
        let again = listed(pid, "processCommand");
        assert_eq!(again["hits"], off["hits"], "it is not counted: {again}");
        assert_eq!(listed(pid, "isInsideYieldingLongCommand")["state"], "jump");
        tmux.keys(&["Space"]);
        tmux.wait(busy(":processCommand"));
        assert_eq!(listed(pid, "processCommand")["state"], "jump");
        // The selection first, then the filter. Two at once are one to a terminal.
        tmux.keys(&["Escape"]);
        tmux.wait(|screen| !screen.contains(":processCommand: jump"));
        tmux.keys(&["Escape"]);
        tmux.wait(|screen| !screen.contains("1 shown") && busy("processCommand")(screen));
        tmux.keys(&["q"]);
        let screen = tmux.wait(|screen| screen.contains("\nit ended 0"));
        assert!(screen.contains("\nit was here before"), "{screen}");
        assert!(!screen.contains("HITS/S"), "{screen}");
        assert_eq!(tmux.modes(), before);
        drop(ends);
        load.join().expect("no error");
    });
    let told = let_go(kptrace);
    assert!(json::count(&told, "processCommand") > 0);
    redis::is_right(&mut redis::Client::new(place.path()));
    server.signal(Signal::SIGTERM);
    drop(server.end());
}

/// Ends the load.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The `top` that runs for a process.
fn runs_for(pid: u32) -> Pid {
    let words = [&b"top"[..], pid.to_string().as_bytes()].map(<[u8]>::to_vec);
    let is_it = |path: &PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let line: Vec<&[u8]> = line.split(|&b| b == 0).collect();
        line.first()
            .is_some_and(|own| *own == launch::binary().as_bytes())
            && words.iter().all(|word| line.contains(&word.as_slice()))
    };
    let mut all = std::fs::read_dir("/proc").expect("processes").flatten();
    let it = all
        .find_map(|entry| Some(entry.path()).filter(is_it))
        .expect("top runs");
    let number = it.file_name().and_then(|name| name.to_str()?.parse().ok());
    Pid::from_raw(number.expect("a number"))
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() {
    let Some(tmux) = Tmux::start() else { return };
    let target = at_work(&c("busy").flags(&["-pthread"]));
    let pid = target.pid();
    let kptrace = super::every::attach(&target, &["-p", "*"]);
    tmux.enter("echo it was here before");
    tmux.wait(|screen| screen.contains("\nit was here before"));
    let before = tmux.modes();
    let shown = |screen: &str| rate(screen, "triangle").is_some_and(|rate| rate > 0.0);
    let is_back = |end: &str| {
        let screen = tmux.wait(|screen| screen.contains(end) && !screen.contains("HITS/S"));
        assert!(screen.contains("it was here before"), "{screen}");
        assert_eq!(tmux.modes(), before);
    };
    for (signal, end) in [
        (Signal::SIGTERM, "\nit ended 143"),
        (Signal::SIGHUP, "\nit ended 129"),
        // A shell that is interrupted leaves out what follows.
        (Signal::SIGINT, "shell>"),
    ] {
        tmux.enter(&top(pid, "-d 0.2", "it"));
        tmux.wait(shown);
        kill(runs_for(pid), signal).expect("it runs");
        is_back(end);
    }
    // Stopped as by Ctrl-Z, and put in the foreground again.
    tmux.enter("clear; echo it was here before");
    tmux.enter(&top(pid, "-d 0.2", "it"));
    tmux.wait(shown);
    tmux.keys(&["C-z"]);
    is_back("Stopped");
    tmux.enter("fg; echo then ended $?");
    tmux.wait(shown);
    tmux.keys(&["C-c"]);
    is_back("\nthen ended 0");
    tmux.enter(&top(pid, "-d 0.2", "last"));
    tmux.wait(shown);
    let_go(kptrace);
    is_back("\nlast ended 0");
    assert!(tmux.screen().contains("kptrace: "), "{}", tmux.screen());
    target.end().expect(0);
}

#[test]
fn without_a_terminal_or_a_tracer_it_says_so() {
    let target = at_work(&c("busy").flags(&["-pthread"]));
    let pid = target.pid().to_string();
    let ended = kptrace(&["top", &pid]).expect(1);
    assert_eq!(ended.err, format!("kptrace: process {pid} is not traced\n"));
    let kptrace_of = super::every::attach(&target, &["-p", "*"]);
    let ended = kptrace(&["top", &pid]).expect(1);
    assert_eq!(ended.out, "");
    assert!(ended.err.contains("top needs a terminal"), "{}", ended.err);
    let_go(kptrace_of);
    target.end().expect(0);
}
