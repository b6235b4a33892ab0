//! Bytes as code, behind the places where functions start: one byte for their number, two for each.
#![no_main]

#[path = "../../hostile/code.rs"]
mod code;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&head, rest)) = data.split_first() else {
        return;
    };
    let (count, pie) = (usize::from(head & 0x7f), head & 0x80 != 0);
    let Some((starts, bytes)) = rest.split_at_checked(2 * count) else {
        return;
    };
    if bytes.is_empty() || bytes.len() > 4096 {
        return;
    }
    let starts: Vec<u16> = starts
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    code::scan(bytes, &starts, pie);
});
