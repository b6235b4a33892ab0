//! From what the user asked to what is to be armed: which modules, which entries, which program
//! each probe runs, what stands at each site. Knows the target's mappings, changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ground::{Ground, Verdict, ground};
use super::module::Module;
use super::resolve::{Asked, Indirect};
use super::return_rules;
use super::totals::Records;
use super::usdt::SEMAPHORE;
use super::wanted::{Memory, Pending, Wanted};
use crate::abi;
use crate::analysis::Cache;
use crate::arch::native::scan::Refusal as ScanRefusal;
use crate::base::{Addr, LinkAddr, ProbeId, Span};
use crate::data::{Name, ProbeInfo, ProbeKind};
use crate::probe::Refusal;
use crate::program::{Moment, Program};
use crate::spec::Diagnostic;

/// Modules within this many bytes share a slab of code.
const GROUP: u64 = 1 << 30;

/// Why there is nothing to trace.
#[derive(Debug)]
pub enum PlanError {
    /// No probe matched anything; what to say.
    NoMatch(String),
    /// A probe's text is wrong for what it names.
    Spec(Vec<Diagnostic>),
    /// Anything else.
    Other(anyhow::Error),
}

impl std::fmt::Display for PlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PlanError::NoMatch(text) => write!(f, "no probe matched: {text}"),
            PlanError::Spec(wrong) => wrong.iter().try_for_each(|diagnostic| diagnostic.fmt(f)),
            PlanError::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for PlanError {}

impl From<anyhow::Error> for PlanError {
    fn from(error: anyhow::Error) -> Self {
        PlanError::Other(error)
    }
}

/// One probe of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Its number.
    pub id: ProbeId,
    /// Where it is.
    pub at: Addr,
    /// Whether it stops the target.
    pub stop: bool,
}

/// What is to be armed. It grows as modules come.
#[derive(Clone, Default)]
pub struct Plan {
    /// What is mapped.
    pub modules: Vec<Module>,
    /// Every probe, by number.
    pub probes: Vec<Arc<ProbeInfo>>,
    /// Where the probes go that can be armed.
    pub wanted: Vec<Planned>,
    /// Class of each probe's program.
    pub class: Vec<u32>,
    /// Distinct programs.
    pub classes: Vec<Program>,
    /// What stands at each site.
    pub ground: HashMap<Addr, Ground>,
    /// What each slab of code must reach.
    pub slabs: Vec<Span>,
    /// Sites that stop the target.
    pub stops: HashSet<Addr>,
    /// What programs need of memory.
    pub(super) memory: Memory,
    /// Probes that cannot be armed, and why.
    pub refused: HashMap<ProbeId, Refusal>,
    /// Why no return is probed, where something here unwinds the stack that is not known.
    pub(super) no_returns: Option<Refusal>,
    /// What a user should know.
    pub notes: Vec<String>,
    /// Whether all was there that was to be there at the start: what is wrong with a probe at a place
    /// that comes later is no reason to stop.
    pub(super) complete: bool,
    /// Whether it was said how stacks are walked.
    pub(super) stacks_noted: bool,
    /// How each probe's text fared.
    pub(super) asked: Vec<Asked>,
    /// Indirect functions that are probed once the loader has chosen.
    pub(super) indirect: Vec<Indirect>,
    /// The words that are to be raised while a probe is armed.
    pub(super) semaphores: HashMap<ProbeId, Addr>,
    class_of: HashMap<Program, u32>,
    /// The probe's text that each probe came from.
    spec_of: Vec<usize>,
    /// Numbers of probes whose module is gone, for when it comes again, or that were removed.
    free: HashMap<Place, Vec<ProbeId>>,
    /// Slabs that are full, and those that are filled in their place.
    pub(super) continued: HashMap<usize, usize>,
    /// Numbers of the probes' texts that were added for other processes.
    pub(super) others: HashSet<usize>,
    /// Probes that were removed, and where none is to come.
    removed: HashSet<ProbeId>,
    bare: HashSet<Place>,
    /// What stood at sites whose module is gone.
    past: HashMap<Addr, Ground>,
}

/// What a probe is wherever its module is mapped: module, address in it, number of its text, and whether
/// it is hit at returns.
type Place = (String, LinkAddr, usize, bool);

impl Plan {
    /// Bytes of the largest record that a program leaves; 0 when none does.
    pub fn largest_record(&self) -> u32 {
        let sizes = self.classes.iter().map(Program::largest_record);
        sizes.max().unwrap_or(0)
    }

    /// Bytes of the record that a probe leaves; 0 when it leaves none.
    pub(super) fn record_of(&self, id: ProbeId) -> u32 {
        let class = self.class.get(id.0 as usize);
        let program = class.and_then(|&class| self.classes.get(class as usize));
        program.map_or(0, Program::largest_record)
    }

    /// Which hits of a probe leave records.
    pub(super) fn records_of(&self, id: ProbeId) -> Records {
        let class = self.class.get(id.0 as usize);
        match class.and_then(|&class| self.classes.get(class as usize)) {
            Some(program) if program.largest_record() > 0 => match program.moment {
                Moment::Return { ends: true, .. } => Records::HitsAndEnds,
                _ => Records::Hits,
            },
            _ => Records::None,
        }
    }

    /// Whether a probe counts its hits.
    pub(super) fn counts(&self, id: ProbeId) -> bool {
        let class = self.class.get(id.0 as usize);
        let program = class.and_then(|&class| self.classes.get(class as usize));
        program.is_some_and(Program::counts)
    }

    /// How messages call an address: the name of a probe there, or the address.
    pub fn name_at(&self, at: Addr) -> String {
        let probe = self.wanted.iter().find(|wanted| wanted.at == at);
        match probe.and_then(|wanted| self.probes.get(wanted.id.0 as usize)) {
            Some(info) => format!("{}:{}", info.module, info.name),
            None => at.to_string(),
        }
    }
}

/// One place that a probe goes to.
pub(super) struct Site {
    pub(super) spec: usize,
    pub(super) module: usize,
    pub(super) at: LinkAddr,
    pub(super) name: Name,
    pub(super) program: Program,
    pub(super) args: Vec<String>,
    pub(super) stop: bool,
    pub(super) semaphore: Option<LinkAddr>,
}

/// Makes the plan for these modules, which are all there are.
pub fn plan(modules: Vec<Module>, wanted: &Wanted) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    plan.grow(modules, wanted, Age::Relocated)?;
    plan.require_match(wanted, wanted.pending)?;
    Ok(plan)
}

/// Whether the loader has done its work on a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It was mapped a moment ago: what indirect functions stand for is not known.
    Mapped,
    /// Yes.
    Relocated,
}

impl Plan {
    /// Takes in modules that were mapped: what is to be armed in them.
    pub(super) fn grow(
        &mut self,
        more: Vec<Module>,
        wanted: &Wanted,
        age: Age,
    ) -> Result<Vec<Planned>, PlanError> {
        let first = self.modules.len();
        self.memory = wanted.memory;
        self.modules.extend(more);
        let sites = super::resolve::resolve(self, first, (wanted, None), age)?;
        self.place(sites, wanted)
    }

    /// Looks for the places of one probe's text in all modules: those where it is not yet.
    pub(super) fn add(
        &mut self,
        number: usize,
        wanted: &Wanted,
    ) -> Result<Vec<Planned>, PlanError> {
        let before = self.asked.get(number).map_or(0, |asked| asked.matched);
        // What is wrong with it is told to who asks.
        let complete = std::mem::replace(&mut self.complete, false);
        let found = super::resolve::resolve(self, 0, (wanted, Some(number)), Age::Relocated);
        self.complete = complete;
        let mut sites = found?;
        if self
            .asked
            .get(number)
            .is_none_or(|asked| asked.matched == before)
        {
            let why = wanted.specs.get(number);
            let why = why.map(|spec| super::resolve::why_not(&self.modules, wanted, spec));
            return Err(PlanError::NoMatch(why.unwrap_or_default()));
        }
        let there = self.wanted.iter().map(|planned| planned.id);
        let there = there.filter(|id| self.spec_of(*id) == Some(number));
        let there: HashSet<Place> = there.filter_map(|id| self.place_of_probe(id)).collect();
        sites.retain(|site| !there.contains(&self.place_of(site)));
        self.bare.retain(|(_, _, spec, _)| *spec != number);
        self.place(sites, wanted)
    }

    /// Something was to be there by now: says what was not found.
    pub(super) fn require_match(
        &mut self,
        wanted: &Wanted,
        pending: Pending,
    ) -> Result<(), PlanError> {
        self.complete = true;
        let unmatched: Vec<String> = self.unmatched(wanted).map(|(_, why)| why).collect();
        let nothing = self.asked.iter().all(|asked| asked.matched == 0);
        let refuse = match pending {
            Pending::Ignore => false,
            // A program may have no probe but those of its own: nothing is missing then.
            Pending::Warn => nothing && !wanted.specs.is_empty(),
            Pending::Error => !unmatched.is_empty(),
        };
        if refuse {
            return Err(PlanError::NoMatch(unmatched.join("\n")));
        }
        if self.probes.is_empty() && self.indirect.is_empty() && !nothing {
            let texts = wanted.specs.iter().map(|spec| spec.text.as_str());
            let all = texts.collect::<Vec<_>>().join(", ");
            return Err(PlanError::NoMatch(format!(
                "{all}: everything it matches is excluded"
            )));
        }
        Ok(())
    }

    /// Numbers of the probes' texts that name nothing that is mapped, with the reason.
    pub fn unmatched<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = (usize, String)> {
        let all = wanted.specs.iter().zip(&self.asked).enumerate();
        let unmatched =
            all.filter(|(number, (_, asked))| asked.matched == 0 && !self.others.contains(number));
        unmatched.map(|(number, (spec, _))| {
            let why = super::resolve::why_not(&self.modules, wanted, spec);
            (number, why)
        })
    }

    /// Gives every place a number and looks at what stands there: what is to be armed.
    pub(super) fn place(
        &mut self,
        sites: Vec<Site>,
        wanted: &Wanted,
    ) -> Result<Vec<Planned>, PlanError> {
        let all = self.probes.len() + sites.len();
        if let Some(most) = wanted.max_probes.filter(|&most| all > most as usize) {
            return Err(PlanError::Other(anyhow::anyhow!(
                "{all} probes match, more than --max-probes {most} allows"
            )));
        }
        if all > 1 << abi::PROBE_BITS {
            return Err(PlanError::Other(anyhow::anyhow!(
                "{all} probes match, more than the {} there is room for",
                1 << abi::PROBE_BITS
            )));
        }
        let mut grown = Vec::new();
        let mut used: Vec<usize> = sites.iter().map(|site| site.module).collect();
        used.sort_unstable();
        used.dedup();
        let slab_of = slabs(&self.modules, &used, &mut self.slabs);
        // Probes inside functions need the whole file swept: once for each module.
        let mut inside: HashMap<usize, Vec<LinkAddr>> = HashMap::new();
        for site in &sites {
            let file = self.modules[site.module].file(wanted.cache.as_ref());
            if file.at(site.at).is_none() {
                inside.entry(site.module).or_default().push(site.at);
            }
        }
        let mut windows: HashMap<(usize, LinkAddr), Verdict> = HashMap::new();
        for (module, addresses) in inside {
            (wanted.progress)(Some(&self.modules[module].name));
            self.modules[module].with_text(|text| {
                for at in addresses {
                    let verdict = (text.window_at(at.0), text.trap_at(at.0));
                    windows.insert((module, at), verdict);
                }
            });
        }
        let unwinds = if wanted.force_returns {
            Ok(())
        } else {
            return_rules::unwinds(&self.modules)
        };
        self.no_returns = unwinds.clone().err();
        for mut site in sites {
            if !self.bare.is_empty() && self.bare.contains(&self.place_of(&site)) {
                continue;
            }
            let module = &self.modules[site.module];
            if let Moment::Return { from, .. } = &mut site.program.moment {
                *from = return_rules::callers(module);
            }
            let verdict = match module.file(wanted.cache.as_ref()).at(site.at) {
                Some(entry) => (entry.verdict, entry.trap.ok_or(ScanRefusal::Undecodable)),
                None => windows
                    .get(&(site.module, site.at))
                    .copied()
                    .unwrap_or((Err(ScanRefusal::NotCode), Err(ScanRefusal::NotCode))),
            };
            let slab = slab_of.get(&site.module).copied().unwrap_or(0);
            let ground = ground(module, site.at, verdict, slab);
            let (at, stop) = (site.at.at(module.bias), site.stop);
            let ground = match ground {
                Ok(_) if site.program.at_return() => {
                    return_rules::check(module, site.at, &site.name)
                        .and(unwinds.clone())
                        .and(ground)
                }
                ground => ground,
            };
            let semaphore = site
                .semaphore
                .filter(|&at| module.is_writable(at, SEMAPHORE));
            if let (Some(word), None) = (site.semaphore, semaphore) {
                self.notes.push(format!(
                    "{}:{}: its semaphore at {word} lies in no memory that the program may write, and \
                     is left alone",
                    module.name, site.name
                ));
            }
            let semaphore = semaphore.map(|at| at.at(module.bias));
            let id = self.number(site);
            if let Some(semaphore) = semaphore {
                self.semaphores.insert(id, semaphore);
            }
            match ground {
                Ok(ground) => {
                    let past = self.past.remove(&at);
                    let past = past.filter(|past| past.same_code(&ground));
                    self.ground.entry(at).or_insert(past.unwrap_or(ground));
                    let planned = Planned { id, at, stop };
                    self.wanted.push(planned);
                    grown.push(planned);
                    if stop {
                        self.stops.insert(at);
                    }
                }
                Err(why) => {
                    self.refused.insert(id, why);
                }
            }
        }
        (wanted.progress)(None);
        Ok(grown)
    }

    fn place_of(&self, site: &Site) -> Place {
        let module = self.modules[site.module].name.clone();
        (module, site.at, site.spec, site.program.at_return())
    }

    /// The number of a probe: that which it had, or a new one.
    fn number(&mut self, site: Site) -> ProbeId {
        let place = self.place_of(&site);
        let module = &self.modules[site.module];
        let again = self.free.get_mut(&place).and_then(Vec::pop);
        let next = u32::try_from(self.probes.len()).unwrap_or(u32::MAX);
        let id = again.unwrap_or(ProbeId(next));
        let info = Arc::new(ProbeInfo {
            id,
            name: site.name,
            module: place.0,
            address: Some(site.at.at(module.bias)),
            offset: Some(site.at),
            args: site.args,
            kind: if site.program.at_return() {
                ProbeKind::Return
            } else {
                ProbeKind::Entry
            },
        });
        if again.is_some() {
            // Its program is what it was: the text and the place are.
            self.probes[id.0 as usize] = info;
            self.removed.remove(&id);
            self.refused.remove(&id);
            return id;
        }
        let class = self.class(site.program);
        self.probes.push(info);
        self.class.push(class);
        self.spec_of.push(site.spec);
        id
    }

    /// What stands at a place of a file where we want a jump of our own.
    pub(super) fn look(
        &self,
        module: usize,
        at: LinkAddr,
        slab: usize,
        cache: Option<&Cache>,
    ) -> Result<Ground, Refusal> {
        let module = &self.modules[module];
        let entry = module.file(cache).at(at);
        let entry = entry.ok_or_else(|| Refusal::Window("not a function".into()))?;
        let trap = entry.trap.ok_or(ScanRefusal::Undecodable);
        ground(module, at, (entry.verdict, trap), slab)
    }

    /// The number of a program.
    pub(super) fn class(&mut self, program: Program) -> u32 {
        let next = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        let class = self.class_of.entry(program.clone());
        *class.or_insert_with(|| {
            self.classes.push(program);
            next
        })
    }

    /// A slab that reaches a module.
    pub(super) fn slab_for(&mut self, module: usize) -> usize {
        let span = self.modules[module].span;
        let reaches = |slab: &Span| slab.start <= span.start && span.end <= slab.end;
        self.slabs.iter().position(reaches).unwrap_or_else(|| {
            self.slabs.push(span);
            self.slabs.len() - 1
        })
    }

    /// The number of the text that a probe came from.
    pub fn spec_of(&self, id: ProbeId) -> Option<usize> {
        self.spec_of.get(id.0 as usize).copied()
    }

    /// Where a probe is, wherever its module is mapped.
    fn place_of_probe(&self, id: ProbeId) -> Option<Place> {
        let index = id.0 as usize;
        let (info, &spec) = (self.probes.get(index)?, self.spec_of.get(index)?);
        let at_return = info.kind == ProbeKind::Return;
        Some((info.module.clone(), info.offset?, spec, at_return))
    }

    /// The next probe at this place has this number again.
    fn set_free(&mut self, id: ProbeId) {
        if let Some(place) = self.place_of_probe(id) {
            let free = self.free.entry(place).or_default();
            if !free.contains(&id) {
                free.push(id);
            }
        }
    }

    /// Whether a probe was removed.
    pub(super) fn is_removed(&self, id: ProbeId) -> bool {
        self.removed.contains(&id)
    }

    /// Forgets probes for good: also where their module comes again. How many there were.
    pub(super) fn remove(&mut self, ids: &[ProbeId]) -> usize {
        let before = self.removed.len();
        self.removed.extend(ids);
        let removed = &self.removed;
        self.wanted.retain(|planned| !removed.contains(&planned.id));
        for &id in ids {
            self.semaphores.remove(&id);
            self.set_free(id);
            self.bare.extend(self.place_of_probe(id));
        }
        self.removed.len() - before
    }

    /// Forgets modules that are not mapped any more: all but those that `keep`; says what they
    /// occupied.
    pub(super) fn forget(&mut self, keep: impl Fn(&Module) -> bool) -> Vec<Span> {
        let lost: Vec<Span> = self
            .modules
            .iter()
            .filter(|module| !keep(module))
            .map(|module| module.span)
            .collect();
        if lost.is_empty() {
            return lost;
        }
        self.modules.retain(keep);
        let gone = |at: Addr| lost.iter().any(|span| span.contains(at));
        let gone: Vec<Planned> = self
            .wanted
            .extract_if(.., |planned| gone(planned.at))
            .collect();
        for planned in gone {
            self.set_free(planned.id);
        }
        let gone = |at: Addr| lost.iter().any(|span| span.contains(at));
        for (at, mut ground) in self.ground.extract_if(|at, _| gone(*at)) {
            ground.jump = None;
            self.past.insert(at, ground);
        }
        self.indirect.retain(|indirect| !gone(indirect.resolver));
        lost
    }
}

/// Groups modules that one slab can reach; fills the spans, gives each module its slab.
fn slabs(modules: &[Module], used: &[usize], spans: &mut Vec<Span>) -> HashMap<usize, usize> {
    let mut order: Vec<usize> = used.to_vec();
    order.sort_by_key(|&index| modules[index].span.start);
    let mut slab_of = HashMap::new();
    // What is mapped already reaches what was mapped before.
    let before = spans.len();
    for index in order {
        let span = modules[index].span;
        match spans.get_mut(before..).and_then(<[Span]>::last_mut) {
            Some(last) if span.end.0.saturating_sub(last.start.0) < GROUP => {
                last.end = last.end.max(span.end);
            }
            _ => spans.push(span),
        }
        slab_of.insert(index, spans.len() - 1);
    }
    slab_of
}
