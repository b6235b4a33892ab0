//! The threads that share one memory, and that memory. Keeps the books of who is stopped: a thread
//! is asked for its registers only while it is.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::insure::Insurance;
use super::thread::{State, Thread};
use crate::base::{Addr, Pid, Tid};
use crate::sys::errno::{self, is_gone};
use crate::sys::mem::Memory;
use crate::sys::procfs::{self, Auxv, Mapping};
use crate::sys::wait::{self, Status};
use crate::sys::{clock, ptrace};

/// How a task that we have not seen before is related to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// A thread of the target.
    Thread,
    /// A process that shares the target's memory: a vfork child, `CLONE_VM`.
    Borrower(Pid),
    /// A process with a memory of its own.
    Child(Pid),
}

/// Reports that nobody has dealt with, oldest first.
pub type Reports = VecDeque<(Tid, Status)>;

/// One traced process.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its memory.
    pub memory: Arc<Memory>,
    /// Its threads, and those of processes that borrow its memory.
    pub threads: BTreeMap<Tid, Thread>,
    /// What the kernel told it at its start.
    pub auxv: Auxv,
    /// A `syscall` instruction in it that nobody changes.
    pub syscall_at: Addr,
    /// What makes calls in it safe.
    pub insurance: Insurance,
    /// Ends that were reported while something was done to the thread.
    pub ends: Reports,
    /// Whether threads stop at system calls: while the loader maps what the program needs.
    pub at_syscalls: bool,
}

impl Process {
    /// Takes the books of a process of which `tid` is a living thread.
    pub fn new(pid: Pid, tid: Tid) -> io::Result<Process> {
        let memory = Memory::open(pid, tid)?;
        let auxv = procfs::auxv(tid)?;
        let maps = procfs::maps(pid, tid)?;
        let syscall_at = find_syscall(&memory, &maps, auxv.vdso)
            .ok_or_else(|| io::Error::other("no system call instruction found in it"))?;
        Ok(Process {
            pid,
            memory: Arc::new(memory),
            threads: BTreeMap::new(),
            auxv,
            syscall_at,
            insurance: Insurance::default(),
            ends: Reports::new(),
            at_syscalls: false,
        })
    }

    /// Its mappings now.
    pub fn maps(&self) -> io::Result<Vec<Mapping>> {
        let mut result = procfs::maps(self.pid, Tid(self.pid.0));
        // A leader that has ended has no mappings to show; any other thread will do.
        for &tid in self.threads.keys() {
            if matches!(&result, Ok(maps) if !maps.is_empty()) {
                break;
            }
            result = procfs::maps(self.pid, tid);
        }
        result
    }

    /// A thread whose files tell of the process: they are empty for one that has ended.
    pub fn one_alive(&self) -> Option<Tid> {
        let alive = |tid: &Tid| procfs::auxv(*tid).is_ok_and(|auxv| auxv.entry != 0);
        let leader = Tid(self.pid.0);
        let leader = self.threads.contains_key(&leader).then_some(leader);
        let others = self.threads.keys().copied();
        leader.into_iter().chain(others).find(alive)
    }

    /// What a task that has just appeared is to us. `alive` is where the alive word lies, if there is
    /// one: a child with a memory of its own reads 0 there.
    pub fn kinship(&self, tid: Tid, alive: Option<Addr>) -> io::Result<Kinship> {
        let process = Pid(procfs::status(Pid(tid.0), tid)?.process);
        if process == self.pid {
            return Ok(Kinship::Thread);
        }
        // A thread that has ended, such as the leader after pthread_exit, has no memory to compare.
        let others = self.threads.keys().filter(|&&other| other != tid);
        let compared: Vec<bool> = others
            .filter_map(|&other| procfs::same_memory(other, tid))
            .collect();
        let shares = match (compared.is_empty(), alive) {
            (false, _) => compared.contains(&true),
            (true, Some(alive)) => Memory::open(process, tid)?.word(alive)? != 0,
            // Nothing may be written where it is not known whose memory it is.
            (true, None) => true,
        };
        Ok(if shares {
            Kinship::Borrower(process)
        } else {
            Kinship::Child(process)
        })
    }

    /// Writes down what happened to a thread we know; true if it is one.
    pub fn note(&mut self, tid: Tid, status: Status) -> bool {
        let Some(thread) = self.threads.get_mut(&tid) else {
            return false;
        };
        match status {
            Status::Exited(_) | Status::Killed(_) => {}
            status => thread.state = State::Stopped(status),
        }
        thread.interrupted = false;
        true
    }

    /// Threads that are stopped, and for what.
    pub fn stopped(&self) -> Vec<(Tid, Status)> {
        let stopped = self
            .threads
            .iter()
            .filter_map(|(&tid, thread)| match thread.state {
                State::Stopped(status) => Some((tid, status)),
                _ => None,
            });
        stopped.collect()
    }

    /// Resumes a stopped thread, delivering `signal` unless it is 0; one that runs is left alone. A
    /// thread that is gone is no error: its end is reported on its own.
    pub fn resume(&mut self, tid: Tid, signal: i32) -> io::Result<()> {
        let go = if self.at_syscalls {
            ptrace::cont_to_syscall
        } else {
            ptrace::cont
        };
        self.release(tid, State::Running, |tid| go(tid, signal))
    }

    /// Leaves a thread in its group stop.
    pub fn listen(&mut self, tid: Tid) -> io::Result<()> {
        self.release(tid, State::Listening, ptrace::listen)
    }

    fn release(
        &mut self,
        tid: Tid,
        state: State,
        how: impl FnOnce(Tid) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(thread) = self.threads.get_mut(&tid) {
            // It runs already: what it stops for next is not known yet, and must not be answered.
            if !matches!(thread.state, State::Stopped(_)) {
                return Ok(());
            }
            thread.state = state;
        }
        match how(tid) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other,
        }
    }

    /// Waits until this interrupted thread has stopped; other threads' reports are written down
    /// meanwhile, or handed to `other` when they are ends or strangers. False if it ended, or is
    /// deep in the kernel (a vfork parent) and will stop before it runs code of its own.
    pub fn await_stop(&mut self, tid: Tid, other: &mut Reports) -> io::Result<bool> {
        let mut looks = 0_u32;
        loop {
            let process = match self.threads.get(&tid) {
                Some(thread) if matches!(thread.state, State::Stopped(_)) => return Ok(true),
                None => return Ok(false),
                Some(thread) => thread.process,
            };
            let Some((from, status)) = self.next_report(other)? else {
                looks += 1;
                let deep = looks.is_multiple_of(64)
                    && procfs::status(process, tid).map_or(true, |status| status.state == b'D');
                if deep {
                    return Ok(false);
                }
                clock::pause(looks);
                continue;
            };
            if from == tid && matches!(status, Status::Exited(_) | Status::Killed(_)) {
                return Ok(false);
            }
        }
    }

    /// Writes down every report that is there, or hands it to `other`.
    pub fn collect(&mut self, other: &mut Reports) -> io::Result<()> {
        while self.next_report(other)?.is_some() {}
        Ok(())
    }

    fn next_report(&mut self, other: &mut Reports) -> io::Result<Option<(Tid, Status)>> {
        let report = match wait::any() {
            Err(error) if errno::number(&error) == errno::ECHILD => None,
            report => report?,
        };
        if let Some((from, status)) = report {
            let ended = matches!(status, Status::Exited(_) | Status::Killed(_));
            if ended || !self.note(from, status) {
                other.push_back((from, status));
            }
        }
        Ok(report)
    }
}

/// Looks for a `syscall` instruction (`0f 05`): in the vdso, else in any executable mapping.
fn find_syscall(memory: &Memory, maps: &[Mapping], vdso: u64) -> Option<Addr> {
    let (first, rest): (Vec<_>, Vec<_>) = maps
        .iter()
        .filter(|m| m.exec && m.path != "[vsyscall]")
        .partition(|m| m.span.start.0 == vdso);
    for mapping in first.into_iter().chain(rest) {
        let mut at = mapping.span.start;
        let mut page = [0; 4096];
        while at < mapping.span.end {
            let got = memory.read_some(at, &mut page).unwrap_or(0);
            let found = page
                .get(..got)?
                .windows(2)
                .position(|pair| pair == [0x0f, 0x05]);
            if let Some(offset) = found {
                return Some(at + offset as u64);
            }
            at = at + 4096;
        }
    }
    None
}
