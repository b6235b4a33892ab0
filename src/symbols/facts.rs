//! All that the analysis of code needs to know of a file, as plain data. Decodes no instruction.
//!
//! Invariants: lists are sorted; `ranges` are disjoint and inside the file; what was broken is
//! named, never guessed.

use std::ops::Range;

use super::elf::{BROKEN_CAP, Image, Kind};
use super::entries::Symbols;
use super::frames::Frames;
use super::lsda::landing_pads;
use super::relocs::{CodeMap, Pointers, narrow_words};
use crate::base::LinkAddr;

/// A range of executable bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRange {
    /// Address of its first byte.
    pub start: LinkAddr,
    /// Where its bytes are in [`Image::data`].
    pub file: Range<usize>,
    /// Linker stubs (`.plt`, `.plt.sec`...), not compiled code.
    pub stubs: bool,
}

/// A known function, or cold part of one: `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionSpan {
    /// First address.
    pub start: LinkAddr,
    /// First address past it; equal to `start` when the size is unknown.
    pub end: LinkAddr,
}

/// Read-only data where jump tables may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRange {
    /// Address of its first byte.
    pub start: LinkAddr,
    /// Where its bytes are in [`Image::data`].
    pub file: Range<usize>,
}

/// All that says where control may enter or what text may be pointed at, in link addresses.
#[derive(Clone, Debug, Default)]
pub struct CodeFacts {
    /// Executable bytes, by address.
    pub ranges: Vec<CodeRange>,
    /// Known functions and parts, by start, each start once.
    pub functions: Vec<FunctionSpan>,
    /// Addresses in code that data, relocations, the header or exception tables name; also labels
    /// of hand-written code.
    pub pointers: Vec<LinkAddr>,
    /// Read-only data, by address.
    pub jump_table_data: Vec<DataRange>,
    /// What was broken and left out.
    pub broken: Vec<String>,
}

/// Gathers the facts. Nothing broken makes it fail.
pub fn code_facts(image: &Image, symbols: &Symbols) -> anyhow::Result<CodeFacts> {
    let ranges = code_ranges(image);
    let map = CodeMap::new(
        ranges
            .iter()
            .map(|r| r.start.0..r.start.0.saturating_add(r.file.len() as u64)),
    );
    let frames = Frames::of(image);
    let Pointers {
        found: mut pointers,
        mut broken,
        ..
    } = Pointers::of(image, &map);
    if image.kind() == Kind::Exec {
        pointers.extend(narrow_words(image, &map));
    }
    for fde in &frames.list {
        match landing_pads(image, fde) {
            Some(pads) => pointers.extend(pads.into_iter().filter(|p| map.contains(p.0))),
            None => broken.push(format!("the exception table of {} is broken", fde.start)),
        }
    }
    pointers.extend(symbols.labels.iter().filter(|l| map.contains(l.0)));
    pointers.sort_unstable();
    pointers.dedup();
    broken.extend(image.broken().iter().cloned());
    broken.extend(symbols.broken().iter().cloned());
    broken.extend(frames.broken.iter().cloned());
    broken.dedup();
    broken.truncate(BROKEN_CAP);
    Ok(CodeFacts {
        functions: function_spans(symbols, &frames, &ranges),
        jump_table_data: jump_table_data(image),
        ranges,
        pointers,
        broken,
    })
}

/// Executable sections; executable segments when there are no section headers.
fn code_ranges(image: &Image) -> Vec<CodeRange> {
    let mut ranges: Vec<CodeRange> = image
        .sections()
        .iter()
        .filter(|s| s.is_code() && !s.is_compressed() && !s.file.is_empty())
        .map(|s| CodeRange {
            start: s.at,
            file: s.file.clone(),
            stubs: s.name == ".iplt" || s.name == ".plt" || s.name.starts_with(".plt."),
        })
        .collect();
    if ranges.is_empty() {
        ranges.extend(
            image
                .segments()
                .iter()
                .filter(|s| s.executable)
                .filter_map(|s| {
                    Some(CodeRange {
                        start: s.vaddr,
                        file: image.file_range_from(s.vaddr)?,
                        stubs: false,
                    })
                }),
        );
    }
    ranges.sort_by_key(|r| r.start);
    // A file that claims one address twice lies somewhere; the first claim stands.
    let mut end = 0;
    ranges.retain(|r| {
        let apart = r.start.0 >= end;
        if apart {
            end = r.start.0.saturating_add(r.file.len() as u64);
        }
        apart
    });
    ranges
}

fn function_spans(symbols: &Symbols, frames: &Frames, ranges: &[CodeRange]) -> Vec<FunctionSpan> {
    let named = symbols.entries().iter().chain(symbols.fragments());
    let mut spans: Vec<FunctionSpan> = named
        .map(|e| (e.at, e.size))
        .chain(frames.list.iter().map(|f| (f.start, f.len)))
        .filter_map(|(start, len)| {
            let range = ranges.get(
                ranges
                    .partition_point(|r| r.start <= start)
                    .checked_sub(1)?,
            )?;
            let limit = range.start.0.saturating_add(range.file.len() as u64);
            (start.0 < limit).then(|| FunctionSpan {
                start,
                end: LinkAddr(start.0.saturating_add(len).min(limit)),
            })
        })
        .collect();
    // The longest of equal starts first, so that it is the one kept.
    spans.sort_unstable_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    spans.dedup_by_key(|s| s.start);
    spans
}

fn jump_table_data(image: &Image) -> Vec<DataRange> {
    const SHT_PROGBITS: u32 = 1;
    let mut data: Vec<DataRange> = image
        .sections()
        .iter()
        .filter(|s| s.kind == SHT_PROGBITS && s.is_alloc() && !s.is_code())
        .filter(|s| {
            [".rodata", ".data.rel.ro", ".lrodata"].iter().any(|n| {
                s.name
                    .strip_prefix(n)
                    .is_some_and(|t| t.is_empty() || t.starts_with('.'))
            })
        })
        .map(|s| DataRange {
            start: s.at,
            file: s.file.clone(),
        })
        .collect();
    if image.sections().is_empty() {
        data.extend(
            image
                .segments()
                .iter()
                .filter(|s| !s.writable)
                .filter_map(|s| {
                    Some(DataRange {
                        start: s.vaddr,
                        file: image.file_range_from(s.vaddr)?,
                    })
                }),
        );
    }
    data.sort_by_key(|d| d.start);
    data
}
