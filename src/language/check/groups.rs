//! Blocks and their attach points. A block whose arguments differ by probe becomes several, each
//! with the points that are alike. Knows what debug information and prototypes say of parameters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::Checker;
use crate::language::builtins::{self, Word};
use crate::language::debug::Parameter;
use crate::language::points;
use crate::language::prototypes;
use crate::language::tree::{self, ExprKind, Tree};
use crate::language::typed::{Attach, Config, Missing, Point, Type};
use crate::spec::{Location, ModuleName, NameText, ProbeSpec};

/// Most blocks that one becomes.
const MOST: usize = 1000;

/// Most attach points of a program.
const POINTS: usize = 10_000;

/// In the modules of so many of a block's probes structures are looked for.
const MODULES: usize = 16;

/// How a parameter is passed, or why that is not known.
pub(super) type Passed = Result<(Type, Option<u8>), String>;

/// What is known of the arguments at a block's probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Parameters by name, those that the block names.
    pub named: BTreeMap<String, Passed>,
    /// Names of all parameters.
    pub names: Vec<String>,
    /// USDT: `argN` that the block names, as the note writes them.
    pub noted: BTreeMap<u8, Result<String, String>>,
    /// What the note is called that has not all of these.
    pub short: Option<String>,
}

/// Attach points of one block that are alike.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Which block of the tree.
    pub probe: usize,
    pub attach: Vec<Attach>,
    pub arguments: Arguments,
}

impl Group {
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.attach.iter().filter_map(|attach| match attach {
            Attach::Entry(point) | Attach::Return(point) | Attach::Usdt(point) => Some(point),
            _ => None,
        })
    }

    /// Where structures are looked for.
    pub fn specs(&self) -> Vec<ProbeSpec> {
        let some = self.points().take(MODULES);
        some.map(|point| point.spec.clone()).collect()
    }

    /// Whether it runs in the target.
    pub fn in_target(&self) -> bool {
        self.points().next().is_some()
    }
}

/// What a block asks about its arguments.
#[derive(Default)]
struct Uses {
    named: BTreeSet<String>,
    numbered: BTreeSet<u8>,
}

fn uses(probe: &tree::Probe) -> Uses {
    let mut uses = Uses::default();
    let mut note = |expr: &tree::Expr| match &expr.kind {
        ExprKind::Member(inner, name) => {
            if matches!(&inner.kind, ExprKind::Ident(word) if word == "args") {
                uses.named.insert(name.text.clone());
            }
        }
        ExprKind::Ident(name) => {
            if let Some(Word::Arg(n)) = builtins::word(name) {
                uses.numbered.insert(n);
            }
        }
        _ => {}
    };
    if let Some(predicate) = &probe.predicate {
        predicate.visit(&mut note);
    }
    tree::visit(&probe.body, &mut note);
    uses
}

/// All blocks of the program, with their attach points read and sorted.
pub(super) fn groups(
    tree: &Tree,
    config: &Config,
    checker: &mut Checker<'_, '_>,
) -> Vec<Rc<Group>> {
    let mut all = Vec::new();
    let mut known = HashMap::new();
    let points: usize = tree.probes.iter().map(|probe| probe.attach.len()).sum();
    if points > POINTS {
        let first = tree.probes.iter().flat_map(|p| &p.attach).next();
        let span = first.map_or(0..0, |name| name.span.clone());
        let message = format!("this program has more than {POINTS} probes");
        checker.reports.error_help(
            &span,
            message,
            "a pattern names many at once: uprobe:libc:mem*",
        );
        return all;
    }
    for (index, probe) in tree.probes.iter().enumerate() {
        let uses = uses(probe);
        let mut own: Vec<Group> = Vec::new();
        for name in &probe.attach {
            let Some(attach) = read(name, config, checker) else {
                continue;
            };
            let variants = match attach {
                Attach::Entry(point) if !uses.named.is_empty() => {
                    let asked = known.entry(point.spec.text.clone());
                    let found = asked.or_insert_with(|| parameters(&point.spec, checker));
                    vec![(named(&uses, found), Attach::Entry(point))]
                }
                Attach::Usdt(point) if !uses.numbered.is_empty() => noted(&uses, point, checker),
                other => vec![(Arguments::default(), other)],
            };
            for (arguments, attach) in variants {
                let mut passed = arguments.named.values();
                let unknown = passed.find_map(|passed| passed.as_ref().err());
                if let Some(why) = unknown
                    && config.missing.unwrap_or_default() != Missing::Error
                    && probe.attach.len() > 1
                {
                    leave_out(name, &why.clone(), config, checker);
                    continue;
                }
                let count = all.len() + own.len();
                match own.iter_mut().find(|g| g.arguments == arguments) {
                    Some(group) => group.attach.push(attach),
                    None if count < MOST => own.push(Group {
                        probe: index,
                        attach: vec![attach],
                        arguments,
                    }),
                    None => {
                        let message = format!("this program has more than {MOST} blocks");
                        checker.reports.error(&name.span, message);
                        return all;
                    }
                }
            }
        }
        all.extend(own.into_iter().map(Rc::new));
    }
    all
}

fn leave_out(name: &tree::Name, why: &str, config: &Config, checker: &mut Checker<'_, '_>) {
    if config.missing == Some(Missing::Warn) {
        let message = format!("this probe is left out: {why}");
        checker.reports.warn(&name.span, message, "");
    }
}

fn read(name: &tree::Name, config: &Config, checker: &mut Checker<'_, '_>) -> Option<Attach> {
    match points::read(checker.reports.source, name, checker.given.parameters) {
        Ok(attach) => Some(attach),
        Err(refused) => {
            match config.missing.unwrap_or_default() {
                Missing::Ignore if refused.kernel => {}
                Missing::Warn if refused.kernel => {
                    let message = format!("{}: it is left out", refused.message);
                    checker.reports.warn(&refused.span, message, refused.help);
                }
                _ if refused.help.is_empty() => {
                    checker.reports.error(&refused.span, refused.message);
                }
                _ => checker
                    .reports
                    .error_help(&refused.span, refused.message, refused.help),
            }
            None
        }
    }
}

/// Debug information first; then prototypes, whose names hold too where libc calls a parameter
/// otherwise, so that a program means the same with debug information and without.
fn parameters(spec: &ProbeSpec, checker: &Checker<'_, '_>) -> Result<Vec<Parameter>, String> {
    let known = match &spec.location {
        Location::Symbol {
            name: NameText::Exact(name),
            offset: 0,
            ..
        } => prototypes::parameters(name).filter(|_| is_libc(spec.module.as_ref())),
        _ => None,
    };
    let (found, known) = match (checker.given.debug.parameters(spec), known) {
        (Ok(found), Some(known)) if spec.module.is_some() => (found, known),
        (Ok(found), _) => return Ok(found),
        (Err(why), known) => return known.ok_or(why),
    };
    let mut all = found;
    for other in known {
        if all.iter().all(|own| own.name != other.name) {
            all.push(other);
        }
    }
    Ok(all)
}

/// Whether libc's prototypes hold in this module.
fn is_libc(module: Option<&ModuleName>) -> bool {
    let text = match module {
        None | Some(ModuleName::Glob(_)) => return true,
        Some(ModuleName::Name(text) | ModuleName::Path(text)) => text,
    };
    let file = text.rsplit('/').next().unwrap_or(text);
    ["libc", "libpthread", "libdl", "librt", "ld-"]
        .iter()
        .any(|prefix| {
            file.strip_prefix(prefix).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(['.', '-']) || *prefix == "ld-"
            })
        })
}

fn named(uses: &Uses, found: &Result<Vec<Parameter>, String>) -> Arguments {
    let mut arguments = Arguments::default();
    for name in &uses.named {
        let passed = match found {
            Err(why) => Err(why.clone()),
            Ok(all) => match all.iter().find(|p| p.name == *name) {
                Some(p) => Ok((p.ty.clone(), p.argument)),
                None => Err(String::new()),
            },
        };
        arguments.named.insert(name.clone(), passed);
    }
    if let Ok(all) = found
        && arguments.named.values().any(Result::is_err)
    {
        arguments.names = all.iter().map(|p| p.name.clone()).collect();
    }
    arguments
}

/// The places of a USDT probe, sorted by how they pass what the block asks for.
fn noted(uses: &Uses, point: Point, checker: &Checker<'_, '_>) -> Vec<(Arguments, Attach)> {
    let places = match checker.given.debug.usdt(&point.spec) {
        Ok(places) => places,
        Err(why) => {
            let unknown = uses.numbered.iter().map(|n| (*n, Err(why.clone())));
            let arguments = Arguments {
                noted: unknown.collect(),
                ..Arguments::default()
            };
            return vec![(arguments, Attach::Usdt(point))];
        }
    };
    let mut variants: Vec<(Arguments, Attach)> = Vec::new();
    for place in places {
        let mut arguments = Arguments::default();
        for n in &uses.numbered {
            let noted = match place.args.get(usize::from(*n)) {
                Some(text) => Ok(text.clone()),
                None => Err(too_few(&place.args)),
            };
            if noted.is_err() {
                arguments.short = Some(place.name.clone());
            }
            arguments.noted.insert(*n, noted);
        }
        // One that has too few is enough to be told.
        let known = |known: &Arguments| {
            *known == arguments || (known.short.is_some() && arguments.short.is_some())
        };
        if variants.iter().any(|(other, _)| known(other)) || variants.len() > MOST {
            continue;
        }
        let mut point = point.clone();
        if let Location::Usdt { args, .. } = &mut point.spec.location {
            let known = arguments.noted.iter();
            *args = known
                .filter_map(|(n, text)| Some((*n, text.clone().ok()?)))
                .collect();
        }
        variants.push((arguments, Attach::Usdt(point)));
    }
    variants
}

fn too_few(args: &[String]) -> String {
    match args {
        [] => "the probe has no arguments".to_owned(),
        [one] => format!("the probe has 1 argument: {one}"),
        more => format!("the probe has {} arguments: {}", more.len(), more.join(" ")),
    }
}
