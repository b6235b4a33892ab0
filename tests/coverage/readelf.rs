//! The functions of a file as binutils show them, to hold against what kptrace lists. Knows
//! nothing of kptrace but its rules:
//!
//! * The unique values of all defined FUNC and IFUNC symbols of `.symtab`, `.dynsym` and the debug
//!   file, in executable sections. A value all whose names have a `.cold` part is no entry.
//! * When neither `.symtab` names a function, starts of FDEs too. An FDE whose first row is not
//!   that of a function just called (CFA = rsp + 8, return address at CFA - 8) is no entry, nor is
//!   one in a `.plt`. Nor is a part of a function that is reached by jumps alone: readelf cannot
//!   tell these, but objdump shows that nothing calls them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

fn printed(tool: &str, arguments: &[&str], path: &Path) -> Result<String, String> {
    let done = Command::new(tool)
        .env("LC_ALL", "C")
        .args(arguments)
        .arg(path)
        .output();
    let done = done.map_err(|error| format!("{tool}: {error}"))?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// Sections by number: name, executable, addresses.
struct Section {
    name: String,
    executable: bool,
    start: u64,
    end: u64,
}

fn sections(path: &Path) -> Result<BTreeMap<usize, Section>, String> {
    let text = printed("readelf", &["-SW", "-wN"], path)?;
    let mut sections = BTreeMap::new();
    for line in text.lines() {
        let Some((number, rest)) = line
            .trim_start()
            .strip_prefix('[')
            .and_then(|l| l.split_once(']'))
        else {
            continue;
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        // Name Type Address Off Size ES Flg Lk Inf Al; flags may be none.
        if let (Ok(number), [name, _, start, _, size, _, flags, ..]) =
            (number.trim().parse(), words.as_slice())
            && let (Some(start), Some(size)) = (hex(start), hex(size))
        {
            let section = Section {
                name: (*name).to_owned(),
                executable: flags.contains('X'),
                start,
                end: start + size,
            };
            sections.insert(number, section);
        }
    }
    Ok(sections)
}

/// Function symbols: the names of each value; and whether `.symtab` has any.
fn symbols(path: &Path, own: &BTreeMap<usize, Section>) -> Result<(Names, bool), String> {
    let text = printed("readelf", &["-sW", "-wN"], path)?;
    let mut names: Names = BTreeMap::new();
    let mut in_symtab = false;
    let mut full = false;
    for line in text.lines() {
        if line.starts_with("Symbol table") {
            in_symtab = line.contains("'.symtab'");
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, value, _, "FUNC" | "IFUNC", _, _, section, name, ..] = words.as_slice() else {
            continue;
        };
        // Undefined and absolute ones have no section number.
        let (Some(value), Ok(section)) = (hex(value), section.parse::<usize>()) else {
            continue;
        };
        let there = own
            .values()
            .any(|s| s.executable && (s.start..s.end).contains(&value));
        if there || own.get(&section).is_some_and(|s| s.executable) {
            names.entry(value).or_default().push((*name).to_owned());
            full |= in_symtab;
        }
    }
    Ok((names, full))
}

type Names = BTreeMap<u64, Vec<String>>;

fn debug_file(path: &Path) -> Result<Option<PathBuf>, String> {
    let notes = printed("readelf", &["-n", "-wN"], path)?;
    let id = notes
        .lines()
        .find_map(|line| line.trim().strip_prefix("Build ID: "));
    Ok(id.filter(|id| id.len() > 2).and_then(|id| {
        let (head, tail) = id.split_at(2);
        let file = PathBuf::from(format!("/usr/lib/debug/.build-id/{head}/{tail}.debug"));
        file.exists().then_some(file)
    }))
}

fn is_cold(name: &str) -> bool {
    name.split('.').skip(1).any(|part| part == "cold")
}

/// Starts of FDEs, each with whether its first row is that of a function just called.
fn frames(path: &Path) -> Result<BTreeMap<u64, bool>, String> {
    let text = printed("readelf", &["--debug-dump=frames-interp", "-wN"], path)?;
    let mut frames = BTreeMap::new();
    let mut of_cie: HashMap<String, bool> = HashMap::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines().filter(|line| !line.is_empty());
        let Some(head) = lines.find(|line| line.contains(" CIE ") || line.contains(" FDE ")) else {
            continue;
        };
        // The header of the columns, then the first row.
        let row = lines.nth(1).map(|row| {
            let words: Vec<&str> = row.split_whitespace().collect();
            words.get(1) == Some(&"rsp+8") && words.last() == Some(&"c-8")
        });
        let words: Vec<&str> = head.split_whitespace().collect();
        match words.as_slice() {
            [at, _, _, "CIE", ..] => {
                of_cie.insert((*at).to_owned(), row.unwrap_or(false));
            }
            [_, _, _, "FDE", cie, range] => {
                let cie = cie.strip_prefix("cie=").unwrap_or_default();
                let fresh = row.or(of_cie.get(cie).copied()).unwrap_or(false);
                let range = range
                    .strip_prefix("pc=")
                    .and_then(|range| range.split_once(".."));
                if let Some((start, end)) = range
                    && let (Some(start), Some(end)) = (hex(start), hex(end))
                    && start < end
                {
                    *frames.entry(start).or_insert(false) |= fresh;
                }
            }
            _ => {}
        }
    }
    Ok(frames)
}

/// Addresses that a direct call goes to.
fn called(path: &Path) -> Result<BTreeSet<u64>, String> {
    let text = printed("objdump", &["-d", "--no-show-raw-insn", "-w"], path)?;
    let targets = text.lines().filter_map(|line| {
        let (_, target) = line.split_once("\tcall ")?;
        hex(target.split_whitespace().next()?)
    });
    Ok(targets.collect())
}

/// That `listed` are the entries of the file.
pub fn agrees(path: &Path, listed: &BTreeSet<u64>) -> Result<(), String> {
    let own = sections(path)?;
    let (mut names, mut full) = symbols(path, &own)?;
    if let Some(debug) = debug_file(path)? {
        let (more, more_full) = symbols(&debug, &own)?;
        full |= more_full;
        for (value, more) in more {
            names.entry(value).or_default().extend(more);
        }
    }
    let cold = |names: &Vec<String>| names.iter().all(|name| is_cold(name));
    let mut expected: BTreeSet<u64> = names
        .iter()
        .filter(|(_, names)| !cold(names))
        .map(|(value, _)| *value)
        .collect();
    let named = expected.len();
    let mut parts = BTreeSet::new();
    if !full {
        let stub = |at: u64| {
            own.values().any(|s| {
                (s.name == ".plt" || s.name.starts_with(".plt.")) && (s.start..s.end).contains(&at)
            })
        };
        for (start, fresh) in frames(path)? {
            if fresh && !stub(start) && !names.contains_key(&start) {
                if listed.contains(&start) {
                    expected.insert(start);
                } else {
                    parts.insert(start);
                }
            }
        }
    }
    println!(
        "    {named} named, {} by unwind entries, {} such left out as parts of functions",
        expected.len() - named,
        parts.len()
    );
    let shown = |set: BTreeSet<u64>| {
        set.iter()
            .take(10)
            .map(|a| format!(" {a:#x}"))
            .collect::<String>()
    };
    if *listed != expected {
        let missing: BTreeSet<u64> = expected.difference(listed).copied().collect();
        let extra: BTreeSet<u64> = listed.difference(&expected).copied().collect();
        return Err(format!(
            "{} entries not listed:{}; {} listed that are none:{}",
            missing.len(),
            shown(missing.clone()),
            extra.len(),
            shown(extra.clone())
        ));
    }
    if !parts.is_empty() {
        let called: BTreeSet<u64> = called(path)?.intersection(&parts).copied().collect();
        if !called.is_empty() {
            return Err(format!(
                "{} are left out but called:{}",
                called.len(),
                shown(called.clone())
            ));
        }
    }
    Ok(())
}
