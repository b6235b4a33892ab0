//! What an unwinder is told of thunks, and the detour that tells it: unwind information by which the
//! frame of a thunk has its caller where the activation says, and a personality routine, which the
//! unwinder calls when it takes the frame away: the activation ends then.
//!
//! Layout: LSB 5.0 core, section 10.6; DWARF 5, sections 2.5 and 6.4. How libgcc walks: its
//! `unwind-dw2.c`, `unwind-dw2-fde.c`.

use iced_x86::IcedError;
use iced_x86::code_asm::registers::gpr32::{eax, ecx, esi};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{CodeAssembler, ptr, qword_ptr};

use super::calls::enter_end;
use super::template::{Environment, Frame, RED_ZONE, Saved, Unsupported};
use crate::abi::{self, Activations};

/// Where the personality routine stands in a slot, behind the unwind information.
const PERSONALITY: u32 = 256;
/// `_UA_CLEANUP_PHASE`, `_URC_CONTINUE_UNWIND` (Itanium C++ ABI, exception handling, 1.2).
const CLEANUP_PHASE: i32 = 2;
const CONTINUE_UNWIND: u32 = 8;
/// `DW_CFA_def_cfa`, `DW_CFA_val_expression`.
const DEF_CFA: u8 = 0x0c;
const VAL_EXPRESSION: u8 = 0x16;
/// DWARF numbers of `rsp` and of the return address.
const RSP: u8 = 7;
const RETURN_ADDRESS: u8 = 16;

/// What a slot of unwind memory holds for one unwinder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its bytes; they belong at [`Activations::unwind_slot`].
    pub bytes: Vec<u8>,
}

/// The bytes of a slot for the unwinder whose `_Unwind_GetIP` is at `get_ip`.
pub fn slot(activations: &Activations, number: u32, get_ip: u64) -> Result<Slot, IcedError> {
    let at = activations.unwind_slot(number);
    let mut bytes = entries(activations, u64::from(at + PERSONALITY));
    debug_assert!(bytes.len() <= PERSONALITY as usize);
    bytes.resize(PERSONALITY as usize, 0xcc);
    bytes.extend(personality(
        activations,
        u64::from(at + PERSONALITY),
        get_ip,
    )?);
    Ok(Slot { bytes })
}

/// Offset in a slot of the entry that [`slot`] makes for thunks.
const FDE: u32 = 32;

fn entries(activations: &Activations, personality: u64) -> Vec<u8> {
    let mut cie = Vec::new();
    cie.extend([0; 4]);
    cie.push(1);
    // A personality, pointers' encoding, a signal frame: its caller's address is taken as exact.
    cie.extend(b"zPRS\0");
    // Factors 1 and -8, the return address's column, the length of what the letters stand for.
    cie.extend([1, 0x78, RETURN_ADDRESS, 10]);
    cie.push(0);
    cie.extend(personality.to_le_bytes());
    cie.push(0);
    // The entry for thunks stands at a known place: the frame's address is said there.
    let mut bytes = Vec::new();
    close(&mut bytes, cie);
    debug_assert_eq!(bytes.len(), FDE as usize);
    let mut fde = Vec::new();
    fde.extend((FDE + 4).to_le_bytes());
    fde.extend(u64::from(activations.thunks).to_le_bytes());
    fde.extend(u64::from(activations.size()).to_le_bytes());
    fde.push(0);
    // Back in the thunk, the stack is the caller's.
    fde.extend([DEF_CFA, RSP, 0]);
    let expression = caller(activations);
    fde.extend([VAL_EXPRESSION, RETURN_ADDRESS, expression.len() as u8]);
    fde.extend(expression);
    close(&mut bytes, fde);
    bytes.extend([0; 4]);
    bytes
}

/// The return address by the address in the thunk: `[(pc & -64) + distance + ACT_RETURN] - 1`.
fn caller(activations: &Activations) -> Vec<u8> {
    let mut e = vec![0x80, 0];
    // DW_OP_const1s -64, DW_OP_and.
    e.extend([0x09, (-(abi::ACTIVATION as i8)).cast_unsigned(), 0x1a]);
    // DW_OP_const4s, DW_OP_plus, DW_OP_deref.
    e.push(0x0d);
    let distance = activations.distance() + abi::ACT_RETURN.cast_signed();
    e.extend(distance.to_le_bytes());
    e.extend([0x22, 0x06]);
    // DW_OP_lit1, DW_OP_minus: an exact address must lie in the call.
    e.extend([0x31, 0x1c]);
    e
}

/// Appends an entry with its length, filled up to whole words.
fn close(bytes: &mut Vec<u8>, mut entry: Vec<u8>) {
    while !(entry.len() + 4).is_multiple_of(8) {
        entry.push(0);
    }
    bytes.extend(u32::try_from(entry.len()).unwrap_or(0).to_le_bytes());
    bytes.extend(entry);
}

/// `personality(version, actions, class, exception, context)`
fn personality(activations: &Activations, at: u64, get_ip: u64) -> Result<Vec<u8>, IcedError> {
    let mut asm = CodeAssembler::new(64)?;
    let (mut out, mut next, mut alone) =
        (asm.create_label(), asm.create_label(), asm.create_label());
    asm.test(esi, CLEANUP_PHASE)?;
    asm.je(out)?;
    asm.sub(rsp, 8)?;
    asm.mov(rdi, r8)?;
    asm.mov(rax, get_ip)?;
    asm.call(rax)?;
    asm.lea(ecx, qword_ptr(rax + activations.distance()))?;
    asm.and(ecx, -abi::ACTIVATION.cast_signed())?;
    asm.lea(rax, ptr(next))?;
    enter_end(&mut asm, abi::END_UNWOUND)?;
    asm.set_label(&mut next)?;
    // The unwinder still reads where the function would have returned to: it is free once the next
    // frame is taken.
    asm.mov(qword_ptr(rcx + abi::ACT_SLOT), 0)?;
    asm.mov(eax, ecx)?;
    asm.and(eax, -activations.pool_size.cast_signed())?;
    asm.xchg(qword_ptr(rax + abi::POOL_ENDED), rcx)?;
    asm.test(rcx, rcx)?;
    asm.je(alone)?;
    asm.mov(qword_ptr(rcx + abi::ACT_TAKEN), 0)?;
    asm.set_label(&mut alone)?;
    asm.add(rsp, 8)?;
    asm.set_label(&mut out)?;
    asm.mov(eax, CONTINUE_UNWIND)?;
    asm.ret()?;
    asm.assemble(at)
}

impl Frame {
    /// The unwinder looks for the frame at `rdi`: of a thunk's, this slot tells, in `rsi` and `rax`
    /// (`_Unwind_Find_FDE`), and the function is done.
    pub(super) fn answer(
        &mut self,
        slot: u32,
        environment: &Environment,
    ) -> Result<(), Unsupported> {
        let none = || Unsupported("an answer where no returns are probed".to_owned());
        let activations = environment.activations.ok_or_else(none)?;
        let answer = self.out.mark();
        let to_answer = self.out.to(answer);
        let asm = &mut self.out.asm;
        let thunks = activations.thunks.cast_signed();
        asm.lea(rax, qword_ptr(rdi - thunks))?;
        asm.cmp(rax, activations.size().cast_signed())?;
        asm.jb(to_answer)?;
        self.later(move |frame| {
            let result = frame.pushed_at(Saved::Register(rax)).ok_or_else(none)?;
            frame.out.here(answer)?;
            let asm = &mut frame.out.asm;
            asm.mov(qword_ptr(rsi), 0)?;
            asm.mov(qword_ptr(rsi + 8), 0)?;
            asm.mov(qword_ptr(rsi + 16), thunks)?;
            asm.mov(
                qword_ptr(rsp + result),
                (activations.unwind_slot(slot) + FDE).cast_signed(),
            )?;
            while !frame.pushed.is_empty() {
                frame.pop()?;
            }
            frame.out.asm.lea(rsp, qword_ptr(rsp + RED_ZONE))?;
            Ok(frame.out.asm.ret()?)
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_entry_for_thunks_stands_where_the_answer_says() {
        let activations = Activations {
            thunks: 0x1000_0000,
            words: 0x2000_0000,
            pools: 1,
            pool_size: 1 << 12,
            unwind: 0x3000_0000,
        };
        let slot = slot(&activations, 1, 0x1234).unwrap().bytes;
        assert!(slot.len() <= abi::UNWIND_SLOT as usize);
        let fde = FDE as usize;
        assert_eq!(word(&slot, 0) + 4, FDE);
        // Back to the common entry, from the field that says so.
        assert_eq!(word(&slot, fde + 4), FDE + 4);
        assert_eq!(word(&slot, fde + 8), activations.thunks);
        let end = fde + 4 + word(&slot, fde) as usize;
        assert_eq!(word(&slot, end), 0);
    }
}
