//! The bytes of a copy as they are written: which fields change, and how.

use iced_x86::{Decoder, Instruction, Mnemonic, Register};

use super::encode::near_target;
use super::refusal::Unrelocatable;

/// Length of `jmp rel32`.
const JUMP: u8 = 5;

/// The signed 32-bit distance from the end of an instruction.
pub(super) fn distance(next: u64, to: u64) -> Option<[u8; 4]> {
    let distance = to.wrapping_sub(next).cast_signed();
    Some(i32::try_from(distance).ok()?.to_le_bytes())
}

/// An instruction's bytes, taken apart at the opcode.
pub(super) struct Source<'a> {
    prefixes: &'a [u8],
    /// Opcode and what follows.
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let legacy_or_rex = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
        let split = bytes
            .iter()
            .position(|byte| !legacy_or_rex(byte))
            .unwrap_or(bytes.len());
        let (prefixes, rest) = bytes.split_at(split);
        Source { prefixes, rest }
    }

    /// An operand-size prefix that REX.W does not override: AMD processors cut the target of such a
    /// branch to 16 bits, Intel's ignore the prefix.
    pub(super) fn ambiguous(&self) -> bool {
        let wide = self
            .prefixes
            .last()
            .is_some_and(|byte| matches!(byte, 0x48..=0x4f));
        self.prefixes.contains(&0x66) && !wide
    }
}

/// The copy as it grows.
pub(super) struct Writer {
    pub(super) dest: u64,
    pub(super) bytes: Vec<u8>,
    /// Where the distance to a literal return address goes.
    pub(super) literal: Option<usize>,
}

impl Writer {
    pub(super) fn len(&self) -> u16 {
        // An input of MAX_DISPLACED bytes grows to a few times that at most.
        self.bytes.len() as u16
    }

    fn here(&self) -> u64 {
        self.dest.wrapping_add(self.bytes.len() as u64)
    }

    /// Appends an instruction that ends with a 32-bit distance to `target`.
    fn relative(&mut self, head: &[u8], target: u64) -> Result<(), Unrelocatable> {
        self.bytes.extend_from_slice(head);
        let rel = distance(self.here().wrapping_add(4), target)
            .ok_or(Unrelocatable::OutOfReach { operand: target })?;
        self.bytes.extend_from_slice(&rel);
        Ok(())
    }

    pub(super) fn jump_to(&mut self, target: u64) -> Result<(), Unrelocatable> {
        self.relative(&[0xe9], target)
    }

    /// A direct branch or `xbegin`, in the form with a 32-bit distance.
    pub(super) fn branch(
        &mut self,
        insn: &Instruction,
        text: &Source<'_>,
        target: u64,
        offset: u8,
    ) -> Result<(), Unrelocatable> {
        let opcode = text.rest.first().copied().unwrap_or_default();
        // No instruction is longer than 15 bytes, nor may the long form be.
        if text.prefixes.len() + 6 > 15 {
            return Err(Unrelocatable::TooLong);
        }
        self.bytes.extend_from_slice(text.prefixes);
        if insn.is_jmp_short_or_near() {
            self.jump_to(target)
        } else if insn.is_jcc_short_or_near() {
            let condition = match opcode {
                0x0f => text.rest.get(1).copied().unwrap_or_default(),
                short => short,
            };
            self.relative(&[0x0f, 0x80 | (condition & 0x0f)], target)
        } else if insn.is_loop() || insn.is_loopcc() || insn.is_jcx_short() {
            // These have no long form: taken, they skip the jump over the long jump.
            self.bytes.extend_from_slice(&[opcode, 2, 0xeb, JUMP]);
            self.jump_to(target)
        } else if insn.mnemonic() == Mnemonic::Xbegin {
            self.relative(&[0xc7, 0xf8], target)
        } else {
            Err(Unrelocatable::Undecodable { offset })
        }
    }

    /// Emulates a call: pushes the original return address, jumps. Returns the jump's offset.
    pub(super) fn call(
        &mut self,
        insn: &Instruction,
        decoder: &Decoder<'_>,
        text: &Source<'_>,
        back: u64,
    ) -> Result<u16, Unrelocatable> {
        let uses_rsp = |register: Register| register.full_register() == Register::RSP;
        if uses_rsp(insn.op0_register())
            || uses_rsp(insn.memory_base())
            || uses_rsp(insn.memory_index())
        {
            return Err(Unrelocatable::CallThroughStackPointer);
        }
        if text.ambiguous() {
            return Err(Unrelocatable::AmbiguousBranch);
        }
        match i32::try_from(back.cast_signed()) {
            Ok(short) => {
                self.bytes.push(0x68);
                self.bytes.extend_from_slice(&short.to_le_bytes());
            }
            // The distance is filled in when the literal's place is known.
            Err(_) => {
                self.literal = Some(self.bytes.len() + 2);
                self.bytes.extend_from_slice(&[0xff, 0x35, 0, 0, 0, 0]);
            }
        }
        let jump = self.len();
        if let Some(target) = near_target(insn) {
            self.bytes.extend_from_slice(text.prefixes);
            self.jump_to(target)?;
        } else {
            let mut source = [text.prefixes, text.rest].concat();
            // ff /2 is call, ff /4 is jmp.
            let modrm = source
                .get_mut(text.prefixes.len() + 1)
                .ok_or(Unrelocatable::Undecodable { offset: 0 })?;
            *modrm = (*modrm & !0x38) | (4 << 3);
            self.adjusted(insn, decoder, &source)?;
        }
        Ok(jump)
    }

    /// Copies an instruction; a RIP-relative operand keeps its absolute address.
    pub(super) fn adjusted(
        &mut self,
        insn: &Instruction,
        decoder: &Decoder<'_>,
        source: &[u8],
    ) -> Result<(), Unrelocatable> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(source);
        if !insn.is_ip_rel_memory_operand() {
            return Ok(());
        }
        let operand = insn.ip_rel_memory_address();
        let rel = if insn.memory_base() == Register::EIP {
            // The sum is cut to 32 bits: everything is within reach.
            let rel = (operand as u32).wrapping_sub(self.here() as u32);
            rel.to_le_bytes()
        } else {
            distance(self.here(), operand).ok_or(Unrelocatable::OutOfReach { operand })?
        };
        let field = start + decoder.get_constant_offsets(insn).displacement_offset();
        self.put(field, rel)
    }

    fn put(&mut self, field: usize, rel: [u8; 4]) -> Result<(), Unrelocatable> {
        match self.bytes.get_mut(field..field + 4) {
            Some(place) => {
                place.copy_from_slice(&rel);
                Ok(())
            }
            None => Err(Unrelocatable::Undecodable { offset: 0 }),
        }
    }

    /// Appends the return address, aligned so that reading it touches one cache line.
    pub(super) fn literal(&mut self, field: usize, back: u64) -> Result<(), Unrelocatable> {
        while !self.here().is_multiple_of(8) {
            self.bytes.push(0xcc);
        }
        let next = self.dest.wrapping_add(field as u64 + 4);
        let rel = distance(next, self.here()).ok_or(Unrelocatable::TooLong)?;
        self.put(field, rel)?;
        self.bytes.extend_from_slice(&back.to_le_bytes());
        Ok(())
    }
}
