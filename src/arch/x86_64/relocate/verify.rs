//! Decodes a finished copy and compares it with the original: mnemonics, operands, absolute
//! targets, the map. Written without the encoder's knowledge of bytes, so that one mistake does not
//! hide in both.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind};

use super::encode::{Copy, ends_here, near_target};
use super::refusal::Unrelocatable;

/// Checks that `copy`, at `dest`, does what `original`, at `at`, does.
pub(super) fn verify(
    at: u64,
    original: &[u8],
    dest: u64,
    copy: &Copy,
) -> Result<(), Unrelocatable> {
    let back = at.wrapping_add(original.len() as u64);
    let mut source = Decoder::with_ip(64, original, at, DecoderOptions::NONE);
    let mut check = Check {
        dest,
        bytes: &copy.bytes,
        decoder: Decoder::with_ip(64, &copy.bytes, dest, DecoderOptions::NONE),
        literal: None,
    };
    let mut call_jump = None;
    let mut falls_through = true;
    for &(offset, place) in &copy.map {
        let mismatch = Unrelocatable::Mismatch { offset };
        let at_its_place = source.position() == usize::from(offset)
            && check.decoder.position() == usize::from(place);
        let insn = source.decode();
        if !at_its_place || insn.is_invalid() || !falls_through {
            return Err(mismatch);
        }
        let same = if insn.is_call_near() || insn.is_call_near_indirect() {
            let pushes = check.pushes(back);
            call_jump = u16::try_from(check.decoder.position()).ok();
            pushes && check.completes_call(&insn)
        } else {
            check.same(&insn, original.get(usize::from(offset)..source.position()))
        };
        if !same {
            return Err(mismatch);
        }
        falls_through = !ends_here(&insn);
    }
    let mismatch = Unrelocatable::Mismatch {
        offset: original.len() as u8,
    };
    let complete = !falls_through || !source.can_decode();
    let returns = !falls_through || check.jumps(back);
    let no_more = match check.literal {
        // Alignment and literal.
        Some(end) => end == copy.bytes.len() && end - check.decoder.position() < 8 + 8,
        None => !check.decoder.can_decode(),
    };
    if complete
        && returns
        && no_more
        && falls_through == copy.falls_through
        && call_jump == copy.call_jump
    {
        Ok(())
    } else {
        Err(mismatch)
    }
}

struct Check<'a> {
    dest: u64,
    bytes: &'a [u8],
    decoder: Decoder<'a>,
    /// End of the literal a push refers to, as an offset in the copy.
    literal: Option<usize>,
}

impl Check<'_> {
    /// Whether the next instruction of the copy does what `insn` does.
    fn same(&mut self, insn: &Instruction, source: Option<&[u8]>) -> bool {
        let start = self.decoder.position();
        let copy = self.decoder.decode();
        let Some(target) = near_target(insn) else {
            // Equal instructions have equal operands and, when they are relative to the instruction
            // pointer, equal absolute addresses. No byte but the displacement may differ.
            let bytes = self.bytes.get(start..self.decoder.position());
            let field = self.decoder.get_constant_offsets(&copy);
            let first = field.displacement_offset();
            let moves = first..first + field.displacement_size();
            let fixed = |bytes: Option<&[u8]>| -> Option<Vec<u8>> {
                let mut bytes = bytes?.to_vec();
                if insn.is_ip_rel_memory_operand() {
                    bytes.get_mut(moves.clone())?.fill(0);
                }
                Some(bytes)
            };
            return copy == *insn && fixed(bytes).is_some() && fixed(bytes) == fixed(source);
        };
        let here = near_target(&copy);
        if insn.is_jcx_short() || insn.is_loop() || insn.is_loopcc() {
            let over = self.decoder.decode();
            let long = self.decoder.ip();
            return copy.code() == insn.code()
                && here == Some(long)
                && over.code() == Code::Jmp_rel8_64
                && self.jumps(target)
                && near_target(&over) == Some(self.decoder.ip());
        }
        copy.mnemonic() == insn.mnemonic()
            && copy.condition_code() == insn.condition_code()
            && copy.op_count() == 1
            && here == Some(target)
    }

    /// Whether the next instruction jumps to `target`.
    fn jumps(&mut self, target: u64) -> bool {
        let insn = self.decoder.decode();
        insn.code() == Code::Jmp_rel32_64 && near_target(&insn) == Some(target)
    }

    /// Whether the next instruction pushes `value`.
    fn pushes(&mut self, value: u64) -> bool {
        let insn = self.decoder.decode();
        match insn.code() {
            Code::Pushq_imm32 => insn.immediate(0) == value,
            Code::Push_rm64 if insn.is_ip_rel_memory_operand() => {
                let offset = insn.ip_rel_memory_address().wrapping_sub(self.dest);
                let Some(start) = usize::try_from(offset)
                    .ok()
                    .filter(|o| *o < self.bytes.len())
                else {
                    return false;
                };
                self.literal = Some(start + 8);
                self.bytes.get(start..start + 8) == Some(&value.to_le_bytes()[..])
            }
            _ => false,
        }
    }

    /// Whether the next instruction jumps where `call` calls, through the same operand.
    fn completes_call(&mut self, call: &Instruction) -> bool {
        if let Some(target) = near_target(call) {
            return self.jumps(target);
        }
        let jump = self.decoder.decode();
        let same_width = match call.code() {
            Code::Call_rm64 => jump.code() == Code::Jmp_rm64,
            _ => false,
        };
        same_width
            && jump.op0_kind() == call.op0_kind()
            && match call.op0_kind() {
                OpKind::Register => jump.op0_register() == call.op0_register(),
                _ => {
                    jump.memory_base() == call.memory_base()
                        && jump.memory_index() == call.memory_index()
                        && jump.memory_index_scale() == call.memory_index_scale()
                        && jump.memory_displacement64() == call.memory_displacement64()
                        && jump.memory_segment() == call.memory_segment()
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::super::relocate;
    use super::*;

    const AT: u64 = 0x40_0000_0000;
    const DEST: u64 = AT + 0x1000_0000;

    #[test]
    fn a_copy_with_any_bit_changed_is_refused() {
        let originals: [&[u8]; 7] = [
            &[0x48, 0x8d, 0x05, 0x10, 0, 0, 0],       // lea rax, [rip+0x10]
            &[0x75, 0x40, 0x53, 0x54, 0x55],          // jne; push; push; push
            &[0xe3, 0x40, 0x53, 0x54, 0x55],          // jrcxz
            &[0xe8, 0x10, 0, 0, 0],                   // call
            &[0xff, 0x15, 0x10, 0, 0, 0],             // call [rip+0x10]
            &[0x81, 0x3d, 0x10, 0, 0, 0, 1, 2, 3, 4], // cmp [rip+0x10], imm32
            &[0x41, 0x57, 0xe9, 0x10, 0, 0, 0],       // push r15; jmp
        ];
        for bytes in originals {
            let good = relocate(AT, bytes, DEST).unwrap();
            let literal = good
                .call_jump
                .map_or(good.bytes.len(), |_| good.bytes.len() - 8);
            for bit in 0..8 * good.bytes.len() {
                let mut copy = good.clone();
                copy.bytes[bit / 8] ^= 1 << (bit % 8);
                let filler = copy.bytes[bit / 8] ^ (1 << (bit % 8)) == 0xcc && bit / 8 < literal;
                if !filler {
                    assert!(
                        verify(AT, bytes, DEST, &copy).is_err(),
                        "{bytes:x?} bit {bit}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_wrong_map_or_end_is_refused() {
        let bytes = [0x55, 0x75, 0x40, 0x53, 0x54];
        let good = relocate(AT, &bytes, DEST).unwrap();
        assert_eq!(verify(AT, &bytes, DEST, &good), Ok(()));
        let wrong = |change: fn(&mut Copy)| {
            let mut copy = good.clone();
            change(&mut copy);
            verify(AT, &bytes, DEST, &copy).is_err()
        };
        assert!(wrong(|copy| copy.map[1].1 = 2));
        assert!(wrong(|copy| copy.falls_through = false));
        assert!(wrong(|copy| copy.call_jump = Some(3)));
        assert!(wrong(|copy| copy.bytes.truncate(8)));
        assert!(wrong(|copy| copy.bytes.push(0x90)));
        assert!(wrong(|copy| {
            copy.map.pop();
        }));
        assert!(verify(AT, &bytes, DEST + 1, &good).is_err());
    }
}
