//! A traced target, somebody who controls it by its socket, and what its memory holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::looks::{self, different};
use super::support::*;

/// A target that is attached to.
pub struct Session {
    pub target: Running,
    pub kptrace: Running,
    /// Where its socket is; gone with it.
    pub runtime: tempfile::TempDir,
    /// Its text before it was attached to, by where that begins.
    pub text: BTreeMap<u64, Vec<u8>>,
}

/// Starts `tests/targets/toggles.c` with so many threads.
pub fn toggles(threads: u32) -> Running {
    working("toggles", threads)
}

/// Starts such a target.
pub fn working(name: &str, threads: u32) -> Running {
    let source = c(name).flags(&["-pthread"]);
    let mut line = command(source.build());
    line.arg(threads.to_string()).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

impl Session {
    /// Attaches with these options.
    pub fn with(target: Running, options: &[&str]) -> Session {
        let runtime = tempfile::tempdir().expect("a directory");
        let text = text(target.pid());
        let mut line = command(launch::binary());
        line.env("XDG_RUNTIME_DIR", runtime.path());
        line.args(["attach", "-c", "--format", "json"])
            .args(options);
        line.arg(target.pid().to_string());
        let mut kptrace = start(line);
        kptrace.out.wait_for("attached_probes");
        Session {
            target,
            kptrace,
            runtime,
            text,
        }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        let place = self.runtime.path().join("kptrace");
        place.join(self.target.pid().to_string())
    }

    /// Somebody who controls it.
    pub fn talk(&self) -> Talk {
        Talk::with(&self.socket())
    }

    /// `kptrace ctl` on it.
    pub fn ctl(&self, words: &[&str]) -> Ended {
        let mut line = command(launch::binary());
        line.env("XDG_RUNTIME_DIR", self.runtime.path());
        line.arg("ctl")
            .arg(self.target.pid().to_string())
            .args(words);
        start(line).end()
    }

    /// Has all threads of the target make calls, which must be right.
    pub fn round(&mut self) {
        self.target.write("more\n");
        let said = self.target.out.wait_for("r");
        assert_eq!(said, "round");
    }

    /// Ends tracing and gives the summary; the target is as it was.
    pub fn let_go(self) -> (Running, Value) {
        self.kptrace.signal(Signal::SIGINT);
        let told = summary(&self.kptrace.end().expect(0).out);
        assert_eq!(different(self.target.pid()), [""; 0]);
        (self.target, told)
    }

    /// Memory at every site is what its state says: `list` is compared with the target's bytes, and
    /// whatever else differs from the files is nobody's.
    pub fn agrees(&self, talk: &mut Talk) -> Value {
        let list = talk.ask(&json!({ "do": "list" }));
        let probes = list["probes"].as_array().expect("probes");
        let memory = File::open(format!("/proc/{}/mem", self.target.pid())).expect("its memory");
        let mut sites: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for probe in probes.iter().filter(|probe| probe["address"].is_string()) {
            let at = probe["address"].as_str().expect("an address");
            let at = u64::from_str_radix(at.trim_start_matches("0x"), 16).expect("a number");
            sites
                .entry(at)
                .or_default()
                .push(probe["state"].as_str().expect("a state"));
        }
        for (&at, states) in &sites {
            let mut byte = [0];
            memory.read_exact_at(&mut byte, at).expect("its text");
            let jump = states.contains(&"jump");
            let trap = states
                .iter()
                .any(|state| ["trap", "queued"].contains(state));
            let (from, text) = self.text.range(..=at).next_back().expect("text");
            let original = text[(at - from) as usize];
            let over = |before: u64| {
                sites
                    .get(&(at - before))
                    .is_some_and(|s| s.contains(&"jump"))
            };
            // A function may begin with a jump of its own; where nothing is armed another's jump may lie.
            let right = match (jump, trap) {
                (true, _) => [0xe9, 0xeb].contains(&byte[0]),
                (_, true) => byte[0] == 0xcc,
                _ => byte[0] == original || (1..5).any(over),
            };
            assert!(right, "{at:#x} holds {:#x}: {states:?}", byte[0]);
        }
        list
    }
}

/// A connection to a session's socket.
pub struct Talk(pub BufReader<UnixStream>);

impl Talk {
    /// Connects to a socket, which is there in a moment.
    pub fn with(socket: &Path) -> Talk {
        let end = std::time::Instant::now() + LIMIT;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
                    return Talk(BufReader::new(stream));
                }
                Err(error) if std::time::Instant::now() > end => panic!("{error}"),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    /// Sends a line.
    pub fn say(&mut self, line: &str) {
        let stream = self.0.get_mut();
        stream
            .write_all(format!("{line}\n").as_bytes())
            .expect("somebody listens");
    }

    /// What comes back.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// Asks for something that must be done.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.say(&request.to_string());
        let answer = self.answer();
        assert_eq!(answer["ok"], true, "{request}: {answer}");
        answer
    }

    /// Asks for something that must not; why it was not.
    pub fn refused(&mut self, request: &Value) -> String {
        self.say(&request.to_string());
        let answer = self.answer();
        let why = answer["error"].as_str();
        why.unwrap_or_else(|| panic!("{request}: {answer}"))
            .to_owned()
    }
}

/// Bytes of text that differ from the files they come from, while memory of ours is mapped.
pub fn changed(pid: u32) -> Vec<String> {
    let ours = |what: &String| what.starts_with("code of no file");
    different(pid)
        .into_iter()
        .filter(|what| !ours(what))
        .collect()
}

/// All text of a process.
pub fn text(pid: u32) -> BTreeMap<u64, Vec<u8>> {
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let spans = looks::text(pid).into_iter();
    let read = spans.filter_map(|(from, to)| {
        let mut bytes = vec![0; (to - from) as usize];
        memory.read_exact_at(&mut bytes, from).ok()?;
        Some((from, bytes))
    });
    read.collect()
}

/// A directory of a user's own.
pub fn private(path: &Path) {
    let made = std::fs::DirBuilder::new().mode(0o700).create(path);
    made.expect("a directory");
}

/// The probe of a list that has this symbol, and offset.
pub fn listed<'a>(list: &'a Value, symbol: &str, offset: u64) -> &'a Value {
    let probes = list["probes"].as_array().expect("probes");
    let found = probes
        .iter()
        .find(|p| p["symbol"] == symbol && p["offset"] == offset);
    found.unwrap_or_else(|| panic!("no {symbol}+{offset:#x} in {list}"))
}
