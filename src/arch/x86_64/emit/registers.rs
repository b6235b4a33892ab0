//! Registers by number, and their parts.

use iced_x86::code_asm::registers::gpr8::*;
use iced_x86::code_asm::registers::gpr16::*;
use iced_x86::code_asm::registers::gpr32::*;
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmRegister8, AsmRegister16, AsmRegister32, AsmRegister64};

/// By their DWARF numbers.
const WHOLE: [AsmRegister64; 16] = [
    rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15,
];
const HALVES: [AsmRegister32; 16] = [
    eax, edx, ecx, ebx, esi, edi, ebp, esp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d,
];
const WORDS: [AsmRegister16; 16] = [
    ax, dx, cx, bx, si, di, bp, sp, r8w, r9w, r10w, r11w, r12w, r13w, r14w, r15w,
];
const BYTES: [AsmRegister8; 16] = [
    al, dl, cl, bl, sil, dil, bpl, spl, r8b, r9b, r10b, r11b, r12b, r13b, r14b, r15b,
];

/// Temporaries, in the order they are taken.
pub(super) const TEMPORARIES: [AsmRegister64; 4] = [r11, r10, r9, r8];

/// DWARF numbers of the registers that hold the first integer arguments (System V ABI AMD64,
/// section 3.2.3).
pub(super) const ARGUMENTS: [u8; 6] = [5, 4, 1, 2, 8, 9];

/// The register with this DWARF number.
pub(super) fn register(number: u8) -> Option<AsmRegister64> {
    WHOLE.get(usize::from(number)).copied()
}

fn part<T: Copy>(register: AsmRegister64, parts: &[T; 16]) -> T {
    let number = WHOLE.iter().position(|whole| *whole == register);
    parts[number.unwrap_or(0)]
}

/// Its lower 32 bits.
pub(super) fn low_half(register: AsmRegister64) -> AsmRegister32 {
    part(register, &HALVES)
}

/// Its lower 16 bits.
pub(super) fn low_word(register: AsmRegister64) -> AsmRegister16 {
    part(register, &WORDS)
}

/// Its lower 8 bits.
pub(super) fn low_byte(register: AsmRegister64) -> AsmRegister8 {
    part(register, &BYTES)
}
