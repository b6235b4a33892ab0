//! Words for the shared memory, each behind its place.
#![no_main]

#[path = "../../hostile/shared.rs"]
#[allow(dead_code, reason = "shared with a test")]
mod shared;

libfuzzer_sys::fuzz_target!(|words: Vec<(bool, u32, u64)>| {
    let places = shared::places();
    let place = |near: bool, place: u32| match near {
        true => places[place as usize % places.len()],
        false => place,
    };
    let words: Vec<_> = words
        .iter()
        .map(|&(near, at, value)| (place(near, at), value))
        .collect();
    shared::drain(&words);
});
