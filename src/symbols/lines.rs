//! `file.c:42` to addresses. Knows no functions but their ranges.
//!
//! Invariant: an address is given for the line asked for or not at all; where the line has no
//! code, the error names the next that has.

use std::collections::BTreeMap;

use anyhow::bail;

use super::dwarf::{DebugInfo, Dwarf, Unit};
use super::elf::Image;
use crate::base::LinkAddr;

/// Most rows of one line that are kept.
const ROW_CAP: usize = 1 << 20;

/// Where the code of a line begins: its first statement in each function (and each inlined copy)
/// that has it. `file` is the end of a path, whole components: `net/tcp.c` or `tcp.c`. Fails with
/// one clear line: no debug information, no such file, no code on that line.
pub fn line_addresses(
    image: &Image,
    debug: Option<&Image>,
    file: &str,
    line: u32,
) -> anyhow::Result<Vec<LinkAddr>> {
    let name = image.file_name();
    let Some(info) = DebugInfo::load(image, debug) else {
        bail!(
            "{name}: no debug information, so {file}:{line} is unknown; build it with -g or install its debug package"
        );
    };
    let dwarf = info.dwarf();
    let mut found = Found::default();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        if let Ok(unit) = dwarf.unit(header) {
            // A unit that breaks off keeps what it gave before.
            let _ = search(&dwarf, &unit, file, line, &mut found);
        }
    }
    if !found.file {
        bail!("{name}: no source file {file} in its debug information");
    }
    if found.starts.is_empty() {
        match found.next_line {
            Some(next) => {
                bail!("{name}: {file}:{line} has no code; the next line that has is {next}")
            }
            None => bail!("{name}: {file}:{line} has no code, nor has any line after it"),
        }
    }
    let mut starts: Vec<_> = found.starts.into_iter().map(LinkAddr).collect();
    starts.sort_unstable();
    starts.dedup();
    Ok(starts)
}

#[derive(Default)]
struct Found {
    file: bool,
    starts: Vec<u64>,
    next_line: Option<u64>,
}

fn search(
    dwarf: &Dwarf,
    unit: &Unit,
    file: &str,
    line: u32,
    found: &mut Found,
) -> gimli::Result<()> {
    let Some(program) = unit.line_program.clone() else {
        return Ok(());
    };
    let header = program.header();
    let path = |index: u64| file_path(dwarf, unit, header, index);
    let count = header.file_names().len() as u64;
    // Before DWARF 5 files count from 1, and one past the last index is asked for in vain.
    let wanted: Vec<u64> = (0..=count)
        .filter(|&index| path(index).is_some_and(|p| is_suffix(&p, file)))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    found.file = true;
    let mut addresses = Vec::new();
    // Rows of one sequence count only when it ends: an unfinished or discarded one is no code.
    let mut pending: Vec<u64> = Vec::new();
    let mut sequence_start = None;
    let mut rows = program.rows();
    while let Some((_, row)) = rows.next_row()? {
        let start = *sequence_start.get_or_insert(row.address());
        if row.end_sequence() {
            // The linker leaves address 0 to code that it threw away.
            if start != 0 {
                addresses.append(&mut pending);
            }
            pending.clear();
            sequence_start = None;
            continue;
        }
        let own = row.line().map_or(0, |l| l.get());
        if !row.is_stmt() || !wanted.contains(&row.file_index()) {
            continue;
        }
        if own == u64::from(line) && pending.len() + addresses.len() < ROW_CAP {
            pending.push(row.address());
        } else if own > u64::from(line) && start != 0 {
            found.next_line = Some(found.next_line.map_or(own, |n| n.min(own)));
        }
    }
    if addresses.is_empty() {
        return Ok(());
    }
    found
        .starts
        .extend(first_of_each_block(&addresses, &blocks(dwarf, unit)));
    Ok(())
}

/// Whether `wanted` is the whole path or its last components.
fn is_suffix(path: &str, wanted: &str) -> bool {
    path.strip_suffix(wanted.trim_start_matches("./"))
        .is_some_and(|head| head.is_empty() || head.ends_with('/') || wanted.starts_with('/'))
}

fn file_path(
    dwarf: &Dwarf,
    unit: &Unit,
    header: &gimli::LineProgramHeader<super::dwarf::Slice<'_>>,
    index: u64,
) -> Option<String> {
    let file = header.file(index)?;
    let text = |value| {
        let text = dwarf.attr_string(unit, value).ok()?;
        Some(text.to_string_lossy().into_owned())
    };
    let name = text(file.path_name())?;
    if name.starts_with('/') {
        return Some(name);
    }
    let dir = file.directory(header).and_then(text).unwrap_or_default();
    let mut path = String::new();
    if !dir.starts_with('/')
        && let Some(base) = unit.comp_dir
    {
        path = format!("{}/", base.to_string_lossy());
    }
    if !dir.is_empty() && dir != path.trim_end_matches('/') {
        path = format!("{path}{dir}/");
    }
    Some(path + &name)
}

/// Ranges of functions and inlined calls, with a number each: `(start, end, number)`.
fn blocks(dwarf: &Dwarf, unit: &Unit) -> Vec<(u64, u64, usize)> {
    let mut blocks = Vec::new();
    let mut entries = unit.entries();
    while let Ok(Some(die)) = entries.next_dfs() {
        if !matches!(
            die.tag(),
            gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine
        ) {
            continue;
        }
        let number = die.offset().0;
        let Ok(mut ranges) = dwarf.die_ranges(unit, die) else {
            continue;
        };
        while let Ok(Some(range)) = ranges.next() {
            blocks.push((range.begin, range.end, number));
        }
    }
    // Of blocks that start together the outer one first.
    blocks.sort_unstable_by_key(|&(start, end, number)| (start, std::cmp::Reverse(end), number));
    blocks
}

/// The lowest address in each innermost block.
fn first_of_each_block(addresses: &[u64], blocks: &[(u64, u64, usize)]) -> Vec<u64> {
    let mut lowest: BTreeMap<Option<usize>, u64> = BTreeMap::new();
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    // Blocks nest, so a stack of the open ones is enough.
    let mut open: Vec<(u64, usize)> = Vec::new();
    let mut next = blocks.iter().peekable();
    for at in sorted {
        while let Some(&(start, end, number)) = next.peek() {
            if *start > at {
                break;
            }
            while open.last().is_some_and(|&(until, _)| until <= *start) {
                open.pop();
            }
            open.push((*end, *number));
            next.next();
        }
        while open.last().is_some_and(|&(until, _)| until <= at) {
            open.pop();
        }
        lowest.entry(open.last().map(|&(_, n)| n)).or_insert(at);
    }
    lowest.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::super::Symbols;
    use super::super::testing::cc;
    use super::*;

    const SOURCE: &str = "\
volatile int sink; static inline int twice(int x) {
    return sink = x * 2; /* line 2 */
}
__attribute__((noinline)) int f(int x) {
    if (x) x = twice(x); /* line 5 */

    return x + 1; /* line 7 */
}
int main(int c, char **v) { return f(c) + twice(c); }
";

    #[test]
    fn a_line_is_found_by_the_end_of_its_path() {
        for flags in [["-g", "-O0"], ["-gdwarf-4", "-O0"]] {
            let Some(built) = cc(SOURCE, &flags) else {
                return;
            };
            let image = built.image();
            let symbols = Symbols::load(&image, None).unwrap();
            let at = line_addresses(&image, None, "t.c", 5).unwrap();
            assert_eq!(at.len(), 1);
            assert_eq!(symbols.lookup(at[0]).unwrap().0, "f");
            let entry = line_addresses(&image, None, "t.c", 4).unwrap();
            assert_eq!(symbols.lookup(entry[0]), Some(("f", 0)));
            let whole = built.path.with_file_name("t.c");
            let whole = whole.to_str().unwrap();
            assert_eq!(line_addresses(&image, None, whole, 5).unwrap(), at);
            assert_eq!(line_addresses(&image, None, "./t.c", 5).unwrap(), at);
        }
    }

    #[test]
    fn what_has_no_code_is_told_with_the_next_line_that_has() {
        let Some(built) = cc(SOURCE, &["-g", "-O0"]) else {
            return;
        };
        let error = |file, line| {
            line_addresses(&built.image(), None, file, line)
                .unwrap_err()
                .to_string()
        };
        assert!(error("t.c", 6).ends_with("t.c:6 has no code; the next line that has is 7"));
        assert!(error("t.c", 900).contains("nor has any line after it"));
        assert!(
            error(".c", 5).contains("no source file"),
            "a whole component must match"
        );
        assert!(error("other.c", 5).contains("no source file"));
    }

    #[test]
    fn an_inlined_line_is_found_in_each_copy() {
        let Some(built) = cc(SOURCE, &["-g", "-O2"]) else {
            return;
        };
        let image = built.image();
        let symbols = Symbols::load(&image, None).unwrap();
        let at = line_addresses(&image, None, "t.c", 2).unwrap();
        let mut functions: Vec<_> = at.iter().map(|&a| symbols.lookup(a).unwrap().0).collect();
        functions.sort_unstable();
        functions.dedup();
        assert_eq!(functions, ["f", "main"]);
    }
}
