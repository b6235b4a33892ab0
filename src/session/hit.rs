//! Breakpoint hits, and faults in our code. A hit is one stop: the thread was sent into the detour
//! that a jump would have led to when its report was taken (`target::Landing`).

use anyhow::Context as _;

use super::detours::Inside;
use super::tasks::unless_gone;
use super::tracee::Tracee;
use crate::base::{Addr, Tid};
use crate::probe::{Refusal, Text};
use crate::sys::errno::sig;
use crate::sys::{clock, poll, ptrace};

const INT3: u8 = 0xcc;

impl Tracee {
    /// A thread hit the breakpoint at `site` and was sent into its detour; it runs on, unless it is
    /// held.
    pub(super) fn hit(&mut self, tid: Tid, site: Addr) -> anyhow::Result<()> {
        unless_gone(self.try_hit(tid, site))
    }

    fn try_hit(&mut self, tid: Tid, site: Addr) -> anyhow::Result<()> {
        if self.plan.stops.contains(&site) {
            self.stop_target(site)?;
        }
        if self.hooks.holds(site) {
            self.dispositions
                .repair(&mut self.process, tid, sig::TRAP)?;
            return self.hooked(tid, site);
        }
        unless_gone(self.entered(tid, site))
    }

    fn entered(&mut self, tid: Tid, site: Addr) -> anyhow::Result<()> {
        self.dispositions
            .repair(&mut self.process, tid, sig::TRAP)?;
        if self.live.as_ref().is_some_and(|live| !live.alive) {
            self.miss(site);
        }
        if !self.throttle.hit(site, clock::monotonic()) && self.registry.too_hot(site) {
            self.throttle.forget(site);
            let name = self.plan.name_at(site);
            self.notes.push(format!(
                "{name} was switched off: its breakpoint was hit more than {} times a second \
                 (--trap-limit)",
                self.common.options.limit.rate
            ));
        }
        Ok(self.process.resume(tid, 0)?)
    }

    /// Whether more is to be done here than to go on in the detour.
    pub(super) fn stops_here(&self, site: Addr) -> bool {
        self.plan.stops.contains(&site) || self.hooks.holds(site)
    }

    /// A thread stopped for SIGTRAP: our breakpoint, the entry breakpoint, or the target's own.
    pub(super) fn trapped(&mut self, tid: Tid) -> anyhow::Result<()> {
        unless_gone(self.try_trapped(tid))
    }

    fn try_trapped(&mut self, tid: Tid) -> anyhow::Result<()> {
        let info = ptrace::siginfo(tid)?;
        let pc = ptrace::pc(tid)?;
        if info.code != sig::SI_KERNEL {
            return Ok(self.process.resume(tid, sig::TRAP)?);
        }
        // Breakpoints of ours do not come here ([`Status::Hit`]), unless the table was full.
        let site = pc - 1;
        let mut byte = [0];
        self.process.memory.read(site, &mut byte)?;
        let ours = self.plan.ground.contains_key(&site);
        if !ours || byte[0] == INT3 {
            return Ok(self.process.resume(tid, sig::TRAP)?);
        }
        ptrace::set_pc(tid, site)?;
        self.miss(site);
        self.dispositions
            .repair(&mut self.process, tid, sig::TRAP)?;
        Ok(self.process.resume(tid, 0)?)
    }

    /// A hit that is delivered to nobody any more.
    fn miss(&mut self, site: Addr) {
        for probe in self.plan.wanted.iter().filter(|wanted| wanted.at == site) {
            *self.missed.entry(probe.id).or_default() += 1;
        }
    }

    /// Stops the whole target where it hit a `%stop` probe.
    fn stop_target(&mut self, site: Addr) -> anyhow::Result<()> {
        let name = self.plan.name_at(site);
        self.notes.push(format!(
            "stopped at {name}; kill -CONT {} goes on",
            self.process.pid
        ));
        poll::kill(self.process.pid, sig::STOP).context("stopping the target")
    }

    /// A thread faulted. In a handler of ours that was foreseen; in a displaced instruction the
    /// program must see the fault where the instruction belongs.
    pub(super) fn faulted(&mut self, tid: Tid, signal: i32) -> anyhow::Result<()> {
        unless_gone(self.try_faulted(tid, signal))
    }

    fn try_faulted(&mut self, tid: Tid, signal: i32) -> anyhow::Result<()> {
        let pc = ptrace::pc(tid)?;
        let info = ptrace::siginfo(tid)?;
        // Raised by the kernel for an instruction, not sent by a process (sigaction(2)).
        let by_instruction = info.code > 0;
        let inside = self.live.as_ref().and_then(|live| live.detours.locate(pc));
        match inside {
            Some(Inside::Handlers {
                fixup: Some(resume),
            }) if by_instruction => {
                ptrace::set_pc(tid, resume)?;
                self.dispositions.repair(&mut self.process, tid, signal)?;
                self.own_block(tid)?;
                Ok(self.process.resume(tid, 0)?)
            }
            Some(Inside::Displaced {
                site,
                original,
                pushed,
            }) if by_instruction => {
                let mut regs = ptrace::regs(tid)?;
                regs.set_pc(original);
                regs.drop_pushed(u64::from(pushed));
                ptrace::set_regs(tid, &regs)?;
                self.back_to_trap(site)?;
                // Changing text resumes who is stopped, this thread too; then this does nothing.
                Ok(self.process.resume(tid, signal)?)
            }
            _ => Ok(self.process.resume(tid, signal)?),
        }
    }

    /// Takes a jump back for good: the program looks at where its instructions fault.
    fn back_to_trap(&mut self, site: Addr) -> anyhow::Result<()> {
        if self.registry.site(site).and_then(|s| s.text()) != Some(Text::Jump) {
            return Ok(());
        }
        let why = "its instructions fault, and the program looks where";
        self.registry.confine(site, Refusal::Window(why.into()));
        self.settle()
    }
}
