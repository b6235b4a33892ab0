//! From a file's facts to what the scan is told: plain lists that outlive the sweep.

use crate::arch::native::scan::{Code, Input};
use crate::symbols::{CodeFacts, Image, Kind, Symbols};

use super::EntryFact;

/// Lists that a scan's [`Input`] borrows.
#[derive(Debug)]
pub struct Source<'a> {
    code: Vec<Code<'a>>,
    functions: Vec<(u64, u64)>,
    pointers: Vec<u64>,
    landing_pads: Vec<u64>,
    rodata: Vec<Code<'a>>,
    pie: bool,
}

impl<'a> Source<'a> {
    /// Gathers the lists of a file.
    pub fn new(image: &'a Image, facts: &CodeFacts) -> Source<'a> {
        let bytes =
            |range: &std::ops::Range<usize>| image.data().get(range.clone()).unwrap_or_default();
        let code = |start: crate::base::LinkAddr, file: &std::ops::Range<usize>| Code {
            start: start.0,
            bytes: bytes(file),
        };
        Source {
            code: facts
                .ranges
                .iter()
                .map(|range| code(range.start, &range.file))
                .collect(),
            functions: facts
                .functions
                .iter()
                .map(|span| (span.start.0, span.end.0))
                .collect(),
            pointers: facts.pointers.iter().map(|at| at.0).collect(),
            landing_pads: facts.landing_pads.iter().map(|at| at.0).collect(),
            rodata: facts
                .jump_table_data
                .iter()
                .map(|range| code(range.start, &range.file))
                .collect(),
            pie: image.kind() == Kind::Dyn,
        }
    }

    /// What the scan is told.
    pub fn input(&self) -> Input<'_> {
        Input {
            code: &self.code,
            functions: &self.functions,
            pointers: &self.pointers,
            landing_pads: &self.landing_pads,
            rodata: &self.rodata,
            pie: self.pie,
        }
    }
}

/// The entries of a file as its verdicts are made from.
pub fn entry_facts(symbols: &Symbols) -> Vec<EntryFact> {
    let fact = |entry: &crate::symbols::Entry| EntryFact {
        start: entry.at.0,
        end: entry.at.0.saturating_add(entry.size),
        named: !entry.from_fde,
    };
    symbols.entries().iter().map(fact).collect()
}
