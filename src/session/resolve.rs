//! Which places a probe's text means, in the modules at hand.

use std::collections::HashSet;

use super::arguments::{Entry, program};
use super::module::Module;
use super::plan::{Age, Plan, PlanError, Site};
use super::usdt::Notes;
use super::wanted::Wanted;
use crate::base::{Addr, LinkAddr};
use crate::data::Name;
use crate::program::Program;
use crate::spec::{ArgSpec, Diagnostic, Kind, Location, ModuleName, NameText, Pattern, ProbeSpec};
use crate::symbols::{self, NamePattern};

/// A pattern of names that are left out.
#[derive(Clone, Debug)]
pub struct Exclude {
    /// In these modules only.
    pub module: Option<ModuleName>,
    /// These names.
    pub name: Pattern,
}

/// A place before its arguments are looked at.
struct Place {
    module: usize,
    at: LinkAddr,
    name: Name,
    entry: bool,
    /// An indirect function whose implementation is not known: this is its resolver.
    resolver: bool,
    /// The word that tells the program that it is watched.
    semaphore: Option<LinkAddr>,
}

/// How one probe's text fared so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Places that it named, those that are excluded or wait for the loader included.
    pub(super) matched: usize,
    /// A plain name that the program defines: no library is asked.
    in_program: bool,
}

/// An indirect function that will be probed where the loader's choice is.
#[derive(Clone, Debug)]
pub(super) struct Indirect {
    /// Number of the probe's text.
    spec: usize,
    /// Its resolver.
    pub(super) resolver: Addr,
    /// What it is called.
    name: Name,
}

/// Why a probe's text names nothing.
enum Miss {
    /// The module it names is not mapped.
    Module,
    /// No function of these modules is called so.
    Symbol(Vec<usize>),
    /// In words.
    Other(String),
}

/// Finds every place of every probe, or of `only` this, in the modules from `first` on.
pub(super) fn resolve(
    plan: &mut Plan,
    first: usize,
    (wanted, only): (&Wanted, Option<usize>),
    age: Age,
) -> Result<Vec<Site>, PlanError> {
    let others = std::mem::take(&mut plan.others);
    let is_meant =
        |number: usize| only.is_none_or(|only| only == number) && !others.contains(&number);
    let mut sites = Vec::new();
    let mut wrong = Vec::new();
    plan.asked.resize(wanted.specs.len(), Asked::default());
    for (number, spec) in wanted.specs.iter().enumerate() {
        if !is_meant(number) {
            continue;
        }
        let Plan { modules, asked, .. } = plan;
        let found = candidates(modules, first, spec, &asked[number]);
        let found = found.and_then(|some| places(modules, wanted, spec, &some));
        let Ok(found) = found else {
            continue;
        };
        asked[number].matched += found.len();
        let plain = spec.module.is_none() && !spec.is_pattern();
        let in_program = |place: &Place| modules[place.module].program;
        asked[number].in_program |= plain && found.iter().any(in_program);
        let found = found
            .into_iter()
            .filter(|place| !excluded(wanted, modules, place));
        let (waiting, kept): (Vec<Place>, Vec<Place>) =
            found.partition(|place| place.resolver && age == Age::Mapped);
        for place in waiting {
            plan.indirect.push(Indirect {
                spec: number,
                resolver: place.at.at(plan.modules[place.module].bias),
                name: place.name,
            });
        }
        // Whoever names one function must know that calls of it are not what is counted.
        if let [place] = kept.as_slice()
            && place.resolver
        {
            plan.notes.push(format!(
                "{}: the implementation that {} stands for is not known, so its resolver is probed",
                spec.text, place.name
            ));
        }
        match programs(&plan.modules, kept, number, wanted) {
            Ok(more) => sites.extend(more),
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    plan.others = others;
    if wrong.is_empty() {
        return Ok(sites);
    }
    if !plan.complete {
        return Err(PlanError::Spec(wrong));
    }
    plan.notes.extend(wrong.iter().map(ToString::to_string));
    Ok(sites)
}

/// The loader chose `at` for the indirect functions with this resolver: their places. What is no
/// function of any module is no choice: a slot that was not filled yet holds anything.
pub(super) fn chosen(plan: &mut Plan, resolver: Addr, at: Addr, wanted: &Wanted) -> Vec<Site> {
    let is_function = |module: &Module| {
        let link = LinkAddr(at.0.wrapping_sub(module.bias));
        module.span.contains(at) && module.symbols().entry_at(link).is_some()
    };
    let Some(module) = plan.modules.iter().position(is_function) else {
        return Vec::new();
    };
    let is_it = |indirect: &mut Indirect| indirect.resolver == resolver;
    let those: Vec<Indirect> = plan.indirect.extract_if(.., is_it).collect();
    let mut sites = Vec::new();
    for Indirect { spec, name, .. } in those {
        let place = Place {
            module,
            at: LinkAddr(at.0.wrapping_sub(plan.modules[module].bias)),
            name,
            entry: true,
            resolver: false,
            semaphore: None,
        };
        // A pattern may have named the implementation, too.
        let known = plan
            .wanted
            .iter()
            .any(|planned| planned.at == at && plan.spec_of(planned.id) == Some(spec));
        if known {
            continue;
        }
        match programs(&plan.modules, vec![place], spec, wanted) {
            Ok(more) => sites.extend(more),
            Err(diagnostic) => plan.notes.push(diagnostic.to_string()),
        }
    }
    sites
}

/// What each place runs.
fn programs(
    modules: &[Module],
    places: Vec<Place>,
    number: usize,
    wanted: &Wanted,
) -> Result<Vec<Site>, Diagnostic> {
    let spec = &wanted.specs[number];
    let halves = spec.halves();
    let mut last: Vec<Option<(Vec<ArgSpec>, Program)>> = vec![None; halves.len()];
    let mut sites = Vec::with_capacity(places.len());
    for place in places {
        let module = &modules[place.module];
        let at = Entry {
            at: place.at,
            name: &place.name,
            entry: place.entry,
        };
        for (half, last) in halves.iter().zip(&mut last) {
            let (program, args) = program(module, &at, (half, number, wanted), last)?;
            sites.push(Site {
                spec: number,
                module: place.module,
                at: place.at,
                name: place.name.clone(),
                program,
                args,
                stop: spec.kind == Kind::Stop,
                semaphore: place.semaphore,
            });
        }
    }
    Ok(sites)
}

/// Why a probe's text names nothing in these modules.
pub(super) fn why_not(modules: &[Module], wanted: &Wanted, spec: &ProbeSpec) -> String {
    let found = candidates(modules, 0, spec, &Asked::default())
        .and_then(|some| places(modules, wanted, spec, &some));
    match found {
        Ok(_) => format!("{}: it names nothing yet", spec.text),
        Err(Miss::Other(why)) => why,
        Err(Miss::Symbol(candidates)) => no_such_symbol(modules, spec, &candidates),
        Err(Miss::Module) => {
            let known: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
            let known = known.join(", ");
            format!("{}: no such module is mapped; there are {known}", spec.text)
        }
    }
}

fn excluded(wanted: &Wanted, modules: &[Module], place: &Place) -> bool {
    wanted.exclude.iter().any(|exclude| {
        let here = exclude
            .module
            .as_ref()
            .is_none_or(|m| modules[place.module].is_called(m));
        here && (exclude.name.matches(&place.name) || {
            let symbols = modules[place.module].symbols();
            let entry = symbols
                .entry_at(place.at)
                .and_then(|i| symbols.entries().get(i));
            entry.is_some_and(|entry| {
                entry
                    .names
                    .clone()
                    .any(|name| exclude.name.matches(symbols.name_at(name)))
            })
        })
    })
}

/// Modules from `first` on that a probe may mean, in the order they are tried.
fn candidates(
    modules: &[Module],
    first: usize,
    spec: &ProbeSpec,
    asked: &Asked,
) -> Result<Vec<usize>, Miss> {
    let new = first..modules.len();
    let Some(name) = &spec.module else {
        let program_only =
            spec.is_pattern() || asked.in_program || matches!(spec.location, Location::Line { .. });
        return Ok(new
            .filter(|&i| !program_only || modules[i].program)
            .collect());
    };
    let found: Vec<usize> = new.filter(|&i| modules[i].is_called(name)).collect();
    if found.is_empty() {
        return Err(Miss::Module);
    }
    Ok(found)
}

fn places(
    modules: &[Module],
    wanted: &Wanted,
    spec: &ProbeSpec,
    candidates: &[usize],
) -> Result<Vec<Place>, Miss> {
    match &spec.location {
        Location::Symbol {
            name,
            version,
            offset,
        } => {
            let found = symbol(
                modules,
                wanted,
                spec,
                candidates,
                (name, version.as_deref(), *offset),
            )?;
            if !found.is_empty() {
                return Ok(found);
            }
            // `libc+0x1136`: a module where a symbol might be.
            if let Some(other) = spec.as_module_offset() {
                let called = |&&i: &&usize| {
                    let name = other.module.as_ref();
                    name.is_some_and(|name| modules[i].is_called(name))
                };
                let candidates: Vec<usize> = candidates.iter().filter(called).copied().collect();
                if !candidates.is_empty() {
                    return places(modules, wanted, &other, &candidates);
                }
            }
            Err(Miss::Symbol(candidates.to_vec()))
        }
        Location::ModuleOffset(offset) => Ok(candidates
            .iter()
            .map(|&module| place_at(modules, module, LinkAddr(*offset)))
            .collect()),
        Location::Address(address) => address_place(modules, spec, candidates, *address)
            .map(|place| vec![place])
            .map_err(Miss::Other),
        Location::Usdt { .. } => noted(modules, spec, candidates),
        Location::Line { file, line } => {
            let mut found = Vec::new();
            let mut why = None;
            for &module in candidates {
                (wanted.progress)(Some(&modules[module].name));
                match symbols::line_addresses(
                    modules[module].image(),
                    modules[module].debug(),
                    file,
                    *line,
                ) {
                    Ok(addresses) => {
                        found.extend(
                            addresses
                                .into_iter()
                                .map(|at| place_at(modules, module, at)),
                        );
                    }
                    Err(error) => {
                        why.get_or_insert(error.to_string());
                    }
                }
            }
            match (found.is_empty(), why) {
                (true, Some(why)) => Err(Miss::Other(format!("{}: {why}", spec.text))),
                _ => Ok(found),
            }
        }
    }
}

/// An address in a module, named after the symbol it lies in.
fn place_at(modules: &[Module], module: usize, at: LinkAddr) -> Place {
    let name = match modules[module].symbols().lookup(at) {
        Some((name, 0)) => Name::from(name),
        Some((name, offset)) => format!("{name}+{offset:#x}").into(),
        None => at.to_string().into(),
    };
    let entry = modules[module].symbols().entry_at(at).is_some();
    Place {
        module,
        at,
        name,
        entry,
        resolver: false,
        semaphore: None,
    }
}

fn address_place(
    modules: &[Module],
    spec: &ProbeSpec,
    candidates: &[usize],
    address: u64,
) -> Result<Place, String> {
    let holds = |&&i: &&usize| modules[i].span.contains(Addr(address));
    if let Some(&module) = candidates.iter().find(holds) {
        return Ok(place_at(
            modules,
            module,
            LinkAddr(address.wrapping_sub(modules[module].bias)),
        ));
    }
    let what = "no file is mapped there; MODULE+0x... names an address of a file";
    Err(format!("{}: {what}", spec.text))
}

fn symbol(
    modules: &[Module],
    wanted: &Wanted,
    spec: &ProbeSpec,
    candidates: &[usize],
    (name, version, offset): (&NameText, Option<&str>, u64),
) -> Result<Vec<Place>, Miss> {
    let unclear = |error: String| Miss::Other(format!("{}: {error}", spec.text));
    let pattern = match name {
        NameText::Exact(name) => NamePattern::exact(&match version {
            Some(version) => format!("{name}@{version}"),
            None => name.clone(),
        }),
        NameText::Glob(glob) => {
            NamePattern::glob(glob).map_err(|error| unclear(error.to_string()))?
        }
        NameText::Regex(regex) => {
            NamePattern::regex(regex).map_err(|error| unclear(error.to_string()))?
        }
    };
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for &module in candidates {
        (wanted.progress)(Some(&modules[module].name));
        let symbols = modules[module].symbols();
        let file = modules[module].file(wanted.cache.as_ref());
        let asked = if let NameText::Exact(name) = name {
            Some(name.as_str())
        } else {
            None
        };
        for index in symbols.matching(&pattern) {
            let Some(entry) = symbols.entries().get(index) else {
                continue;
            };
            // A cold part that only unwind tables know is no entry.
            if file.at(entry.at).is_none() {
                continue;
            }
            let target = if entry.ifunc && offset == 0 {
                super::ifunc::implementation(modules, module, entry.at)
            } else {
                None
            };
            let resolver = entry.ifunc && target.is_none();
            let (module, at) = target.unwrap_or((module, entry.at));
            let name = match (asked, offset) {
                (Some(asked), 0) => Name::from(asked),
                (None, 0) => Name::shown_by(symbols.mangled(entry), symbols::demangle),
                (asked, offset) => {
                    let shown = asked.unwrap_or_else(|| symbols.name(entry));
                    Name::from(format!("{shown}+{offset:#x}"))
                }
            };
            if seen.insert((module, at)) {
                found.push(Place {
                    module,
                    at: at + offset,
                    name,
                    entry: offset == 0,
                    resolver,
                    semaphore: None,
                });
            }
        }
        // A plain name means the program, else every library that defines it.
        if spec.module.is_none() && modules[module].program && !found.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// Every place of a USDT probe.
fn noted(modules: &[Module], spec: &ProbeSpec, candidates: &[usize]) -> Result<Vec<Place>, Miss> {
    let unclear = |error: String| Miss::Other(format!("{}: {error}", spec.text));
    let notes = match Notes::of(spec) {
        Some(notes) => notes.map_err(unclear)?,
        None => return Ok(Vec::new()),
    };
    let mut found: Vec<Place> = Vec::new();
    for &module in candidates {
        let mut seen = HashSet::new();
        for note in notes.in_module(&modules[module]) {
            let name = note.full_name();
            if seen.insert((note.at, name.clone())) {
                found.push(Place {
                    module,
                    at: note.at,
                    name: Name::from(name),
                    entry: false,
                    resolver: false,
                    semaphore: note.semaphore,
                });
            }
        }
        // A plain name means the program, else every library that has it.
        if spec.module.is_none() && modules[module].program && !found.is_empty() {
            break;
        }
    }
    if found.is_empty() {
        let modules: Vec<&Module> = candidates.iter().map(|&index| &modules[index]).collect();
        let why = notes.missing(&modules);
        return Err(Miss::Other(format!("{}: {why}", spec.text)));
    }
    Ok(found)
}

fn no_such_symbol(modules: &[Module], spec: &ProbeSpec, candidates: &[usize]) -> String {
    let mut text = format!("{}: no such function", spec.text);
    if let Some(pid) = spec.looks_like_pid() {
        return format!("{text}; to trace process {pid}: kptrace attach {pid}");
    }
    if let Some(module) = &spec.module
        && let [only] = candidates
    {
        let _ = module;
        text.push_str(&format!(" in {}", modules[*only].name));
    }
    let Location::Symbol {
        name: NameText::Exact(name),
        ..
    } = &spec.location
    else {
        return text;
    };
    let mut suggestions: Vec<String> = Vec::new();
    for &module in candidates {
        for suggestion in modules[module].symbols().suggestions(name) {
            if !suggestions.contains(&suggestion) {
                suggestions.push(suggestion);
            }
        }
    }
    suggestions.sort_by_key(|other| strsim::damerau_levenshtein(name, other));
    suggestions.truncate(3);
    match suggestions.as_slice() {
        [] => {}
        names => text.push_str(&format!("; did you mean {}?", names.join(" or "))),
    }
    text
}
