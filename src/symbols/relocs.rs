//! Where pointers into the file's own code may come from: relocations, constructor tables, the
//! header, and for fixed-address programs every word of data. Knows no instructions.
//!
//! Invariant: only addresses inside the given code ranges come out; too many is safe (a site is
//! refused), too few is not.
//! Types: x86-64 psABI, section 4.4; RELR: gABI "Relative relocation table".

use std::collections::HashSet;
use std::ops::Range;

use super::bytes::u64_at;
use super::elf::Image;
use super::table::Table;
use crate::base::LinkAddr;

const SHT_RELA: u32 = 4;
const SHT_INIT_ARRAY: u32 = 14;
const SHT_FINI_ARRAY: u32 = 15;
const SHT_PREINIT_ARRAY: u32 = 16;
const SHT_RELR: u32 = 19;
const DT_PLTRELSZ: u64 = 2;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_INIT: u64 = 12;
const DT_FINI: u64 = 13;
const DT_REL: u64 = 17;
const DT_JMPREL: u64 = 23;
const DT_RELRSZ: u64 = 35;
const DT_RELR: u64 = 36;
/// Address and size tags of `DT_INIT_ARRAY`, `DT_FINI_ARRAY`, `DT_PREINIT_ARRAY`.
const DT_ARRAYS: [(u64, u64); 3] = [(25, 27), (26, 28), (32, 33)];
const R_64: u32 = 1;
const R_GLOB_DAT: u32 = 6;
const R_JUMP_SLOT: u32 = 7;
const R_RELATIVE: u32 = 8;
const R_IRELATIVE: u32 = 37;
const R_RELATIVE64: u32 = 38;

/// Sorted, disjoint code ranges, for the question "is this code".
pub(super) struct CodeMap(Vec<Range<u64>>);

impl CodeMap {
    /// `ranges` sorted by start and disjoint.
    pub(super) fn new(ranges: impl Iterator<Item = Range<u64>>) -> CodeMap {
        CodeMap(ranges.collect())
    }

    pub(super) fn contains(&self, at: u64) -> bool {
        let after = self.0.partition_point(|r| r.start <= at);
        after
            .checked_sub(1)
            .and_then(|i| self.0.get(i))
            .is_some_and(|r| at < r.end)
    }

    /// One range that holds them all: most words miss it.
    fn hull(&self) -> Range<u64> {
        let start = self.0.first().map_or(0, |r| r.start);
        start..self.0.last().map_or(start, |r| r.end)
    }
}

/// The pointers found, and what was broken.
pub(super) struct Pointers<'a> {
    image: &'a Image,
    code: &'a CodeMap,
    pub(super) found: Vec<LinkAddr>,
    /// Where the loader puts what a resolver chose, and the resolver.
    pub(super) slots: Vec<(LinkAddr, LinkAddr)>,
    /// Tables of code that is left for another tool, and what relocations write where in them.
    reserved: Vec<Range<u64>>,
    pub(super) filled: Vec<(u64, u64)>,
    pub(super) broken: Vec<String>,
}

/// The slots of indirect functions (IFUNC) that a file's own code uses: where the loader puts the
/// address that a resolver chose, and the resolver.
pub fn indirect_slots(image: &Image) -> Vec<(LinkAddr, LinkAddr)> {
    let nothing = CodeMap::new(std::iter::empty());
    let mut pointers = Pointers {
        image,
        code: &nothing,
        found: Vec::new(),
        slots: Vec::new(),
        reserved: Vec::new(),
        filled: Vec::new(),
        broken: Vec::new(),
    };
    pointers.relocations();
    pointers.slots
}

impl<'a> Pointers<'a> {
    /// All pointers into `code` that the file's tables and data make.
    pub(super) fn of(image: &'a Image, code: &'a CodeMap) -> Pointers<'a> {
        let mut pointers = Pointers {
            image,
            code,
            found: Vec::new(),
            slots: Vec::new(),
            reserved: super::reserved::tables(image),
            filled: Vec::new(),
            broken: Vec::new(),
        };
        pointers.add(image.entry().0);
        for tag in [DT_INIT, DT_FINI] {
            if let Some(at) = image.dynamic(tag) {
                pointers.add(at);
            }
        }
        pointers.relocations();
        pointers.arrays();
        pointers
    }

    /// A relocation writes `value` at `place`.
    fn fill(&mut self, place: Option<u64>, value: u64) {
        if let Some(place) = place
            && self.reserved.iter().any(|range| range.contains(&place))
        {
            self.filled.push((place, value));
        }
    }

    pub(super) fn add(&mut self, at: u64) {
        if self.code.contains(at) {
            self.found.push(LinkAddr(at));
        }
    }

    /// Tables by section header and by dynamic entry, each once.
    fn tables(&mut self, kinds: &[u32], tags: &[(u64, u64)]) -> Vec<Range<usize>> {
        let image = self.image;
        let mut seen = HashSet::new();
        let mut tables = Vec::new();
        for &(at, size) in tags {
            let (Some(at), Some(size)) = (image.dynamic(at), image.dynamic(size)) else {
                continue;
            };
            if at == 0 || size == 0 {
                continue;
            }
            let range = image.file_range_from(LinkAddr(at)).and_then(|r| {
                let end = r.start.checked_add(usize::try_from(size).ok()?)?;
                (end <= r.end).then_some(r.start..end)
            });
            match range {
                Some(range) => {
                    if seen.insert(range.start) {
                        tables.push(range);
                    }
                }
                None => self
                    .broken
                    .push(format!("a dynamic table at {at:#x} lies outside the file")),
            }
        }
        for section in image.sections() {
            if kinds.contains(&section.kind)
                && section.is_alloc()
                && seen.insert(section.file.start)
            {
                tables.push(section.file.clone());
            }
        }
        tables
    }

    fn relocations(&mut self) {
        let image = self.image;
        let symbols = Table::dynsym(image).or_else(|| Table::symtab(image));
        let tags = [(DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)];
        for table in self.tables(&[SHT_RELA], &tags) {
            let bytes = image.data().get(table).unwrap_or_default();
            for record in bytes.chunks_exact(24) {
                let (Some(info), Some(addend)) = (u64_at(record, 8), u64_at(record, 16)) else {
                    continue;
                };
                let kind = (info & 0xffff_ffff) as u32;
                if let (R_IRELATIVE, Some(slot)) = (kind, u64_at(record, 0)) {
                    self.slots.push((LinkAddr(slot), LinkAddr(addend)));
                }
                match kind {
                    R_RELATIVE | R_RELATIVE64 | R_IRELATIVE => {
                        self.fill(u64_at(record, 0), addend);
                        self.add(addend);
                    }
                    R_64 | R_GLOB_DAT | R_JUMP_SLOT => {
                        let index = (info >> 32) as u32;
                        let symbol = symbols.and_then(|s| s.get(index));
                        if let Some(symbol) = symbol.filter(|s| s.is_defined()) {
                            self.add(symbol.value);
                            self.add(symbol.value.wrapping_add(addend));
                        }
                    }
                    _ => {}
                }
            }
        }
        if image.dynamic(DT_REL).is_some() {
            self.broken
                .push("relocations without addends (DT_REL), which x86-64 does not use".to_owned());
        }
        for table in self.tables(&[SHT_RELR], &[(DT_RELR, DT_RELRSZ)]) {
            self.packed(table);
        }
    }

    /// `DT_RELR`: an even word is an address; an odd one is a bitmap over the 63 words after.
    fn packed(&mut self, table: Range<usize>) {
        let image = self.image;
        let mut next = 0_u64;
        for word in image.data().get(table).unwrap_or_default().chunks_exact(8) {
            let Some(word) = u64_at(word, 0) else {
                continue;
            };
            if word & 1 == 0 {
                self.add_word_at(word);
                next = word.wrapping_add(8);
                continue;
            }
            for bit in 1..64_u64 {
                if word >> bit & 1 != 0 {
                    self.add_word_at(next.wrapping_add((bit - 1) * 8));
                }
            }
            next = next.wrapping_add(63 * 8);
        }
    }

    fn add_word_at(&mut self, at: u64) {
        let word = self
            .image
            .bytes_at(LinkAddr(at), 8)
            .and_then(|b| u64_at(b, 0));
        if let Some(word) = word {
            self.fill(Some(at), word);
            self.add(word);
        }
    }

    fn arrays(&mut self) {
        let kinds = [SHT_INIT_ARRAY, SHT_FINI_ARRAY, SHT_PREINIT_ARRAY];
        for table in self.tables(&kinds, &DT_ARRAYS) {
            let bytes = self.image.data().get(table).unwrap_or_default();
            for word in bytes.chunks_exact(8) {
                self.add(u64_at(word, 0).unwrap_or(0));
            }
        }
    }
}

/// The file ranges of data that may hold pointers, word-aligned as in memory.
fn data_ranges(image: &Image) -> Vec<Range<usize>> {
    const SHT_PROGBITS: u32 = 1;
    let by_section: Vec<_> = image
        .sections()
        .iter()
        .filter(|s| s.is_alloc() && !s.is_code())
        .filter(|s| {
            s.kind == SHT_PROGBITS || (SHT_INIT_ARRAY..=SHT_PREINIT_ARRAY).contains(&s.kind)
        })
        .filter(|s| !s.name.starts_with(".eh_frame") && s.name != ".gcc_except_table")
        .map(|s| s.file.clone())
        .collect();
    if !by_section.is_empty() {
        return by_section;
    }
    image
        .segments()
        .iter()
        .filter_map(|s| image.file_range_from(s.vaddr))
        .collect()
}

/// Code addresses among the data words of a program at fixed addresses, which keeps no
/// relocations. `function_of` gives the start of the function that holds an address.
///
/// Every aligned 8-byte word that is a code address counts. Of words at other places, and of
/// 4-byte words, those count that stand next to another into the same function, as in a jump table:
/// compilers for x86-64 make no lone ones, while text and number tables are full of such values.
pub(super) fn data_words(
    image: &Image,
    code: &CodeMap,
    function_of: impl Fn(u64) -> Option<LinkAddr>,
) -> Vec<LinkAddr> {
    let hull = code.hull();
    let (low, len) = (hull.end >> 32 == 0, hull.end - hull.start);
    let mut found = Vec::new();
    for range in data_ranges(image) {
        let odd = range.start / 4 % 2;
        let bytes = image.data().get(range).unwrap_or_default();
        let mut last: Option<(usize, u64, Option<LinkAddr>)> = None;
        for (index, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
            let mut value = u64::from(u32::from_le_bytes(*word));
            // Programs at fixed addresses live below 4 GiB; elsewhere only whole words count.
            if !low {
                value = u64_at(bytes, index.saturating_mul(4)).unwrap_or(0);
            }
            if value.wrapping_sub(hull.start) >= len || !code.contains(value) {
                continue;
            }
            let wide = u64_at(bytes, index.saturating_mul(4)) == Some(value);
            if wide && index % 2 == odd {
                found.push(LinkAddr(value));
            }
            let function = function_of(value);
            if let Some((before, other, own)) = last
                && index - before <= 2
                && own.is_some()
                && own == function
            {
                found.extend([LinkAddr(other), LinkAddr(value)]);
            }
            last = Some((index, value, function));
        }
    }
    found
}
