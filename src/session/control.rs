//! Who controls a session while it runs: a socket for each traced process, named by its number, in a
//! directory of the user's own. A request is one JSON object on one line, and so is its answer. Knows
//! who may ask and how much they may say; what is asked is `requests`' business.
//!
//! Invariant: whoever is at the other end, the session waits for nobody, and keeps of each at most one
//! request that is not whole and one answer that was not read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use super::run::Session;
use crate::base::Pid;
use crate::sys::clock;
use crate::sys::file::user;
use crate::sys::local::{Listener, Several, Stream, places, private, remove_dead};
use crate::sys::procfs;

/// Longest request.
const LINE: usize = 64 << 10;
/// Bytes that are read at once.
const PIECE: usize = 4096;
/// Most talks at once.
const CLIENTS: usize = 32;
/// How many requests of one talk are answered before anything else is looked at.
const REQUESTS: usize = 16;
/// Nanoseconds after which a talk ends whose other end does not read its answer.
const PATIENCE: u64 = 10_000_000_000;
/// Numbers of talks begin here; below are the processes that a socket is of.
const TALKS: u64 = 1 << 32;

/// A talk with somebody about one process.
struct Talk {
    stream: Stream,
    pid: Pid,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// When it last took some of its answer.
    moved: u64,
    /// Whether it waits for its other end to read.
    waits: bool,
    /// Whether it ends once its answer is read.
    last: bool,
}

impl Talk {
    /// Whether a request is there that may be answered.
    fn asks(&self) -> bool {
        self.output.is_empty() && memchr::memchr(b'\n', &self.input).is_some()
    }
}

/// All sockets and talks of a session.
#[derive(Default)]
pub(super) struct Control {
    several: Option<Several>,
    listeners: BTreeMap<Pid, Listener>,
    /// Processes for which none could be made.
    without: BTreeSet<Pid>,
    talks: BTreeMap<u64, Talk>,
    made: u64,
}

/// What came of looking at a talk.
enum Came {
    /// A request.
    Line(String),
    /// Nothing that is whole.
    Nothing,
    /// It is over.
    End,
}

impl Control {
    /// Tells when somebody wants something.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.several.as_ref().map(AsFd::as_fd)
    }

    /// When somebody is to be given up, in ns.
    pub(super) fn due(&self) -> Option<u64> {
        let due = |talk: &Talk| match talk.waits {
            true => Some(talk.moved + PATIENCE),
            false => talk.asks().then_some(0),
        };
        self.talks.values().filter_map(due).min()
    }

    /// Has a socket for each of these processes and for nobody else. Why there is none for one, if that
    /// was not said before.
    fn have(&mut self, pids: impl Iterator<Item = Pid> + Clone) -> Option<String> {
        let same = self.listeners.len() + self.without.len() == pids.clone().count()
            && pids
                .clone()
                .all(|pid| self.listeners.contains_key(&pid) || self.without.contains(&pid));
        if same {
            return None;
        }
        let now: BTreeSet<Pid> = pids.collect();
        self.listeners.retain(|pid, _| now.contains(pid));
        let first = self.without.is_empty();
        self.without.retain(|pid| now.contains(pid));
        // What was answered last may still be read.
        for talk in self.talks.values_mut() {
            talk.last |= !now.contains(&talk.pid);
        }
        let mut wrong = None;
        for pid in now {
            if self.listeners.contains_key(&pid) || self.without.contains(&pid) {
                continue;
            }
            if let Err(error) = self.listen(pid) {
                self.without.insert(pid);
                wrong.get_or_insert(format!(
                    "process {pid} cannot be controlled while it is traced: {error}"
                ));
            }
        }
        wrong.filter(|_| first)
    }

    fn listen(&mut self, pid: Pid) -> io::Result<()> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let dir = private(&places(user(), runtime))?;
        if self.several.is_none() {
            let gone = |name: &str| name.parse().is_ok_and(|pid| !procfs::is_there(Pid(pid)));
            remove_dead(&dir, gone);
        }
        let listener = Listener::at(&dir.join(pid.to_string()))?;
        let several = match &mut self.several {
            Some(several) => several,
            none => none.insert(Several::new()?),
        };
        several.add(&listener, u64::from(pid.0.unsigned_abs()))?;
        self.listeners.insert(pid, listener);
        Ok(())
    }

    /// Takes in whoever wants to talk about a process.
    fn accept(&mut self, number: u64) {
        let pid = |&pid: &Pid| u64::from(pid.0.unsigned_abs()) == number;
        let Some(pid) = self.listeners.keys().copied().find(pid) else {
            return;
        };
        for _ in 0..CLIENTS {
            let listener = self.listeners.get(&pid);
            let Some(Ok(Some(stream))) = listener.map(Listener::accept) else {
                return;
            };
            let allowed = stream.peer().is_ok_and(|uid| uid == user() || uid == 0);
            let refusal = match (allowed, self.talks.len() < CLIENTS) {
                (true, true) => None,
                (false, _) => Some("only the user who traces it, and root, may control it"),
                (true, false) => Some("too many others control it"),
            };
            if let Some(why) = refusal {
                let _ = stream.write(failed(why).as_bytes());
                continue;
            }
            let number = TALKS + self.made;
            let added = self.several.as_ref().map(|s| s.add(&stream, number));
            if !matches!(added, Some(Ok(()))) {
                continue;
            }
            self.made += 1;
            let talk = Talk {
                stream,
                pid,
                input: Vec::new(),
                output: Vec::new(),
                written: 0,
                moved: 0,
                waits: false,
                last: false,
            };
            self.talks.insert(number, talk);
        }
    }

    /// The next request of a talk. While an answer is not read none is taken.
    fn next(&mut self, number: u64) -> Came {
        let Some(talk) = self.talks.get_mut(&number) else {
            return Came::Nothing;
        };
        if !talk.output.is_empty() {
            return Came::Nothing;
        }
        if talk.last {
            return Came::End;
        }
        loop {
            if let Some(end) = memchr::memchr(b'\n', &talk.input) {
                let mut line: Vec<u8> = talk.input.drain(..=end).collect();
                line.pop();
                return match String::from_utf8(line) {
                    Ok(line) => Came::Line(line),
                    Err(_) => Came::Line(String::new()),
                };
            }
            if talk.input.len() >= LINE {
                talk.input.clear();
                talk.last = true;
                self.answer(number, failed("a request is at most 64 KiB").into_bytes());
                return Came::Nothing;
            }
            let mut piece = [0; PIECE];
            match talk.stream.read(&mut piece) {
                Ok(Some(0)) | Err(_) => return Came::End,
                Ok(Some(got)) => talk.input.extend(piece.iter().take(got)),
                Ok(None) => return Came::Nothing,
            }
        }
    }

    /// Gives an answer, as far as it is taken.
    fn answer(&mut self, number: u64, line: Vec<u8>) {
        if let Some(talk) = self.talks.get_mut(&number) {
            talk.output = line;
            talk.written = 0;
            talk.moved = clock::monotonic();
        }
        self.write(number);
    }

    /// Writes what is left of an answer, as far as it is taken.
    fn write(&mut self, number: u64) {
        let (Some(several), Some(talk)) = (&self.several, self.talks.get_mut(&number)) else {
            return;
        };
        while let Some(rest) = talk.output.get(talk.written..).filter(|r| !r.is_empty()) {
            match talk.stream.write(rest) {
                Ok(Some(some)) => {
                    talk.written += some;
                    talk.moved = clock::monotonic();
                }
                Ok(None) => {
                    talk.waits = true;
                    let _ = several.wants_write(&talk.stream, number, true);
                    return;
                }
                Err(_) => {
                    talk.last = true;
                    break;
                }
            }
        }
        if std::mem::take(&mut talk.waits) {
            let _ = several.wants_write(&talk.stream, number, false);
        }
        talk.output = Vec::new();
        talk.written = 0;
    }

    /// Numbers of sockets and talks where something is to be done.
    fn ready(&self) -> Vec<u64> {
        let Some(several) = &self.several else {
            return Vec::new();
        };
        let mut ready = several.ready().unwrap_or_default();
        let asks = self.talks.iter().filter(|(_, talk)| talk.asks());
        ready.extend(asks.map(|(&number, _)| number));
        ready
    }

    fn end(&mut self, number: u64) {
        if let (Some(several), Some(talk)) = (&self.several, self.talks.remove(&number)) {
            several.remove(&talk.stream);
        }
    }

    /// Talks that are over, or whose other end does not read.
    fn drop_idle(&mut self) {
        let now = clock::monotonic();
        let hangs = |talk: &Talk| match talk.output.is_empty() {
            true => talk.last,
            false => now >= talk.moved + PATIENCE,
        };
        let talks = self.talks.iter().filter(|(_, talk)| hangs(talk));
        let over: Vec<u64> = talks.map(|(&number, _)| number).collect();
        for number in over {
            self.end(number);
        }
    }
}

/// An answer that says why nothing was done.
fn failed(why: &str) -> String {
    format!("{}\n", serde_json::json!({ "error": why }))
}

impl Session {
    /// Has a socket for every process, and answers those who ask. Nobody is waited for.
    pub(super) fn serve(&mut self) -> anyhow::Result<()> {
        let wrong = self.control.have(self.tracees.keys().copied());
        if let Some(wrong) = wrong {
            self.common.warn(&wrong);
        }
        for number in self.control.ready() {
            if number < TALKS {
                self.control.accept(number);
                continue;
            }
            self.control.write(number);
            for _ in 0..REQUESTS {
                match self.control.next(number) {
                    Came::Line(line) => {
                        let Some(pid) = self.control.talks.get(&number).map(|talk| talk.pid) else {
                            break;
                        };
                        let answer = self.request(pid, &line)?;
                        self.control
                            .answer(number, format!("{answer}\n").into_bytes());
                    }
                    Came::Nothing => break,
                    Came::End => {
                        self.control.end(number);
                        break;
                    }
                }
            }
        }
        self.control.drop_idle();
        Ok(())
    }
}
