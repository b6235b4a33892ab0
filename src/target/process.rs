//! The threads that share one memory, and that memory. Keeps the books of who is stopped: a thread
//! is asked for its registers only while it is.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::insure::Insurance;
use super::landing::Landing;
use super::last_calls::{LastCalls, note_end};
use super::thread::{State, Thread};
use crate::base::{Addr, Pid, Tid};
use crate::sys::clock;
use crate::sys::errno::{self, is_gone, sig};
use crate::sys::mem::Memory;
use crate::sys::procfs::{self, Auxv, Mapping};
use crate::sys::ptrace::{self, SigInfo};
use crate::sys::wait::{self, Status};

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

/// Where threads of each process go on that hit a breakpoint of ours.
pub type Kin = Rc<RefCell<BTreeMap<Pid, Arc<Landing>>>>;

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
    /// Where threads that hit a breakpoint of ours go on.
    landing: Option<Arc<Landing>>,
    /// The same for every process of the session: reports of one come while another is dealt with.
    pub kin: Kin,
    /// What was under way in processes that ended.
    pub last_calls: LastCalls,
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
            landing: None,
            kin: Kin::default(),
            last_calls: LastCalls::default(),
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
            Status::Exited(_) | Status::Killed(_) | Status::Ending => {}
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

    /// Takes the report of a thread, if it has one. A thread at a breakpoint of ours is sent on
    /// first: what is done to it while its report is unread outlives us, and once it is read nobody
    /// else learns that it stands behind the first byte of an instruction.
    pub fn take(&self, tid: Tid) -> io::Result<Option<Status>> {
        self.take_for(tid, ptrace::siginfo(tid).ok())
    }

    /// Where threads that hit a breakpoint of ours go on.
    pub fn landing(&self) -> Option<&Arc<Landing>> {
        self.landing.as_ref()
    }

    /// From here on they go on by this table; by none with `None`.
    pub fn set_landing(&mut self, landing: Option<Landing>) {
        self.landing = landing.map(Arc::new);
        let mut kin = self.kin.borrow_mut();
        match &self.landing {
            Some(landing) => kin.insert(self.pid, Arc::clone(landing)),
            None => kin.remove(&self.pid),
        };
    }

    /// No report of its threads is taken any more.
    pub fn leave_kin(&self) {
        self.kin.borrow_mut().remove(&self.pid);
    }

    /// The table for a thread of any process.
    fn landing_of(&self, tid: Tid) -> Option<Arc<Landing>> {
        if self.threads.contains_key(&tid) {
            return self.landing.clone();
        }
        let process = Pid(procfs::status(Pid(tid.0), tid).ok()?.process);
        self.kin.borrow().get(&process).cloned()
    }

    fn take_for(&self, tid: Tid, info: Option<SigInfo>) -> io::Result<Option<Status>> {
        let hit = info.filter(|info| info.signal == sig::TRAP && info.code == sig::SI_KERNEL);
        let site = hit.and_then(|_| self.landing_of(tid)?.send_on(tid));
        Ok(match (wait::thread_now(tid)?, site) {
            (Some(Status::Signal(sig::TRAP)), Some(site)) => Some(Status::Hit(site)),
            (Some(Status::Ending), _) => {
                note_end(&self.last_calls, tid);
                // Nobody else need know: it does nothing more that could be asked of it.
                match ptrace::cont(tid, 0) {
                    Err(error) if !is_gone(&error) => return Err(error),
                    _ => Some(Status::Ending),
                }
            }
            (status, _) => status,
        })
    }

    /// The same; but a thread that stopped for a signal that is none of our business gets it and
    /// runs on, its report unread: once that is read, the signal is lost if we die.
    pub fn serve(&self, tid: Tid) -> io::Result<Option<Status>> {
        const OURS: [i32; 5] = [sig::TRAP, sig::SEGV, sig::BUS, sig::ILL, sig::FPE];
        let info = ptrace::siginfo(tid).ok();
        // A stop for a signal takes back that we asked for one.
        let runs = |thread: &Thread| thread.state == State::Running && !thread.interrupted;
        let known = self.threads.get(&tid).is_some_and(runs);
        // Other stops have their event in the code (`ptrace_do_notify` in `kernel/signal.c`); a group
        // stop names its signal as well.
        let signal = |info: &SigInfo| info.code <= sig::SI_KERNEL && !OURS.contains(&info.signal);
        match info.filter(|info| known && signal(info)) {
            Some(info) => match ptrace::cont(tid, info.signal) {
                // It is no such stop, or it is gone.
                Err(_) => self.take_for(tid, None),
                Ok(()) => Ok(None),
            },
            None => self.take_for(tid, info),
        }
    }

    fn next_report(&mut self, other: &mut Reports) -> io::Result<Option<(Tid, Status)>> {
        let report = match wait::peek() {
            Ok(Some(tid)) => match self.take(tid) {
                Ok(status) => status.map(|status| (tid, status)),
                // It went with the exec of another thread.
                Err(error) if errno::number(&error) == errno::ECHILD => None,
                Err(error) => return Err(error),
            },
            Ok(None) => None,
            Err(error) if errno::number(&error) == errno::ECHILD => None,
            Err(error) => return Err(error),
        };
        if let Some((from, status)) = report {
            let ended = matches!(status, Status::Exited(_) | Status::Killed(_));
            if ended || (status != Status::Ending && !self.note(from, status)) {
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
