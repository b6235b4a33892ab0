//! Broken files: everything this module reads, over mutated real programs. No panic, bounded time.

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::names::NamePattern;
use super::testing::{cc, compile};
use super::*;
use crate::base::{Addr, Span};

/// Reads all there is to read.
fn read_everything(data: Vec<u8>) {
    let copy = data.clone();
    if let Ok(debug) = Image::debug_from_bytes(copy, "debug") {
        drop(DebugInfo::load(&debug, None));
    }
    let Ok(image) = Image::from_bytes(data, "file") else {
        return;
    };
    let symbols = Symbols::load(&image, Some(&image)).unwrap();
    let facts = code_facts(&image, &symbols).unwrap();
    for range in &facts.ranges {
        assert!(image.data().get(range.file.clone()).is_some());
    }
    for range in &facts.jump_table_data {
        assert!(image.data().get(range.file.clone()).is_some());
    }
    assert!(symbols.entries().is_sorted_by(|a, b| a.at < b.at));
    for entry in symbols.entries() {
        assert!(!symbols.name(entry).is_empty());
        assert!(symbols.lookup(entry.at).is_some());
    }
    symbols.matching(&NamePattern::exact("ns::f"));
    symbols.suggestions("mian");
    let _ = (
        usdt_notes(&image, None),
        image.needed(),
        image.search_path(),
    );
    let tables = std::sync::Arc::new(UnwindTables::of(&image, Some(&image)));
    keeps_frame_pointers(&image);
    let lines = SourceMap::load(&image, None);
    let mut unwinder = Unwinder::default();
    unwinder.add(Span::new(Addr(0), 1 << 32), 0, &tables);
    let starts: Vec<u64> = symbols.entries().iter().map(|e| e.at.0).collect();
    let stack: Vec<u8> = (0..64_usize)
        .filter_map(|n| Some(starts.get(n % starts.len().max(1))? + n as u64))
        .flat_map(u64::to_le_bytes)
        .collect();
    for entry in starts.iter().take(16) {
        for (stack_pointer, entered) in [(0x7000_0000, true), (0, false), (u64::MAX - 99, false)] {
            let start = Start {
                address: entry.wrapping_add(5),
                stack_pointer,
                frame_pointer: stack_pointer.wrapping_add(64),
                entry: entered,
            };
            assert!(unwinder.walk(start, &stack, 64).len() <= 64);
        }
        if let Some(lines) = &lines {
            lines.find(crate::base::LinkAddr(entry.wrapping_add(5)));
        }
    }
    let _ = line_addresses(&image, None, "t.c", 1);
    if let Some(info) = DebugInfo::load(&image, None) {
        for entry in symbols.entries().iter().take(8) {
            let _ = info.params(entry.at);
            for (_, shape) in info.typed_params(entry.at).unwrap_or_default() {
                if let Shape::Pointer(to) = &shape
                    && let Shape::Struct(name) = &**to
                {
                    let _ = info.record(Some(entry.at), name);
                }
            }
        }
    }
}

/// Overwrites bytes at places (in thousandths of a range) and reads.
fn survives(whole: &[u8], range: std::ops::Range<usize>, cases: u32) {
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let edits = prop::collection::vec((range, any::<u8>()), 1..40);
    let cut = prop::option::weighted(0.1, 0..whole.len());
    let result = runner.run(&(edits, cut), |(edits, cut)| {
        let mut data = whole.to_vec();
        for (at, byte) in edits {
            data[at] = byte;
        }
        if let Some(len) = cut {
            data.truncate(len);
        }
        let start = Instant::now();
        read_everything(data);
        prop_assert!(start.elapsed() < Duration::from_secs(20));
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_mutated_program_never_panics() {
    let source = "int table[3]; int f(int x) { return x; } int (*p)(int) = f; int main(int c, char **v) { return p(c); }";
    let Some(built) = cc(source, &["-g", "-O1"]) else {
        return;
    };
    let whole = std::fs::read(&built.path).unwrap();
    survives(&whole, 0..whole.len(), 150);
    // The headers, where a byte matters most.
    survives(&whole, 0..1024, 150);
    let headers = whole.len() - 64 * 40;
    survives(&whole, headers..whole.len(), 150);
}

#[test]
fn each_mutated_table_never_panics() {
    let source = "#include <string>\nnamespace ns { int f(std::string s) { if (s.empty()) throw 1; return s.size(); } } int main(int c, char **v) { try { return ns::f(v[0]); } catch (int e) { return e; } }";
    let Some(built) = compile("c++", "t.cc", source, &["-g", "-O1"]) else {
        return;
    };
    let whole = std::fs::read(&built.path).unwrap();
    let image = built.image();
    for name in [
        ".eh_frame",
        ".gcc_except_table",
        ".rela.dyn",
        ".dynamic",
        ".dynsym",
        ".dynstr",
        ".symtab",
        ".strtab",
        ".gnu.version",
        ".debug_info",
        ".debug_abbrev",
        ".debug_line",
        ".debug_str",
    ] {
        if let Some(section) = image.section(name).filter(|s| !s.file.is_empty()) {
            survives(&whole, section.file.clone(), 25);
        }
    }
}

#[test]
fn a_mutated_system_program_never_panics() {
    let Ok(whole) = std::fs::read(Path::new("/bin/true")) else {
        eprintln!("ignored: no /bin/true on this machine");
        return;
    };
    survives(&whole, 0..whole.len(), 60);
}
