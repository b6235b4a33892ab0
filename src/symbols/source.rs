//! An address to functions, inlined ones included, files and lines. Knows no run-time addresses.
//!
//! Invariant: what is broken in debug information gives less, never an error.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use gimli::{EndianArcSlice, LittleEndian, Reader as _, SectionId};

use super::demangle::demangle;
use super::dwarf::{debug_holder, section_bytes};
use super::elf::Image;
use crate::base::LinkAddr;

type Slice = EndianArcSlice<LittleEndian>;

/// Most functions that are inlined into one another at one place.
const MOST_INLINED: usize = 64;

/// A function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFrame {
    /// Its name, demangled.
    pub function: Option<String>,
    /// The file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
}

/// A row of a line table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    address: u64,
    file: u64,
    line: u64,
    statement: bool,
    end: bool,
}

/// The debug information of one file, by address.
pub struct SourceMap {
    context: addr2line::Context<Slice>,
    /// Line tables of units that were asked for, by their offset.
    rows: RefCell<HashMap<usize, Box<[Row]>>>,
}

impl SourceMap {
    /// That of the debug file when it has some, else of the image; `None` when neither has.
    pub fn load(image: &Image, debug: Option<&Image>) -> Option<SourceMap> {
        let holder = debug_holder(image, debug)?;
        let load = |id: SectionId| -> Result<Slice, std::convert::Infallible> {
            let bytes = section_bytes(holder, id.name()).unwrap_or_default();
            Ok(EndianArcSlice::new(Arc::from(&*bytes), LittleEndian))
        };
        let Ok(dwarf) = gimli::Dwarf::load(load);
        let context = addr2line::Context::from_dwarf(dwarf).ok()?;
        Some(SourceMap {
            context,
            rows: RefCell::default(),
        })
    }

    /// The functions at an address, the innermost first: all but the last are inlined.
    pub fn find(&self, at: LinkAddr) -> Vec<SourceFrame> {
        let mut found = Vec::new();
        let Ok(mut frames) = self.context.find_frames(at.0).skip_all_loads() else {
            return found;
        };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref();
            let name = name.and_then(|name| name.raw_name().ok().map(|raw| raw.into_owned()));
            let shown = |raw: String| demangle(&raw).unwrap_or(raw);
            let location = frame.location.as_ref();
            found.push(SourceFrame {
                function: name.map(shown),
                file: location.and_then(|l| l.file).map(str::to_owned),
                line: location.and_then(|l| l.line).filter(|line| *line > 0),
            });
            if found.len() == MOST_INLINED {
                break;
            }
        }
        if let Some(first) = found.first_mut()
            && let Some((file, line)) = self.statement(at)
        {
            first.line = Some(line);
            // Another spelling of the same is no news.
            let end = |path: &str| path.rsplit('/').next().map(str::to_owned);
            if first.file.as_deref().and_then(end) != end(&file) {
                first.file = Some(file);
            }
        }
        found
    }

    /// Where the line table has several rows for the place of an address: that of the last that begins a
    /// statement. The very last may be what the compiler has moved there.
    fn statement(&self, at: LinkAddr) -> Option<(String, u32)> {
        let unit = self.context.find_dwarf_and_unit(at.0).skip_all_loads()?;
        let program = unit.line_program.clone()?;
        let mut kept = self.rows.borrow_mut();
        let key = unit.header.offset().0;
        let rows = kept
            .entry(key)
            .or_insert_with(|| rows(program.clone()).into());
        let row = statement_at(rows, at.0)?;
        let header = program.header();
        let file = header.file(row.file)?;
        let text = |value| {
            let text = unit.attr_string(value).ok()?;
            Some(text.to_string_lossy().ok()?.into_owned())
        };
        let name = text(file.path_name())?;
        let directory = file.directory(header).and_then(text);
        let path = match directory {
            Some(directory) if !name.starts_with('/') => format!("{directory}/{name}"),
            _ => name,
        };
        Some((path, u32::try_from(row.line).ok()?))
    }
}

/// The rows of a unit, by address.
fn rows(program: gimli::IncompleteLineProgram<Slice>) -> Vec<Row> {
    let mut all = Vec::new();
    let mut sequence: Vec<Row> = Vec::new();
    let mut rows = program.rows();
    while let Ok(Some((_, row))) = rows.next_row() {
        sequence.push(Row {
            address: row.address(),
            file: row.file_index(),
            line: row.line().map_or(0, |line| line.get()),
            statement: row.is_stmt(),
            end: row.end_sequence(),
        });
        if row.end_sequence() {
            // The linker leaves address 0 to code that it threw away.
            if sequence.first().is_some_and(|first| first.address != 0) {
                all.append(&mut sequence);
            }
            sequence.clear();
        }
    }
    all.sort_by_key(|row| (row.address, !row.end));
    all
}

/// The row that stands for an address, when it is one of several and not the last of them.
fn statement_at(rows: &[Row], at: u64) -> Option<Row> {
    let index = rows
        .partition_point(|row| row.address <= at)
        .checked_sub(1)?;
    let last = rows.get(index)?;
    if last.statement || last.end {
        return None;
    }
    let same = rows.get(..index)?.iter().rev();
    let same = same.take_while(|row| row.address == last.address && !row.end && row.line != 0);
    same.copied().find(|row| row.statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_rows_at_one_address_the_last_statement_counts() {
        let row = |address, line, statement, end| Row {
            address,
            file: 1,
            line,
            statement,
            end,
        };
        let rows = [
            row(10, 1, true, false),
            row(20, 2, true, false),
            row(20, 3, true, false),
            row(20, 4, false, false),
            row(30, 5, false, false),
            row(40, 5, false, true),
        ];
        let line = |at| statement_at(&rows, at).map(|row| row.line);
        assert_eq!(line(10), None, "it is the last");
        assert_eq!(line(25), Some(3));
        assert_eq!(line(30), None, "there is no statement");
        assert_eq!((line(40), line(5)), (None, None));
    }
}
