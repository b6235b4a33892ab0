//! The landing: a handler of SIGTRAP that sends a thread which hit a breakpoint into the detour, for
//! the time when there is no tracer to do it. It is called with signals blocked, touches nothing but
//! the signal frame and its own table, calls nothing, and returns by a restorer of its own.
//!
//! A trap that is none of ours goes as if there were no handler: the action is reset, the signal is
//! raised again with all that came with it, and takes effect when the handler returns.
//!
//! ```text
//! region:  mark | handler, restorer | its action | zeroes | spans of detours, to an empty one | table
//! ```
//!
//! The table is a hash table of pairs (address behind the breakpoint, where to go on): pairs are
//! added while the target runs, each complete before it can be found, and none is taken out.

use iced_x86::IcedError;
use iced_x86::code_asm::registers::gpr32::{eax, edi, edx, esi, r10d, r13d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{CodeAssembler, dword_ptr, ptr, qword_ptr};

/// What stands before the handler.
pub const MARK: &[u8; 16] = b"kptrace landing\0";
/// Offset in a region of the mark; what is before it is not ours.
pub const START: u64 = 48;
/// Offset of the handler.
pub const HANDLER: u64 = START + MARK.len() as u64;
/// Offset of the action that makes the handler the target's, 32 bytes.
pub const OURS: u64 = 0x1c0;
/// Offset of 32 zero bytes: the action `SIG_DFL`.
pub const DEFAULT: u64 = 0x1e0;
/// Offset of the spans of code from which a thread goes on as it is.
pub const SPANS: u64 = 0x200;
/// Most spans; the room is for one more.
pub const MOST_SPANS: usize = 223;
/// Offset of the table.
pub const TABLE: u64 = 0x1000;
/// Bytes of a pair.
pub const PAIR: u64 = 16;

/// The golden ratio's fraction: spreads addresses over the table (Knuth, volume 3, section 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// `ucontext_t.uc_mcontext.gregs[REG_RIP]` (`struct ucontext`, `struct sigcontext_64` in the
/// kernel's x86 headers).
const SAVED_PC: i32 = 40 + 16 * 8;
/// `siginfo_t.si_code`, and its value for an int3.
const CODE: i32 = 8;
const SI_KERNEL: i32 = 0x80;
const SIGTRAP: i32 = 5;

// Numbers of system calls (syscalls(2)).
const RT_SIGACTION: i32 = 13;
const RT_SIGRETURN: u8 = 15;
const GETPID: i32 = 39;
const GETTID: i32 = 186;
const RT_TGSIGQUEUEINFO: i32 = 297;

/// The first pair that may be the one for `key`, in a table of `1 << bits` pairs.
pub fn slot(key: u64, bits: u32) -> u64 {
    key.wrapping_mul(SPREAD) >> (64 - bits)
}

/// A region with a table of `1 << bits` pairs, from [`START`] to its action, and where the restorer is
/// in it.
pub fn landing(bits: u32) -> Option<(Vec<u8>, u64)> {
    let (code, restorer) = assemble(bits).ok()?;
    let mut region = MARK.to_vec();
    region.extend_from_slice(&code);
    let fits = START + region.len() as u64 <= OURS;
    fits.then_some((region, HANDLER + restorer))
}

fn assemble(bits: u32) -> Result<(Vec<u8>, u64), IcedError> {
    // Where things are, from the handler on.
    let place = |offset: u64| i32::try_from(offset - HANDLER).unwrap_or(0);
    let mut asm = CodeAssembler::new(64)?;
    let mut start = asm.create_label();
    let mut probe = asm.create_label();
    let mut found = asm.create_label();
    let mut unknown = asm.create_label();
    let mut span = asm.create_label();
    let mut behind = asm.create_label();
    let mut done = asm.create_label();
    let mut foreign = asm.create_label();
    let mut restorer = asm.create_label();

    asm.set_label(&mut start)?;
    asm.lea(r8, ptr(start))?;
    asm.mov(rax, qword_ptr(rdx + SAVED_PC))?;
    asm.cmp(dword_ptr(rsi + CODE), SI_KERNEL)?;
    asm.jne(foreign)?;
    asm.mov(r9, SPREAD)?;
    asm.imul_2(r9, rax)?;
    asm.shr(r9, 64 - bits)?;
    asm.set_label(&mut probe)?;
    asm.mov(r10, r9)?;
    asm.shl(r10, PAIR.ilog2())?;
    asm.mov(r11, qword_ptr(r8 + r10 + place(TABLE)))?;
    asm.cmp(r11, rax)?;
    asm.je(found)?;
    asm.test(r11, r11)?;
    asm.je(unknown)?;
    asm.inc(r9)?;
    asm.and(r9, (1 << bits) - 1)?;
    asm.jmp(probe)?;

    asm.set_label(&mut found)?;
    asm.mov(r11, qword_ptr(r8 + r10 + (place(TABLE) + 8)))?;
    asm.test(r11, r11)?;
    asm.je(foreign)?;
    asm.mov(qword_ptr(rdx + SAVED_PC), r11)?;
    asm.set_label(&mut done)?;
    asm.ret()?;

    // The tracer sent it on, and died before it took the report.
    asm.set_label(&mut unknown)?;
    asm.lea(r9, ptr(r8 + place(SPANS)))?;
    asm.set_label(&mut span)?;
    asm.mov(r10, qword_ptr(r9 + 8))?;
    asm.test(r10, r10)?;
    asm.je(foreign)?;
    asm.cmp(rax, r10)?;
    asm.jae(behind)?;
    asm.cmp(rax, qword_ptr(r9))?;
    asm.jae(done)?;
    asm.set_label(&mut behind)?;
    asm.add(r9, 16)?;
    asm.jmp(span)?;

    asm.set_label(&mut foreign)?;
    asm.mov(r12, rsi)?;
    asm.mov(eax, RT_SIGACTION)?;
    asm.mov(edi, SIGTRAP)?;
    asm.lea(rsi, ptr(r8 + place(DEFAULT)))?;
    asm.xor(edx, edx)?;
    asm.mov(r10d, 8)?;
    asm.syscall()?;
    asm.mov(eax, GETPID)?;
    asm.syscall()?;
    asm.mov(r13d, eax)?;
    asm.mov(eax, GETTID)?;
    asm.syscall()?;
    asm.mov(edi, r13d)?;
    asm.mov(esi, eax)?;
    asm.mov(edx, SIGTRAP)?;
    asm.mov(r10, r12)?;
    asm.mov(eax, RT_TGSIGQUEUEINFO)?;
    asm.syscall()?;
    asm.test(eax, eax)?;
    asm.je(done)?;
    // Not allowed: a breakpoint where the signal is blocked ends the process by SIGTRAP as well.
    asm.int3()?;

    // The instructions by which unwinders know a signal frame (gcc's `x86_64_fallback_frame_state`).
    asm.set_label(&mut restorer)?;
    asm.db(&[0x48, 0xc7, 0xc0, RT_SIGRETURN, 0, 0, 0])?;
    asm.syscall()?;
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let assembled = asm.assemble_options(0, options)?;
    let restorer = assembled.label_ip(&restorer)?;
    Ok((assembled.inner.code_buffer, restorer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_fits_its_place_and_ends_in_a_signal_return() {
        for bits in [10, 14, 20, 30] {
            let (region, restorer) = landing(bits).unwrap();
            let restorer = usize::try_from(restorer - START).unwrap();
            assert_eq!(
                region[restorer..],
                [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05]
            );
        }
    }

    #[test]
    fn every_address_has_a_slot_in_the_table() {
        for key in [1, 0x40_1001, 0x7fff_ffff_f001, u64::MAX] {
            assert!(slot(key, 10) < 1 << 10);
        }
    }
}
