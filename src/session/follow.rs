//! A forked child that is traced as its parent is: what it inherited is made its own before its
//! first instruction. Text is what the parent's was; code and blocks are new, at the same addresses.
//!
//! Invariant: nothing that the child's detours write is shared with its parent.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;

use super::arm::Live;
use super::child::{INT3, ours};
use super::jump::Jump;
use super::text::Text as Pages;
use super::tracee::Tracee;
use crate::base::{Addr, Pid, Tid};
use crate::data::{Catalogue, Directory};
use crate::probe::Text;
use crate::sys::mem::Memory;
use crate::sys::ptrace;
use crate::sys::wait::Status;
use crate::target::{Process, State, Thread};

impl Tracee {
    /// The child `pid`, whose only thread `tid` has just been born and is stopped.
    pub(super) fn fork(&self, tid: Tid, pid: Pid) -> anyhow::Result<Tracee> {
        let mut child = Tracee::new(&self.common, Process::new(pid, tid)?);
        child.process.insurance = self.process.insurance;
        let mut thread = Thread::new(pid);
        thread.state = State::Stopped(Status::Interrupted);
        child.process.threads.insert(tid, thread);
        child.process.at_syscalls = self.process.at_syscalls;
        child.stage = self.stage;
        child.plan = self.plan.clone();
        child.hooks = self.hooks.clone();
        child.ask_class = self.ask_class;
        child.unwinders = self.unwinders.clone();
        child.foreign = self.foreign.clone();
        child.registry = self.registry.clone();
        child.calls_due = self.calls_due;
        child.throttle = self.throttle.clone();
        child.dispositions = self.dispositions.clone();
        let Some(live) = &self.live else {
            return Ok(child);
        };
        self.write_inherited(&child.process.memory)?;
        let injected = live
            .injected
            .fork(&mut child.process, tid)
            .context("giving it counters and code of its own")?;
        injected
            .set_alive(&child.process, true)
            .context("writing the alive word")?;
        let layout = injected.layout;
        child.directory = Arc::new(Directory::new(layout.blocks));
        child.counters = Some((Arc::clone(&injected.shared), layout));
        child.live = Some(Live {
            injected,
            detours: Rc::clone(&live.detours),
            own_blocks: live.own_blocks,
            alive: true,
            traps: live.traps.clone(),
            landed: live.landed.clone(),
        });
        if let (Some(landing), Some(live)) = (self.process.landing(), &child.live) {
            child.process.set_landing(landing.moved(&live.injected));
        }
        child.guard_inherited();
        child.inherit_semaphores(&self.semaphores);
        child.tell_facts()?;
        child.catalogue = Arc::new(Catalogue::default());
        child.publish();
        child.open_feed();
        // It has the gs base of the thread that made it, whose block it has not.
        let mut regs = ptrace::regs(tid)?;
        if let Some(live) = &child.live
            && (1..layout.blocks).any(|block| live.injected.gs_base(block) == regs.gs_base())
        {
            regs.set_gs_base(0);
            ptrace::set_regs(tid, &regs)?;
        }
        Ok(child)
    }

    /// Brings text that a child inherited to what the registry says: ours may have changed between
    /// its birth and now. Nobody runs in the child, and where a jump was made since, its only thread
    /// was looked at as its maker's.
    fn write_inherited(&self, memory: &Memory) -> anyhow::Result<()> {
        let Some(live) = &self.live else {
            return Ok(());
        };
        let mut pages = Pages::new(memory, true);
        let mut edits: Vec<(Addr, Vec<u8>)> = Vec::new();
        for (&at, ground) in &self.plan.ground {
            let Some(text) = self.registry.site(at).and_then(|site| site.text()) else {
                continue;
            };
            let code = |to| live.injected.is_code(to);
            if let Some(hole) = &ground.hole {
                let mut now = [0; 5];
                let standing = ground.jump.as_ref().and_then(Jump::hole);
                let standing = standing.filter(|_| text == Text::Jump);
                let right = standing.map_or(&hole.original[..], |(_, bytes)| bytes);
                if pages.read(hole.at, &mut now)
                    && now != right
                    && (now == hole.original || ours(hole.at, &hole.original, &now, code))
                {
                    edits.push((hole.at, right.to_vec()));
                }
            }
            let original = ground.head();
            let mut now = vec![0; original.len()];
            if !pages.read(at, &mut now) {
                continue;
            }
            let leads = |to| ground.hole.map_or_else(|| code(to), |hole| to == hole.at);
            let inherited = ours(at, original, &now, leads);
            let known = inherited || now == original;
            let (right, bytes) = match (text, ground.jump) {
                (Text::Jump, Some(jump)) => (now == jump.head(), jump.head().to_vec()),
                // Behind a breakpoint others may have bytes, unless the tail of its jump is there.
                (Text::Trap, _) => {
                    let tail = now.get(1..) == original.get(1..);
                    let mut bytes = original.to_vec();
                    bytes[..1].fill(INT3);
                    (now[0] == INT3 && (tail || !inherited), bytes)
                }
                _ => (now == original, original.to_vec()),
            };
            if known && !right {
                edits.push((at, bytes));
            }
        }
        pages.write(edits.iter().map(|(at, bytes)| (*at, bytes.as_slice())))?;
        Ok(())
    }
}
