//! Letting go: every byte as it was, nobody in our code, nothing of ours mapped. Threads blocked
//! in the kernel are not woken; the end of the tracing thread releases them as they are.

use std::io::ErrorKind;

use anyhow::Context as _;

use super::detours::Inside;
use super::end::Ended;
use super::land::Landed;
use super::tasks::ignore_gone;
use super::tracee::Tracee;
use crate::base::{Span, Tid};
use crate::sys::errno::{is_gone, sig};
use crate::sys::procfs::{self, Where};
use crate::sys::wait::{self, Status};
use crate::sys::{clock, ptrace};
use crate::target::{Remote, State};

/// How often threads that have just woken are given time before they are stopped
/// ([`crate::target::Process::stop_running_now`]).
const UNHURRIED: usize = 10;
/// How often threads that are in our code are given time to leave it.
const PATIENCE: usize = 200;
/// How many looks that threads being born spoil do not count.
const BIRTHS: usize = 5_000;
/// How often threads in our handlers are left to run out of them by themselves, before they are
/// stepped out: a step needs another signal mask, which would stay if we died.
const BY_THEMSELVES: usize = 100;
/// How many instructions a thread may take to leave a detour.
const STEPS: usize = 4096;
/// Signals that instructions raise: `SIGILL`, `SIGTRAP`, `SIGBUS`, `SIGFPE`, `SIGSEGV`.
const FORCED: u64 = 1 << (sig::ILL - 1)
    | 1 << (sig::TRAP - 1)
    | 1 << (sig::BUS - 1)
    | 1 << (sig::FPE - 1)
    | 1 << (sig::SEGV - 1);

impl Tracee {
    /// Disarms, clears up, and ends the session; the target goes on.
    pub(super) fn detach(&mut self) -> anyhow::Result<()> {
        if self.is_over() {
            return Ok(());
        }
        self.letting_go = true;
        self.process.at_syscalls = false;
        for &tid in self.process.threads.keys() {
            // It must live on when we are gone; one that is not stopped keeps the option.
            let _ = ptrace::let_live(tid);
        }
        if self.live.is_some() {
            self.look_at_all();
            self.last = Some(self.summary());
            // The program's unwinder is told of thunks for as long as there are some on the stacks.
            self.disarm_but_for_calls();
            self.semaphores.stale = true;
            self.settle().context("disarming")?;
            let freed = self.free_holes()?;
            if self.is_over() {
                return Ok(());
            }
            self.clear_up(freed)?;
            // An end that came meanwhile is the target's, and will not be reported again.
            self.take_backlog()?;
        }
        self.ended.get_or_insert(Ended::Detached);
        Ok(())
    }

    /// Takes our memory out of the target, once nobody is in it or may come back into it.
    /// Unless `freed`, padding still leads to it.
    fn clear_up(&mut self, mut freed: bool) -> anyhow::Result<()> {
        let Some(live) = &self.live else {
            return Ok(());
        };
        let code = live.injected.code();
        let (mut clear, mut calls) = (false, false);
        let (mut attempt, mut births) = (0, 0);
        self.rest()?;
        let mut begun = clock::monotonic();
        while attempt < PATIENCE {
            attempt += 1;
            if attempt > UNHURRIED {
                self.process.stop_running_now(&mut self.backlog)?;
            } else {
                self.process.stop_running(&mut self.backlog)?;
            }
            // Hits and births that are reported now are from before, and dealt with first: once we
            // are gone, a hit would end the target, and a child keep what is ours.
            self.process.collect(&mut self.backlog)?;
            if self.take_backlog()? {
                self.act_on_stopped()?;
                self.note_pause(begun);
                begun = clock::monotonic();
                births += 1;
                attempt -= usize::from(births <= BIRTHS);
                continue;
            }
            if self.hits_stand_out() {
                self.act_on_stopped()?;
                self.note_pause(begun);
                self.common.signals.wait(Some(1))?;
                begun = clock::monotonic();
                continue;
            }
            // While nobody runs: what returns from here on is not counted.
            self.stop_for_returns()?;
            self.pass_through()?;
            self.count_calls_left()?;
            self.leave_code(attempt >= BY_THEMSELVES)?;
            if self.is_over() || self.live.is_none() {
                return Ok(());
            }
            calls = self.put_returns_back()?;
            if !self.registry.staying().is_empty() {
                self.registry.disarm_all();
                self.act_on_stopped()?;
                self.note_pause(begun);
                self.settle().context("disarming")?;
                freed &= self.free_holes()?;
                if self.is_over() || self.live.is_none() {
                    return Ok(());
                }
                begun = clock::monotonic();
                continue;
            }
            let maps = self.process.maps()?;
            if let Some(occupied) = self.process.occupied(&maps, &code)? {
                let holds = |span: &Span| {
                    occupied.holds(*span) || occupied.pcs.iter().any(|(_, pc)| span.contains(*pc))
                };
                clear = !calls && !code.iter().any(holds) && !self.trap_pending();
            }
            if clear || !freed {
                break;
            }
            self.act_on_stopped()?;
            self.note_pause(begun);
            self.common
                .signals
                .wait(Some(if attempt < 10 { 1 } else { 10 }))?;
            begun = clock::monotonic();
        }
        self.pass_through()?;
        self.restore_gs()?;
        if self
            .live
            .as_ref()
            .is_some_and(|live| live.landed == Landed::There)
        {
            let tid = self.one_stopped().context("stopping a thread")?;
            self.unland(tid)?;
        }
        if clear && freed {
            self.unmap()?;
        } else {
            let why = if calls {
                "calls return through it whose frames were not found"
            } else {
                "a signal handler may return into it"
            };
            let note = format!("some code was left in the target: {why}");
            self.notes.push(note);
        }
        self.live = None;
        self.process.set_landing(None);
        self.guard_no_more();
        self.act_on_stopped()?;
        self.note_pause(begun);
        Ok(())
    }

    /// Whether hits from before are still to be delivered to their detours.
    fn hits_stand_out(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.alive) && self.trap_pending()
    }

    /// Whoever is in a detour passes straight through from here on.
    fn pass_through(&mut self) -> anyhow::Result<()> {
        if let Some(live) = self.live.as_mut().filter(|live| live.alive) {
            live.alive = false;
            live.injected
                .set_alive(&self.process, false)
                .context("clearing the alive word")?;
        }
        Ok(())
    }

    /// Moves every stopped thread that is in our code out of it where that is a matter of its
    /// program counter; others run out when they are resumed, or instruction by instruction.
    fn leave_code(&mut self, step: bool) -> anyhow::Result<()> {
        for tid in self.inside_calls() {
            // Blocked in a system call among displaced instructions: it must move.
            if ptrace::interrupt(tid).is_ok() {
                if let Some(thread) = self.process.threads.get_mut(&tid) {
                    thread.interrupted = true;
                }
                self.process.await_stop(tid, &mut self.backlog)?;
            }
        }
        for (tid, status) in self.process.stopped() {
            match self.leave(tid, status, step) {
                Err(error) if error.downcast_ref().is_some_and(is_gone) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn inside_calls(&self) -> Vec<Tid> {
        let Some(live) = &self.live else {
            return Vec::new();
        };
        let blocked = self
            .process
            .threads
            .iter()
            .filter(|(_, t)| t.state == State::Running);
        blocked
            .filter(|(tid, thread)| {
                matches!(procfs::whereabouts(thread.process, **tid),
                    Ok(Where::Blocked { pc, .. }) if live.injected.is_code(pc))
            })
            .map(|(&tid, _)| tid)
            .collect()
    }

    fn leave(&mut self, tid: Tid, status: Status, step: bool) -> anyhow::Result<()> {
        let Some(live) = &self.live else {
            return Ok(());
        };
        let mut pc = ptrace::pc(tid)?;
        if !live.injected.is_code(pc) {
            return Ok(());
        }
        if let Some(Inside::Start(site)) = live.detours.locate(pc) {
            ptrace::set_pc(tid, site)?;
            return Ok(());
        }
        if let Some(Inside::Displaced {
            original, pushed, ..
        }) = live.detours.locate(pc)
        {
            let mut regs = ptrace::regs(tid)?;
            regs.set_pc(original);
            regs.drop_pushed(u64::from(pushed));
            ptrace::set_regs(tid, &regs)?;
            return Ok(());
        }
        // In the handlers, which are short. In a group stop it will not run, and the frame of a
        // signal would lead back.
        let runs = match status {
            Status::GroupStop(_) => false,
            Status::Signal(signal) => FORCED >> (signal - 1) & 1 != 0,
            _ => true,
        };
        if runs && !step {
            return Ok(());
        }
        // The signal it is stopped for is blocked and delivered with the first
        // step: so the kernel queues it again, with all that came with it. Signals of instructions
        // stay as they are, or the kernel would reset their actions when it forces them.
        let mask = ptrace::sigmask(tid)?;
        ptrace::set_sigmask(tid, mask | !FORCED)?;
        let mut deliver = match status {
            Status::Signal(signal) if FORCED >> (signal - 1) & 1 == 0 => signal,
            _ => 0,
        };
        let mut faulted = None;
        for _ in 0..STEPS {
            if let Some(Inside::Displaced { .. }) = live.detours.locate(pc) {
                break;
            }
            ptrace::step(tid, std::mem::take(&mut deliver))?;
            match wait::stop(tid)? {
                ended @ (Status::Exited(_) | Status::Killed(_)) => {
                    self.process.ends.push_back((tid, ended));
                    return Ok(());
                }
                Status::Signal(signal @ (sig::SEGV | sig::BUS)) => {
                    let at = ptrace::pc(tid)?;
                    if let Some(Inside::Handlers {
                        fixup: Some(resume),
                    }) = live.detours.locate(at)
                    {
                        ptrace::set_pc(tid, resume)?;
                        faulted = Some(signal);
                    }
                }
                _ => {}
            }
            pc = ptrace::pc(tid)?;
            if !live.injected.is_code(pc) {
                break;
            }
        }
        if let Some(Inside::Displaced {
            original, pushed, ..
        }) = live.detours.locate(pc)
        {
            let mut regs = ptrace::regs(tid)?;
            regs.set_pc(original);
            regs.drop_pushed(u64::from(pushed));
            ptrace::set_regs(tid, &regs)?;
        }
        // A step is a forced signal too.
        for signal in [Some(sig::TRAP), faulted].into_iter().flatten() {
            if let Some(thread) = self.process.threads.get_mut(&tid) {
                thread.mask = mask;
            }
            self.dispositions.repair(&mut self.process, tid, signal)?;
        }
        ptrace::set_sigmask(tid, mask)?;
        let mut now = Status::Interrupted;
        if let Status::GroupStop(_) = status {
            // Stepping took it out of its group stop; it stops again before it runs.
            ptrace::interrupt(tid)?;
            ptrace::cont(tid, 0)?;
            now = wait::stop(tid)?;
            if matches!(now, Status::Exited(_) | Status::Killed(_)) {
                self.process.ends.push_back((tid, now));
                return Ok(());
            }
        }
        if let Some(thread) = self.process.threads.get_mut(&tid) {
            thread.state = State::Stopped(now);
        }
        Ok(())
    }

    /// Whether a breakpoint hit is still on its way to us.
    fn trap_pending(&self) -> bool {
        let bit = 1 << (sig::TRAP - 1);
        self.process.threads.iter().any(|(&tid, thread)| {
            let reported = matches!(
                thread.state,
                State::Stopped(Status::Signal(sig::TRAP) | Status::Hit(_))
            );
            reported
                || procfs::status(thread.process, tid).is_ok_and(|status| {
                    let stopped = status.state == b't' && thread.state == State::Running;
                    stopped || status.pending & bit != 0
                })
        })
    }

    /// Gives stopped threads the gs base they had. Others keep ours, which leads nowhere and which
    /// 64-bit code does not use.
    fn restore_gs(&mut self) -> anyhow::Result<()> {
        for (tid, _) in self.process.stopped() {
            let before = self
                .process
                .threads
                .get_mut(&tid)
                .and_then(|t| t.gs_before.take());
            let Some(base) = before else { continue };
            let mut regs = match ptrace::regs(tid) {
                Ok(regs) => regs,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            let ours = self.live.as_ref().is_some_and(|live| {
                let blocks = 1..live.injected.layout.blocks;
                blocks
                    .into_iter()
                    .any(|block| live.injected.gs_base(block) == regs.gs_base())
            });
            // Otherwise the program has set it meanwhile.
            if ours {
                regs.set_gs_base(base);
                ignore_gone(ptrace::set_regs(tid, &regs))?;
            }
        }
        Ok(())
    }

    fn unmap(&mut self) -> anyhow::Result<()> {
        let tid = self.one_stopped().context("stopping a thread")?;
        let Some(live) = &self.live else {
            return Ok(());
        };
        let mapped = live.injected.mapped.clone();
        // What goes away holds nobody's way back.
        self.process.keep_frames_in(None)?;
        let mut remote = match Remote::begin(&mut self.process, tid) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let why = format!("memory of ours was left in the target: {error}");
                self.notes.push(why);
                return Ok(());
            }
            remote => remote?,
        };
        for span in mapped {
            remote
                .unmap(span.start, span.len())
                .context("unmapping our memory")?;
        }
        remote.finish().context("giving a thread back")
    }
}
