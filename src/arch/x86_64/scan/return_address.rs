//! Whether a function looks at its own return address, or pops it. A linear look that knows what the
//! stack pointer is from the entry on for as long as that is plain; what it misses is code that finds
//! the address by other ways.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

/// How far into a function is looked.
const FAR: usize = 1 << 16;

/// What a function does with its return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Reads it.
    Reads,
    /// Takes it off the stack.
    Pops,
}

/// Whether the code of a function, given from its entry on, does so.
pub fn return_address(code: &[u8], at: u64) -> Option<Look> {
    let code = code.get(..code.len().min(FAR)).unwrap_or_default();
    let mut decoder = Decoder::with_ip(64, code, at, DecoderOptions::NONE);
    let mut i = Instruction::default();
    // How far the return address is above the stack pointer; and above rbp, once that is set.
    let (mut above_sp, mut above_bp): (Option<i64>, Option<i64>) = (Some(0), None);
    while decoder.can_decode() {
        decoder.decode_out(&mut i);
        if reads(&i, Register::RSP, above_sp) || reads(&i, Register::RBP, above_bp) {
            return Some(Look::Reads);
        }
        match (i.mnemonic(), above_sp) {
            (Mnemonic::Push, Some(above)) => above_sp = Some(above + 8),
            (Mnemonic::Pop, Some(0)) => return Some(Look::Pops),
            (Mnemonic::Pop, Some(above)) => above_sp = Some(above - 8),
            (Mnemonic::Sub, Some(above)) if constant(&i) => {
                above_sp = Some(above + i.immediate(1).cast_signed());
            }
            (Mnemonic::Add, Some(above)) if constant(&i) => {
                let left = above - i.immediate(1).cast_signed();
                if left < 0 {
                    return Some(Look::Pops);
                }
                above_sp = Some(left);
            }
            (Mnemonic::Mov, Some(above))
                if i.op0_register() == Register::RBP && i.op1_register() == Register::RSP =>
            {
                above_bp = Some(above);
            }
            _ if writes_sp(&i) => above_sp = None,
            _ => {}
        }
        if ends(&i) {
            above_sp = None;
        }
    }
    None
}

/// Whether an instruction reads memory at this distance from a register.
fn reads(i: &Instruction, base: Register, above: Option<i64>) -> bool {
    let Some(above) = above else {
        return false;
    };
    let there = i.memory_base() == base
        && i.memory_index() == Register::None
        && i.memory_displacement64().cast_signed() == above;
    let operand = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    // An address alone is the frame's, for all we know.
    there && operand && i.mnemonic() != Mnemonic::Lea && i.mnemonic() != Mnemonic::Nop
}

/// `sub rsp, n` and the like.
fn constant(i: &Instruction) -> bool {
    i.op0_register() == Register::RSP
        && matches!(
            i.code(),
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 | Code::Add_rm64_imm8 | Code::Add_rm64_imm32
        )
}

fn writes_sp(i: &Instruction) -> bool {
    let named = i.op_count() > 0 && i.op0_kind() == OpKind::Register;
    let first = named && i.op0_register().full_register() == Register::RSP;
    let compares = matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test);
    i.mnemonic() == Mnemonic::Leave || i.mnemonic() == Mnemonic::Enter || (first && !compares)
}

fn ends(i: &Instruction) -> bool {
    matches!(
        i.flow_control(),
        FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_at_its_return_address_is_known() {
        for (code, expected) in [
            // mov rax, [rsp]; ret
            (&[0x48, 0x8b, 0x04, 0x24, 0xc3][..], Some(Look::Reads)),
            // pop rax; jmp rax
            (&[0x58, 0xff, 0xe0], Some(Look::Pops)),
            // push rbp; mov rbp, rsp; mov rax, [rbp+8]
            (
                &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x8b, 0x45, 0x08],
                Some(Look::Reads),
            ),
            // sub rsp, 8; mov rax, [rsp+8]
            (
                &[0x48, 0x83, 0xec, 0x08, 0x48, 0x8b, 0x44, 0x24, 0x08],
                Some(Look::Reads),
            ),
            // sub rsp, 8; mov rax, [rsp]; add rsp, 8; ret
            (
                &[
                    0x48, 0x83, 0xec, 0x08, 0x48, 0x8b, 0x04, 0x24, 0x48, 0x83, 0xc4, 0x08, 0xc3,
                ],
                None,
            ),
            // push rbx; pop rbx; ret; pop rax (behind the end nothing is known)
            (&[0x53, 0x5b, 0xc3, 0x58], None),
            // mov rax, [rsp+8]: the first argument on the stack
            (&[0x48, 0x8b, 0x44, 0x24, 0x08, 0xc3], None),
            // add rsp, 8; ret: to the caller's caller
            (&[0x48, 0x83, 0xc4, 0x08, 0xc3], Some(Look::Pops)),
            // lea rax, [rsp+8]; ret
            (&[0x48, 0x8d, 0x44, 0x24, 0x08, 0xc3], None),
        ] {
            assert_eq!(return_address(code, 0x1000), expected, "{code:02x?}");
        }
    }
}
