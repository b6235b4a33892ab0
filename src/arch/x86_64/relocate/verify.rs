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
            // Equal instructions have equal prefixes, registers, immediates and, when they are
            // relative to the instruction pointer, equal absolute addresses.
            let bytes = self.bytes.get(start..self.decoder.position());
            return copy == *insn && (insn.is_ip_rel_memory_operand() || bytes == source);
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
