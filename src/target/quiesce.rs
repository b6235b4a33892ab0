//! Who may be inside bytes that are about to change. Stops only what must be stopped: a thread
//! blocked in the kernel is looked at from outside, since stopping it would make calls such as
//! `epoll_wait` fail.

use std::collections::BTreeSet;
use std::io;

use super::process::Process;
use super::thread::State;
use crate::base::{Addr, Pid, Span, Tid};
use crate::sys::errno::is_gone;
use crate::sys::procfs::{self, Mapping, Where};
use crate::sys::wait::Status;
use crate::sys::{errno, ptrace};

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
    pub fn stop_running(&mut self, other: &mut Vec<(Tid, Status)>) -> io::Result<()> {
        loop {
            let mut waited = false;
            let running: Vec<(Tid, Pid)> = self
                .threads
                .iter()
                .filter(|(_, thread)| thread.state == State::Running)
                .map(|(&tid, thread)| (tid, thread.process))
                .collect();
            for &(tid, process) in &running {
                if matches!(procfs::whereabouts(process, tid), Ok(Where::Running)) {
                    self.interrupt(tid)?;
                }
            }
            for (tid, _) in running {
                if self
                    .threads
                    .get(&tid)
                    .is_some_and(|thread| thread.interrupted)
                {
                    waited = true;
                    if !self.await_stop(tid, other)? {
                        self.threads.remove(&tid);
                    }
                }
            }
            if !waited {
                return Ok(());
            }
        }
    }

    /// Stops one thread whose stop does the least harm and says which; for calls made inside it.
    pub fn stop_one(&mut self, other: &mut Vec<(Tid, Status)>) -> io::Result<Tid> {
        let usable = |thread: &super::Thread| {
            matches!(
                thread.state,
                State::Stopped(Status::Interrupted | Status::GroupStop(_))
            )
        };
        let mut avoid = BTreeSet::new();
        loop {
            let ours = |thread: &super::Thread, pid| thread.process == pid;
            let pid = self.pid;
            let found = self.threads.iter().find(|(_, t)| ours(t, pid) && usable(t));
            if let Some((&tid, _)) = found {
                return Ok(tid);
            }
            let mut candidates: Vec<(u8, Tid)> = self
                .threads
                .iter()
                .filter(|(_, thread)| {
                    ours(thread, pid) && !matches!(thread.state, State::Stopped(_))
                })
                .map(|(&tid, thread)| (harm(thread.process, tid), tid))
                .collect();
            candidates.sort_unstable();
            let Some(&(_, tid)) = candidates.first() else {
                return Err(io::Error::from_raw_os_error(errno::ESRCH));
            };
            self.interrupt(tid)?;
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
                        Err(_) => continue,
                    }
                }
            };
            self.scan(maps, spans, sp, &mut words);
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

    /// Keeps every word from `sp` to the end of its mapping that lies in a span.
    fn scan(&self, maps: &[Mapping], spans: &[Span], sp: Addr, words: &mut BTreeSet<Addr>) {
        let Some(mapping) = maps.iter().find(|m| m.span.contains(sp)) else {
            return;
        };
        // The red zone holds nothing that is returned to, but costs nothing to look at.
        let mut at = Addr((sp.0 & !7).saturating_sub(128)).max(mapping.span.start);
        let end = mapping.span.end.min(at + STACK_LIMIT);
        let mut chunk = vec![0; 64 << 10];
        while at < end {
            let want = usize::try_from(end.0 - at.0)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            let got = self.memory.read_some(at, &mut chunk[..want]).unwrap_or(0);
            if got < 8 {
                return;
            }
            for word in chunk[..got].chunks_exact(8) {
                keep(
                    words,
                    spans,
                    Addr(word.try_into().map_or(0, u64::from_le_bytes)),
                );
            }
            at = at + (got & !7) as u64;
        }
    }
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
