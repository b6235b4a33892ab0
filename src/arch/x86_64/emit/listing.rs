//! Generated code as people read it: one instruction a line.

use iced_x86::{Decoder, DecoderOptions, FastFormatter};

/// The instructions of `bytes`, which lie at `at`: address and text.
pub fn listing(bytes: &[u8], at: u64) -> Vec<(u64, String)> {
    let mut formatter = FastFormatter::new();
    let decoder = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE);
    let lines = decoder.into_iter().map(|instruction| {
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        (instruction.ip(), text)
    });
    lines.collect()
}
