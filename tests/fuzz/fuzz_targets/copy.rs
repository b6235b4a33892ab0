//! Bytes as displaced instructions, behind an address of eight bytes.
#![no_main]

#[path = "../../hostile/code.rs"]
#[allow(dead_code, reason = "shared with another target")]
mod code;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((at, displaced)) = data.split_first_chunk() {
        code::copy(u64::from_le_bytes(*at), displaced);
    }
});
