//! `check`: what probes and programs would do, told without doing it. Nothing is touched, no process is
//! stopped. Invariant: what is told of a site is what arming it would find.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::json;

use super::args::{Check, Target};
use super::complain;
use super::dump;
use super::exit::Exit;
use super::inspect::{fail, open, written};
use super::program::{self, Compiled};
use super::trace::{cache, print_diagnostics, specs};
use crate::language::typed::Attach;
use crate::output::{Verbosity, counted, escaped, json_line};
use crate::session::{
    DebugFiles, Ground, Language, Pending, Plan, PlanError, Wanted, estimate, plan, preview,
    with_libraries,
};
use crate::spec::Diagnostic;

/// One probe of a program.
struct Asked {
    /// As `probe` has it.
    text: String,
    kind: &'static str,
    /// Its number among what is wanted, if it is at places of the target that can be told.
    spec: Option<usize>,
}

/// `kptrace check`.
pub(super) fn check(check: &Check) -> Exit {
    let debug = match &check.target {
        Some(Target::File(path)) => DebugFiles::of_file(path),
        Some(Target::Pid(pid)) => DebugFiles::of_process(*pid),
        None => DebugFiles::of_command(None),
    };
    let given = check.program.is_given();
    let program = given.then(|| program::compiled(&check.program, &debug, check.talk.quiet));
    let (specs, program) = match (specs(&check.probes), program.transpose()) {
        (Ok(specs), Ok(program)) => (specs, program),
        (specs, program) => {
            let wrong = specs.err().into_iter().chain(program.err());
            print_diagnostics(&wrong.flatten().collect::<Vec<Diagnostic>>());
            return Exit::Usage;
        }
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    if let (Some(stage), Some(program)) = (check.dump, &program) {
        return written(dump::print(stage, program, &mut out).and_then(|()| out.flush()));
    }
    let mut wanted = Wanted {
        specs,
        cache: cache(),
        ..Wanted::default()
    };
    let asked = match program {
        Some(program) => {
            wanted.pending = Pending::Ignore;
            asked(program, &mut wanted)
        }
        None => Vec::new(),
    };
    let Some(target) = &check.target else {
        return written(print_asked(check, &asked, None, &mut out).and_then(|()| out.flush()));
    };
    let modules = match target {
        Target::File(path) if given => with_libraries(path),
        target => open(target),
    };
    let plan = match modules
        .map_err(PlanError::Other)
        .and_then(|modules| plan(modules, &wanted))
    {
        Ok(plan) => plan,
        Err(PlanError::NoMatch(text)) => {
            complain(format_args!("no probe matched\n{text}"));
            return Exit::NoMatch;
        }
        Err(PlanError::Spec(wrong)) => {
            print_diagnostics(&wrong);
            return Exit::Usage;
        }
        Err(PlanError::Other(error)) => return fail(&error),
    };
    let told = Told::new(&plan, &wanted);
    let printed = print_check(check, &plan, (&wanted, &asked), &mut out)
        .and_then(|()| print_asked(check, &asked, Some(&told), &mut out))
        .and_then(|()| out.flush());
    // Those of a program have a line of their own.
    for (number, why) in told.why.iter().enumerate() {
        let of_program = asked.iter().any(|asked| asked.spec == Some(number));
        if let (Some(why), false) = (why, of_program) {
            complain(format_args!("{}: {why}", wanted.specs[number].text));
        }
    }
    let nothing = !wanted.specs.is_empty() && plan.probes.is_empty();
    match written(printed) {
        Exit::Success if nothing => {
            complain(format_args!("no probe matched"));
            Exit::NoMatch
        }
        exit => exit,
    }
}

/// How many places each probe's text names, and why it names none.
struct Told {
    sites: Vec<usize>,
    why: Vec<Option<String>>,
}

impl Told {
    fn new(plan: &Plan, wanted: &Wanted) -> Told {
        let mut told = Told {
            sites: vec![0; wanted.specs.len()],
            why: vec![None; wanted.specs.len()],
        };
        let specs = plan.probes.iter().filter_map(|info| plan.spec_of(info.id));
        for spec in specs {
            told.sites[spec] += 1;
        }
        for (spec, why) in plan.unmatched(wanted) {
            let text = format!("{}: ", wanted.specs[spec].text);
            told.why[spec] = Some(why.strip_prefix(&text).unwrap_or(&why).to_owned());
        }
        told
    }
}

/// The probes of a program in the order of its text; those of the target are put among what is wanted.
fn asked(program: Compiled, wanted: &mut Wanted) -> Vec<Asked> {
    let mut asked = Vec::new();
    for attach in program
        .checked
        .blocks
        .iter()
        .flat_map(|block| &block.attach)
    {
        let (kind, text) = match attach {
            Attach::Begin => ("begin", "BEGIN".to_owned()),
            Attach::End => ("end", "END".to_owned()),
            Attach::Interval(nanos) => ("interval", dump::interval(*nanos)),
            Attach::Entry(point) => ("entry", point.text.clone()),
            Attach::Return(point) => ("return", point.text.clone()),
            Attach::Usdt(point) => ("usdt", point.text.clone()),
        };
        asked.push(Asked {
            text,
            kind,
            spec: None,
        });
    }
    let first = wanted.specs.len();
    let attached = program
        .checked
        .blocks
        .iter()
        .flat_map(|block| &block.attach);
    let places: Vec<bool> = attached.map(Attach::is_in_target).collect();
    Language::add(program.checked, program.lowered, wanted);
    let own = asked.iter_mut().zip(places);
    let in_target = own.filter_map(|(asked, place)| place.then_some(asked));
    for (asked, spec) in in_target.zip(first..) {
        asked.spec = Some(spec);
    }
    asked
}

/// The probes of a program, then all of it in words.
fn print_asked(
    check: &Check,
    asked: &[Asked],
    told: Option<&Told>,
    out: &mut impl Write,
) -> io::Result<()> {
    if !check.program.is_given() {
        return Ok(());
    }
    let width = asked.iter().map(|asked| asked.text.chars().count()).max();
    let width = width.unwrap_or(0).min(60);
    for asked in asked {
        let place = told.zip(asked.spec);
        let sites = place.and_then(|(told, spec)| told.sites.get(spec).copied());
        let why = place.and_then(|(told, spec)| told.why.get(spec)?.as_deref());
        let reason = why;
        if check.json {
            let row = json!({
                "type": "check_probe", "probe": asked.text, "kind": asked.kind, "sites": sites,
                "reason": reason,
            });
            writeln!(out, "{}", json_line(&row))?;
            continue;
        }
        let text = escaped(&asked.text);
        let kind = asked.kind;
        let sites = sites.map_or_else(String::new, |sites| counted(sites, "site"));
        let sites = told.map_or_else(String::new, |_| format!("  {sites:>7}"));
        let reason = reason.map_or_else(String::new, |why| format!("  # {}", escaped(why)));
        let line = format!("{text:<width$}  {kind:<8}{sites}{reason}");
        writeln!(out, "{}", line.trim_end())?;
    }
    let own = |asked: &&Asked| matches!(asked.kind, "begin" | "end" | "interval");
    let own = asked.iter().filter(own).count();
    if check.json {
        let row = json!({
            "type": "check_program", "probes": asked.len(), "target": asked.len() - own, "own": own,
        });
        return writeln!(out, "{}", json_line(&row));
    }
    let mut words = format!(
        "the program compiles: {} in the target, {own} of its own",
        counted(asked.len() - own, "probe")
    );
    if told.is_none() && asked.len() > own {
        words.push_str("; a BINARY or PID tells their sites");
    }
    writeln!(out, "{words}")
}

/// What each probe would become, then what all of them would cost.
fn print_check(
    check: &Check,
    plan: &Plan,
    (wanted, asked): (&Wanted, &[Asked]),
    out: &mut impl Write,
) -> io::Result<()> {
    let mut pages = BTreeSet::new();
    let (mut jumps, mut traps) = (0, 0);
    for info in &plan.probes {
        let address = info.address.unwrap_or_default();
        let ground = plan
            .ground
            .get(&address)
            .filter(|_| !plan.refused.contains_key(&info.id));
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (verdict, reason, bytes) = match ground {
            Some(ground) => {
                let bytes = hex(ground.original());
                match &ground.facts.window {
                    Ok(_) => ("jump", None, bytes),
                    Err(why) => ("trap", Some(why.to_string()), bytes),
                }
            }
            None => {
                let why = plan.refused.get(&info.id);
                (
                    "refused",
                    Some(why.map_or_else(String::new, ToString::to_string)),
                    String::new(),
                )
            }
        };
        let window = ground.filter(|_| verdict == "jump");
        let window = window.map(|ground| ground.window.kind.name());
        match verdict {
            "jump" => jumps += 1,
            "trap" => traps += 1,
            _ => {}
        }
        if verdict != "refused" {
            pages.insert(address.0 >> 12);
            pages.insert((address.0 + 4) >> 12);
            let hole = ground.and_then(Ground::hole);
            pages.extend(
                hole.into_iter()
                    .flat_map(|at| [at.0 >> 12, (at.0 + 4) >> 12]),
            );
        }
        // What is not running has no addresses but those of its files.
        let address = match (&check.target, info.offset) {
            (Some(Target::File(_)), Some(offset)) => offset.to_string(),
            _ => address.to_string(),
        };
        if check.json {
            let spec = plan.spec_of(info.id);
            let of_program = asked.iter().find(|asked| asked.spec == spec);
            let of_program = of_program.map(|asked| asked.text.as_str());
            let typed = || Some(wanted.specs.get(spec?)?.text.as_str());
            let asked = of_program.or_else(typed);
            let row = json!({
                "type": "check", "name": &*info.name, "module": info.module,
                "address": address, "verdict": verdict, "window": window, "reason": reason,
                "bytes": bytes, "probe": asked,
            });
            writeln!(out, "{}", json_line(&row))?;
        } else {
            let name = escaped(&format!("{}:{}", info.module, info.name));
            let reason = reason.map(|why| format!("  # {why}")).unwrap_or_default();
            let window = window.unwrap_or("-");
            writeln!(
                out,
                "{address:>#18} {verdict:<7} {window:<11} {name}  [{bytes}]{reason}"
            )?;
        }
        let class = plan
            .class
            .get(info.id.0 as usize)
            .and_then(|&class| plan.classes.get(class as usize));
        if let (Verbosity::Verbose, false, Some(program)) =
            (check.talk.verbosity(), check.json, class)
        {
            for line in program.to_string().lines() {
                writeln!(out, "    {line}")?;
            }
            for line in preview(plan, info.id).unwrap_or_default() {
                writeln!(out, "      {line}")?;
            }
        }
    }
    if plan.probes.is_empty() {
        return Ok(());
    }
    let text_bytes = pages.len() * 4096;
    let takes = estimate(plan);
    if check.json {
        let row = json!({
            "type": "check_summary", "probes": plan.probes.len(), "jump": jumps, "trap": traps,
            "refused": plan.refused.len(), "text_pages": pages.len(), "text_bytes": text_bytes,
            "code_bytes": takes.code, "counter_bytes": takes.counters, "pause": takes.pause,
            "pauses": takes.pauses,
        });
        writeln!(out, "{}", json_line(&row))?;
    } else {
        let running = if matches!(check.target, Some(Target::Pid(_))) {
            "this process"
        } else {
            "a process"
        };
        let refused = plan.refused.len();
        writeln!(
            out,
            "{}: {}, {}, {refused} refused; {} KiB of text would be copied in {running}",
            counted(plan.probes.len(), "probe"),
            counted(jumps, "jump"),
            counted(traps, "trap"),
            text_bytes / 1024,
        )?;
        writeln!(
            out,
            "it would take {} KiB of code, {} KiB of counters for each thread, and {} of about {:.1} ms",
            takes.code.div_ceil(1024),
            takes.counters.div_ceil(1024),
            counted(usize::try_from(takes.pauses).unwrap_or(usize::MAX), "pause"),
            takes.pause as f64 / 1e6,
        )?;
        for note in &plan.notes {
            writeln!(out, "note: {}", escaped(note))?;
        }
    }
    Ok(())
}
