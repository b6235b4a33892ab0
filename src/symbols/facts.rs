//! All that the analysis of code needs to know of a file, as plain data. Decodes no instruction.
//!
//! Invariants: lists are sorted; `ranges` are disjoint and inside the file; what was broken is
//! named, never guessed.

use std::ops::Range;

use super::elf::{BROKEN_CAP, Image, Kind, Section};
use super::entries::Symbols;
use super::frames::Frames;
use super::lsda::landing_pads;
use super::relocs::{CodeMap, Pointers, data_words};
use super::reserved::reserved;
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
    /// Addresses in code that data, relocations or the header name; also labels of hand-written
    /// code.
    pub pointers: Vec<LinkAddr>,
    /// Where exceptions land.
    pub landing_pads: Vec<LinkAddr>,
    /// Code that is left for another tool to write: sorted and disjoint.
    pub reserved: Vec<(LinkAddr, LinkAddr)>,
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
        filled,
        ..
    } = Pointers::of(image, &map);
    let functions = function_spans(symbols, &frames, &ranges);
    if image.kind() == Kind::Exec {
        pointers.extend(data_words(image, &map, |at| {
            let after = functions.partition_point(|f| f.start.0 <= at);
            functions.get(after.checked_sub(1)?).map(|f| f.start)
        }));
    }
    let mut landings: Vec<LinkAddr> = Vec::new();
    for fde in &frames.list {
        match landing_pads(image, fde) {
            Some(pads) => landings.extend(pads.into_iter().filter(|p| map.contains(p.0))),
            None => broken.push(format!("the exception table of {} is broken", fde.start)),
        }
    }
    pointers.extend(go_exits(image, &functions));
    pointers.extend(symbols.labels.iter().filter(|l| map.contains(l.0)));
    pointers.sort_unstable();
    pointers.dedup();
    landings.sort_unstable();
    landings.dedup();
    broken.extend(image.broken().iter().cloned());
    broken.extend(symbols.broken().iter().cloned());
    broken.extend(frames.broken.iter().cloned());
    broken.dedup();
    broken.truncate(BROKEN_CAP);
    Ok(CodeFacts {
        reserved: reserved(image, &functions, &filled),
        functions,
        jump_table_data: jump_table_data(image),
        ranges,
        pointers,
        landing_pads: landings,
        broken,
    })
}

/// The end of every goroutine: its first function returns behind the first byte of `runtime.goexit`, a
/// `nop` before a call, to an address that is computed (`newproc1` in Go's `runtime/proc.go`).
fn go_exits(image: &Image, functions: &[FunctionSpan]) -> Vec<LinkAddr> {
    const NOP_CALL: &[u8] = &[0x90, 0xe8];
    if !image.is_go() {
        return Vec::new();
    }
    let is_exit = |start: &LinkAddr| image.bytes_at(*start, 2) == Some(NOP_CALL);
    let starts = functions.iter().map(|function| function.start);
    starts.filter(is_exit).map(|start| start + 1).collect()
}

/// Executable sections; executable segments when there are no section headers.
fn code_ranges(image: &Image) -> Vec<CodeRange> {
    let mut ranges: Vec<CodeRange> = image
        .sections()
        .iter()
        .filter(|s| s.is_code() && !s.is_compressed() && !s.file.is_empty())
        .filter(|s| image.is_executable(s.at) && is_loaded(image, s))
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

/// Whether a section's bytes are those that its segment puts at its address: section headers are
/// not looked at when a program is loaded, and may say anything.
fn is_loaded(image: &Image, section: &Section) -> bool {
    image.file_range_from(section.at).is_some_and(|segment| {
        segment.start == section.file.start && section.file.end <= segment.end
    })
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
    const SHF_WRITE: u64 = 1;
    let mut data: Vec<DataRange> = image
        .sections()
        .iter()
        .filter(|s| s.kind == SHT_PROGBITS && s.is_alloc() && !s.is_code())
        // Any name will do: linker scripts have their own. Tables that must be relocated are
        // writable until they are.
        .filter(|s| s.flags & SHF_WRITE == 0 || s.name.starts_with(".data.rel.ro"))
        .filter(|s| {
            let others = [".eh_frame", ".gcc_except_table", ".interp", ".note"];
            !others.iter().any(|n| s.name.starts_with(n))
        })
        .filter(|s| is_loaded(image, s))
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

#[cfg(test)]
mod tests {
    use super::super::names::NamePattern;
    use super::super::testing::{Built, cc, compile};
    use super::*;

    fn facts(built: &Built) -> (Symbols, CodeFacts) {
        let image = built.image();
        let symbols = Symbols::load(&image, None).unwrap();
        let facts = code_facts(&image, &symbols).unwrap();
        assert_eq!(facts.broken, Vec::<String>::new());
        (symbols, facts)
    }

    fn span(symbols: &Symbols, name: &str) -> FunctionSpan {
        let index = symbols.matching(&NamePattern::exact(name))[0];
        let entry = &symbols.entries()[index];
        FunctionSpan {
            start: entry.at,
            end: LinkAddr(entry.at.0 + entry.size),
        }
    }

    const POINTERS: &str = r#"
        #define HERE(n) __attribute__((noinline, used)) static int n(int x) { return x + __LINE__; }
        HERE(in_table)
        HERE(at_start)
        HERE(called)
        int (*table[2])(int) = { in_table, 0 };
        int (*const fixed[2])(int) = { in_table, in_table };
        volatile int sink;
        __attribute__((constructor)) static void begin(void) { sink = at_start(1); }
        int run(int op, int x) {
            static void *const ops[] = { &&add, &&sub, &&mul };
            goto *ops[op & 1];
        add: x += 3; goto *ops[2];
        sub: x -= called(x); goto *ops[2];
        mul: return x * 5;
        }
        int main(int c, char **v) { return table[0](c) + run(c, 2) + fixed[c & 1](2); }
    "#;

    fn names_its_pointers(flags: &[&str]) {
        let Some(built) = cc(POINTERS, flags) else {
            return;
        };
        let (symbols, facts) = facts(&built);
        for name in ["in_table", "begin"] {
            let at = span(&symbols, name).start;
            assert!(
                facts.pointers.binary_search(&at).is_ok(),
                "{name} {flags:?}"
            );
        }
        assert!(facts.pointers.binary_search(&built.image().entry()).is_ok());
        let run = span(&symbols, "run");
        let inside = |p: &&LinkAddr| run.start < **p && **p < run.end;
        assert!(
            facts.pointers.iter().filter(inside).count() >= 2,
            "labels {flags:?}"
        );
        assert!(facts.functions.contains(&run));
        assert!(facts.jump_table_data.iter().all(|d| !d.file.is_empty()));
        assert!(facts.ranges.iter().any(|r| r.stubs || !r.file.is_empty()));
    }

    #[test]
    fn pointers_of_position_independent_programs_come_from_relocations() {
        names_its_pointers(&["-O1", "-fPIE", "-pie"]);
    }

    #[test]
    fn packed_relocations_are_read() {
        names_its_pointers(&["-O1", "-fPIE", "-pie", "-Wl,-z,pack-relative-relocs"]);
    }

    #[test]
    fn pointers_of_fixed_programs_come_from_their_data() {
        names_its_pointers(&["-O1", "-fno-pie", "-no-pie"]);
        names_its_pointers(&["-O1", "-fno-pie", "-no-pie", "-static"]);
    }

    #[test]
    fn landing_pads_are_pointers() {
        let source = r#"
            extern "C" int puts(const char *);
            struct Guard { ~Guard() { puts("x"); } };
            __attribute__((noinline)) int risky(int x) { if (x > 5) throw x; return x; }
            __attribute__((noinline)) int catcher(int x) {
                Guard g;
                try { return risky(x); } catch (int e) { return e + 1; }
            }
            int main(int c, char **) { return catcher(c); }
        "#;
        for flags in [["-O1", "-fno-pie", "-no-pie"], ["-O2", "-fPIE", "-pie"]] {
            let Some(built) = compile("c++", "t.cc", source, &flags) else {
                return;
            };
            let (symbols, facts) = facts(&built);
            let image = built.image();
            let catcher = span(&symbols, "catcher");
            let frames = Frames::of(&image);
            let own: Vec<_> = symbols
                .entries()
                .iter()
                .chain(symbols.fragments())
                .filter(|e| symbols.mangled(e).starts_with("_Z7catcher"))
                .map(|e| e.at)
                .collect();
            assert!(own.contains(&catcher.start));
            let pads: Vec<_> = frames
                .list
                .iter()
                .filter(|f| own.contains(&f.start))
                .flat_map(|f| landing_pads(&image, f).unwrap())
                .collect();
            assert!(!pads.is_empty(), "{flags:?}");
            assert!(
                pads.iter()
                    .all(|p| facts.landing_pads.binary_search(p).is_ok())
            );
        }
    }

    #[test]
    fn sections_that_are_not_what_is_loaded_are_not_taken() {
        let Some(built) = cc("int main(void) { return 0; }", &["-O1"]) else {
            return;
        };
        let mut data = std::fs::read(&built.path).unwrap();
        let text = built.image().section(".text").unwrap().clone();
        let headers = u64::from_le_bytes(data[0x28..0x30].try_into().unwrap());
        let offset = headers as usize + 64 * text.index as usize + 24;
        data[offset] ^= 0x20;
        let image = Image::from_bytes(data, "t").unwrap();
        assert_ne!(image.section(".text").unwrap().file, text.file);
        let symbols = Symbols::load(&image, None).unwrap();
        let facts = code_facts(&image, &symbols).unwrap();
        assert!(!facts.ranges.is_empty());
        for range in &facts.ranges {
            let bytes = &image.data()[range.file.clone()];
            assert_eq!(image.bytes_at(range.start, bytes.len()), Some(bytes));
            assert_ne!(range.start, text.at);
        }
    }

    #[test]
    fn jump_tables_are_found_under_any_sections_name() {
        let source = "const char *volatile s = \"text\"; int main(void) { return *s; }";
        let Some(built) = cc(source, &["-O1"]) else {
            return;
        };
        if !built.run("objcopy", &["--rename-section", ".rodata=.constants"]) {
            eprintln!("ignored: no objcopy on this machine");
            return;
        }
        let at = built.image().section(".constants").unwrap().at;
        let (_, facts) = facts(&built);
        assert!(facts.jump_table_data.iter().any(|d| d.start == at));
    }

    #[test]
    fn lists_are_sorted_and_ranges_disjoint() {
        let image = Image::read(&std::env::current_exe().unwrap()).unwrap();
        let symbols = Symbols::load(&image, None).unwrap();
        let facts = code_facts(&image, &symbols).unwrap();
        assert!(facts.pointers.is_sorted() && facts.functions.is_sorted_by_key(|f| f.start));
        assert!(facts.functions.len() >= symbols.entries().len());
        assert!(
            facts
                .ranges
                .windows(2)
                .all(|w| { w[0].start.0 + w[0].file.len() as u64 <= w[1].start.0 })
        );
    }
}
