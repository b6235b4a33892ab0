//! What a session that died left in a process is taken out of it: text as its file has it, our
//! memory unmapped, nothing of ours called by a signal. The process runs on; it is stopped for as
//! short as can be, in the way a session disarms.
//!
//! Invariant: memory is unmapped only when nothing leads into it any more: no text, no thread, no
//! signal handler.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};

use super::differences::{Difference, Differences, differences};
use super::returns::put_back as put_calls_back;
use super::tasks::{ignore_gone, unless_gone};
use super::text::{Check, Text as Pages};
use crate::abi;
use crate::base::{Addr, Pid, Span, Tid};
use crate::sys::errno::{is_gone, sig};
use crate::sys::mem::Memory;
use crate::sys::procfs::Where;
use crate::sys::wait::Status;
use crate::sys::{clock, poll, procfs, ptrace};
use crate::target::{
    Kinship, Leftover, Process, Remote, Reports, State, Thread, far_end, outstanding, restart_call,
};

const INT3: u8 = 0xcc;
/// How often threads that are in our code are given time to leave it.
const PATIENCE: u32 = 2_000;
/// Size of the kernel's `struct sigaction` on x86-64.
const ACTION: usize = 32;

/// What was done.
#[derive(Debug, Default)]
pub struct Restored {
    /// Places in the text that have their bytes back.
    pub sites: usize,
    /// Bytes of text that are somebody else's, and were left alone.
    pub foreign: usize,
    /// Bytes of memory that were unmapped.
    pub freed: u64,
    /// Whether SIGTRAP was handled by code of ours, and is no more.
    pub handler: bool,
    /// What is still there, and why.
    pub left: Vec<String>,
}

/// Restores a process of which all threads are seized; they run on afterwards. `None` when nothing
/// was left in it.
pub fn restore(process: &mut Process) -> anyhow::Result<Option<Restored>> {
    let mut work = Work {
        process,
        left: Vec::new(),
        traps: BTreeMap::new(),
        backlog: Reports::new(),
        done: Restored::default(),
        gone: false,
        spared: false,
    };
    work.await_borrowed()?;
    if work.gone {
        bail!("it has ended, or begun another program");
    }
    let maps = work.process.maps().context("reading its mappings")?;
    let left = work.process.leftovers(&maps);
    if left.is_empty() {
        return Ok(None);
    }
    let version = u64::from(abi::VERSION);
    if let Some(other) = left.iter().find(|left| left.version != version) {
        bail!(
            "a kptrace of another version (memory layout {}, this one has {version}) left it traced; \\
             use that version's kptrace restore",
            other.version
        );
    }
    work.left = left;
    let result = work.all();
    let resumed = work.go_on();
    if work.gone {
        bail!("it has ended, or begun another program");
    }
    result?;
    resumed?;
    Ok(Some(work.done))
}

/// How often who is where is asked again.
const LOOKS: usize = 50;

struct Work<'p> {
    process: &'p mut Process,
    left: Vec<Leftover>,
    /// What stood where breakpoints of ours were.
    traps: BTreeMap<Addr, u8>,
    backlog: Reports,
    done: Restored,
    /// The process ended, or is another program.
    gone: bool,
    /// Whether something that leads into our code was left alone.
    spared: bool,
}

impl Work<'_> {
    fn all(&mut self) -> anyhow::Result<()> {
        // From here on detours pass straight through.
        for alive in self.left.iter().filter_map(|left| left.alive) {
            let cleared = self.process.memory.write(alive, &[0; 8]);
            cleared.context("clearing the alive word")?;
        }
        let theirs = self.take_handler()?;
        let maps = self.process.maps().context("reading its mappings")?;
        let tid = self.living();
        let mut found = differences(tid, &self.process.memory, &maps, &self.left, !theirs);
        self.write(&mut found)?;
        self.done.foreign += found.foreign;
        for path in &found.unread {
            self.done.left.push(format!(
                "jumps in {path}, whose file was deleted or replaced or cannot be read; their code \\
                 stays mapped, and does nothing"
            ));
        }
        let clear = self.empty()? && !self.spared;
        if self.gone {
            return Ok(());
        }
        if !clear {
            self.done.left.push(
                "memory with code that a thread, a call, or a signal handler may return into"
                    .to_owned(),
            );
        } else if found.unread.is_empty() {
            self.unmap()?;
        }
        Ok(())
    }

    /// Waits until the thread that the dead one had borrowed is back where it was: it may still be
    /// about to make a call, and what it comes back to may lie in our memory.
    fn await_borrowed(&mut self) -> anyhow::Result<()> {
        for attempt in 0..PATIENCE {
            self.process.stop_running(&mut self.backlog)?;
            let maps = self.process.maps().context("reading its mappings")?;
            let frames = self.process.leftovers(&maps);
            let frames: Vec<Span> = frames.iter().filter_map(|left| left.frames).collect();
            let far_end = far_end(&maps);
            let (mut ours, mut doubtful) = (false, false);
            for (&tid, thread) in &self.process.threads {
                let sp = match thread.state {
                    State::Stopped(_) => ptrace::regs(tid).ok().map(|regs| regs.sp()),
                    _ => match procfs::whereabouts(thread.process, tid) {
                        Ok(Where::Blocked { sp, .. }) => Some(sp),
                        _ => None,
                    },
                };
                let Some(sp) = sp else { continue };
                ours |= frames.iter().any(|span| span.contains(sp));
                doubtful |= far_end.is_some_and(|span| span.contains(sp));
            }
            self.go_on()?;
            // A program may itself have gone as deep as that.
            if self.gone || !(ours || doubtful && attempt < PATIENCE / 4) {
                return Ok(());
            }
            clock::pause(attempt);
        }
        bail!("a thread that was borrowed does not come back")
    }

    /// A thread that lives.
    fn living(&self) -> Tid {
        let pid = self.process.pid;
        let leader = Tid(pid.0);
        let first = self.process.threads.keys().next().copied();
        if self.process.threads.contains_key(&leader) {
            leader
        } else {
            first.unwrap_or(leader)
        }
    }

    /// Stops one thread that can make calls.
    fn one_stopped(&mut self) -> anyhow::Result<Tid> {
        for attempt in 0..PATIENCE {
            match self.process.stop_one(&mut self.backlog) {
                Err(error) if is_gone(&error) => {}
                other => return other.context("stopping a thread"),
            }
            self.go_on()?;
            if self.gone {
                break;
            }
            clock::pause(attempt);
        }
        bail!("no thread of it can make a call")
    }

    /// Takes SIGTRAP away from a handler of ours. True when the program has a handler of its own.
    fn take_handler(&mut self) -> anyhow::Result<bool> {
        let status = procfs::status(self.process.pid, self.living())?;
        if status.caught >> (sig::TRAP - 1) & 1 == 0 {
            return Ok(false);
        }
        let Some(frames) = self.left.iter().find_map(|left| left.frames) else {
            return Ok(true);
        };
        let tid = self.one_stopped()?;
        self.process.keep_frames_in(Some(frames))?;
        // Frames lie at the end of this memory, the mark at its start.
        let (now, none) = (frames.start + 64, frames.start + 128);
        let result = (|| -> anyhow::Result<bool> {
            self.process.memory.write(none, &[0; ACTION])?;
            let mut remote = match Remote::begin(self.process, tid) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Ok(true);
                }
                remote => remote?,
            };
            let asked = remote.sigaction(sig::TRAP, Addr(0), now);
            let handler = Addr(remote.process().memory.word(now).unwrap_or(0));
            let ours = asked.is_ok() && self.left.iter().any(|left| left.is_code(handler));
            let taken = if ours {
                remote.sigaction(sig::TRAP, none, Addr(0))
            } else {
                Ok(())
            };
            remote.finish()?;
            taken.context("rt_sigaction in it")?;
            self.done.handler |= ours;
            Ok(!ours)
        })();
        self.go_on()?;
        result.context("asking for its action of SIGTRAP")
    }

    /// Puts text back, in three passes.
    fn write(&mut self, found: &mut Differences) -> anyhow::Result<()> {
        if found.ours.is_empty() {
            return Ok(());
        }
        for difference in &found.ours {
            if let Some(&first) = difference.original().first() {
                self.traps.insert(difference.at, first);
            }
        }
        self.process
            .stop_running(&mut self.backlog)
            .context("stopping the process")?;
        self.spare(found)?;
        let memory = self.process.memory.clone();
        let stopped = |thread: &Thread| matches!(thread.state, State::Stopped(_));
        let whole = self.process.threads.values().all(stopped);
        let processors: BTreeSet<usize> = if whole {
            BTreeSet::new()
        } else {
            let threads = self.process.threads.keys();
            threads.flat_map(|&tid| poll::processors(tid)).collect()
        };
        let (written, changed) = put_back(&memory, &found.ours, whole, &processors)?;
        self.done.sites += written;
        self.done.foreign += changed;
        self.go_on()
    }

    /// Leaves alone jumps in padding that a thread, or a signal handler, may return to: it stood
    /// between the two jumps of a springboard.
    fn spare(&mut self, found: &mut Differences) -> anyhow::Result<()> {
        let mut holes: Vec<Span> = found
            .ours
            .iter()
            .filter(|difference| difference.is_in_padding())
            .map(|difference| Span::new(difference.at, 1))
            .collect();
        if holes.is_empty() {
            return Ok(());
        }
        holes.sort_by_key(|span| span.start);
        let mut occupied = None;
        // Blocked threads that wake up spoil a look.
        for _ in 0..LOOKS {
            let maps = self.process.maps().context("reading its mappings")?;
            occupied = self.process.occupied(&maps, &holes)?;
            if occupied.is_some() {
                break;
            }
            self.process
                .stop_running(&mut self.backlog)
                .context("stopping the process")?;
        }
        found.ours.retain(|difference| {
            let hole = Span::new(difference.at, 1);
            let free = occupied.as_ref().is_some_and(|occupied| {
                let inside = occupied.pcs.iter().any(|(_, pc)| hole.contains(*pc));
                !inside && !occupied.holds(hole)
            });
            let keep = !difference.is_in_padding() || free;
            self.spared |= !keep;
            keep
        });
        Ok(())
    }

    /// Deals with what was reported, and lets everybody run who is stopped.
    fn go_on(&mut self) -> anyhow::Result<()> {
        self.process.collect(&mut self.backlog)?;
        loop {
            self.backlog.append(&mut self.process.ends);
            let Some((tid, status)) = self.backlog.pop_front() else {
                break;
            };
            self.stranger(tid, status)?;
        }
        for (tid, status) in self.process.stopped() {
            unless_gone(self.answer(tid, status))?;
        }
        Ok(())
    }

    /// Somebody ended, or was born.
    fn stranger(&mut self, tid: Tid, status: Status) -> anyhow::Result<()> {
        if let Status::Exited(_) | Status::Killed(_) = status {
            self.process.threads.remove(&tid);
            self.gone |= self.process.threads.is_empty() || tid.0 == self.process.pid.0;
            return Ok(());
        }
        let owner = match self.process.kinship(tid, None) {
            Ok(Kinship::Thread) => self.process.pid,
            Ok(Kinship::Borrower(owner)) => owner,
            Ok(Kinship::Child(child)) => return unless_gone(self.let_child_go(tid, child)),
            // It ended meanwhile.
            Err(_) => return Ok(()),
        };
        let mut thread = Thread::new(owner);
        thread.state = State::Stopped(status);
        self.process.threads.insert(tid, thread);
        Ok(())
    }

    /// A child that was forked meanwhile may have half of what was being written. Its text is put
    /// back; the code that it inherited stays, and nothing leads there.
    fn let_child_go(&mut self, tid: Tid, child: Pid) -> anyhow::Result<()> {
        let memory = Memory::open(child, tid)?;
        let maps = procfs::maps(child, tid)?;
        let found = differences(tid, &memory, &maps, &self.left, true);
        put_back(&memory, &found.ours, true, &BTreeSet::new())?;
        Ok(ptrace::detach(tid, 0)?)
    }

    fn answer(&mut self, tid: Tid, status: Status) -> anyhow::Result<()> {
        match status {
            Status::Signal(sig::TRAP) if self.leave_trap(tid)? => {
                Ok(self.process.resume(tid, 0)?)
            }
            Status::Signal(signal) => Ok(self.process.resume(tid, signal)?),
            Status::GroupStop(_) => Ok(self.process.listen(tid)?),
            Status::Interrupted => {
                let owner = self.process.threads.get(&tid).map(|thread| thread.process);
                ignore_gone(restart_call(owner.unwrap_or(self.process.pid), tid))?;
                Ok(self.process.resume(tid, 0)?)
            }
            Status::Exec => {
                self.gone |= self
                    .process
                    .threads
                    .get(&tid)
                    .is_none_or(|thread| thread.process == self.process.pid);
                Ok(self.process.resume(tid, 0)?)
            }
            _ => Ok(self.process.resume(tid, 0)?),
        }
    }

    /// A thread that hit a breakpoint of ours goes back to where it was: the original is there, or
    /// will be when it runs.
    fn leave_trap(&self, tid: Tid) -> anyhow::Result<bool> {
        let info = ptrace::siginfo(tid)?;
        let site = ptrace::pc(tid)? - 1;
        let Some(&original) = self.traps.get(&site) else {
            return Ok(false);
        };
        let mut now = [0];
        self.process.memory.read(site, &mut now)?;
        if info.code != sig::SI_KERNEL || now[0] != original {
            return Ok(false);
        }
        ptrace::set_pc(tid, site)?;
        Ok(true)
    }

    /// Puts return addresses back where they stood, with everybody stopped. Says whether calls are left
    /// whose place is not known.
    fn put_returns_back(&mut self) -> anyhow::Result<bool> {
        let mut left = false;
        let all: Vec<_> = self.left.iter().filter_map(|l| l.activations).collect();
        for activations in all {
            if outstanding(&activations, &self.process.memory)?.is_empty() {
                continue;
            }
            let threads = self.process.threads.iter();
            let running: Vec<Tid> = threads
                .filter(|(_, thread)| thread.state == State::Running)
                .map(|(&tid, _)| tid)
                .collect();
            for tid in running {
                if ptrace::interrupt(tid).is_ok() {
                    self.process.await_stop(tid, &mut self.backlog)?;
                }
            }
            left |= put_calls_back(&activations, &self.process.memory)?;
        }
        Ok(left)
    }

    /// Waits until nobody is in our code, or may come back into it, with those stopped that ran.
    /// False if that does not come.
    fn empty(&mut self) -> anyhow::Result<bool> {
        let mut code: Vec<Span> = self
            .left
            .iter()
            .flat_map(|left| &left.code)
            .copied()
            .collect();
        code.sort_by_key(|span| span.start);
        for attempt in 0..PATIENCE {
            self.process.stop_running(&mut self.backlog)?;
            self.process.collect(&mut self.backlog)?;
            let calls = self.put_returns_back()?;
            let waiting = !self.backlog.is_empty() || !self.process.ends.is_empty();
            let maps = self.process.maps()?;
            if !waiting
                && !calls
                && !self.hit_stands_out()
                && let Some(occupied) = self.process.occupied(&maps, &code)?
            {
                let inside = |span: &Span| {
                    occupied.holds(*span) || occupied.pcs.iter().any(|(_, pc)| span.contains(*pc))
                };
                if !code.iter().any(inside) {
                    return Ok(true);
                }
            }
            self.go_on()?;
            if self.gone {
                return Ok(false);
            }
            clock::pause(attempt);
        }
        Ok(false)
    }

    /// Whether a thread has hit a breakpoint and was not dealt with.
    fn hit_stands_out(&self) -> bool {
        let trap = 1 << (sig::TRAP - 1);
        self.process.threads.iter().any(|(&tid, thread)| {
            let stopped = thread.state == State::Stopped(Status::Signal(sig::TRAP));
            let status = procfs::status(thread.process, tid);
            stopped || status.is_ok_and(|status| status.pending & trap != 0)
        })
    }

    /// Nobody is in our code: it goes, and with it all else of ours.
    fn unmap(&mut self) -> anyhow::Result<()> {
        for (tid, _) in self.process.stopped() {
            unless_gone(self.free_gs(tid))?;
        }
        // What goes away holds nobody's way back.
        self.process.keep_frames_in(None)?;
        let tid = self.one_stopped()?;
        let mut remote = match Remote::begin(self.process, tid) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                self.done.left.push(format!("our memory: {error}"));
                return Ok(());
            }
            remote => remote?,
        };
        for left in &self.left {
            for span in &left.mapped {
                let unmapped = remote.unmap(span.start, span.len());
                unmapped.context("unmapping our memory")?;
                self.done.freed += span.len();
            }
            for &descriptor in &left.descriptors {
                let closed = remote.close(descriptor);
                closed.context("closing a descriptor of ours")?;
            }
        }
        remote.finish().context("giving a thread back")
    }

    /// A base of gs that leads into our blocks becomes what 64-bit programs have.
    fn free_gs(&self, tid: Tid) -> anyhow::Result<()> {
        let mut regs = ptrace::regs(tid)?;
        let base = regs.gs_base();
        let ours = |left: &Leftover| {
            let block = Addr(left.low.0.wrapping_add(base));
            left.blocks.iter().any(|span| span.contains(block))
        };
        if base != 0 && self.left.iter().any(ours) {
            regs.set_gs_base(0);
            ptrace::set_regs(tid, &regs)?;
        }
        Ok(())
    }
}

/// Writes what was there; returns at how many places, and at how many somebody else was faster.
fn put_back(
    memory: &Memory,
    ours: &[Difference],
    whole: bool,
    processors: &BTreeSet<usize>,
) -> anyhow::Result<(usize, usize)> {
    let mut pages = Pages::new(memory, whole);
    let same =
        |difference: &&Difference| pages.check(difference.at, difference.now()) == Check::Same;
    let edits: Vec<&Difference> = ours.iter().filter(same).collect();
    let mut pass = |edits: Vec<(Addr, &[u8])>| -> anyhow::Result<()> {
        if !edits.is_empty() {
            let written = pages.write(edits.into_iter());
            written.context("writing the text")?;
            poll::serialise(processors);
        }
        Ok(())
    };
    let headed = edits
        .iter()
        .filter(|edit| edit.now().first() != Some(&INT3));
    pass(headed.map(|edit| (edit.at, &[INT3][..])).collect())?;
    let tailed = edits.iter().filter(|edit| edit.len > 1);
    pass(
        tailed
            .map(|edit| (edit.at + 1, &edit.original()[1..]))
            .collect(),
    )?;
    let heads = edits.iter();
    pass(heads.map(|edit| (edit.at, &edit.original()[..1])).collect())?;
    Ok((edits.len(), ours.len() - edits.len()))
}
