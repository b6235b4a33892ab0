//! Bytes as an ELF file: symbols, debug information, analysis. Memory is bounded by libFuzzer's
//! `-rss_limit_mb` and `-malloc_limit_mb`.
#![no_main]

#[path = "../../hostile/elf.rs"]
mod elf;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    elf::read(data, "t.c");
});
