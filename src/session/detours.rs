//! Detours: built before the first byte of their site points to them, found again by any address
//! inside. Templates are shared; code memory is handed out in order and never taken back while
//! the session lives (invariant 7 is kept at detach), but a site that is to do again what it did
//! before enters the detour that did it.

use std::collections::{BTreeMap, HashMap};

use crate::abi;
use crate::arch::native::emit::{Called, Environment, Place, Section, Template};
use crate::arch::native::relocate::{Copy, Unrelocatable, relocate, skip};
use crate::base::{Addr, ProbeId};
use crate::probe::Refusal;
use crate::program::Program;
use crate::target::{Injected, Slab};

/// Detours start here, so that a short one lies in one cache line more often.
const ALIGN: u64 = 16;
/// Registers that detours prefer to use where they are free, by DWARF number: those that are
/// arguments least often.
const PREFERRED: [u8; 9] = [11, 10, 0, 9, 8, 2, 1, 4, 5];

/// The register that a detour uses without saving it, of those that are dead at its site.
pub(super) fn free_register(dead: u16) -> Option<u8> {
    PREFERRED.into_iter().find(|number| dead >> number & 1 != 0)
}

/// What is known of a site's code when its detour is built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Displaced<'a> {
    pub(super) at: Addr,
    pub(super) bytes: &'a [u8],
    pub(super) flags_live: bool,
    /// Registers dead at the site, a bit for each DWARF number.
    pub(super) dead: u16,
    /// Whether all of it does nothing: then nothing is copied.
    pub(super) nops: bool,
}

impl Displaced<'_> {
    /// The copy of the displaced instructions for `dest`.
    pub(super) fn copy(&self, dest: Addr) -> Result<Copy, Unrelocatable> {
        match u8::try_from(self.bytes.len()) {
            Ok(len) if self.nops => skip(self.at.0, len, dest.0),
            _ => relocate(self.at.0, self.bytes, dest.0),
        }
    }
}

/// A probe of a detour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    pub(super) id: ProbeId,
    /// Class of its program.
    pub(super) class: u32,
    /// What it is called.
    pub(super) called: Called,
}

/// One detour.
#[derive(Clone, Debug)]
pub(super) struct Detour {
    pub(super) site: Addr,
    /// Where it starts: what a jump leads to and a breakpoint hit enters.
    pub(super) start: Addr,
    template: usize,
    /// The displaced instructions.
    bytes: Box<[u8]>,
    /// Length of the displaced instructions.
    len: u64,
    copy: Addr,
    cold: Addr,
    map: Copy,
}

/// Where in a detour an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    /// At its first instruction: the same as at the site.
    Start(Addr),
    /// In the handlers; a fault there goes on at the second address, if one is meant to happen.
    Handlers { fixup: Option<Addr> },
    /// At the copy of the displaced instruction at this address, with the stack pointer lower by
    /// so many bytes.
    Displaced {
        site: Addr,
        original: Addr,
        pushed: u8,
    },
    /// Somewhere in the copy between instructions of the original.
    Between,
}

#[derive(Clone, Debug)]
struct Heap {
    slab: Slab,
    hot: u64,
    cold: u64,
}

/// What a detour does: for these probes, with all displaced instructions or the first alone.
pub(super) type Signature = (Vec<ProbeId>, bool);

/// A detour that a site had before.
#[derive(Clone, Debug)]
struct Past {
    signature: Signature,
    number: usize,
}

/// All detours of a target.
#[derive(Clone, Debug)]
pub(super) struct Detours {
    environment: Environment,
    /// Whether returns must match calls: an emulated call would end the target.
    shadow_stack: bool,
    /// Distinct programs, by class.
    classes: Vec<Program>,
    templates: Vec<Template>,
    by_key: HashMap<(Vec<u32>, bool, Option<u8>), usize>,
    heaps: Vec<Option<Heap>>,
    all: Vec<Detour>,
    by_site: HashMap<Addr, usize>,
    /// Detours that sites had before, and what for.
    past: HashMap<Addr, Vec<Past>>,
    hot: BTreeMap<Addr, usize>,
    cold: BTreeMap<Addr, usize>,
}

impl Detours {
    pub(super) fn new(
        environment: Environment,
        slabs: &[Option<Slab>],
        shadow_stack: bool,
    ) -> Detours {
        let mut detours = Detours {
            environment,
            shadow_stack,
            classes: Vec::new(),
            templates: Vec::new(),
            by_key: HashMap::new(),
            heaps: Vec::new(),
            all: Vec::new(),
            by_site: HashMap::new(),
            past: HashMap::new(),
            hot: BTreeMap::new(),
            cold: BTreeMap::new(),
        };
        detours.add_slabs(slabs);
        detours
    }

    /// Where all that detours refer to lies.
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Takes code memory that was added, by the number of its slab.
    pub(super) fn add_slabs(&mut self, slabs: &[Option<Slab>]) {
        let heap = |slab: &Option<Slab>| {
            slab.map(|slab| Heap {
                slab,
                hot: abi::CODE_HEAD,
                cold: slab.span.len(),
            })
        };
        self.heaps.extend(slabs.iter().map(heap));
    }

    /// How many programs are known.
    pub(super) fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Takes more programs; they get the numbers that follow.
    pub(super) fn add_classes(&mut self, more: &[Program]) {
        self.classes.extend_from_slice(more);
    }

    fn template(
        &mut self,
        classes: Vec<u32>,
        flags_live: bool,
        dead: u16,
    ) -> Result<usize, Refusal> {
        let free = free_register(dead);
        let key = (classes, flags_live, free);
        if let Some(&index) = self.by_key.get(&key) {
            return Ok(index);
        }
        let programs: Vec<Program> = key
            .0
            .iter()
            .filter_map(|&class| self.classes.get(class as usize).cloned())
            .collect();
        let template = Template::new(&programs, &self.environment, flags_live, free)
            .map_err(|error| Refusal::Window(error.to_string().into()))?;
        self.templates.push(template);
        self.by_key.insert(key, self.templates.len() - 1);
        Ok(self.templates.len() - 1)
    }

    /// Takes the detour that a site had before for the same; the one it has is remembered. False if
    /// there was none, or the code is another by now.
    fn again(
        &mut self,
        displaced: &Displaced<'_>,
        had: Option<Signature>,
        wanted: &Signature,
    ) -> bool {
        let at = displaced.at;
        let past = self.past.entry(at).or_default();
        if let (Some(signature), Some(&number)) = (had, self.by_site.get(&at))
            && !past.iter().any(|past| past.number == number)
        {
            past.push(Past { signature, number });
        }
        let same = |past: &&Past| {
            let detour = self.all.get(past.number);
            past.signature == *wanted
                && detour.is_some_and(|detour| *detour.bytes == *displaced.bytes)
        };
        let Some(number) = past.iter().find(same).map(|past| past.number) else {
            return false;
        };
        self.by_site.insert(at, number);
        true
    }

    /// Builds the detour of a site for these probes in a slab, if it had none for them before (`had`
    /// says what its present one is for). That stays where it is: threads may be in it.
    pub(super) fn build(
        &mut self,
        injected: &Injected,
        (slab, had): (usize, Option<Signature>),
        displaced: Displaced<'_>,
        (wanted, probes): (&Signature, &[Armed]),
    ) -> Result<(), Refusal> {
        // Most sites never have another.
        if self.by_site.contains_key(&displaced.at) && self.again(&displaced, had, wanted) {
            return Ok(());
        }
        let classes = probes.iter().map(|probe| probe.class).collect();
        let index = self.template(classes, displaced.flags_live, displaced.dead)?;
        let template = &self.templates[index];
        let heap = self
            .heaps
            .get_mut(slab)
            .and_then(Option::as_mut)
            .ok_or(Refusal::NoRoom)?;
        let start = heap.slab.span.start + heap.hot;
        let copy = start + template.hot_len() as u64;
        let map = displaced
            .copy(copy)
            .map_err(|error| Refusal::Window(error.to_string().into()))?;
        if self.shadow_stack && map.call_jump.is_some() {
            let why = "a call in the window, and the program has a shadow stack";
            return Err(Refusal::Window(why.into()));
        }
        let used = heap.hot + template.hot_len() as u64 + map.bytes.len() as u64;
        let cold_offset = heap
            .cold
            .checked_sub(template.cold_len() as u64)
            .ok_or(Refusal::NoRoom)?;
        if used > cold_offset {
            return Err(Refusal::NoRoom);
        }
        let cold = heap.slab.span.start + cold_offset;
        let ids: Vec<(ProbeId, Called)> = probes
            .iter()
            .map(|probe| (probe.id, probe.called))
            .collect();
        let (mut hot_bytes, cold_bytes) = template
            .place(&ids, displaced.at.0, start.0, cold.0)
            .ok_or(Refusal::NoRoom)?;
        hot_bytes.extend_from_slice(&map.bytes);
        // Without a cold part its place may be the end of the slab.
        let cold_written = cold_bytes.is_empty() || injected.write_code(cold, &cold_bytes);
        if !(cold_written && injected.write_code(start, &hot_bytes)) {
            return Err(Refusal::NoRoom);
        }
        heap.hot = used.next_multiple_of(ALIGN);
        heap.cold = cold_offset;
        let len = displaced.bytes.len() as u64;
        self.all.push(Detour {
            site: displaced.at,
            start,
            template: index,
            bytes: displaced.bytes.into(),
            len,
            copy,
            cold,
            map,
        });
        let number = self.all.len() - 1;
        self.by_site.insert(displaced.at, number);
        self.hot.insert(start, number);
        if !cold_bytes.is_empty() {
            self.cold.insert(cold, number);
        }
        Ok(())
    }

    /// The detour of a site.
    pub(super) fn of(&self, site: Addr) -> Option<&Detour> {
        self.all.get(*self.by_site.get(&site)?)
    }

    /// Where an address is, if it is in a detour.
    pub(super) fn locate(&self, at: Addr) -> Option<Inside> {
        let before = |map: &BTreeMap<Addr, usize>| {
            map.range(..=at)
                .next_back()
                .and_then(|(_, &number)| self.all.get(number))
        };
        if let Some(detour) = before(&self.hot) {
            let template = &self.templates[detour.template];
            let offset = (at.0 - detour.start.0) as usize;
            if offset == 0 {
                return Some(Inside::Start(detour.site));
            }
            if offset < template.hot_len() {
                return Some(self.handlers(detour, Section::Hot, offset));
            }
            let offset = offset - template.hot_len();
            if offset < detour.map.bytes.len() {
                return Some(detour.displaced(offset));
            }
        }
        let detour = before(&self.cold)?;
        let offset = (at.0 - detour.cold.0) as usize;
        (offset < self.templates[detour.template].cold_len())
            .then(|| self.handlers(detour, Section::Cold, offset))
    }

    /// The site whose detour has an address, known to be in one, in either of its parts.
    pub(super) fn site_of(&self, at: Addr) -> Option<Addr> {
        let parts = [&self.hot, &self.cold];
        let before = parts.map(|map| map.range(..=at).next_back());
        let nearest = before
            .into_iter()
            .flatten()
            .max_by_key(|(start, _)| **start);
        self.all.get(*nearest?.1).map(|detour| detour.site)
    }

    fn handlers(&self, detour: &Detour, section: Section, offset: usize) -> Inside {
        let fixup = self.templates[detour.template]
            .fixup(Place { section, offset })
            .map(|place| {
                let base = match place.section {
                    Section::Hot => detour.start,
                    Section::Cold => detour.cold,
                };
                base + place.offset as u64
            });
        Inside::Handlers { fixup }
    }
}

impl Detour {
    /// What stands at an offset of the copy.
    fn displaced(&self, offset: usize) -> Inside {
        let at = |from: u64, pushed| Inside::Displaced {
            site: self.site,
            original: self.site + from,
            pushed,
        };
        let original = u16::try_from(offset)
            .ok()
            .and_then(|offset| self.map.original_of(offset));
        match original {
            Some((from, pushed)) => at(u64::from(from), pushed),
            // The jump back.
            None if self.map.falls_through && offset + 5 == self.map.bytes.len() => at(self.len, 0),
            None => Inside::Between,
        }
    }

    /// Where in the copy a thread goes on that stands at `at`, strictly inside the displaced
    /// range.
    pub(super) fn continuation(&self, at: Addr) -> Option<Addr> {
        let offset = u8::try_from(at.0.checked_sub(self.site.0)?).ok()?;
        self.map
            .offset_of(offset)
            .map(|offset| self.copy + u64::from(offset))
    }
}

/// Most bytes a detour takes for these programs: to size slabs by.
pub(super) fn most(template: &Template) -> u64 {
    let copy = crate::arch::native::relocate::MAX_COPY as u64;
    (template.hot_len() as u64 + copy).next_multiple_of(ALIGN) + template.cold_len() as u64
}
