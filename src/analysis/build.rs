//! From what `symbols` knows of a file to what the scan wants: the one place that sees both.

use super::{EntryFact, File, Key, Text};
use crate::arch::native::scan::{Code, Input};
use crate::symbols::{CodeFacts, Image, Kind, Symbols};

/// The facts of one file in the scan's terms; borrows the bytes from the image.
pub struct Source<'a> {
    code: Vec<Code<'a>>,
    rodata: Vec<Code<'a>>,
    functions: Vec<(u64, u64)>,
    pointers: Vec<u64>,
    landing_pads: Vec<u64>,
    reserved: Vec<(u64, u64)>,
    pie: bool,
}

impl<'a> Source<'a> {
    /// Takes over the facts; ranges that the image does not hold are left out.
    pub fn new(image: &'a Image, facts: &CodeFacts) -> Source<'a> {
        let bytes = |start: u64, file: &std::ops::Range<usize>| {
            let bytes = image.data().get(file.clone())?;
            Some(Code { start, bytes })
        };
        let code = facts.ranges.iter();
        let rodata = facts.jump_table_data.iter();
        let functions = facts.functions.iter().map(|f| (f.start.0, f.end.0));
        Source {
            code: code.filter_map(|r| bytes(r.start.0, &r.file)).collect(),
            rodata: rodata.filter_map(|r| bytes(r.start.0, &r.file)).collect(),
            functions: functions.collect(),
            pointers: facts.pointers.iter().map(|p| p.0).collect(),
            landing_pads: facts.landing_pads.iter().map(|p| p.0).collect(),
            reserved: facts.reserved.iter().map(|r| (r.0.0, r.1.0)).collect(),
            pie: image.kind() != Kind::Exec,
        }
    }

    /// Sweeps the file's code.
    pub fn text(&self) -> Text<'_> {
        Text::new(Input {
            code: &self.code,
            functions: &self.functions,
            pointers: &self.pointers,
            landing_pads: &self.landing_pads,
            rodata: &self.rodata,
            reserved: &self.reserved,
            pie: self.pie,
        })
    }
}

impl File {
    /// Judges every entry that the symbols and unwind tables know.
    pub fn of_symbols(text: &Text<'_>, symbols: &Symbols) -> File {
        let fact = |entry: &crate::symbols::Entry| EntryFact {
            start: entry.at.0,
            end: entry.at.0.saturating_add(entry.size),
            named: !entry.from_fde,
        };
        let mut facts: Vec<_> = symbols.entries().iter().map(fact).collect();
        facts.sort_unstable_by_key(|fact| fact.start);
        File::of(text, &facts)
    }
}

impl Key {
    /// The key of a file; `None` when it has no build-id, and then nothing is stored.
    pub fn of(image: &Image, debug: Option<&Image>) -> Option<Key> {
        Some(Key {
            build_id: image.build_id()?.to_vec(),
            file_size: image.data().len() as u64,
            debug_id: debug.and_then(Image::build_id).unwrap_or(&[]).to_vec(),
            stamp: image.stamp(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::{Symbols, code_facts};

    #[test]
    fn nearly_every_entry_of_this_program_takes_a_jump() {
        let image = Image::read(&std::env::current_exe().unwrap()).unwrap();
        let symbols = Symbols::load(&image, None).unwrap();
        let facts = code_facts(&image, &symbols).unwrap();
        let source = Source::new(&image, &facts);
        let file = File::of_symbols(&source.text(), &symbols);
        let jumps = file.entries().iter().filter(|e| e.verdict.is_ok()).count();
        assert!(file.entries().len() > 1000);
        assert!(jumps * 1000 >= file.entries().len() * 990);
    }
}
