//! Who may be inside bytes that are about to change. Stops only what must be stopped: a thread
//! blocked in the kernel is looked at from outside, since stopping it would make calls such as
//! `epoll_wait` fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::process::{Process, Reports};
use super::remote::seccomp;
use super::thread::State;
use crate::base::{Addr, Pid, Span, Tid};
use crate::sys::clock;
use crate::sys::errno::is_gone;
use crate::sys::procfs::{self, Mapping, Where};
use crate::sys::wait::Status;
use crate::sys::{errno, ptrace};

/// How often a thread is seen running before it is stopped. One that just woke may be on its way out
/// of a call: were it stopped there, a call whose time-out is over may fail with EINTR all the same,
/// and would have to wait for all of it again (`unix_stream_read_generic` in `net/unix/af_unix.c`).
const WAKING: u32 = 2;
/// How much of one stack is looked at.
const STACK_LIMIT: u64 = 64 << 20;

/// Words that a thread holds: where it is, and whatever its registers and stack point to.
#[derive(Clone, Debug, Default)]
pub struct Occupied {
    /// Program counters: of stopped threads with their id, of blocked ones without.
    pub pcs: Vec<(Option<Tid>, Addr)>,
    /// Sorted words of registers and stacks that lie in the spans asked for.
    pub words: Vec<Addr>,
}

impl Occupied {
    /// Whether a word of a stack or register lies strictly inside `span`.
    pub fn holds_interior(&self, span: Span) -> bool {
        let from = self.words.partition_point(|&word| word <= span.start);
        self.words.get(from).is_some_and(|&word| word < span.end)
    }

    /// Whether a word of a stack or register lies in `span`.
    pub fn holds(&self, span: Span) -> bool {
        let from = self.words.partition_point(|&word| word < span.start);
        self.words.get(from).is_some_and(|&word| word < span.end)
    }
}

impl Process {
    /// Stops every thread that runs; those blocked in the kernel are left alone. Reports of ends
    /// and strangers go to `other`.
    pub fn stop_running(&mut self, other: &mut Reports) -> io::Result<()> {
        self.stop_seen(other, WAKING)
    }

    /// The same, at first sight. One that makes threads all the time stops for each of them, and is
    /// hardly ever seen running twice: to come upon it between two of them it must be stopped at once.
    pub fn stop_running_now(&mut self, other: &mut Reports) -> io::Result<()> {
        self.stop_seen(other, 1)
    }

    fn stop_seen(&mut self, other: &mut Reports, looks: u32) -> io::Result<()> {
        // Asked to stop and too deep in the kernel to do it now; they will before they run on.
        let mut deep = BTreeSet::new();
        // How often each was seen running, without a break.
        let mut seen: BTreeMap<Tid, u32> = BTreeMap::new();
        loop {
            let runs = |tid: Tid, thread: &super::Thread| {
                thread.state == State::Running
                    && matches!(procfs::whereabouts(thread.process, tid), Ok(Where::Running))
            };
            seen = self
                .threads
                .iter()
                .filter(|(tid, thread)| !deep.contains(*tid) && runs(**tid, thread))
                .map(|(&tid, _)| (tid, 1 + seen.get(&tid).copied().unwrap_or(0)))
                .collect();
            if seen.is_empty() {
                return Ok(());
            }
            let running = seen.iter().filter(|(_, seen)| **seen >= looks);
            let running: Vec<Tid> = running.map(|(&tid, _)| tid).collect();
            if running.is_empty() {
                clock::nap();
                continue;
            }
            for &tid in &running {
                self.interrupt(tid)?;
            }
            for tid in running {
                if !self.await_stop(tid, other)? {
                    deep.insert(tid);
                }
            }
        }
    }

    /// Stops one thread whose stop does the least harm and says which; for calls made inside it. One
    /// under seccomp filters that forbid it is the last choice. One that is stopped for a signal, ours being none, takes it first.
    pub fn stop_one(&mut self, other: &mut Reports) -> io::Result<Tid> {
        let usable = |thread: &super::Thread| {
            matches!(
                thread.state,
                State::Stopped(Status::Interrupted | Status::GroupStop(_))
            )
        };
        let mut avoid = BTreeSet::new();
        loop {
            let pid = self.pid;
            let ours = |thread: &super::Thread| thread.process == pid;
            let barred = |tid: Tid| !procfs::status(pid, tid).is_ok_and(|s| seccomp(s).is_none());
            let mut found = self.threads.iter().filter(|(_, t)| ours(t) && usable(t));
            if let Some((&tid, _)) = found.clone().find(|(tid, _)| !barred(**tid)) {
                return Ok(tid);
            }
            let candidates = self
                .threads
                .iter()
                .filter(|(tid, thread)| ours(thread) && !avoid.contains(*tid))
                .filter_map(|(&tid, thread)| match thread.state {
                    State::Stopped(Status::Exec) => None,
                    State::Stopped(_) => Some((barred(tid), 0, tid)),
                    State::Running | State::Listening => Some((barred(tid), harm(pid, tid), tid)),
                });
            let best = candidates.min();
            if let (Some((&tid, _)), None | Some((true, ..))) = (found.next(), best) {
                return Ok(tid);
            }
            let Some((_, _, tid)) = best else {
                return Err(io::Error::from_raw_os_error(errno::ESRCH));
            };
            self.interrupt(tid)?;
            // The handler's frame is built, then the thread stops again before any of its code.
            match self.threads.get(&tid).map(|thread| thread.state) {
                Some(State::Stopped(Status::Signal(signal))) => self.resume(tid, signal)?,
                Some(State::Stopped(_)) => self.resume(tid, 0)?,
                _ => {}
            }
            if !self.await_stop(tid, other)? {
                avoid.insert(tid);
            }
        }
    }

    fn interrupt(&mut self, tid: Tid) -> io::Result<()> {
        match ptrace::interrupt(tid) {
            Ok(()) => {
                if let Some(thread) = self.threads.get_mut(&tid) {
                    thread.interrupted = true;
                }
                Ok(())
            }
            // It ends: its last report comes by itself.
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks where every thread is and what its stack and registers hold that lies in one of
    /// `spans` (sorted, disjoint). `None` when a blocked thread woke up while it was looked at.
    pub fn occupied(&self, maps: &[Mapping], spans: &[Span]) -> io::Result<Option<Occupied>> {
        let mut occupied = Occupied::default();
        let mut words = BTreeSet::new();
        for (&tid, thread) in &self.threads {
            let (sp, blocked) = match thread.state {
                State::Stopped(_) => {
                    let regs = match ptrace::regs(tid) {
                        Ok(regs) => regs,
                        Err(error) if is_gone(&error) => continue,
                        Err(error) => return Err(error),
                    };
                    occupied.pcs.push((Some(tid), regs.pc()));
                    for word in &regs.words()[..15] {
                        keep(&mut words, spans, Addr(*word));
                    }
                    (regs.sp(), None)
                }
                State::Running | State::Listening => {
                    let Ok(before) = switches(thread.process, tid) else {
                        continue;
                    };
                    match procfs::whereabouts(thread.process, tid) {
                        Ok(Where::Blocked { sp, pc, .. }) => {
                            occupied.pcs.push((None, pc));
                            (sp, Some((before, pc)))
                        }
                        Ok(Where::Running) => return Ok(None),
                        // It has ended.
                        Err(_) => continue,
                    }
                }
            };
            self.scan_stacks(maps, spans, sp, &mut words);
            if let Some((before, pc)) = blocked {
                let same = matches!(procfs::whereabouts(thread.process, tid),
                    Ok(Where::Blocked { pc: now, .. }) if now == pc)
                    && switches(thread.process, tid).is_ok_and(|now| now == before);
                if !same {
                    return Ok(None);
                }
            }
        }
        occupied.words = words.into_iter().collect();
        Ok(Some(occupied))
    }

    /// Looks at the stack that `sp` lies in and, where a signal handler runs on a stack of its own,
    /// at those it interrupted.
    fn scan_stacks(&self, maps: &[Mapping], spans: &[Span], sp: Addr, words: &mut BTreeSet<Addr>) {
        let mut seen: Vec<Span> = Vec::new();
        let mut stacks = vec![sp];
        while let Some(sp) = stacks.pop() {
            let Some(mapping) = maps.iter().find(|m| m.span.contains(sp)) else {
                continue;
            };
            // The red zone holds nothing that is returned to, but costs nothing to look at.
            let start = Addr((sp.0 & !7).saturating_sub(128)).max(mapping.span.start);
            let end = mapping.span.end.min(start + STACK_LIMIT);
            if seen.iter().any(|s| s.contains(sp)) || seen.len() > MOST_STACKS {
                continue;
            }
            let span = Span { start, end };
            seen.push(span);
            self.scan(span, spans, words, &mut stacks);
        }
    }

    /// Keeps every word of a stack that lies in a span, and the stack pointers that signal frames
    /// on it saved.
    fn scan(
        &self,
        stack: Span,
        spans: &[Span],
        words: &mut BTreeSet<Addr>,
        interrupted: &mut Vec<Addr>,
    ) {
        let mut at = stack.start;
        let mut chunk = vec![0; 64 << 10];
        while at < stack.end {
            let want = usize::try_from(stack.end.0 - at.0)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            let got = self.memory.read_some(at, &mut chunk[..want]).unwrap_or(0) & !7;
            let read = &chunk[..got];
            for word in read.chunks_exact(8) {
                keep(words, spans, Addr(number(word)));
            }
            let frames = (0..got).step_by(8).filter_map(|offset| {
                read.get(offset..offset + SIGNAL_FRAME)
                    .and_then(interrupted_sp)
            });
            interrupted.extend(frames.filter(|sp| !stack.contains(*sp)));
            // A frame may lie across the end of what was read.
            let step = if got == want && at + (want as u64) < stack.end {
                got - SIGNAL_FRAME
            } else {
                got
            };
            if step == 0 || got < SIGNAL_FRAME {
                return;
            }
            at = at + step as u64;
        }
    }
}

/// Bytes of a signal frame that are looked at: return address, `ucontext` up to the segment
/// registers (`struct rt_sigframe`, `struct sigcontext_64` in the kernel's x86 headers).
const SIGNAL_FRAME: usize = 200;
/// No thread has more stacks that matter.
const MOST_STACKS: usize = 16;

fn number(word: &[u8]) -> u64 {
    word.try_into().map_or(0, u64::from_le_bytes)
}

/// The stack pointer that a signal frame saved, if this is one: known by the flags word and the
/// code segment.
fn interrupted_sp(frame: &[u8]) -> Option<Addr> {
    let word = |at: usize| frame.get(at..at + 8).map(number);
    const UC_FLAGS: usize = 8;
    const SP: usize = 48 + 15 * 8;
    const CS: usize = 48 + 18 * 8;
    (word(UC_FLAGS)? <= 7 && word(CS)? & 0xffff == 0x33).then_some(Addr(word(SP)?))
}

fn keep(words: &mut BTreeSet<Addr>, spans: &[Span], word: Addr) {
    let after = spans.partition_point(|span| span.start <= word);
    if after
        .checked_sub(1)
        .and_then(|i| spans.get(i))
        .is_some_and(|span| span.contains(word))
    {
        words.insert(word);
    }
}

fn switches(process: Pid, tid: Tid) -> io::Result<u64> {
    procfs::status(process, tid).map(|status| status.switches)
}

/// How much a stop would disturb a thread: 0 not at all, more the more it does.
fn harm(process: Pid, tid: Tid) -> u8 {
    match procfs::whereabouts(process, tid) {
        Ok(Where::Running) => 0,
        // Calls that the kernel restarts as if nothing had happened: read, write, futex, wait4,
        // nanosleep, poll, select, accept, clock_nanosleep, waitid (signal(7)).
        Ok(Where::Blocked {
            number: 0 | 1 | 7 | 23 | 35 | 43 | 61 | 202 | 230 | 247,
            ..
        }) => 1,
        Ok(Where::Blocked { .. }) => 2,
        Err(_) => 3,
    }
}
