//! `list` and `check`: what could be probed, and what probes would do; nothing is touched.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::args::{Check, List, Target};
use super::complain;
use super::exit::Exit;
use super::trace::{cache, specs};
use crate::analysis::Text;
use crate::base::Tid;
use crate::output::{Verbosity, counted, escaped, json_line};
use crate::session::{Module, Plan, PlanError, Wanted, estimate, modules, plan, preview};
use crate::spec::{ModuleName, NameText, Pattern, parse_pattern};
use crate::symbols::Note;
use crate::sys::mem::Memory;
use crate::sys::procfs;

/// The modules of a file or a process.
fn open(target: &Target) -> anyhow::Result<Vec<Module>> {
    match target {
        Target::File(path) => {
            let mut module = Module::of_file(Path::new(path))?;
            module.program = true;
            Ok(vec![module])
        }
        Target::Pid(pid) => {
            let (pid, tid) = (*pid, Tid(pid.0));
            let look = || -> anyhow::Result<Vec<Module>> {
                let maps = procfs::maps(pid, tid)?;
                let memory = Memory::open(pid, tid)?;
                let mut notes = Vec::new();
                let modules = modules(tid, &memory, &maps, &mut notes)?;
                for note in notes {
                    complain(format_args!("{note}"));
                }
                Ok(modules)
            };
            look().with_context(|| format!("cannot look into process {pid}"))
        }
    }
}

fn fail(error: &anyhow::Error) -> Exit {
    complain(format_args!("{error:#}"));
    Exit::Failure
}

fn written(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Success,
        // Who closes the pipe has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => {
            complain(format_args!("cannot write: {error}"));
            Exit::Failure
        }
    }
}

/// `kptrace list`.
pub(super) fn list(list: &List) -> Exit {
    if let Some(pattern) = list.pattern.as_deref().and_then(usdt_pattern) {
        return list_usdt(list, pattern);
    }
    let pattern = match list.pattern.as_deref().map(pattern).transpose() {
        Ok(pattern) => pattern,
        Err(message) => {
            complain(format_args!("{message}"));
            return Exit::Usage;
        }
    };
    let modules = match open(&list.target) {
        Ok(modules) => modules,
        Err(error) => return fail(&error),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    match print_list(list, &modules, pattern.as_ref(), &mut out)
        .and_then(|n| out.flush().map(|()| n))
    {
        Ok(0) => {
            complain(format_args!("nothing matches"));
            Exit::NoMatch
        }
        other => written(other.map(drop)),
    }
}

fn pattern(text: &str) -> Result<(Option<ModuleName>, Pattern), String> {
    let (module, name) = parse_pattern(text).map_err(|error| error.to_string())?;
    Ok((module, Pattern::new(&name)?))
}

fn print_list(
    list: &List,
    modules: &[Module],
    pattern: Option<&(Option<ModuleName>, Pattern)>,
    out: &mut impl Write,
) -> io::Result<usize> {
    let cache = cache();
    let mut count = 0;
    for module in modules {
        if let Some((Some(name), _)) = pattern
            && !module.is_called(name)
        {
            continue;
        }
        let symbols = module.symbols();
        for entry in module.file(cache.as_ref()).entries() {
            let known = symbols
                .entry_at(entry.addr)
                .and_then(|index| symbols.entries().get(index));
            let name = known.map_or_else(
                || format!("fn_{}", entry.addr),
                |e| symbols.name(e).to_owned(),
            );
            let asked = |pattern: &Pattern| {
                pattern.matches(&name)
                    || known.is_some_and(|e| {
                        e.names.clone().any(|n| pattern.matches(symbols.name_at(n)))
                    })
            };
            if pattern.is_some_and(|(_, pattern)| !asked(pattern)) {
                continue;
            }
            count += 1;
            let address = entry.addr.at(module.bias);
            if list.json {
                let row = json!({
                    "type": "entry",
                    "name": name,
                    "module": module.name,
                    "address": address.to_string(),
                    "size": entry.size,
                    "verdict": entry.word(),
                    "window": entry.window_word(),
                    "reason": entry.reason(),
                });
                writeln!(out, "{}", json_line(&row))?;
            } else {
                let reason = entry.reason().unwrap_or_default();
                let window = entry.window_word().unwrap_or("-");
                let name = escaped(&name);
                let module = escaped(&module.name);
                let word = entry.word();
                let size = entry.size;
                let line =
                    format!("{address:>#18} {size:>8} {word:<7} {window:<11} {module}:{name}");
                writeln!(
                    out,
                    "{line}{}{reason}",
                    if reason.is_empty() { "" } else { "  # " }
                )?;
            }
        }
    }
    Ok(count)
}

/// `usdt:NAME`, `usdt:PROVIDER:NAME`: what USDT probes are to be called, if these are asked for.
fn usdt_pattern(text: &str) -> Option<&str> {
    text.strip_prefix("usdt:")
        .or_else(|| text.strip_prefix("U:"))
}

/// `kptrace list BINARY usdt:PATTERN`.
fn list_usdt(list: &List, pattern: &str) -> Exit {
    let pattern = match pattern.contains(':') {
        true => Pattern::new(&NameText::Glob(pattern.to_owned())),
        false => Pattern::new(&NameText::Glob(format!("*:{pattern}"))),
    };
    let pattern = match pattern {
        Ok(pattern) => pattern,
        Err(message) => {
            complain(format_args!("{message}"));
            return Exit::Usage;
        }
    };
    let modules = match open(&list.target) {
        Ok(modules) => modules,
        Err(error) => return fail(&error),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut count = 0;
    let printed = modules.iter().try_for_each(|module| {
        count += print_notes(list, module, &pattern, &mut out)?;
        Ok(())
    });
    match printed.and_then(|()| out.flush()) {
        Ok(()) if count == 0 => {
            complain(format_args!("nothing matches"));
            Exit::NoMatch
        }
        other => written(other),
    }
}

fn print_notes(
    list: &List,
    module: &Module,
    pattern: &Pattern,
    out: &mut impl Write,
) -> io::Result<usize> {
    let notes = module.notes().iter();
    let mut notes: Vec<&Note> = notes.filter(|n| pattern.matches(&n.full_name())).collect();
    if notes.is_empty() {
        return Ok(0);
    }
    notes.sort_by_key(|note| note.at);
    let verdict =
        |text: &Text<'_>, note: &&Note| (text.window_at(note.at.0), text.trap_at(note.at.0));
    let verdicts: Vec<_> =
        module.with_text(|text| notes.iter().map(|note| verdict(text, note)).collect());
    for (note, (window, trap)) in notes.iter().zip(verdicts) {
        let address = note.at.at(module.bias);
        let word = match (&window, &trap) {
            (Ok(_), _) => "jump",
            (Err(_), Ok(_)) => "trap",
            (Err(_), Err(_)) => "refused",
        };
        let reason = window.err().map(|why| why.to_string());
        let window = window.ok().map(|window| window.kind.name());
        let semaphore = note.semaphore.map(|at| at.at(module.bias).to_string());
        if list.json {
            let row = json!({
                "type": "usdt", "provider": note.provider, "name": note.name,
                "module": module.name, "address": address.to_string(), "verdict": word,
                "window": window, "reason": reason, "semaphore": semaphore, "args": note.args,
            });
            writeln!(out, "{}", json_line(&row))?;
            continue;
        }
        let window = window.unwrap_or("-");
        let name = escaped(&format!("usdt:{}:{}", module.name, note.full_name())).to_string();
        let args = note.args.iter().map(|arg| format!(" {}", escaped(arg)));
        let args: String = args.collect();
        let reason = reason.map(|why| format!("  # {why}")).unwrap_or_default();
        let watched = if semaphore.is_some() {
            "semaphore"
        } else {
            "-"
        };
        writeln!(
            out,
            "{address:>#18} {watched:<9} {word:<7} {window:<11} {name}{args}{reason}"
        )?;
    }
    Ok(notes.len())
}

/// `kptrace check`.
pub(super) fn check(check: &Check) -> Exit {
    let specs = match specs(&check.probes) {
        Ok(specs) => specs,
        Err(wrong) => {
            for diagnostic in wrong {
                let _ = writeln!(io::stderr(), "{diagnostic}");
            }
            return Exit::Usage;
        }
    };
    let modules = match open(&check.target) {
        Ok(modules) => modules,
        Err(error) => return fail(&error),
    };
    let wanted = Wanted {
        specs,
        cache: cache(),
        ..Wanted::default()
    };
    let plan = match plan(modules, &wanted) {
        Ok(plan) => plan,
        Err(PlanError::NoMatch(text)) => {
            complain(format_args!("no probe matched\n{text}"));
            return Exit::NoMatch;
        }
        Err(PlanError::Spec(wrong)) => {
            for diagnostic in wrong {
                let _ = writeln!(io::stderr(), "{diagnostic}");
            }
            return Exit::Usage;
        }
        Err(PlanError::Other(error)) => return fail(&error),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    written(print_check(check, &plan, &check.target, &mut out).and_then(|()| out.flush()))
}

/// What each probe would become, then what all of them would cost.
fn print_check(
    check: &Check,
    plan: &Plan,
    target: &Target,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut pages = std::collections::BTreeSet::new();
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
            let hole = ground.and_then(crate::session::Ground::hole);
            pages.extend(
                hole.into_iter()
                    .flat_map(|at| [at.0 >> 12, (at.0 + 4) >> 12]),
            );
        }
        if check.json {
            let row = json!({
                "type": "check", "name": &*info.name, "module": info.module,
                "address": address.to_string(), "verdict": verdict, "window": window, "reason": reason,
                "bytes": bytes,
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
        let running = if matches!(target, Target::Pid(_)) {
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
