//! Which places a probe's text means, in the modules at hand, and the program each runs.

use std::collections::HashSet;

use super::module::Module;
use super::plan::{PlanError, Site, Wanted};
use crate::arch::native::regs;
use crate::base::{Addr, LinkAddr};
use crate::data::Name;
use crate::program::{IntFormat, Program, Width};
use crate::spec::{
    ArgExpr, ArgSpec, Diagnostic, Format, Kind, Location, ModuleName, NameText, Pattern, ProbeSpec,
    lower,
};
use crate::symbols::{self, NamePattern, Param, ParamClass};

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
}

/// Finds every place of every probe.
pub(super) fn resolve(
    modules: &[Module],
    wanted: &Wanted<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<Site>, PlanError> {
    let mut sites = Vec::new();
    let mut wrong = Vec::new();
    let mut unmatched = Vec::new();
    for spec in wanted.specs {
        let places = match places(modules, wanted, spec) {
            Ok(places) => places,
            Err(why) => {
                unmatched.push(why);
                continue;
            }
        };
        let kept: Vec<Place> = places
            .into_iter()
            .filter(|place| !excluded(wanted, modules, place))
            .collect();
        if kept.is_empty() {
            unmatched.push(format!("{}: everything it matches is excluded", spec.text));
        }
        // Whoever names one function must know that calls of it are not what is counted.
        if let [place] = kept.as_slice()
            && place.resolver
        {
            notes.push(format!(
                "{}: the implementation that {} stands for is not known, so its resolver is probed",
                spec.text, place.name
            ));
        }
        let mut last: Option<(Vec<ArgSpec>, Program)> = None;
        for place in kept {
            let result = program(&modules[place.module], &place, spec, wanted, &mut last);
            match result {
                Ok((program, args)) => sites.push(Site {
                    module: place.module,
                    at: place.at,
                    name: place.name,
                    program,
                    args,
                    stop: spec.kind == Kind::Stop,
                }),
                Err(diagnostic) => {
                    wrong.push(diagnostic);
                    break;
                }
            }
        }
    }
    if !wrong.is_empty() {
        return Err(PlanError::Spec(wrong));
    }
    if sites.is_empty() {
        return Err(PlanError::NoMatch(unmatched.join("\n")));
    }
    notes.extend(unmatched);
    Ok(sites)
}

fn excluded(wanted: &Wanted<'_>, modules: &[Module], place: &Place) -> bool {
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

/// Modules that a probe may mean, in the order they are tried.
fn candidates(modules: &[Module], spec: &ProbeSpec) -> Result<Vec<usize>, String> {
    let all = 0..modules.len();
    let Some(name) = &spec.module else {
        let program_only = spec.is_pattern() || matches!(spec.location, Location::Line { .. });
        return Ok(all
            .filter(|&i| !program_only || modules[i].program)
            .collect());
    };
    let found: Vec<usize> = all.filter(|&i| modules[i].is_called(name)).collect();
    if found.is_empty() {
        let known: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
        return Err(format!(
            "{}: no such module is mapped; there are {}",
            spec.text,
            known.join(", ")
        ));
    }
    Ok(found)
}

fn places(modules: &[Module], wanted: &Wanted<'_>, spec: &ProbeSpec) -> Result<Vec<Place>, String> {
    let candidates = match (candidates(modules, spec), spec.as_module_offset()) {
        (Ok(candidates), _) => candidates,
        (Err(error), _) => return Err(error),
    };
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
                &candidates,
                (name, version.as_deref(), *offset),
            )?;
            if !found.is_empty() {
                return Ok(found);
            }
            // `libc+0x1136`: a module where a symbol might be.
            if let Some(other) = spec.as_module_offset()
                && let Ok(places) = places(modules, wanted, &other)
            {
                return Ok(places);
            }
            Err(no_such_symbol(modules, spec, &candidates))
        }
        Location::ModuleOffset(offset) => Ok(candidates
            .iter()
            .map(|&module| place_at(modules, module, LinkAddr(*offset)))
            .collect()),
        Location::Address(address) => {
            address_place(modules, spec, *address).map(|place| vec![place])
        }
        Location::Line { file, line } => {
            let mut found = Vec::new();
            let mut why = None;
            for &module in &candidates {
                (wanted.progress)(&modules[module].name);
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
                (true, Some(why)) => Err(format!("{}: {why}", spec.text)),
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
    }
}

fn address_place(modules: &[Module], spec: &ProbeSpec, address: u64) -> Result<Place, String> {
    let at = Addr(address);
    if let Some(module) = modules.iter().position(|module| module.span.contains(at)) {
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
    wanted: &Wanted<'_>,
    spec: &ProbeSpec,
    candidates: &[usize],
    (name, version, offset): (&NameText, Option<&str>, u64),
) -> Result<Vec<Place>, String> {
    let pattern = match name {
        NameText::Exact(name) => NamePattern::exact(&match version {
            Some(version) => format!("{name}@{version}"),
            None => name.clone(),
        }),
        NameText::Glob(glob) => {
            NamePattern::glob(glob).map_err(|e| format!("{}: {e}", spec.text))?
        }
        NameText::Regex(regex) => {
            NamePattern::regex(regex).map_err(|e| format!("{}: {e}", spec.text))?
        }
    };
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for &module in candidates {
        (wanted.progress)(&modules[module].name);
        let symbols = modules[module].symbols();
        let file = modules[module].file(wanted.cache);
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

/// The program of a probe at a place, and the names of its arguments.
fn program(
    module: &Module,
    place: &Place,
    spec: &ProbeSpec,
    wanted: &Wanted<'_>,
    last: &mut Option<(Vec<ArgSpec>, Program)>,
) -> Result<(Program, Vec<String>), Diagnostic> {
    if wanted.count_only {
        return Ok((Program::count(), Vec::new()));
    }
    let args = if spec.args.iter().any(|arg| arg.value.needs_debug_info()) {
        if !place.entry {
            return Err(spec.error("arguments by name are known at the entry of a function only"));
        }
        from_debug_info(module, place, spec)?
    } else {
        spec.args.clone()
    };
    let program = match last {
        Some((same, program)) if *same == args => program.clone(),
        _ => {
            let registers = |name: &str| regs::parse(name).map(|named| named.id);
            let program = lower(spec, &args, true, &registers)?;
            *last = Some((args, program.clone()));
            program
        }
    };
    let names = program.record().map_or_else(Vec::new, |record| {
        record
            .fields
            .iter()
            .map(|field| field.name.clone())
            .collect()
    });
    Ok((program, names))
}

/// Replaces `$args` and named parameters by registers, formats and names from DWARF.
fn from_debug_info(
    module: &Module,
    place: &Place,
    spec: &ProbeSpec,
) -> Result<Vec<ArgSpec>, Diagnostic> {
    let params = symbols::params(module.image(), module.debug(), place.at);
    let mut out = Vec::new();
    for arg in &spec.args {
        match &arg.value {
            ArgExpr::AllArgs => {
                // Without debug information there is nothing to show; for a pattern that is no
                // reason to refuse the functions that have it.
                let Some(params) = &params else {
                    if spec.is_pattern() {
                        continue;
                    }
                    let name = &place.name;
                    return Err(spec.error_at(
                        arg.span.clone(),
                        format!("no debug information for {name}: its arguments have no names"),
                    ));
                };
                for (number, param) in integer_params(params) {
                    out.push(by_number(arg, param, number));
                }
            }
            ArgExpr::Named(name) => {
                let known = params.as_deref().unwrap_or_default();
                let found = integer_params(known).find(|(_, param)| param.name == *name);
                let Some((number, param)) = found else {
                    return Err(unknown_param(spec, arg, name, known));
                };
                out.push(by_number(arg, param, number));
            }
            _ if arg.value.needs_debug_info() => {
                let message = "memory behind a named argument is not read yet; use +OFFSET($argN)";
                return Err(spec.error_at(arg.span.clone(), message));
            }
            _ => out.push(arg.clone()),
        }
    }
    Ok(out)
}

fn unknown_param(spec: &ProbeSpec, arg: &ArgSpec, name: &str, known: &[Param]) -> Diagnostic {
    let names: Vec<&str> = known.iter().map(|param| param.name.as_str()).collect();
    let error = spec.error_at(
        arg.span.clone(),
        format!("no parameter {name} in its debug information"),
    );
    if names.is_empty() {
        error.help("it has none; registers and $arg1, $arg2... need no debug information")
    } else {
        error.help(format!("its parameters are {}", names.join(", ")))
    }
}

/// Parameters passed in integer registers, each with its number among these. What follows one
/// whose place is not certain is left out (System V ABI AMD64, section 3.2.3).
fn integer_params(params: &[Param]) -> impl Iterator<Item = (u32, &Param)> {
    let mut next = 0;
    let mut certain = true;
    params.iter().filter_map(move |param| match param.class {
        ParamClass::Int { width, .. } if certain && width <= 8 => {
            next += 1;
            Some((next, param))
        }
        ParamClass::Float { .. } => None,
        _ => {
            certain = false;
            None
        }
    })
}

fn by_number(arg: &ArgSpec, param: &Param, number: u32) -> ArgSpec {
    let format = match (arg.format, &param.class) {
        (
            Format::Default,
            ParamClass::Int {
                width,
                signed,
                is_char,
                is_bool,
                is_pointer,
                ..
            },
        ) => {
            let width = match width {
                1 => Width::W8,
                2 => Width::W16,
                4 => Width::W32,
                _ => Width::W64,
            };
            Format::Int(match (is_char, is_bool, is_pointer, signed) {
                (true, ..) => IntFormat::Char,
                (_, true, ..) => IntFormat::Bool,
                (.., true, _) => IntFormat::Hex(width),
                (.., true) => IntFormat::Signed(width),
                _ => IntFormat::Unsigned(width),
            })
        }
        (format, _) => format,
    };
    let name = if arg.name.is_empty() || arg.value == ArgExpr::AllArgs {
        if param.name.is_empty() {
            format!("arg{number}")
        } else {
            param.name.clone()
        }
    } else {
        arg.name.clone()
    };
    ArgSpec {
        name,
        value: ArgExpr::Arg(number),
        format,
        span: arg.span.clone(),
    }
}
