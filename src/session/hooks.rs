//! Breakpoints of our own: where the loader tells that something was mapped, where a program begins,
//! where indirect functions are chosen. They are sites like all others, with a probe that runs
//! nothing and needs a stop; users do not see them.

use std::collections::{HashMap, HashSet};

use crate::base::{Addr, ProbeId, Tid};

/// Numbers of hooks come down from here; those of probes go up from 0.
const FIRST: u32 = u32::MAX - 1;

/// What a stop at an address means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hook {
    /// The program's entry point.
    Entry,
    /// The loader has mapped, or is about to map or unmap, something (`r_brk` of `<link.h>`).
    Loader,
    /// The same where no breakpoint may be: no stop, but a detour that asks us to come and waits.
    Asks,
    /// An unwinder looks for frames: no stop, but a detour that tells of those of thunks.
    Unwinder,
    /// The resolver of an indirect function.
    Resolver,
    /// Where a resolver returns to.
    Chosen,
}

/// All hooks of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Hooks {
    at: HashMap<Addr, Vec<(ProbeId, Hook)>>,
    made: u32,
    /// Resolvers that run: which, and where the stack will be when they have returned.
    running: HashMap<Tid, Vec<(Addr, Addr)>>,
}

impl Hooks {
    /// Whether a probe's number is that of a hook.
    pub(super) fn is_hook(&self, id: ProbeId) -> bool {
        id.0 > FIRST - self.made
    }

    /// Whether something is to be done when this address is reached.
    pub(super) fn holds(&self, at: Addr) -> bool {
        self.at.contains_key(&at)
    }

    /// What is to be done when this address is reached.
    pub(super) fn at(&self, at: Addr) -> Vec<Hook> {
        let hooks = self.at.get(&at).into_iter().flatten();
        hooks.map(|(_, hook)| *hook).collect()
    }

    /// Where a hook with this number stands that is no stop, but a detour which does something.
    pub(super) fn running(&self, id: ProbeId) -> Option<(Addr, Hook)> {
        let runs = |hook: Hook| matches!(hook, Hook::Asks | Hook::Unwinder);
        let all = self.at.iter().filter(|_| self.is_hook(id));
        let mut all = all.flat_map(|(&at, hooks)| hooks.iter().map(move |hook| (at, hook)));
        let (at, (_, hook)) = all.find(|(_, (other, hook))| *other == id && runs(*hook))?;
        Some((at, *hook))
    }

    /// Hooks that ask, and where.
    pub(super) fn asking(&self) -> impl Iterator<Item = (Addr, ProbeId)> {
        let asks = |(&at, hooks): (&Addr, &Vec<(ProbeId, Hook)>)| {
            let hook = hooks.iter().find(|(_, hook)| *hook == Hook::Asks);
            hook.map(|(id, _)| (at, *id))
        };
        self.at.iter().filter_map(asks)
    }

    /// A new hook, unless it is there: the number of its probe.
    pub(super) fn add(&mut self, at: Addr, hook: Hook) -> Option<ProbeId> {
        let here = self.at.entry(at).or_default();
        if here.iter().any(|(_, other)| *other == hook) {
            return None;
        }
        let id = ProbeId(FIRST - self.made);
        self.made += 1;
        here.push((id, hook));
        Some(id)
    }

    /// Forgets the hooks that `drop` says; their probes and where they are.
    pub(super) fn remove(&mut self, drop: impl Fn(Addr, Hook) -> bool) -> Vec<ProbeId> {
        let mut gone = Vec::new();
        for (&at, hooks) in &mut self.at {
            gone.extend(
                hooks
                    .extract_if(.., |(_, hook)| drop(at, *hook))
                    .map(|(id, _)| id),
            );
        }
        self.at.retain(|_, hooks| !hooks.is_empty());
        gone
    }

    /// Every hook with its address and the number of its probe.
    pub(super) fn all(&self) -> impl Iterator<Item = (Addr, ProbeId)> {
        let each = |(&at, hooks)| -> Vec<(Addr, ProbeId)> {
            let hooks: &Vec<(ProbeId, Hook)> = hooks;
            hooks.iter().map(|(id, _)| (at, *id)).collect()
        };
        self.at.iter().flat_map(each)
    }

    /// Addresses with hooks.
    pub(super) fn addresses(&self) -> HashSet<Addr> {
        self.at.keys().copied().collect()
    }

    /// A thread runs a resolver that returns with this stack pointer.
    pub(super) fn resolving(&mut self, tid: Tid, resolver: Addr, sp: Addr) {
        let calls = self.running.entry(tid).or_default();
        calls.retain(|(_, other)| *other > sp);
        calls.push((resolver, sp));
    }

    /// A thread has returned with this stack pointer: from which resolver, if from one.
    pub(super) fn resolved(&mut self, tid: Tid, sp: Addr) -> Option<Addr> {
        let calls = self.running.get_mut(&tid)?;
        calls.retain(|(_, other)| *other >= sp);
        let (resolver, _) = calls.pop_if(|(_, other)| *other == sp)?;
        Some(resolver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_there_once_and_its_number_is_no_probes() {
        let mut hooks = Hooks::default();
        let id = hooks.add(Addr(1), Hook::Entry).unwrap();
        assert_eq!(hooks.add(Addr(1), Hook::Entry), None);
        assert!(hooks.is_hook(id) && !hooks.is_hook(ProbeId(0)));
        assert_eq!(hooks.remove(|_, hook| hook == Hook::Entry), [id]);
        assert!(!hooks.holds(Addr(1)));
    }

    #[test]
    fn the_inner_of_two_resolvers_returns_first() {
        let (mut hooks, tid) = (Hooks::default(), Tid(1));
        hooks.resolving(tid, Addr(1), Addr(0x100));
        hooks.resolving(tid, Addr(2), Addr(0x80));
        assert_eq!(hooks.resolved(tid, Addr(0x90)), None);
        hooks.resolving(tid, Addr(2), Addr(0x80));
        assert_eq!(hooks.resolved(tid, Addr(0x80)), Some(Addr(2)));
        assert_eq!(hooks.resolved(tid, Addr(0x100)), Some(Addr(1)));
        assert_eq!(hooks.resolved(tid, Addr(0x100)), None);
    }
}
