//! `list`: what could be probed; and what it shares with `check`. Nothing is touched.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::args::{List, Target};
use super::complain;
use super::exit::Exit;
use super::trace::cache;
use crate::analysis::Text;
use crate::base::Tid;
use crate::output::{escaped, json_line};
use crate::session::{Module, modules};
use crate::spec::{ModuleName, NameText, Pattern, parse_pattern};
use crate::symbols::Note;
use crate::sys::mem::Memory;
use crate::sys::procfs;

/// The modules of a file or a process.
pub(super) fn open(target: &Target) -> anyhow::Result<Vec<Module>> {
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

pub(super) fn fail(error: &anyhow::Error) -> Exit {
    complain(format_args!("{error:#}"));
    Exit::Failure
}

pub(super) fn written(result: io::Result<()>) -> Exit {
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
