//! The loader's work as it happens: what is mapped is armed before any of its code can run, what is
//! unmapped is forgotten, indirect functions are probed where the loader's choice is.
//!
//! While a program starts, every system call that maps code is a stop: resolvers run before the
//! loader tells anybody. Later its breakpoint tells (`_dl_debug_state`, the `r_brk` of `<link.h>`):
//! libraries that were opened are not relocated at that time.

use std::collections::HashSet;

use anyhow::Context as _;

use super::ground::Ground;
use super::hooks::Hook;
use super::module::{Module, new_modules};
use super::plan::{Age, Planned};
use super::resolve;
use super::tasks::unless_gone;
use super::tracee::{Stage, Tracee};
use super::wanted::Pending;
use crate::base::{Addr, LinkAddr, Tid};
use crate::data::Command;
use crate::probe::{Refusal, TrapPolicy};
use crate::symbols::NamePattern;
use crate::sys::errno;
use crate::sys::procfs::Mapping;
use crate::sys::ptrace;
use crate::sys::wait::{self, Status};
use crate::target::{State, loader_state};

/// Names of the function that the loader calls when it has mapped something: glibc, musl.
const LOADER_BREAKS: [&str; 2] = ["_dl_debug_state", "dl_debug_state"];
/// `mmap(2)` and `mprotect(2)`.
const MAPS_CODE: [i64; 2] = [9, 10];
const PROT_EXEC: u64 = 4;

impl Tracee {
    /// Traces a program from its first instruction: it stands at its `execve`, and of its own
    /// program and the loader nothing has run.
    pub(super) fn begin_program(&mut self, tid: Tid) -> anyhow::Result<()> {
        self.stage = Stage::Starting;
        self.held = Some(tid);
        if !self.leave_exec(tid)? {
            return Ok(());
        }
        self.plan_modules(Age::Mapped)?;
        let dynamic = self.process.auxv.base != 0 || self.loader_break().is_some();
        self.hook(Addr(self.process.auxv.entry), Hook::Entry);
        if let Some(at) = self.loader_break() {
            self.hook(at, Hook::Loader);
            self.prepare_to_ask();
        }
        self.arm().context("arming it")?;
        self.process.at_syscalls = dynamic;
        self.held = None;
        self.act_on_stopped()
    }

    /// Finds what is to be armed in a process that runs. Nothing in it is changed.
    pub(super) fn plan_running(&mut self, pending: Pending) -> anyhow::Result<()> {
        self.plan_modules(Age::Relocated)?;
        let wanted = self.common.wanted.borrow();
        Ok(self.plan.require_match(&wanted, pending)?)
    }

    /// Traces a process that runs, once that is known.
    pub(super) fn begin_running(&mut self) -> anyhow::Result<()> {
        if self.is_over() {
            return Ok(());
        }
        self.hook_for_good();
        self.arm()?;
        self.act_on_stopped()
    }

    /// Lets the call of `execve` end: a thread in it cannot make others for us. False if it ended.
    fn leave_exec(&mut self, tid: Tid) -> anyhow::Result<bool> {
        let mut deliver = 0;
        loop {
            ptrace::interrupt(tid)?;
            ptrace::cont(tid, std::mem::take(&mut deliver))?;
            match wait::stop(tid)? {
                ended @ (Status::Exited(_) | Status::Killed(_)) => {
                    self.backlog.push_back((tid, ended));
                    return Ok(false);
                }
                Status::Interrupted => break,
                Status::Signal(signal) => deliver = signal,
                _ => {}
            }
        }
        if let Some(thread) = self.process.threads.get_mut(&tid) {
            thread.state = State::Stopped(Status::Interrupted);
        }
        Ok(true)
    }

    /// Where the loader calls when it has mapped something.
    pub(super) fn loader_break(&self) -> Option<Addr> {
        let base = Addr(self.process.auxv.base);
        let loader = |module: &&Module| match base.0 {
            0 => module.program,
            _ => module.span.contains(base),
        };
        let module = self.plan.modules.iter().find(loader)?;
        let symbols = module.symbols();
        let entry = LOADER_BREAKS.iter().find_map(|name| {
            let found = symbols.matching(&NamePattern::exact(name));
            found.into_iter().find_map(|i| symbols.entries().get(i))
        });
        let known = entry.map(|entry| entry.at.at(module.bias));
        known.or_else(|| Some(loader_state(&self.process)?.breakpoint))
    }

    /// Wants a stop of our own at an address. Without one, what it is for is not seen: that is so
    /// where no breakpoint may be.
    pub(super) fn hook(&mut self, at: Addr, hook: Hook) {
        let modules = &self.plan.modules;
        let Some(index) = modules.iter().position(|m| m.span.contains(at)) else {
            return;
        };
        if !self.plan.ground.contains_key(&at) {
            let slab = self.plan.slab_for(index);
            let module = &self.plan.modules[index];
            let link = LinkAddr(at.0.wrapping_sub(module.bias));
            // What is a breakpoint now may have to be a jump later.
            let jumps = match hook {
                Hook::Loader | Hook::Asks => !self.may_stay(),
                // Exceptions may be frequent.
                Hook::Unwinder => true,
                Hook::Entry | Hook::Resolver | Hook::Chosen => false,
            };
            let wanted = self.common.wanted.borrow();
            let cache = wanted.cache.as_ref();
            let ground = jumps.then(|| self.plan.look(index, link, slab, cache).ok());
            let simple = || Ground::of_hook(module, link, slab).ok();
            let Some(ground) = ground.flatten().or_else(simple) else {
                return;
            };
            self.plan.ground.insert(at, ground);
        }
        let Some(id) = self.hooks.add(at, hook) else {
            return;
        };
        if self.live.is_some() {
            self.add_hook(at, id);
        }
    }

    /// Tells the registry of a hook.
    pub(super) fn add_hook(&mut self, at: Addr, id: crate::base::ProbeId) {
        let Some(ground) = self.plan.ground.get(&at) else {
            return;
        };
        let facts = ground.facts.clone();
        // Refused where no breakpoint, or jump, may be.
        let _: Result<(), Refusal> = if self.hooks.running(id).is_some() {
            self.registry.add(at, facts, id, false)
        } else {
            self.registry.add_own(at, facts, id)
        };
    }

    /// Whether a breakpoint may stay while the program runs. Without one a detour asks us to look.
    pub(super) fn may_stay(&self) -> bool {
        self.common.options.traps == TrapPolicy::Allow
    }

    fn unhook(&mut self, drop: impl Fn(Addr, Hook) -> bool) {
        for id in self.hooks.remove(drop) {
            self.registry.remove(id);
        }
    }

    /// A system call, entered or left, of a program that starts.
    pub(super) fn at_syscall(&mut self, tid: Tid) -> anyhow::Result<()> {
        unless_gone(self.try_at_syscall(tid))
    }

    fn try_at_syscall(&mut self, tid: Tid) -> anyhow::Result<()> {
        let regs = ptrace::regs(tid)?;
        let failed = (-4095..0).contains(&regs.result());
        let maps = MAPS_CODE.contains(&regs.syscall()) && regs.argument(2) & PROT_EXEC != 0;
        if !self.process.at_syscalls || failed || !maps {
            return Ok(self.process.resume(tid, 0)?);
        }
        // On entry the result is -ENOSYS: it has failed so far.
        self.hold(tid, |tracee| tracee.modules_changed(Age::Mapped))
    }

    /// Does something for the sake of a stopped thread, which goes on afterwards.
    fn hold(
        &mut self,
        tid: Tid,
        work: impl FnOnce(&mut Tracee) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(thread) = self.process.threads.get_mut(&tid) {
            thread.state = State::Stopped(Status::Interrupted);
        }
        self.held = Some(tid);
        let result = work(self);
        self.held = None;
        result?;
        self.act_on_stopped()
    }

    /// A thread hit a breakpoint of our own; it stands at the start of the detour.
    pub(super) fn hooked(&mut self, tid: Tid, site: Addr) -> anyhow::Result<()> {
        self.hold(tid, |tracee| {
            for hook in tracee.hooks.at(site) {
                match hook {
                    Hook::Entry => tracee.started()?,
                    Hook::Loader => tracee.loader_told()?,
                    // Its detour says so itself, in a moment.
                    Hook::Asks | Hook::Unwinder => {}
                    Hook::Resolver => tracee.resolver_runs(tid, site)?,
                    Hook::Chosen => tracee.resolver_returned(tid)?,
                }
            }
            Ok(())
        })
    }

    /// The loader has mapped or unmapped something, or is about to.
    fn loader_told(&mut self) -> anyhow::Result<()> {
        let consistent = loader_state(&self.process).is_none_or(|state| state.consistent);
        match self.stage {
            Stage::Begun => self.modules_changed(Age::Mapped),
            // All that the program needs is mapped and relocated; no constructor has run.
            Stage::Starting if consistent => self.started(),
            Stage::Starting => Ok(()),
        }
    }

    /// What a program needs is there, and relocated; from here on it runs its own code.
    fn started(&mut self) -> anyhow::Result<()> {
        if self.stage == Stage::Begun {
            self.unhook(|_, hook| hook == Hook::Entry);
            return self.settle();
        }
        self.process.at_syscalls = false;
        self.modules_changed(Age::Mapped)?;
        if self.is_over() {
            return Ok(());
        }
        self.read_chosen()?;
        let stays = self.may_stay();
        self.unhook(|_, hook| hook == Hook::Entry || (hook == Hook::Loader && !stays));
        self.hook_for_good();
        self.unhook_resolved();
        self.settle()?;
        self.plan.complete = true;
        if self.doomed {
            let wanted = self.common.wanted.borrow();
            self.plan.require_match(&wanted, wanted.pending)?;
            drop(wanted);
            for &tid in self.process.threads.keys() {
                unless_gone(self.let_live(tid).map_err(Into::into))?;
            }
            self.doomed = false;
            let _ = self
                .common
                .drain
                .send(Command::Armed(self.plan.wanted.len()));
        }
        self.stage = Stage::Begun;
        if std::mem::take(&mut self.begins_off) {
            self.switch_off()?;
        }
        Ok(())
    }

    /// Indirect functions whose choice stands where the loader puts it.
    fn read_chosen(&mut self) -> anyhow::Result<()> {
        let memory = self.process.memory.clone();
        for module in &mut self.plan.modules {
            module.read_chosen(&memory);
        }
        let known = |indirect: &resolve::Indirect| {
            let resolver = indirect.resolver;
            let modules = &self.plan.modules;
            let module = modules.iter().find(|m| m.span.contains(resolver))?;
            let link = LinkAddr(resolver.0.wrapping_sub(module.bias));
            Some((resolver, module.chosen(link)?))
        };
        let mut known: Vec<(Addr, Addr)> = self.plan.indirect.iter().filter_map(known).collect();
        known.dedup();
        for (resolver, chosen) in known {
            self.chose(resolver, chosen)?;
        }
        Ok(())
    }

    /// A resolver was called: its caller is where the choice will be known.
    fn resolver_runs(&mut self, tid: Tid, site: Addr) -> anyhow::Result<()> {
        let regs = ptrace::regs(tid)?;
        let Ok(caller) = self.process.memory.word(regs.sp()) else {
            return Ok(());
        };
        self.hooks.resolving(tid, site, regs.sp() + 8);
        self.hook(Addr(caller), Hook::Chosen);
        self.settle()
    }

    fn resolver_returned(&mut self, tid: Tid) -> anyhow::Result<()> {
        let regs = ptrace::regs(tid)?;
        let Some(resolver) = self.hooks.resolved(tid, regs.sp()) else {
            return Ok(());
        };
        self.chose(resolver, Addr(regs.result().cast_unsigned()))
    }

    /// Takes back the breakpoints of resolvers that have told what they choose. While a program
    /// starts they stay: another comes at once.
    fn unhook_resolved(&mut self) {
        let open: HashSet<Addr> = self.plan.indirect.iter().map(|i| i.resolver).collect();
        self.unhook(|at, hook| match hook {
            Hook::Resolver => !open.contains(&at),
            Hook::Chosen => open.is_empty(),
            Hook::Entry | Hook::Loader | Hook::Asks | Hook::Unwinder => false,
        });
    }

    /// The implementation of an indirect function is known.
    fn chose(&mut self, resolver: Addr, at: Addr) -> anyhow::Result<()> {
        let common = std::rc::Rc::clone(&self.common);
        let sites = resolve::chosen(&mut self.plan, resolver, at, &common.wanted.borrow());
        if self.stage == Stage::Begun {
            self.unhook_resolved();
        }
        let grown = self.plan.place(sites, &common.wanted.borrow())?;
        self.extend(&grown)
    }

    /// Looks what is mapped: arms what is new, forgets what is gone.
    pub(super) fn modules_changed(&mut self, age: Age) -> anyhow::Result<()> {
        let grown = self.plan_modules(age)?;
        self.extend(&grown)
    }

    /// The same, as far as the plan goes.
    pub(super) fn plan_modules(&mut self, age: Age) -> anyhow::Result<Vec<Planned>> {
        let mut maps = self.process.maps().context("reading its mappings")?;
        if let Some(live) = &self.live {
            let ours = |at: &Mapping| live.injected.mapped.iter().any(|m| m.overlaps(at.span));
            maps.retain(|mapping| !ours(mapping));
        }
        for span in self.plan.forget(|module| is_mapped(module, &maps)) {
            self.registry.gone(span);
            self.unhook(|at, _| span.contains(at));
            let gone = self.semaphores.gone(span);
            if let Some(journal) = &mut self.journal {
                journal.settled(gone);
            }
        }
        self.semaphores.stale = true;
        let common = std::rc::Rc::clone(&self.common);
        let known = (self.plan.modules.as_slice(), &common.library);
        let memory = &self.process.memory;
        let (mut new, mut notes) = loop {
            let Some(tid) = self.process.one_alive() else {
                return Err(std::io::Error::from_raw_os_error(errno::ESRCH).into());
            };
            let mut notes = Vec::new();
            let new = new_modules(tid, memory, &maps, known, &mut notes);
            // Through a thread that ended meanwhile nothing can be read.
            if self.process.one_alive() == Some(tid) {
                break (new?, notes);
            }
        };
        notes.retain(|note| !self.notes.contains(note));
        self.notes.append(&mut notes);
        if age == Age::Relocated {
            new.iter_mut().for_each(|module| module.read_chosen(memory));
        }
        self.chart(&new);
        let grown = match self.plan.grow(new, &common.wanted.borrow(), age) {
            Ok(grown) => grown,
            Err(error) if !self.plan.complete => return Err(error.into()),
            Err(error) => {
                self.notes.push(error.to_string());
                Vec::new()
            }
        };
        self.notes.append(&mut self.plan.notes);
        let resolvers: Vec<Addr> = self.plan.indirect.iter().map(|i| i.resolver).collect();
        let may = self.may_stay() || self.stage == Stage::Starting;
        for resolver in resolvers.into_iter().filter(|_| may) {
            self.hook(resolver, Hook::Resolver);
        }
        self.find_unwinders()?;
        self.give_returns_up();
        Ok(grown)
    }
}

fn is_mapped(module: &Module, maps: &[Mapping]) -> bool {
    maps.iter().any(|mapping| module.has_text(mapping))
}
