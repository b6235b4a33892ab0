//! The processes that were asked for: the one that was started, or those that ran and were named. Their
//! lives are their own: one ends, or cannot be traced any more, and the others go on.
//!
//! Invariant: where all were asked for by number nobody is changed before it is known what is to be armed
//! in each; what fails then fails for all, and those that were armed are as they were.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::end::Ended;
use super::plan::PlanError;
use super::resolve::why_not;
use super::run::Session;
use super::tracee::{Stage, Tracee};
use super::wanted::Pending;
use crate::base::{Pid, Tid};
use crate::data::Command;
use crate::sys::errno::sig;
use crate::sys::procfs;

/// Processes that were asked for.
#[derive(Debug, Default)]
pub(super) struct Roots {
    all: BTreeMap<Pid, Root>,
    /// Whether one that cannot be traced is left out.
    lenient: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Root {
    /// Whether it began another program since.
    replaced: bool,
    /// Whether it could not be traced, or not to its end.
    failed: bool,
}

impl Roots {
    pub(super) fn new(pids: impl IntoIterator<Item = Pid>, lenient: bool) -> Roots {
        let all = pids.into_iter().map(|pid| (pid, Root::default()));
        Roots {
            all: all.collect(),
            lenient,
        }
    }

    /// Whether a process was asked for.
    pub(super) fn holds(&self, pid: Pid) -> bool {
        self.all.contains_key(&pid)
    }

    /// Whether there are several.
    pub(super) fn are_many(&self) -> bool {
        self.all.len() > 1
    }

    pub(super) fn pids(&self) -> Vec<Pid> {
        self.all.keys().copied().collect()
    }

    /// A process begins another program.
    pub(super) fn replaced(&mut self, pid: Pid) {
        if let Some(root) = self.all.get_mut(&pid) {
            root.replaced = true;
        }
    }

    /// A process cannot be traced. Whether the session goes on without it: with other processes that
    /// were asked for, once it has `begun`, or if such are left out.
    pub(super) fn goes_on_without(&mut self, pid: Pid, begun: bool) -> bool {
        let Some(root) = self.all.get_mut(&pid).filter(|root| !root.replaced) else {
            return true;
        };
        root.failed = true;
        (begun || self.lenient) && !self.all.values().all(|root| root.failed)
    }
}

impl Session {
    /// Begins to trace what was asked for.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        if !self.launched {
            return self.begin_running();
        }
        for pid in self.roots.pids() {
            if let Some(tracee) = self.tracees.get_mut(&pid) {
                let result = tracee.begin_program(Tid(pid.0));
                self.bear(pid, result)?;
            }
        }
        Ok(())
    }

    /// Finds what is to be armed in all processes, then arms it.
    fn begin_running(&mut self) -> anyhow::Result<()> {
        self.plan_running()?;
        let mut armed = 0;
        for pid in self.roots.pids() {
            self.hand_over();
            let Some(tracee) = self.tracees.get_mut(&pid) else {
                continue;
            };
            let result = tracee.begin_running();
            let sites = tracee.plan.wanted.len();
            self.bear(pid, result)?;
            if self.tracees.contains_key(&pid) {
                armed += sites;
            }
            // Others may wait for us; this takes a while for each.
            self.drain_waits()?;
        }
        let _ = self.common.drain.send(Command::Armed(armed));
        Ok(())
    }

    /// Processes in which nothing matches are let go of, if something does in others.
    fn plan_running(&mut self) -> anyhow::Result<()> {
        let common = Rc::clone(&self.common);
        let asked = common.wanted.borrow().pending;
        // Of several processes all together must have what each probe names.
        let pending = match asked {
            Pending::Error if self.roots.are_many() => Pending::Warn,
            pending => pending,
        };
        let mut without = Vec::new();
        let mut matched = vec![false; common.wanted.borrow().specs.len()];
        let mut modules = Vec::new();
        for pid in self.roots.pids() {
            self.hand_over();
            let Some(tracee) = self.tracees.get_mut(&pid) else {
                continue;
            };
            match tracee.plan_running(pending) {
                Err(error) if is_no_match(&error) => without.push((pid, error)),
                result => {
                    let asked = matched.iter_mut().zip(&tracee.plan.asked);
                    asked.for_each(|(any, asked)| *any |= asked.matched > 0);
                    if modules.is_empty() {
                        modules.clone_from(&tracee.plan.modules);
                    }
                    self.bear(pid, result)?;
                }
            }
            self.drain_waits()?;
        }
        let nowhere = |pid: &Pid| without.iter().any(|(other, _)| other == pid);
        if !without.is_empty() && self.tracees.keys().all(nowhere) {
            return Err(all_of(without.into_iter().map(|(_, error)| error)));
        }
        if asked == Pending::Error {
            let wanted = &*common.wanted.borrow();
            let missing = wanted.specs.iter().zip(matched);
            let missing = missing.filter(|(_, any)| !any);
            let missing: Vec<String> = missing
                .map(|(spec, _)| why_not(&modules, wanted, spec))
                .collect();
            if !missing.is_empty() {
                return Err(PlanError::NoMatch(missing.join("\n")).into());
            }
        }
        for (pid, error) in without {
            self.leave_out(pid, &error);
        }
        Ok(())
    }

    /// Says what is not traced, and why, and lets go of it.
    fn leave_out(&mut self, pid: Pid, error: &anyhow::Error) {
        let why = format!("{error:#}").replace('\n', "; ");
        let name = procfs::comm(pid);
        self.common
            .warn(&format!("{name} ({pid}) is not traced: {why}"));
        self.release(pid);
    }

    /// What fails in a process ends its own tracing, not the session, unless nothing was asked for but
    /// that process, or nothing has begun.
    pub(super) fn bear(&mut self, pid: Pid, result: anyhow::Result<()>) -> anyhow::Result<()> {
        let Err(error) = result else {
            return Ok(());
        };
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return Ok(());
        };
        if tracee.is_going() {
            return Ok(());
        }
        if !self.roots.goes_on_without(pid, self.begun) {
            return Err(match self.roots.are_many() {
                true => error.context(format!("{} ({pid})", procfs::comm(pid))),
                false => error,
            });
        }
        if self.launched || self.begun || !self.roots.holds(pid) {
            let name = procfs::comm(pid);
            self.notes
                .push(format!("{name} ({pid}) is traced no more: {error:#}"));
            self.release(pid);
        } else {
            self.leave_out(pid, &error);
        }
        Ok(())
    }

    /// How a process ended that was asked for.
    pub(super) fn note_end(&mut self, tracee: &Tracee) {
        let pid = tracee.process.pid;
        match tracee.ended {
            _ if !self.roots.holds(pid) => {}
            // A service manager's way to end a service.
            Some(Ended::Killed(signal)) if self.roots.are_many() && signal != sig::TERM => {
                let name = &tracee.comm;
                self.notes
                    .push(format!("{name} ({pid}) was ended by signal {signal}"));
            }
            _ if self.roots.are_many() => {}
            ended => self.ended_as = ended.or(self.ended_as),
        }
    }

    /// Whether a program that was asked for runs code of its own, and is traced.
    pub(super) fn has_begun(&self) -> bool {
        let roots = self.roots.all.keys();
        let mut roots = roots.filter_map(|pid| self.tracees.get(pid));
        roots.any(|tracee| tracee.stage == Stage::Begun && tracee.live.is_some())
    }
}

/// What several processes lack, each line once.
fn all_of(errors: impl Iterator<Item = anyhow::Error>) -> anyhow::Error {
    let mut lines: Vec<String> = Vec::new();
    for error in errors {
        if let Some(PlanError::NoMatch(text)) = error.downcast_ref() {
            for line in text.lines() {
                if !lines.iter().any(|known| known == line) {
                    lines.push(line.to_owned());
                }
            }
        }
    }
    PlanError::NoMatch(lines.join("\n")).into()
}

fn is_no_match(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(PlanError::NoMatch(_)))
}
