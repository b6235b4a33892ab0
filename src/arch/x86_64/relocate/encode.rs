//! Makes the copy, instruction by instruction. `BlockEncoder` is not used: it re-points operands
//! that happen to refer to an instruction of the block. Nor is the encoder: it drops prefixes, and
//! turns RIP-relative operands below 4 GiB into EIP-relative ones. Only distances are rewritten.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::refusal::Unrelocatable;
use super::verify::verify;

/// Most bytes that can be displaced: a 5-byte window whose last byte starts an instruction of 15
/// displaces 19.
pub const MAX_DISPLACED: usize = 20;
/// No copy is longer. The longest expansion is that of `jrcxz` with an address-size prefix or
/// without, from 2 bytes to 9; ten of them and the jump back take 95.
pub const MAX_COPY: usize = 96;
const _: () = assert!(MAX_DISPLACED / 2 * 9 + JUMP <= MAX_COPY);

/// Length of `jmp rel32`.
const JUMP: usize = 5;

/// Displaced instructions, relocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Code for the address the copy was made for, with the jump back if control can reach its
    /// end, and the return address if it emulates a call by a literal. At most [`MAX_COPY`].
    pub bytes: Vec<u8>,
    /// (offset in the original, offset in the copy) of each displaced instruction; both strictly
    /// increasing. Padding behind a jump or return has no place in the copy.
    pub map: Vec<(u8, u16)>,
    /// Whether control can fall out of the end; then `bytes` holds the jump back.
    pub falls_through: bool,
    /// Offset in the copy of the jump that completes an emulated call, always the last
    /// instruction. A thread there has pushed the return address: it equals a thread at the
    /// original call whose stack pointer is higher by 8.
    pub call_jump: Option<u16>,
}

impl Copy {
    /// Where in the copy the displaced instruction at `original` is.
    pub fn offset_of(&self, original: u8) -> Option<u16> {
        self.map
            .iter()
            .find_map(|(from, to)| (*from == original).then_some(*to))
    }

    /// The displaced instruction that starts at `offset` in the copy, and how much the stack
    /// pointer is below what it was before that instruction: 8 when `offset` is
    /// [`Copy::call_jump`], else 0.
    pub fn original_of(&self, offset: u16) -> Option<(u8, u8)> {
        if self.call_jump == Some(offset) {
            return self.map.last().map(|(from, _)| (*from, 8));
        }
        self.map
            .iter()
            .find_map(|(from, to)| (*to == offset).then_some((*from, 0)))
    }
}

/// Moves the whole instructions `bytes`, which stand at `at`, to `dest`.
///
/// A branch to `at` itself leads to `at` in the original text: a new hit. Padding behind a jump or
/// return may be part of `bytes`.
///
/// # Errors
/// [`Unrelocatable`], for instructions that cannot be moved to `dest`, or at all.
pub fn relocate(at: u64, bytes: &[u8], dest: u64) -> Result<Copy, Unrelocatable> {
    let copy = encode(at, bytes, dest)?;
    verify(at, bytes, dest, &copy)?;
    Ok(copy)
}

/// `jmp rel32` at `from` to `to`; `None` beyond its reach.
pub fn jump(from: u64, to: u64) -> Option<[u8; 5]> {
    let [a, b, c, d] = distance(from.wrapping_add(JUMP as u64), to)?;
    Some([0xe9, a, b, c, d])
}

/// Length of the instruction at the start of `bytes`; `None` if they start with none.
pub fn instruction_len(bytes: &[u8]) -> Option<usize> {
    let insn = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
    (!insn.is_invalid()).then_some(insn.len())
}

/// The signed 32-bit distance from the end of an instruction.
fn distance(next: u64, to: u64) -> Option<[u8; 4]> {
    let distance = to.wrapping_sub(next).cast_signed();
    Some(i32::try_from(distance).ok()?.to_le_bytes())
}

fn encode(at: u64, original: &[u8], dest: u64) -> Result<Copy, Unrelocatable> {
    if original.len() > MAX_DISPLACED {
        return Err(Unrelocatable::TooLong);
    }
    if original.is_empty() {
        return Err(Unrelocatable::Undecodable { offset: 0 });
    }
    let len = original.len() as u64;
    let back = at.wrapping_add(len);
    let mut decoder = Decoder::with_ip(64, original, at, DecoderOptions::NONE);
    let mut out = Writer {
        dest,
        bytes: Vec::with_capacity(MAX_COPY),
        literal: None,
    };
    let mut copy = Copy {
        bytes: Vec::new(),
        map: Vec::new(),
        falls_through: true,
        call_jump: None,
    };
    while copy.falls_through && decoder.can_decode() {
        let start = decoder.position();
        let offset = start as u8; // at most MAX_DISPLACED
        let insn = decoder.decode();
        let Some(source) = original
            .get(start..decoder.position())
            .filter(|_| !insn.is_invalid())
        else {
            return Err(Unrelocatable::Undecodable { offset });
        };
        copy.map.push((offset, out.len()));
        let text = Source::new(source);
        if let Some(target) = near_target(&insn) {
            let inside = target.wrapping_sub(at);
            if (1..len).contains(&inside) {
                return Err(Unrelocatable::BranchInside {
                    offset: inside as u8,
                });
            }
            if text.ambiguous() {
                return Err(Unrelocatable::AmbiguousBranch);
            }
        }
        if insn.is_call_near() || insn.is_call_near_indirect() {
            if decoder.can_decode() {
                let offset = decoder.position() as u8;
                return Err(Unrelocatable::ReturnInside { offset });
            }
            copy.call_jump = Some(out.call(&insn, &decoder, &text, back)?);
        } else if let Some(target) = near_target(&insn) {
            out.branch(&insn, &text, target, offset)?;
        } else if insn.is_call_far() || insn.is_call_far_indirect() {
            return Err(Unrelocatable::FarCall);
        } else if matches!(insn.mnemonic(), Mnemonic::Int3 | Mnemonic::Int1) {
            return Err(Unrelocatable::Breakpoint);
        } else {
            out.adjusted(&insn, &decoder, source)?;
        }
        copy.falls_through = !ends_here(&insn);
        if !copy.falls_through
            && let Some(rest) = original.get(decoder.position()..)
            && !is_padding(rest)
        {
            let offset = decoder.position() as u8;
            return Err(Unrelocatable::CodeBehindEnd { offset });
        }
    }
    if copy.falls_through {
        out.jump_to(back)?;
    }
    if let Some(field) = out.literal {
        out.literal(field, back)?;
    }
    if out.bytes.len() > MAX_COPY {
        return Err(Unrelocatable::TooLong);
    }
    copy.bytes = out.bytes;
    Ok(copy)
}

/// The target of a direct branch, call or `xbegin`.
pub(super) fn near_target(insn: &Instruction) -> Option<u64> {
    matches!(
        insn.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    )
    .then(|| insn.near_branch_target())
}

/// Whether control never reaches the next instruction of the copy.
pub(super) fn ends_here(insn: &Instruction) -> bool {
    match insn.flow_control() {
        FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Exception
        | FlowControl::IndirectCall => true,
        // `syscall` and its like count as calls too.
        FlowControl::Call => insn.is_call_near(),
        FlowControl::Next
        | FlowControl::ConditionalBranch
        | FlowControl::Interrupt
        | FlowControl::XbeginXabortXend => false,
    }
}

/// Bytes as assemblers and linkers fill gaps with: no-ops, breakpoints, zeros.
fn is_padding(bytes: &[u8]) -> bool {
    if bytes.iter().all(|byte| *byte == 0) {
        return true;
    }
    let decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    decoder
        .into_iter()
        .all(|insn| matches!(insn.mnemonic(), Mnemonic::Nop | Mnemonic::Int3))
}

/// An instruction's bytes, taken apart at the opcode.
struct Source<'a> {
    prefixes: &'a [u8],
    /// Opcode and what follows.
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    fn new(bytes: &'a [u8]) -> Self {
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
    fn ambiguous(&self) -> bool {
        let wide = self
            .prefixes
            .last()
            .is_some_and(|byte| matches!(byte, 0x48..=0x4f));
        self.prefixes.contains(&0x66) && !wide
    }
}

/// The copy as it grows.
struct Writer {
    dest: u64,
    bytes: Vec<u8>,
    /// Where the distance to a literal return address goes.
    literal: Option<usize>,
}

impl Writer {
    fn len(&self) -> u16 {
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

    fn jump_to(&mut self, target: u64) -> Result<(), Unrelocatable> {
        self.relative(&[0xe9], target)
    }

    /// A direct branch or `xbegin`, in the form with a 32-bit distance.
    fn branch(
        &mut self,
        insn: &Instruction,
        text: &Source<'_>,
        target: u64,
        offset: u8,
    ) -> Result<(), Unrelocatable> {
        let opcode = text.rest.first().copied().unwrap_or_default();
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
            self.bytes.extend_from_slice(&[opcode, 2, 0xeb, JUMP as u8]);
            self.jump_to(target)
        } else if insn.mnemonic() == Mnemonic::Xbegin {
            self.relative(&[0xc7, 0xf8], target)
        } else {
            Err(Unrelocatable::Undecodable { offset })
        }
    }

    /// Emulates a call: pushes the original return address, jumps. Returns the jump's offset.
    fn call(
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
    fn adjusted(
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
    fn literal(&mut self, field: usize, back: u64) -> Result<(), Unrelocatable> {
        while self.here() % 8 != 0 {
            self.bytes.push(0xcc);
        }
        let next = self.dest.wrapping_add(field as u64 + 4);
        let rel = distance(next, self.here()).ok_or(Unrelocatable::TooLong)?;
        self.put(field, rel)?;
        self.bytes.extend_from_slice(&back.to_le_bytes());
        Ok(())
    }
}
