//! The functions of one file: unique entry addresses with all their names. Knows no patterns.
//!
//! Invariants: entries are sorted by address and unique; the names of an entry are one run of the
//! name table, the preferred one first; loading demangles nothing.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use super::demangle::{demangle, is_mangled};
use super::elf::{BROKEN_CAP, Image};
use super::frames::Frames;
use super::table::{RawSymbol, Table, Versions};
use crate::base::LinkAddr;

/// How much demangled text one file may make; what comes after stays mangled.
const DEMANGLED_CAP: usize = 512 << 20;

/// One probeable function entry: a unique FUNC or IFUNC address, or the start of an unwind entry
/// in a stripped file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its address.
    pub at: LinkAddr,
    /// Its length in bytes; 0 when unknown.
    pub size: u64,
    /// Its names, as indexes for [`Symbols::name_at`]; the preferred one first.
    pub names: Range<u32>,
    /// A resolver: the function that runs is what it returns.
    pub ifunc: bool,
    /// Known by its unwind entry only. It may be the cold part of a function, reached by jumps:
    /// only an analysis of the code can tell.
    pub from_fde: bool,
}

/// One name of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    start: u32,
    len: u32,
    /// Index into the version list plus one; 0 without version.
    version: u16,
    /// `@@`, not `@`.
    default_version: bool,
    local: bool,
}

/// All function symbols of a file.
#[derive(Default)]
pub struct Symbols {
    pub(super) entries: Vec<Entry>,
    pub(super) fragments: Vec<Entry>,
    pub(super) labels: Vec<LinkAddr>,
    names: Vec<Name>,
    text: String,
    versions: Vec<String>,
    demangled: Vec<OnceLock<Option<Box<str>>>>,
    demangled_len: AtomicUsize,
    stripped: bool,
    broken: Vec<String>,
}

/// A symbol while the tables are merged.
struct Found<'a> {
    at: u64,
    size: u64,
    name: &'a [u8],
    version: &'a [u8],
    default_version: bool,
    bind: u8,
    ifunc: bool,
    from_fde: bool,
}

impl Found<'_> {
    /// Smaller is better: exported before local, `write` before `__write` (C library aliases are
    /// all exported, and only the plain one is what people know), strong before weak.
    fn rank(&self) -> (bool, bool, bool, bool, usize) {
        let underscored =
            self.name.first() == Some(&b'_') && !matches!(self.name.get(1), Some(b'Z' | b'R'));
        (
            self.bind == RawSymbol::LOCAL,
            underscored,
            self.bind == RawSymbol::WEAK,
            !self.version.is_empty() && !self.default_version,
            self.name.len(),
        )
    }

    /// Among symbols of one address.
    fn order(&self, other: &Self) -> Ordering {
        self.rank()
            .cmp(&other.rank())
            .then_with(|| self.name.cmp(other.name))
            // Of two equal names the one with a version stays.
            .then_with(|| other.version.cmp(self.version))
    }
}

impl Symbols {
    /// The functions of `.symtab`, `.dynsym` (with versions) and the debug file's `.symtab`; in
    /// stripped files the starts of unwind entries too. Broken records are skipped.
    pub fn load(image: &Image, debug: Option<&Image>) -> anyhow::Result<Symbols> {
        let mut found = Vec::new();
        let mut labels = Vec::new();
        for table in [Table::symtab(image), debug.and_then(Table::symtab)] {
            let Some(table) = table else { continue };
            for symbol in table.iter() {
                if !symbol.is_defined() || !image.is_executable(LinkAddr(symbol.value)) {
                    continue;
                }
                if symbol.is_function() {
                    let (name, version, default_version) = split_version(symbol.name);
                    found.push(Found {
                        at: symbol.value,
                        size: symbol.size,
                        name,
                        version,
                        default_version,
                        bind: symbol.bind,
                        ifunc: symbol.kind == RawSymbol::IFUNC,
                        from_fde: false,
                    });
                } else if symbol.kind == RawSymbol::NOTYPE {
                    labels.push(LinkAddr(symbol.value));
                }
            }
        }
        let stripped = found.is_empty();
        let own = Table::symtab(image).is_some();
        if let Some(table) = Table::dynsym(image) {
            let versions = Versions::of(image);
            // Linkers put every export into .symtab too; the same name need not be read twice
            // unless it brings a version. An address that .symtab lacks is kept.
            let mut known: Vec<u64> = found.iter().map(|f| f.at).collect();
            known.sort_unstable();
            for symbol in table.iter() {
                if !symbol.is_function()
                    || !symbol.is_defined()
                    || !image.is_executable(LinkAddr(symbol.value))
                {
                    continue;
                }
                let version = versions.as_ref().and_then(|v| v.of_symbol(symbol.index));
                if version.is_none() && own && known.binary_search(&symbol.value).is_ok() {
                    continue;
                }
                found.push(Found {
                    at: symbol.value,
                    size: symbol.size,
                    name: symbol.name,
                    version: version.map_or(&[], |v| v.0),
                    default_version: version.is_some_and(|v| v.1),
                    bind: symbol.bind,
                    ifunc: symbol.kind == RawSymbol::IFUNC,
                    from_fde: false,
                });
            }
        }
        let mut broken = Vec::new();
        if stripped {
            let frames = Frames::of(image);
            broken.extend(frames.broken.iter().cloned());
            add_frames(image, &frames, &mut found);
        }
        found.retain(|f| !f.name.is_empty() || f.from_fde);
        // The addresses are sorted apart from the names: that touches far less memory.
        let mut order: Vec<(u64, usize)> = found.iter().map(|f| f.at).zip(0..).collect();
        order.sort_unstable();
        labels.sort_unstable();
        labels.dedup();
        let mut symbols = Symbols {
            entries: Vec::with_capacity(found.len()),
            fragments: Vec::new(),
            labels,
            names: Vec::with_capacity(found.len()),
            text: String::new(),
            versions: Vec::new(),
            demangled: Vec::new(),
            demangled_len: AtomicUsize::new(0),
            stripped,
            broken,
        };
        let mut group: Vec<&Found> = Vec::new();
        for same in order.chunk_by(|a, b| a.0 == b.0) {
            group.clear();
            group.extend(same.iter().filter_map(|&(_, index)| found.get(index)));
            group.sort_unstable_by(|a, b| a.order(b));
            if !symbols.add(&group) {
                symbols.note("more than 4 GiB of names; the rest is left out".to_owned());
                break;
            }
        }
        symbols
            .demangled
            .resize_with(symbols.names.len(), OnceLock::new);
        Ok(symbols)
    }

    /// Adds the symbols of one address. False when the name table is full.
    fn add(&mut self, group: &[&Found]) -> bool {
        let Some(at) = group.first().map(|f| f.at) else {
            return true;
        };
        let named = group.iter().any(|f| !f.from_fde);
        let cold = named && group.iter().all(|f| f.from_fde || is_cold(f.name));
        let first = self.names.len();
        let mut last: Option<(&[u8], &[u8])> = None;
        for f in group.iter().filter(|f| !(named && f.from_fde)) {
            // The same name from the other table, with the same version or none.
            if last.is_some_and(|(n, v)| n == f.name && (v == f.version || f.version.is_empty())) {
                continue;
            }
            last = Some((f.name, f.version));
            let start = self.text.len();
            if f.from_fde {
                self.text.push_str(&format!("fn_{at:#x}"));
            } else {
                self.text.push_str(&String::from_utf8_lossy(f.name));
            }
            let (Ok(from), Ok(len)) = (
                u32::try_from(start),
                u32::try_from(self.text.len().saturating_sub(start)),
            ) else {
                self.text.truncate(start);
                return false;
            };
            let version = self.version_index(f.version);
            self.names.push(Name {
                start: from,
                len,
                version,
                default_version: f.default_version,
                local: f.bind == RawSymbol::LOCAL,
            });
        }
        let (Ok(from), Ok(to)) = (u32::try_from(first), u32::try_from(self.names.len())) else {
            return false;
        };
        let entry = Entry {
            at: LinkAddr(at),
            size: group.iter().map(|f| f.size).max().unwrap_or(0),
            names: from..to,
            ifunc: group.iter().any(|f| f.ifunc),
            from_fde: !named,
        };
        if cold {
            self.fragments.push(entry);
        } else {
            self.entries.push(entry);
        }
        true
    }

    fn version_index(&mut self, version: &[u8]) -> u16 {
        if version.is_empty() {
            return 0;
        }
        let text = String::from_utf8_lossy(version);
        let known = self.versions.iter().position(|v| *v == text);
        let index = known.unwrap_or_else(|| {
            // A file with more versions than any real one has loses the rest.
            if self.versions.len() < 4096 {
                self.versions.push(text.into_owned());
            }
            self.versions.len() - 1
        });
        u16::try_from(index + 1).unwrap_or(0)
    }

    fn note(&mut self, what: String) {
        if self.broken.len() < BROKEN_CAP {
            self.broken.push(what);
        }
    }

    /// All entries, by address.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
    /// `.cold` parts: code with names, but no entries.
    pub fn fragments(&self) -> &[Entry] {
        &self.fragments
    }
    /// Whether no `.symtab` names functions, so that entries come from exports and unwind entries.
    pub fn stripped(&self) -> bool {
        self.stripped
    }
    /// What was broken and left out.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }
    /// Index of the entry that starts at `at`.
    pub fn entry_at(&self, at: LinkAddr) -> Option<usize> {
        self.entries.binary_search_by_key(&at, |e| e.at).ok()
    }

    /// The preferred name for display, demangled, with parameters. Raw: not escaped.
    pub fn name(&self, entry: &Entry) -> &str {
        self.full_name(entry.names.start)
    }
    /// The preferred name as the file spells it.
    pub fn mangled(&self, entry: &Entry) -> &str {
        self.name_at(entry.names.start)
    }
    /// A name as the file spells it; empty for an index that is none.
    pub fn name_at(&self, index: u32) -> &str {
        self.names
            .get(index as usize)
            .and_then(|n| {
                let start = n.start as usize;
                self.text.get(start..start.checked_add(n.len as usize)?)
            })
            .unwrap_or_default()
    }
    /// A name, demangled where it is mangled. The result is kept.
    pub fn full_name(&self, index: u32) -> &str {
        let name = self.name_at(index);
        if !is_mangled(name) {
            return name;
        }
        let Some(cell) = self.demangled.get(index as usize) else {
            return name;
        };
        cell.get_or_init(|| {
            if self.demangled_len.load(Atomic::Relaxed) > DEMANGLED_CAP {
                return None;
            }
            let text = demangle(name)?;
            self.demangled_len.fetch_add(text.len(), Atomic::Relaxed);
            Some(text.into_boxed_str())
        })
        .as_deref()
        .unwrap_or(name)
    }
    /// The version of a name, and whether it is the default one (`@@`).
    pub fn version_at(&self, index: u32) -> Option<(&str, bool)> {
        let name = self.names.get(index as usize)?;
        let version = usize::from(name.version.checked_sub(1)?);
        Some((self.versions.get(version)?, name.default_version))
    }
    #[cfg(test)]
    pub(super) fn has_demangled_nothing(&self) -> bool {
        self.demangled.iter().all(|cell| cell.get().is_none())
    }
    /// Whether a name is `STB_LOCAL`.
    pub fn is_local(&self, index: u32) -> bool {
        self.names.get(index as usize).is_some_and(|n| n.local)
    }
}

/// `name@VERSION` and `name@@VERSION`, as static tables spell them.
fn split_version(name: &[u8]) -> (&[u8], &[u8], bool) {
    if !name.contains(&b'@') {
        return (name, &[], false);
    }
    let Some(at) = name.iter().position(|&b| b == b'@').filter(|&at| at > 0) else {
        return (name, &[], false);
    };
    let (head, tail) = name.split_at(at);
    match tail.strip_prefix(b"@@") {
        Some(version) => (head, version, true),
        None => (head, tail.get(1..).unwrap_or_default(), false),
    }
}

/// Whether the name is that of a cold part: `f.cold`, `f.cold.1`, `f.isra.0.cold`.
fn is_cold(name: &[u8]) -> bool {
    name.split(|&b| b == b'.')
        .skip(1)
        .any(|part| part == b"cold")
}

/// Unwind entries that can be function entries: not linker stubs, and a frame as at a call.
fn add_frames(image: &Image, frames: &Frames, found: &mut Vec<Found>) {
    let stubs: Vec<_> = image
        .sections()
        .iter()
        .filter(|s| s.name == ".plt" || s.name.starts_with(".plt."))
        .map(|s| s.at.0..s.at.0.saturating_add(s.size))
        .collect();
    for fde in &frames.list {
        let at = fde.start.0;
        if fde.fresh_frame
            && image.is_executable(fde.start)
            && !stubs.iter().any(|s| s.contains(&at))
        {
            found.push(Found {
                at,
                size: fde.len,
                name: &[],
                version: &[],
                default_version: false,
                bind: RawSymbol::LOCAL,
                ifunc: false,
                from_fde: true,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::names::NamePattern;
    use super::super::testing::{Built, cc, exists, output};
    use super::*;

    const ALIASES: &str = r#"
        static int helper(int x) { return x * 3; }
        __attribute__((noinline)) int __plain(int x) { return helper(x) + 1; }
        extern int plain(int) __attribute__((weak, alias("__plain")));
        static int one(int x) { return x + 1; }
        static int (*pick(void))(int) { return one; }
        int chosen(int) __attribute__((ifunc("pick")));
        __attribute__((noinline)) static int hidden(int x) { return x ^ 5; }
        __asm__(".text\n.globl bare\n.type bare,@function\nbare: nop\nret\n"
                ".globl label\nlabel: ret\n"
                ".section .text.unlikely,\"ax\"\n.type main.cold,@function\n"
                "main.cold: ret\n.size main.cold,1\n.text\n");
        extern void bare(void);
        int main(int argc, char **argv) { bare(); return plain(argc) + chosen(argc) + hidden(argc); }
    "#;

    fn load(built: &Built) -> Symbols {
        Symbols::load(&built.image(), None).unwrap()
    }

    fn found<'a>(symbols: &'a Symbols, name: &str) -> Vec<&'a Entry> {
        let indexes = symbols.matching(&NamePattern::exact(name));
        indexes.iter().map(|&i| &symbols.entries[i]).collect()
    }

    #[test]
    fn aliases_share_an_entry_and_the_plain_name_is_shown() {
        let Some(built) = cc(ALIASES, &["-O1"]) else {
            return;
        };
        let symbols = load(&built);
        let plain = found(&symbols, "plain");
        assert_eq!(plain, found(&symbols, "__plain"));
        assert_eq!(plain.len(), 1);
        assert_eq!(symbols.name(plain[0]), "plain");
        assert_eq!(found(&symbols, "hidden").len(), 1);
    }

    #[test]
    fn ifuncs_bare_asm_and_cold_parts_are_told_apart() {
        let Some(built) = cc(ALIASES, &["-O1"]) else {
            return;
        };
        let symbols = load(&built);
        assert!(found(&symbols, "chosen")[0].ifunc);
        assert!(!found(&symbols, "plain")[0].ifunc);
        assert_eq!(found(&symbols, "bare")[0].size, 0);
        assert!(found(&symbols, "main.cold").is_empty());
        assert_eq!(symbols.name(&symbols.fragments()[0]), "main.cold");
        assert!(
            found(&symbols, "label").is_empty(),
            "a label is no function"
        );
        assert!(found(&symbols, "printf").is_empty());
    }

    #[test]
    fn addresses_find_their_function() {
        let Some(built) = cc(ALIASES, &["-O1"]) else {
            return;
        };
        let symbols = load(&built);
        let main = found(&symbols, "main")[0];
        let inside = LinkAddr(main.at.0 + main.size - 1);
        assert_eq!(symbols.lookup(inside), Some(("main", main.size - 1)));
        let cold = symbols.fragments()[0].at;
        assert_eq!(symbols.lookup(cold), Some(("main.cold", 0)));
        assert_eq!(symbols.lookup(LinkAddr(0)), None);
    }

    #[test]
    fn a_stripped_file_has_the_starts_of_its_unwind_entries() {
        let Some(built) = cc(ALIASES, &["-O1", "-fno-ipa-icf"]) else {
            return;
        };
        let whole = load(&built);
        if !exists("strip") {
            eprintln!("ignored: no strip on this machine");
            return;
        }
        assert!(built.run("strip", &[]));
        let stripped = load(&built);
        assert!(stripped.stripped());
        for name in ["main", "plain", "hidden"] {
            let at = found(&whole, name)[0].at;
            let entry = &stripped.entries[stripped.entry_at(at).unwrap()];
            assert!(entry.from_fde, "{name}");
            assert_eq!(stripped.name(entry), format!("fn_{at}"));
        }
        let image = built.image();
        let plt = image.section(".plt").map_or(LinkAddr(1), |s| s.at);
        assert_eq!(
            stripped.entry_at(plt),
            None,
            "linker stubs are no functions"
        );
    }

    #[test]
    fn a_stripped_library_keeps_its_exports_and_their_versions() {
        let source = r#"
            __asm__(".symver old_f,f@V1");
            __asm__(".symver new_f,f@@V2");
            int old_f(int x) { return x; }
            int new_f(int x) { return x * 7; }
            static int __attribute__((noinline,used)) inner(int x) { return x + 9; }
            int g(int x) { return inner(x) - 4; }
        "#;
        let dir = tempfile::tempdir().unwrap();
        let map = dir.path().join("map");
        std::fs::write(
            &map,
            "V1 { global: f; local: old_f; };\nV2 { global: f; g; local: *; };\n",
        )
        .unwrap();
        let script = format!("-Wl,--version-script={}", map.display());
        let Some(built) = cc(
            source,
            &[
                "-shared",
                "-fPIC",
                "-O1",
                "-s",
                "-Wl,-soname,libt.so.1",
                &script,
            ],
        ) else {
            return;
        };
        let symbols = load(&built);
        assert_eq!(built.image().soname(), Some("libt.so.1"));
        assert_eq!(found(&symbols, "f").len(), 2);
        assert_eq!(found(&symbols, "f@V1").len(), 1);
        assert_eq!(found(&symbols, "f@V2"), found(&symbols, "f@@V2"));
        assert_ne!(found(&symbols, "f@V1"), found(&symbols, "f@V2"));
        assert!(found(&symbols, "f@@V1").is_empty());
        assert!(!found(&symbols, "g")[0].from_fde);
        assert!(symbols.entries().iter().any(|e| e.from_fde), "inner");
    }

    #[test]
    fn entries_agree_with_readelf() {
        let this = std::env::current_exe().unwrap();
        for path in [&this, Path::new("/bin/sh")] {
            let image = Image::read(path).unwrap();
            let symbols = Symbols::load(&image, None).unwrap();
            let Some(lines) = output("readelf", &["-sW"], path) else {
                eprintln!("ignored: no readelf on this machine");
                return;
            };
            let mut expected: Vec<u64> = lines
                .iter()
                .filter_map(|line| {
                    let words: Vec<_> = line.split_whitespace().collect();
                    let function = matches!(*words.get(3)?, "FUNC" | "IFUNC");
                    let defined = *words.get(6)? != "UND";
                    let cold = words.get(7).is_some_and(|n| is_cold(n.as_bytes()));
                    let at = u64::from_str_radix(words.get(1)?, 16).ok()?;
                    (function && defined && !cold && at != 0).then_some(at)
                })
                .collect();
            expected.sort_unstable();
            expected.dedup();
            let named = symbols.entries().iter().filter(|e| !e.from_fde);
            let own: Vec<u64> = named.map(|e| e.at.0).collect();
            assert_eq!(own, expected, "{}", path.display());
        }
    }
}
