//! Makes the copy, instruction by instruction. `BlockEncoder` is not used: it re-points operands
//! that happen to refer to an instruction of the block. Nor is the encoder: it drops prefixes, and
//! turns RIP-relative operands below 4 GiB into EIP-relative ones. Only distances are rewritten.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use super::refusal::Unrelocatable;
use super::verify::verify;
use super::writer::{Source, Writer, distance};

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
    /// increasing. Padding behind a jump or return has no place in the copy. Empty where no-ops are
    /// displaced: there is nothing to copy.
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
        if self.map.is_empty() {
            return Some(0);
        }
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

/// `jmp rel8` at `from` to `to`; `None` beyond its reach.
pub fn short_jump(from: u64, to: u64) -> Option<[u8; 2]> {
    let distance = to.wrapping_sub(from.wrapping_add(2)).cast_signed();
    let distance = i8::try_from(distance).ok()?;
    Some([0xeb, distance.cast_unsigned()])
}

/// The copy of no-ops, `len` bytes at `at`: the way back alone. Control may go there from any of
/// them.
///
/// # Errors
/// [`Unrelocatable`], when the way back is too far.
pub fn skip(at: u64, len: u8, dest: u64) -> Result<Copy, Unrelocatable> {
    let mut out = Writer {
        dest,
        bytes: Vec::with_capacity(JUMP),
        literal: None,
    };
    out.jump_to(at.wrapping_add(len.into()))?;
    Ok(Copy {
        bytes: out.bytes,
        map: Vec::new(),
        falls_through: true,
        call_jump: None,
    })
}

/// Length of the instruction at the start of `bytes`; `None` if they start with none.
pub fn instruction_len(bytes: &[u8]) -> Option<usize> {
    let insn = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
    (!insn.is_invalid()).then_some(insn.len())
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

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{ConditionCode, Register};
    use proptest::prelude::*;

    const AT: u64 = 0x5555_5555_4000;
    const GIB: u64 = 1 << 30;
    const DEST: u64 = AT + GIB;

    fn decode(bytes: &[u8], ip: u64) -> Vec<Instruction> {
        Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE)
            .into_iter()
            .collect()
    }

    fn moved(bytes: &[u8]) -> (Copy, Vec<Instruction>) {
        let copy = relocate(AT, bytes, DEST).unwrap_or_else(|e| panic!("{bytes:x?}: {e}"));
        let code = decode(&copy.bytes, DEST);
        (copy, code)
    }

    /// A branch of 2 + `head.len()` bytes to AT + 0x40, filled to 5 bytes with nops.
    fn short(head: &[u8], opcode: u8) -> Vec<u8> {
        let mut bytes = [head, &[opcode, 0x40 - 2 - head.len() as u8]].concat();
        bytes.resize(bytes.len().max(5), 0x90);
        bytes
    }

    #[test]
    fn every_conditional_branch_keeps_condition_and_target() {
        for condition in 0..16u8 {
            let near = [0x0f, 0x80 | condition, 0x40 - 6, 0, 0, 0];
            for bytes in [
                short(&[], 0x70 | condition),
                short(&[0x3e], 0x70 | condition),
                short(&[0xf2], 0x70 | condition),
                near.to_vec(),
            ] {
                let was = decode(&bytes, AT);
                let (copy, code) = moved(&bytes);
                assert_ne!(code[0].condition_code(), ConditionCode::None);
                assert_eq!(code[0].condition_code(), was[0].condition_code());
                assert_eq!(code[0].near_branch_target(), AT + 0x40, "{bytes:x?}");
                let last = code.last().unwrap();
                assert!(copy.falls_through);
                assert_eq!(last.near_branch_target(), AT + bytes.len() as u64);
            }
        }
    }

    #[test]
    fn counting_branches_skip_over_a_long_jump() {
        for (head, opcode) in [
            (&[][..], 0xe0),
            (&[], 0xe1),
            (&[], 0xe2),
            (&[], 0xe3),
            (&[0x67], 0xe3),
            (&[0x67], 0xe2),
        ] {
            let bytes = short(head, opcode);
            let was = decode(&bytes, AT);
            let (_, code) = moved(&bytes);
            assert_eq!(code[0].code(), was[0].code());
            assert_eq!(code[0].near_branch_target(), code[2].ip());
            assert_eq!(code[1].near_branch_target(), code[3].ip());
            assert_eq!(code[2].near_branch_target(), AT + 0x40);
        }
    }

    #[test]
    fn a_jump_ends_the_copy_and_padding_behind_it_is_left_out() {
        for bytes in [
            &[0xeb, 0x3e][..],
            &[0xeb, 0x3e, 0x90, 0x90, 0xcc],
            &[0xeb, 0x3e, 0, 0, 0],
        ] {
            let (copy, code) = moved(bytes);
            assert_eq!((code.len(), copy.falls_through), (1, false));
            assert_eq!(code[0].near_branch_target(), AT + 0x40);
            assert_eq!(copy.map, [(0, 0)]);
        }
        let near = [0xe9, 0x3b, 0, 0, 0];
        assert_eq!(moved(&near).1[0].near_branch_target(), AT + 0x40);
        let ret_nop = [0xc3, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
        assert_eq!(moved(&ret_nop).0.bytes, [0xc3]);
        let ret_code = [0xc3, 0x55, 0x53, 0x51, 0x52];
        let refused = Unrelocatable::CodeBehindEnd { offset: 1 };
        assert_eq!(relocate(AT, &ret_code, DEST), Err(refused));
    }

    #[test]
    fn a_branch_to_the_entry_leads_to_the_original() {
        let loop_to_entry = [0xff, 0xc9, 0x75, 0xfc, 0x90];
        let (copy, code) = moved(&loop_to_entry);
        assert_eq!(copy.map, [(0, 0), (2, 2), (4, 8)]);
        assert_eq!(code[1].near_branch_target(), AT);
        let inside = [0x90, 0xff, 0xc9, 0x75, 0xfc];
        let refused = Unrelocatable::BranchInside { offset: 1 };
        assert_eq!(relocate(AT, &inside, DEST), Err(refused));
    }

    #[test]
    fn an_operand_that_names_a_displaced_instruction_keeps_its_address() {
        // push r15; lea rax, [rip -> the push]: the start of a function that compares itself.
        let bytes = [0x41, 0x57, 0x48, 0x8d, 0x05, 0xf7, 0xff, 0xff, 0xff];
        let (_, code) = moved(&bytes);
        assert_eq!(code[1].ip_rel_memory_address(), AT);
        assert_eq!(code[1].memory_base(), Register::RIP);
    }

    #[test]
    fn operands_reach_two_gib_and_not_a_byte_further() {
        // jmp [rip + 0]: the operand is AT + 6.
        let through = [0xff, 0x25, 0, 0, 0, 0];
        for (dest, ok) in [
            (AT + (1 << 31), true),
            (AT + (1 << 31) + 1, false),
            (AT - (1 << 31) + 1, true),
            (AT - (1 << 31), false),
            (AT + (64 << 40), false),
        ] {
            assert_eq!(relocate(AT, &through, dest).is_ok(), ok, "{dest:#x}");
        }
        let refused = relocate(AT, &through, AT + 3 * GIB);
        assert_eq!(refused, Err(Unrelocatable::OutOfReach { operand: AT + 6 }));
        // Five nops need the way back alone.
        assert!(relocate(AT, &[0x90; 5], AT + (1 << 31) - 5).is_ok());
        let refused = relocate(AT, &[0x90; 5], AT + (1 << 31) - 4);
        assert_eq!(refused, Err(Unrelocatable::OutOfReach { operand: AT + 5 }));
        assert!(jump(AT, AT + 5 + 0x7fff_ffff).is_some());
        assert!(jump(AT, AT + 5 + 0x8000_0000).is_none());
        assert_eq!(jump(AT, AT - 0x7fff_fffb), Some([0xe9, 0, 0, 0, 0x80]));
        assert!(jump(AT, AT - 0x7fff_fffc).is_none());
    }

    #[test]
    fn below_four_gib_operands_stay_relative_to_rip() {
        let lea = [0x48, 0x8d, 0x05, 0x10, 0, 0, 0];
        let copy = relocate(0x40_1000, &lea, 0x70_0000).unwrap();
        let code = decode(&copy.bytes, 0x70_0000);
        assert_eq!((code[0].memory_base(), code[0].len()), (Register::RIP, 7));
        assert_eq!(code[0].ip_rel_memory_address(), 0x40_1017);
        // lea rax, [eip + 0x10]: cut to 32 bits wherever it stands.
        let eip = [0x67, 0x48, 0x8d, 0x05, 0x10, 0, 0, 0];
        let (_, code) = moved(&eip);
        assert_eq!(code[0].memory_base(), Register::EIP);
        assert_eq!(code[0].ip_rel_memory_address(), (AT + 0x18) & 0xffff_ffff);
    }

    #[test]
    fn a_call_pushes_the_original_return_address() {
        let call = [0xe8, 0x3b, 0, 0, 0];
        let (copy, code) = moved(&call);
        assert_eq!((copy.falls_through, copy.call_jump), (false, Some(6)));
        assert_eq!(copy.bytes.len(), 24);
        assert_eq!(code[0].ip_rel_memory_address(), DEST + 16);
        assert_eq!(copy.bytes[16..], (AT + 5).to_le_bytes());
        assert_eq!(code[1].near_branch_target(), AT + 0x40);
        assert_eq!(
            (copy.original_of(0), copy.original_of(6)),
            (Some((0, 0)), Some((0, 8)))
        );
        // Low addresses fit an immediate.
        let copy = relocate(0x40_1000, &call, 0x50_0000).unwrap();
        let code = decode(&copy.bytes, 0x50_0000);
        assert_eq!((code[0].immediate(0), code.len()), (0x40_1005, 2));
        // At 2 GiB a sign-extended immediate would be wrong.
        let copy = relocate(0x7fff_fffb, &call, 0x7000_0000).unwrap();
        assert_eq!(decode(&copy.bytes, 0)[0].code(), iced_x86::Code::Push_rm64);
    }

    #[test]
    fn indirect_calls_become_jumps_through_the_same_operand() {
        for bytes in [
            &[0x90, 0x90, 0x90, 0xff, 0xd0][..],            // call rax
            &[0x90, 0x90, 0x41, 0xff, 0xd3],                // call r11
            &[0x90, 0x90, 0x3e, 0xff, 0xd0],                // notrack call rax
            &[0xff, 0x15, 0x10, 0, 0, 0],                   // call [rip+0x10]
            &[0x41, 0xff, 0x54, 0xc4, 0x18],                // call [r12+rax*8+0x18]
            &[0x64, 0xff, 0x14, 0x25, 0x10, 0, 0, 0],       // call fs:[0x10]
            &[0x66, 0x66, 0x48, 0xff, 0x15, 0x10, 0, 0, 0], // data16 rex.W call [rip+0x10]
            &[0x67, 0xe8, 0x10, 0, 0, 0],                   // addr32 call
        ] {
            let (copy, code) = moved(bytes);
            let at = copy.call_jump.unwrap();
            let jump = code
                .iter()
                .find(|i| i.ip() == DEST + u64::from(at))
                .unwrap();
            assert_eq!(jump.mnemonic(), Mnemonic::Jmp);
            let literal = copy.bytes.len() - 8;
            assert_eq!(
                copy.bytes[literal..],
                (AT + bytes.len() as u64).to_le_bytes()
            );
        }
        let (copy, _) = moved(&[0x90, 0x90, 0x3e, 0xff, 0xd0]);
        assert_eq!(copy.bytes[8..11], [0x3e, 0xff, 0xe0], "notrack survives");
    }

    #[test]
    fn what_cannot_be_moved_says_why() {
        use Unrelocatable as U;
        for (bytes, why) in [
            (
                &[0xff, 0x54, 0x24, 0x08, 0x90][..4],
                U::CallThroughStackPointer,
            ),
            (&[0x90, 0x90, 0x90, 0xff, 0xd4], U::CallThroughStackPointer),
            (&[0x67, 0xff, 0x54, 0x24, 0x08], U::CallThroughStackPointer),
            (
                &[0x90, 0xff, 0xd0, 0x90, 0x90],
                U::ReturnInside { offset: 3 },
            ),
            (
                &[0x90, 0x06, 0x90, 0x90, 0x90],
                U::Undecodable { offset: 1 },
            ),
            (
                &[0x90, 0x90, 0x48, 0x8d, 0x05],
                U::Undecodable { offset: 2 },
            ),
            (&[], U::Undecodable { offset: 0 }),
            (&[0xff, 0x1d, 0, 0, 0, 0], U::FarCall),
            (&[0x66, 0xe9, 0, 0, 0, 0], U::AmbiguousBranch),
            (&[0x90, 0x90, 0x66, 0xff, 0xd0], U::AmbiguousBranch),
            (&[0xcc, 0x90, 0x90, 0x90, 0x90], U::Breakpoint),
            (&[0xf1, 0x90, 0x90, 0x90, 0x90], U::Breakpoint),
            (&[0x90; 21], U::TooLong),
        ] {
            assert_eq!(relocate(AT, bytes, DEST), Err(why), "{bytes:x?}");
            assert!(!why.to_string().is_empty());
        }
    }

    #[test]
    fn prefixes_and_address_free_instructions_are_copied_byte_for_byte() {
        for bytes in [
            &[0xf3, 0x0f, 0x1e, 0xfa, 0x55][..], // endbr64; push rbp
            &[0x0f, 0x1f, 0x44, 0, 0],           // nop5
            &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], // cs nopw
            &[0xb8, 1, 0, 0, 0, 0x0f, 0x05],     // mov eax, 1; syscall
            &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], // mov rax, fs:0x28
            &[0xf0, 0x48, 0x0f, 0xc1, 0x07],     // lock xadd [rdi], rax
            &[0xf3, 0x48, 0xab, 0x48, 0x89, 0xe5], // rep stosq; mov rbp, rsp
            &[0x48, 0x81, 0xec, 8, 0, 0, 0],     // a long form kept long
        ] {
            let (copy, _) = moved(bytes);
            assert_eq!(copy.bytes[..bytes.len()], *bytes);
            assert_eq!(copy.bytes.len(), bytes.len() + 5);
        }
        // lock inc [rip+0x10]; only the displacement changes.
        let lock = [0xf0, 0xff, 0x05, 0x10, 0, 0, 0];
        let (copy, code) = moved(&lock);
        assert_eq!(copy.bytes[..3], lock[..3]);
        assert!(code[0].has_lock_prefix());
        // An immediate behind the displacement: cmp dword [rip+0x10], 0x11223344.
        let (copy, code) = moved(&[0x81, 0x3d, 0x10, 0, 0, 0, 0x44, 0x33, 0x22, 0x11]);
        assert_eq!(code[0].ip_rel_memory_address(), AT + 26);
        assert_eq!(copy.bytes[6..10], [0x44, 0x33, 0x22, 0x11]);
    }

    #[test]
    fn xbegin_keeps_its_abort_address() {
        let (copy, code) = moved(&[0xc7, 0xf8, 0x3a, 0, 0, 0]);
        assert_eq!(code[0].near_branch_target(), AT + 0x40);
        assert!(copy.falls_through);
    }

    #[test]
    fn the_longest_copies_stay_within_the_bound() {
        // Ten branches without a long form, all to the byte behind them.
        let worst: Vec<u8> = (0..10u8).flat_map(|i| [0xe3, 18 - 2 * i]).collect();
        assert_eq!(relocate(AT, &worst, DEST).unwrap().bytes.len(), 95);
        // In a window of five bytes, with a call of eleven at its end.
        let call = [0x66, 0x66, 0x66, 0x48, 0xff, 0x15, 0x10, 0, 0, 0];
        let window = [&[0xe3, 0x40, 0xe3, 0x40][..], &call].concat();
        assert!(relocate(AT, &window, DEST + 1).unwrap().bytes.len() <= 60);
    }

    proptest! {
        #[test]
        fn no_operand_of_a_copy_leads_into_the_copy(
            kinds in prop::collection::vec((0..5usize, 0..24u64), 1..6),
            far in any::<bool>(),
        ) {
            // Operands and branches whose targets are the displaced bytes and those around them.
            let mut bytes: Vec<u8> = Vec::new();
            for (kind, target) in kinds {
                let head: &[u8] = [
                    &[0x48, 0x8d, 0x05][..], &[0xff, 0x35], &[0x0f, 0x84], &[0x53], &[0xff, 0x05],
                ][kind];
                if bytes.len() + head.len() + 4 > MAX_DISPLACED {
                    break;
                }
                bytes.extend_from_slice(head);
                if kind != 3 {
                    let next = bytes.len() as u64 + 4;
                    bytes.extend_from_slice(&(target.wrapping_sub(next) as u32).to_le_bytes());
                }
            }
            let dest = if far { DEST } else { AT + 0x40 };
            if let Ok(copy) = relocate(AT, &bytes, dest) {
                let end = dest + copy.bytes.len() as u64;
                for insn in decode(&copy.bytes, dest) {
                    let targets = [
                        near_target(&insn),
                        insn.is_ip_rel_memory_operand().then(|| insn.ip_rel_memory_address()),
                    ];
                    for target in targets.into_iter().flatten() {
                        prop_assert!(!(dest..end).contains(&target));
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_moved_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            match relocate(AT, &bytes, DEST) {
                Ok(copy) => {
                    prop_assert!(copy.bytes.len() <= MAX_COPY);
                    prop_assert!(copy.map.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
                }
                // A copy that fails its check would be a mistake of the encoder.
                Err(error) => {
                    let is_mismatch = matches!(error, Unrelocatable::Mismatch { .. });
                    prop_assert!(!is_mismatch, "{:x?}", bytes);
                }
            }
        }
    }
}
