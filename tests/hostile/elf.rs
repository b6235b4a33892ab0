//! Any bytes as an ELF file with debug information: read, analysed, and every window moved.

use kptrace::analysis::{File, Source};
use kptrace::arch::native::relocate::{Unrelocatable, relocate};
use kptrace::symbols::{DebugInfo, Image, Symbols, code_facts, line_addresses};

/// Entries whose parameters are read: each is a search.
const PARAMS: usize = 4;

/// Reads all there is to read, and analyses the code. Returns the number of windows.
pub fn read(data: &[u8], source: &str) -> usize {
    if let Ok(debug) = Image::debug_from_bytes(data.to_vec(), "debug") {
        drop(DebugInfo::load(&debug, None));
    }
    let Ok(image) = Image::from_bytes(data.to_vec(), "file") else {
        return 0;
    };
    let Ok(symbols) = Symbols::load(&image, None) else {
        return 0;
    };
    let facts = code_facts(&image, &symbols).unwrap_or_default();
    let scanned = Source::new(&image, &facts);
    let file = File::of_symbols(&scanned.text(), &symbols);
    assert!(file.entries().len() <= symbols.entries().len());
    let mut windows = 0;
    for entry in file.entries() {
        let Some(window) = entry.verdict.ok().or(entry.trap) else {
            continue;
        };
        windows += 1;
        let Some(bytes) = image.bytes_at(entry.addr, usize::from(window.len)) else {
            panic!("{}: {window:?} is not in the file", entry.addr);
        };
        let copied = relocate(entry.addr.0, bytes, entry.addr.0.wrapping_add(1 << 24));
        let differs = matches!(copied, Err(Unrelocatable::Mismatch { .. }));
        assert!(!differs, "{bytes:02x?} at {}: {copied:?}", entry.addr);
    }
    for line in [1, 3] {
        let _ = line_addresses(&image, None, source, line);
    }
    if let Some(info) = DebugInfo::load(&image, None) {
        for entry in symbols.entries().iter().take(PARAMS) {
            let _ = info.params(entry.at);
        }
    }
    windows
}
