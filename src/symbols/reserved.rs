//! Code that compilers leave for another tool to write: the no-ops of `-fpatchable-function-entry`
//! (gcc(1)) before a function, and XRay's sleds. Decodes no instruction.
//!
//! Invariant: spans come out sorted and disjoint.

use std::ops::Range;

use super::bytes::{u8_at, u64_at};
use super::elf::Image;
use super::facts::FunctionSpan;
use crate::base::LinkAddr;

/// Addresses of the first no-op for each function.
const PATCHABLE: &str = "__patchable_function_entries";
/// `XRaySledEntry` records (`compiler-rt/lib/xray/xray_interface_internal.h`).
const XRAY: &str = "xray_instr_map";
const XRAY_RECORD: usize = 32;
const XRAY_KIND: usize = 16;
const XRAY_VERSION: usize = 18;
/// From this version on addresses are relative to the place they stand at.
const XRAY_RELATIVE: u8 = 2;
/// Bytes of a sled at an entry, a return and a tail call; of those for events there are more
/// (`llvm/lib/Target/X86/X86MCInstLower.cpp`).
const SLED: u64 = 11;
const EVENT_SLED: u64 = 32;
const LAST_SHORT_KIND: u8 = 3;

/// Where the tables of such code lie, as far as relocations may fill them in.
pub(super) fn tables(image: &Image) -> Vec<Range<u64>> {
    let named = |name| image.section(name).filter(|section| section.is_alloc());
    let range = |section: &super::elf::Section| {
        section.at.0..section.at.0.saturating_add(section.file.len() as u64)
    };
    let found = [PATCHABLE, XRAY].into_iter().filter_map(named);
    found.map(range).collect()
}

/// Spans of such code. `filled` is what relocations write into the tables, and where; `functions`
/// are sorted by start.
pub(super) fn reserved(
    image: &Image,
    functions: &[FunctionSpan],
    filled: &[(u64, u64)],
) -> Vec<(LinkAddr, LinkAddr)> {
    let bytes = |name| {
        let section = image.section(name).filter(|section| section.is_alloc())?;
        Some((section.at.0, image.section_bytes(section)))
    };
    let (start, records) = bytes(XRAY).unwrap_or_default();
    let in_xray = |place: u64| place.wrapping_sub(start) < records.len() as u64;
    let sled = |at: u64| (at, at.saturating_add(SLED));
    // What comes before a function ends where that starts.
    let before = |at: u64| {
        let next = functions.partition_point(|f| f.start.0 < at);
        (at, functions.get(next).map_or(at, |f| f.start.0))
    };
    let filled = filled.iter().map(|&(place, at)| match in_xray(place) {
        true => sled(at),
        false => before(at),
    });
    let mut spans: Vec<(u64, u64)> = filled.collect();
    let (_, words) = bytes(PATCHABLE).unwrap_or_default();
    let words = words.chunks_exact(8).filter_map(|word| u64_at(word, 0));
    spans.extend(words.filter(|&word| word != 0).map(before));
    for (index, record) in records.chunks_exact(XRAY_RECORD).enumerate() {
        let (Some(word), Some(version)) = (u64_at(record, 0), u8_at(record, XRAY_VERSION)) else {
            continue;
        };
        let place = start.wrapping_add((index * XRAY_RECORD) as u64);
        let at = match version >= XRAY_RELATIVE {
            true => place.wrapping_add(word),
            false => word,
        };
        let short = u8_at(record, XRAY_KIND).is_some_and(|kind| kind <= LAST_SHORT_KIND);
        let len = if short { SLED } else { EVENT_SLED };
        spans.push((at, at.saturating_add(len)));
    }
    spans.sort_unstable();
    let mut out: Vec<(LinkAddr, LinkAddr)> = Vec::with_capacity(spans.len());
    for (start, end) in spans.into_iter().filter(|(start, end)| start < end) {
        match out.last_mut() {
            Some(last) if start <= last.1.0 => last.1 = last.1.max(LinkAddr(end)),
            _ => out.push((LinkAddr(start), LinkAddr(end))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::cc;
    use super::super::{NamePattern, Symbols, code_facts};
    use crate::base::LinkAddr;

    #[test]
    fn no_ops_before_a_function_are_reserved_however_it_is_linked() {
        let text = r#"
            __attribute__((noinline, patchable_function_entry(16, 8))) int f(int n) { return n * 5; }
            int main(int c, char **v) { return f(c); }
        "#;
        for flags in [&["-O1"][..], &["-O1", "-no-pie", "-fno-pie"]] {
            let Some(built) = cc(text, flags) else { return };
            let image = built.image();
            let symbols = Symbols::load(&image, None).unwrap();
            let facts = code_facts(&image, &symbols).unwrap();
            let f = symbols.matching(&NamePattern::exact("f"))[0];
            let at = symbols.entries()[f].at;
            let before = LinkAddr(at.0 - 8);
            assert_eq!(image.bytes_at(before, 16), Some(&[0x90; 16][..]));
            assert_eq!(facts.reserved, [(before, at)], "{flags:?}");
        }
    }

    #[test]
    fn sleds_are_reserved_by_relative_and_by_absolute_tables() {
        let record = |at: &str, version: u8| {
            format!(".quad {at}\\n.quad 0\\n.byte 1,0,{version}\\n.zero 13\\n")
        };
        let text = |table: String| {
            format!(
                "__asm__(\".text\\nsled: ret\\n.fill 10,1,0x90\\n\"\n\".section xray_instr_map,\\\"aw\\\"\\n\"\n\"{table}\"\n\".text\\n\");\nint main(void) {{ return 0; }}"
            )
        };
        for table in [format!("1: {}", record("sled-1b", 2)), record("sled", 0)] {
            for flags in [&["-O1"][..], &["-O1", "-no-pie", "-fno-pie"]] {
                let Some(built) = cc(&text(table.clone()), flags) else {
                    return;
                };
                let image = built.image();
                let symbols = Symbols::load(&image, None).unwrap();
                let facts = code_facts(&image, &symbols).unwrap();
                let [(from, to)] = facts.reserved[..] else {
                    panic!("{:?} {table}", facts.reserved);
                };
                assert_eq!(to.0 - from.0, 11);
                let bytes = image.bytes_at(from, 11).unwrap();
                assert_eq!((bytes[0], &bytes[1..]), (0xc3, &[0x90; 10][..]));
            }
        }
    }
}
