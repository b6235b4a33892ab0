//! USDT probes: the places that a probe's text means in a module, by the notes of its file, and the
//! semaphores in the target that say somebody watches.
//!
//! A semaphore is a word of 16 bits that the program tests before it prepares arguments. It is 1 more
//! than it was while a probe that has it is armed, in every process on its own; a child that is forked
//! has inherited that. Invariant: a word is written only in writable memory of the module that the
//! note is of, and is lowered only where it was raised.

use std::collections::{BTreeMap, BTreeSet};

use super::module::Module;
use super::tracee::Tracee;
use crate::base::{Addr, Span, suggest};
use crate::probe::Text;
use crate::spec::{Location, NameText, Pattern, ProbeSpec};
use crate::symbols::Note;
use crate::sys::mem::Memory;
use crate::sys::procfs::Mapping;

/// Bytes of a semaphore.
pub(super) const SEMAPHORE: u64 = 2;

/// Which notes a probe's text means.
pub(super) struct Notes<'a> {
    provider: Option<Pattern>,
    name: Pattern,
    /// What was meant, if it is one name.
    exact: Option<&'a str>,
    args: &'a [(u8, String)],
}

impl<'a> Notes<'a> {
    /// `None` for a probe of another kind; an error for a pattern that is none.
    pub(super) fn of(spec: &'a ProbeSpec) -> Option<Result<Notes<'a>, String>> {
        let Location::Usdt {
            provider,
            name,
            args,
        } = &spec.location
        else {
            return None;
        };
        let read = || {
            Ok(Notes {
                provider: provider.as_ref().map(Pattern::new).transpose()?,
                name: Pattern::new(name)?,
                exact: match name {
                    NameText::Exact(name) => Some(name),
                    _ => None,
                },
                args,
            })
        };
        Some(read())
    }

    /// The notes of a module that are meant.
    pub(super) fn in_module<'m>(&'m self, module: &'m Module) -> impl Iterator<Item = &'m Note> {
        let passed = |note: &Note| {
            let same = |(n, text): &(u8, String)| note.args.get(usize::from(*n)) == Some(text);
            self.args.iter().all(same)
        };
        self.named(module).filter(move |note| passed(note))
    }

    /// The same, however they pass their arguments.
    fn named<'m>(&'m self, module: &'m Module) -> impl Iterator<Item = &'m Note> {
        let meant = |note: &Note| {
            let provider = self.provider.as_ref();
            provider.is_none_or(|provider| provider.matches(&note.provider))
                && self.name.matches(&note.name)
        };
        module.notes().iter().filter(move |note| meant(note))
    }

    /// Why there are none in these modules.
    pub(super) fn missing(&self, modules: &[&Module]) -> String {
        let place = match modules {
            [one] => one.name.as_str(),
            _ => "the program and its libraries",
        };
        let notes = || modules.iter().flat_map(|module| module.notes());
        if notes().next().is_none() {
            return format!("there are no USDT probes in {place}");
        }
        if let Some(module) = modules.iter().find(|m| self.named(m).next().is_some()) {
            let name = &module.name;
            return format!(
                "the arguments in {name} are not where the file that was looked at has them"
            );
        }
        let message = format!("there is no such USDT probe in {place}");
        let Some(exact) = self.exact else {
            return message;
        };
        // Who names another provider is told the right one.
        let close = suggest::closest(exact, notes().map(|note| note.name.as_str()));
        match notes().find(|note| Some(note.name.as_str()) == close) {
            Some(note) => format!("{message}; did you mean {}?", note.full_name()),
            None => message,
        }
    }
}

/// Semaphores of a process that are, or were, raised by us.
#[derive(Clone, Debug, Default)]
pub(super) struct Semaphores {
    held: BTreeMap<Addr, Held>,
    /// Whether sites or mappings changed since it was looked.
    pub(super) stale: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// What it was.
    before: u16,
    /// Whether it is 1 more now.
    raised: bool,
}

impl Held {
    /// Whether memory that was forked holds our 1: it may be from before, or from after.
    fn is_inherited(self, now: u16) -> bool {
        now > self.before
    }
}

impl Semaphores {
    /// Forgets words that are not mapped any more; says which.
    pub(super) fn gone(&mut self, span: Span) -> Vec<Addr> {
        let gone: Vec<Addr> = self
            .held
            .keys()
            .copied()
            .filter(|&at| span.contains(at))
            .collect();
        self.held.retain(|at, _| !span.contains(*at));
        gone
    }
}

fn read(memory: &Memory, at: Addr) -> Option<u16> {
    let mut bytes = [0; SEMAPHORE as usize];
    memory.read(at, &mut bytes).ok()?;
    Some(u16::from_le_bytes(bytes))
}

fn write(memory: &Memory, at: Addr, value: u16) -> bool {
    memory.write(at, &value.to_le_bytes()).is_ok()
}

impl Tracee {
    /// Raises the semaphores of probes that are armed, and lowers the others. A library's data may be
    /// mapped after its code: then it is done when the loader tells next.
    pub(super) fn tend_semaphores(&mut self) {
        if !std::mem::take(&mut self.semaphores.stale) {
            return;
        }
        let held = &self.semaphores.held;
        if self.plan.semaphores.is_empty() && held.is_empty() {
            return;
        }
        let armed = |at: Addr| {
            let text = self.registry.site(at).and_then(|site| site.text());
            matches!(text, Some(Text::Trap | Text::Jump))
        };
        let mut wanted = BTreeSet::new();
        if !self.letting_go {
            let planned = self.plan.wanted.iter().filter(|planned| armed(planned.at));
            wanted.extend(planned.filter_map(|planned| self.plan.semaphores.get(&planned.id)));
        }
        let raised = |at: &Addr| held.get(at).is_some_and(|held| held.raised);
        let raise: Vec<Addr> = wanted.iter().copied().filter(|at| !raised(at)).collect();
        let lower = held
            .iter()
            .filter(|(at, held)| held.raised && !wanted.contains(at));
        let lower: Vec<Addr> = lower.map(|(&at, _)| at).collect();
        if raise.is_empty() && lower.is_empty() {
            return;
        }
        // What cannot be read now has ended.
        let Ok(maps) = self.process.maps() else {
            return;
        };
        for at in lower {
            self.lower(at, &maps);
        }
        for at in raise {
            self.raise(at, &maps);
        }
    }

    /// Whether a word lies in memory of a module that the program itself may write.
    fn is_semaphore(&self, at: Addr, maps: &[Mapping]) -> bool {
        let word = Span::new(at, SEMAPHORE);
        let holds = |mapping: &Mapping| {
            mapping.write
                && !mapping.shared
                && mapping.span.start <= word.start
                && word.end <= mapping.span.end
        };
        let mut modules = self.plan.modules.iter();
        let module = modules.find(|module| module.span.contains(at));
        module.is_some_and(|module| {
            let ours = |mapping: &Mapping| module.is_of(mapping) || mapping.inode == 0;
            maps.iter().any(|mapping| module.has_text(mapping))
                && maps.iter().any(|mapping| holds(mapping) && ours(mapping))
        })
    }

    fn raise(&mut self, at: Addr, maps: &[Mapping]) {
        if !self.is_semaphore(at, maps) {
            return;
        }
        let Some(before) = read(&self.process.memory, at) else {
            return;
        };
        let Some(now) = before.checked_add(1) else {
            return;
        };
        if let Some(journal) = &mut self.journal {
            // Without room a word stays raised if we are killed: that costs time, no more.
            let _ = journal.about_to_raise(at, before);
        }
        if write(&self.process.memory, at, now) {
            let raised = true;
            self.semaphores.held.insert(at, Held { before, raised });
        }
    }

    fn lower(&mut self, at: Addr, maps: &[Mapping]) {
        let now = read(&self.process.memory, at).filter(|_| self.is_semaphore(at, maps));
        // Others may have raised it too; one who has set it to 0 has taken ours.
        if let Some(less) = now.and_then(|now| now.checked_sub(1)) {
            write(&self.process.memory, at, less);
        }
        if let Some(held) = self.semaphores.held.get_mut(&at) {
            held.raised = false;
        }
        if let Some(journal) = &mut self.journal {
            journal.settled([at]);
        }
    }

    /// The semaphores of a forked child that is traced: what it inherited is its own to lower.
    pub(super) fn inherit_semaphores(&mut self, maker: &Semaphores) {
        for (&at, &held) in &maker.held {
            let now = read(&self.process.memory, at);
            if now.is_some_and(|now| held.is_inherited(now)) {
                let raised = true;
                self.semaphores.held.insert(at, Held { raised, ..held });
                if let Some(journal) = &mut self.journal {
                    let _ = journal.about_to_raise(at, held.before);
                }
            }
        }
        self.semaphores.stale = true;
        self.tend_semaphores();
    }

    /// The same in a child that is let go.
    pub(super) fn lower_inherited(&self, memory: &Memory) {
        for (&at, held) in &self.semaphores.held {
            if let Some(now) = read(memory, at).filter(|&now| held.is_inherited(now)) {
                write(memory, at, now - 1);
            }
        }
    }
}
