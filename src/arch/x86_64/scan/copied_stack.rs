//! Functions that return more often than they are called, as they copy the stack away and back: code
//! that moves the stack pointer by a difference, and what calls it. greenlet's `slp_switch` is such. A
//! switch to another stack sets the stack pointer, and is none.

use std::collections::BTreeSet;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
use memchr::memchr_iter;

/// The starts of such functions in text at `at`. `functions` are starts and lengths, in order.
pub fn returning_twice(text: &[u8], at: u64, functions: &[(u64, u64)]) -> BTreeSet<u64> {
    let holder = |place: u64| {
        let after = functions.partition_point(|&(start, _)| start <= place);
        let &(start, len) = functions.get(after.checked_sub(1)?)?;
        (place - start < len).then_some((start, len))
    };
    let movers: BTreeSet<u64> = candidates(text)
        .filter_map(|offset| {
            let place = at + offset as u64;
            let (start, len) = holder(place)?;
            moves_at(text, at, (start, len), place).then_some(start)
        })
        .collect();
    if movers.is_empty() {
        return movers;
    }
    // Calls and jumps.
    let direct = memchr_iter(0xe8, text).chain(memchr_iter(0xe9, text));
    let callers = direct.filter_map(|offset| {
        let distance = text.get(offset + 1..offset + 5)?.try_into().ok()?;
        let end = at + offset as u64 + 5;
        let to = end.wrapping_add_signed(i32::from_le_bytes(distance).into());
        movers.contains(&to).then(|| holder(end - 5))?
    });
    let callers: Vec<u64> = callers.map(|(start, _)| start).collect();
    movers.into_iter().chain(callers).collect()
}

/// Where the bytes of `add rsp, r64` stand.
fn candidates(text: &[u8]) -> impl Iterator<Item = usize> {
    // 48 or 4c, 01, 11 reg 100; or 48 or 49, 03, 11 100 rm.
    memchr_iter(0x01, text)
        .chain(memchr_iter(0x03, text))
        .filter_map(|opcode| {
            let start = opcode.checked_sub(1)?;
            let (prefix, kind, modrm) = (text[start], text[opcode], *text.get(opcode + 1)?);
            let found = match kind {
                0x01 => matches!(prefix, 0x48 | 0x4c) && modrm & 0xc7 == 0xc4,
                _ => matches!(prefix, 0x48 | 0x49) && modrm & 0xf8 == 0xe0,
            };
            found.then_some(start)
        })
}

/// Whether it is an instruction of its function that stands there.
fn moves_at(text: &[u8], at: u64, (start, len): (u64, u64), place: u64) -> bool {
    let from = start
        .checked_sub(at)
        .and_then(|from| usize::try_from(from).ok());
    let Some(code) = from.and_then(|from| text.get(from..)) else {
        return false;
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(code.len());
    let mut decoder = Decoder::with_ip(64, &code[..len], start, DecoderOptions::NONE);
    let mut i = Instruction::default();
    while decoder.can_decode() && decoder.ip() <= place {
        decoder.decode_out(&mut i);
        if i.ip() == place {
            return matches!(i.code(), Code::Add_rm64_r64 | Code::Add_r64_rm64)
                && i.op0_register() == Register::RSP
                && i.op1_register() != Register::RSP;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_moves_its_stack_by_a_difference_returns_twice_and_so_does_its_caller() {
        let mut text = vec![0x90; 64];
        // At 0: add rsp, rax; add rbp, rax; ret.
        text[..7].copy_from_slice(&[0x48, 0x01, 0xc4, 0x48, 0x01, 0xc5, 0xc3]);
        // At 16: call 0; ret.
        text[16..22].copy_from_slice(&[0xe8, 0xeb, 0xff, 0xff, 0xff, 0xc3]);
        // At 32: call 16; ret.
        text[32..38].copy_from_slice(&[0xe8, 0xeb, 0xff, 0xff, 0xff, 0xc3]);
        // At 48: mov rax, 0x1_c401_4890: the bytes in a number; mov rsp, rax; ret.
        text[48..62].copy_from_slice(&[
            0x48, 0xb8, 0x90, 0x48, 0x01, 0xc4, 1, 0, 0, 0, 0x48, 0x89, 0xc4, 0xc3,
        ]);
        let functions = [(0x1000, 16), (0x1010, 16), (0x1020, 16), (0x1030, 16)];
        let found = returning_twice(&text, 0x1000, &functions);
        assert_eq!(found, BTreeSet::from([0x1000, 0x1010]));
        let plain = &text[16..];
        assert_eq!(
            returning_twice(plain, 0x1010, &functions[1..]),
            BTreeSet::new()
        );
    }
}
