//! Which registers and flags nobody reads any more: written before they are read, on the straight
//! line from an instruction. Says "live" wherever it cannot prove otherwise.

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register, RflagsBits,
};

use super::Code as Bytes;
use super::movable::is_system_call;

/// Look no further than this many instructions.
const HORIZON: usize = 8;
/// The flags that comparisons and arithmetic write.
const STATUS: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// What is dead before the instruction at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dead {
    /// All six status flags are.
    pub(super) flags: bool,
    /// General registers, a bit for each DWARF number.
    pub(super) registers: u16,
}

/// Follows the straight line from `addr`.
pub(super) fn dead(code: &Bytes<'_>, addr: u64) -> Dead {
    let mut dead = Dead::default();
    let Some(mut decoder) = code.decoder(addr) else {
        return dead;
    };
    let mut info = InstructionInfoFactory::new();
    let mut instruction = Instruction::default();
    let (mut read, mut flags_left, mut flags_read) = (0_u16, STATUS, false);
    for _ in 0..HORIZON {
        if !decoder.can_decode() {
            break;
        }
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid()
            || instruction.flow_control() != FlowControl::Next
            || is_system_call(instruction.code())
        {
            break;
        }
        flags_read |= instruction.rflags_read() & flags_left != 0;
        if !flags_read && always_writes_flags(&instruction) {
            flags_left &= !instruction.rflags_modified();
            dead.flags |= flags_left == 0;
        }
        let mut written = 0;
        for used in info.info(&instruction).used_registers() {
            let Some(bit) = dwarf_bit(used.register()) else {
                continue;
            };
            let whole = used.register().is_gpr64() || used.register().is_gpr32();
            if used.access() == OpAccess::Write && whole {
                written |= bit;
            } else {
                read |= bit;
            }
        }
        dead.registers |= written & !read;
        read |= written;
    }
    dead
}

/// A count of zero in CL, or in CX for a repeated string instruction, leaves the flags alone.
fn always_writes_flags(instruction: &Instruction) -> bool {
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let by_cl = (0..instruction.op_count()).any(|n| instruction.op_register(n) == Register::CL);
    let shift_by_zero = matches!(
        instruction.code(),
        Code::Shld_rm16_r16_imm8
            | Code::Shld_rm32_r32_imm8
            | Code::Shld_rm64_r64_imm8
            | Code::Shrd_rm16_r16_imm8
            | Code::Shrd_rm32_r32_imm8
            | Code::Shrd_rm64_r64_imm8
    );
    !(repeated || by_cl || shift_by_zero)
}

/// The bit of a general register's DWARF number; the stack pointer is never dead and has none.
fn dwarf_bit(register: Register) -> Option<u16> {
    let number = match register.full_register() {
        Register::RAX => 0,
        Register::RDX => 1,
        Register::RCX => 2,
        Register::RBX => 3,
        Register::RSI => 4,
        Register::RDI => 5,
        Register::RBP => 6,
        full if full >= Register::R8 && full <= Register::R15 => {
            8 + full as u16 - Register::R8 as u16
        }
        _ => return None,
    };
    Some(1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAX: u16 = 1;
    const RCX: u16 = 1 << 2;

    fn of(bytes: &[u8]) -> Dead {
        dead(
            &Bytes {
                start: 0x1000,
                bytes,
            },
            0x1000,
        )
    }

    #[test]
    fn a_test_before_any_reader_makes_the_flags_dead() {
        // push rbp; test edi, edi; je
        assert!(of(&[0x55, 0x85, 0xff, 0x74, 0x00]).flags);
        // je first
        assert!(!of(&[0x74, 0x00, 0x85, 0xff]).flags);
        // sbb eax, eax; test edi, edi
        assert!(!of(&[0x19, 0xc0, 0x85, 0xff]).flags);
    }

    #[test]
    fn inc_leaves_the_carry_live() {
        // inc eax; ret
        assert!(!of(&[0xff, 0xc0, 0xc3]).flags);
        // inc eax; xor edx, edx: the xor completes it
        assert!(of(&[0xff, 0xc0, 0x31, 0xd2, 0xc3]).flags);
    }

    #[test]
    fn a_shift_by_cl_may_leave_the_flags_alone() {
        // shl edx, cl; ret
        assert!(!of(&[0xd3, 0xe2, 0xc3]).flags);
        // repe cmpsb; ret
        assert!(!of(&[0xf3, 0xa6, 0xc3]).flags);
    }

    #[test]
    fn a_register_is_dead_when_its_whole_width_is_written_first() {
        // mov eax, 1; mov cl, 2; ret
        let dead = of(&[0xb8, 1, 0, 0, 0, 0xb1, 2, 0xc3]);
        assert_eq!(dead.registers & (RAX | RCX), RAX);
        // xor eax, eax does not read it
        assert_eq!(of(&[0x31, 0xc0, 0xc3]).registers, RAX);
        // mov rax, [rax] does
        assert_eq!(of(&[0x48, 0x8b, 0x00, 0xc3]).registers, 0);
        // cmove eax, ecx does too; mov ecx, 0 after reading ecx is too late
        assert_eq!(of(&[0x0f, 0x44, 0xc1, 0xb9, 0, 0, 0, 0, 0xc3]).registers, 0);
    }

    #[test]
    fn what_may_leave_a_register_alone_does_not_kill_it() {
        let sometimes: [&[u8]; 8] = [
            &[0x0f, 0xbc, 0xc1, 0xc3],       // bsf eax, ecx
            &[0x48, 0x0f, 0xbd, 0xc1, 0xc3], // bsr rax, rcx
            &[0x0f, 0x02, 0xc1, 0xc3],       // lar eax, ecx
            &[0x0f, 0x03, 0xc1, 0xc3],       // lsl eax, ecx
            &[0x0f, 0x44, 0xc1, 0xc3],       // cmove eax, ecx
            &[0x0f, 0xb1, 0x0a, 0xc3],       // cmpxchg [rdx], ecx
            &[0xf3, 0xac, 0xc3],             // rep lodsb
            &[0x66, 0xb8, 1, 0, 0xc3],       // mov ax, 1
        ];
        for bytes in sometimes {
            assert_eq!(of(bytes).registers & RAX, 0, "{bytes:02x?}");
        }
        // rep movsb reads what it writes
        assert_eq!(of(&[0xf3, 0xa4, 0xc3]).registers, 0);
    }

    #[test]
    fn nothing_is_proved_beyond_a_call_or_branch() {
        // call; mov eax, 1
        assert_eq!(of(&[0xe8, 0, 0, 0, 0, 0xb8, 1, 0, 0, 0]), Dead::default());
        // syscall; xor eax, eax
        assert_eq!(of(&[0x0f, 0x05, 0x31, 0xc0]), Dead::default());
    }
}
