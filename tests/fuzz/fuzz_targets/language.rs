//! Text as a program of the probe language. A corpus to start with: `tests/language/`.
#![no_main]

#[path = "../../hostile/language.rs"]
mod language;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = language::program(text);
});
