//! Raw symbol tables: `.symtab`, `.dynsym` and its versions, by section headers or, without those,
//! by the dynamic entries the loader itself uses. Knows no functions.
//!
//! Invariant: a symbol handed out has its record and its name inside the file.
//! Layouts: gABI chapter 4 (symbol table), LSB 3.1 section 10.7 (symbol versions).

use super::bytes::{string_at, u16_at, u32_at, u64_at};
use super::elf::{Image, Section};
use crate::base::LinkAddr;

const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const SHT_GNU_VERDEF: u32 = 0x6fff_fffd;
const SHT_GNU_VERSYM: u32 = 0x6fff_ffff;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const RECORD: usize = 24;

/// One record of a symbol table.
#[derive(Clone, Copy)]
pub(super) struct RawSymbol<'a> {
    pub(super) index: u32,
    pub(super) name: &'a [u8],
    pub(super) value: u64,
    pub(super) size: u64,
    pub(super) kind: u8,
    pub(super) bind: u8,
    pub(super) section: u16,
}

impl RawSymbol<'_> {
    /// `STT_NOTYPE`: a label.
    pub(super) const NOTYPE: u8 = 0;
    /// `STT_FUNC`.
    pub(super) const FUNC: u8 = 2;
    /// `STT_GNU_IFUNC`: its value is a resolver.
    pub(super) const IFUNC: u8 = 10;
    /// `STB_LOCAL`.
    pub(super) const LOCAL: u8 = 0;
    /// `STB_WEAK`.
    pub(super) const WEAK: u8 = 2;

    pub(super) fn is_function(&self) -> bool {
        self.kind == Self::FUNC || self.kind == Self::IFUNC
    }
    /// Whether the file defines it at an address of its own.
    pub(super) fn is_defined(&self) -> bool {
        self.section != 0 && self.value != 0
    }
}

/// A symbol table with its strings.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    records: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Table<'a> {
    /// `.symtab`; `None` when stripped.
    pub(super) fn symtab(image: &'a Image) -> Option<Table<'a>> {
        Table::of_section(image, SHT_SYMTAB)
    }

    /// `.dynsym`, or what the loader takes for it.
    pub(super) fn dynsym(image: &'a Image) -> Option<Table<'a>> {
        Table::of_section(image, SHT_DYNSYM).or_else(|| Table::of_dynamic(image))
    }

    fn of_section(image: &'a Image, kind: u32) -> Option<Table<'a>> {
        let section = image.sections().iter().find(|s| s.kind == kind)?;
        Some(Table {
            records: image.section_bytes(section),
            strings: image.section_bytes(image.linked(section)?),
        })
    }

    fn of_dynamic(image: &'a Image) -> Option<Table<'a>> {
        let bytes = |tag| image.bytes_from(LinkAddr(image.dynamic(tag)?));
        let records = bytes(DT_SYMTAB)?;
        let strings = bytes(DT_STRTAB)?;
        let size = usize::try_from(image.dynamic(DT_STRSZ)?).ok()?;
        let count = match bytes(DT_HASH) {
            Some(hash) => u32_at(hash, 4)?,
            None => gnu_hash_count(bytes(DT_GNU_HASH)?)?,
        };
        let len = (count as usize).checked_mul(RECORD)?.min(records.len());
        Some(Table {
            records: records.get(..len)?,
            strings: strings.get(..size.min(strings.len()))?,
        })
    }

    pub(super) fn get(&self, index: u32) -> Option<RawSymbol<'a>> {
        let at = (index as usize).checked_mul(RECORD)?;
        let record = self.records.get(at..at.checked_add(RECORD)?)?;
        let info = record.get(4)?;
        Some(RawSymbol {
            index,
            name: string_at(self.strings, u32_at(record, 0)? as usize)?,
            value: u64_at(record, 8)?,
            size: u64_at(record, 16)?,
            kind: info & 0xf,
            bind: info >> 4,
            section: u16_at(record, 6)?,
        })
    }

    /// All readable records, in order; the others are skipped.
    pub(super) fn iter(self) -> impl Iterator<Item = RawSymbol<'a>> {
        let count = u32::try_from(self.records.len() / RECORD).unwrap_or(u32::MAX);
        (0..count).filter_map(move |index| self.get(index))
    }
}

/// How many symbols a `DT_GNU_HASH` table covers: the end of the chain of its highest bucket.
fn gnu_hash_count(hash: &[u8]) -> Option<u32> {
    let (buckets, first) = (u32_at(hash, 0)? as usize, u32_at(hash, 4)?);
    let bloom = u32_at(hash, 8)? as usize;
    let bucket_at = bloom.checked_mul(8)?.checked_add(16)?;
    let chain_at = buckets.checked_mul(4)?.checked_add(bucket_at)?;
    let words = hash.get(bucket_at..chain_at)?.chunks_exact(4);
    let highest = words.filter_map(|w| u32_at(w, 0)).max()?;
    let Some(mut chain) = highest.checked_sub(first) else {
        return Some(first);
    };
    loop {
        let at = (chain as usize).checked_mul(4)?.checked_add(chain_at)?;
        let last = u32_at(hash, at)? & 1 != 0;
        chain = chain.checked_add(1)?;
        if last {
            return chain.checked_add(first);
        }
    }
}

/// The versions that `.dynsym` gives to its defined symbols.
pub(super) struct Versions<'a> {
    by_symbol: &'a [u8],
    names: Vec<(u16, &'a [u8])>,
}

impl<'a> Versions<'a> {
    pub(super) fn of(image: &'a Image) -> Option<Versions<'a>> {
        let find = |kind| image.sections().iter().find(|s| s.kind == kind);
        let bytes = |s: &'a Section| image.section_bytes(s);
        let dynamic = |tag| image.bytes_from(LinkAddr(image.dynamic(tag)?));
        let by_symbol = find(SHT_GNU_VERSYM)
            .map(bytes)
            .or_else(|| dynamic(DT_VERSYM))?;
        let (definitions, strings) = match find(SHT_GNU_VERDEF) {
            Some(section) => (bytes(section), bytes(image.linked(section)?)),
            None => (dynamic(DT_VERDEF)?, dynamic(DT_STRTAB)?),
        };
        Some(Versions {
            by_symbol,
            names: version_names(definitions, strings),
        })
    }

    /// The version of a dynamic symbol, and whether it is the default one (`@@`).
    pub(super) fn of_symbol(&self, index: u32) -> Option<(&'a [u8], bool)> {
        let word = u16_at(self.by_symbol, (index as usize).checked_mul(2)?)?;
        let name = self.names.iter().find(|&&(i, _)| i == word & 0x7fff)?;
        Some((name.1, word & 0x8000 == 0))
    }
}

fn version_names<'a>(definitions: &'a [u8], strings: &'a [u8]) -> Vec<(u16, &'a [u8])> {
    let mut names = Vec::new();
    let mut at = 0_usize;
    // A version index has 15 bits, so a longer chain is a loop.
    for _ in 0..0x8000 {
        let definition = || {
            let index = u16_at(definitions, at.checked_add(4)?)?;
            let first = at.checked_add(u32_at(definitions, at.checked_add(12)?)? as usize)?;
            let name = string_at(strings, u32_at(definitions, first)? as usize)?;
            let base = u16_at(definitions, at.checked_add(2)?)? & 1 != 0;
            Some((index, name, base))
        };
        // The base definition names the file itself, not a version of its symbols.
        if let Some((index, name, false)) = definition() {
            names.push((index, name));
        }
        let next = at
            .checked_add(16)
            .and_then(|at| u32_at(definitions, at))
            .unwrap_or(0);
        match at.checked_add(next as usize) {
            Some(there) if next != 0 => at = there,
            _ => break,
        }
    }
    names
}
