//! Text as a probe, a pattern, a file of probes.
#![no_main]

#[path = "../../hostile/spec.rs"]
mod spec;

libfuzzer_sys::fuzz_target!(|text: &str| {
    spec::probe(text);
});
