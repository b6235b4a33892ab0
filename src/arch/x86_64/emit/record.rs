//! Leaving a record in the ring.
//!
//! While it is filled `rax` holds its position and `rcx` its place in the ring; `rdx` is free, and so
//! are the temporaries that the frame saved.

use iced_x86::code_asm::registers::gpr32::{eax, ecx, edx};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, dword_ptr, ptr, qword_ptr};

use super::assembler::Patch;
use super::body::{Body, Space, in_block};
use super::template::{Environment, Saved, Unsupported};
use crate::abi;
use crate::base::ProbeId;
use crate::program::Record;

/// `rcx`-relative operand of the record's bytes.
pub(super) fn record_field(
    environment: &Environment,
    space: Space,
    offset: u32,
) -> AsmMemoryOperand {
    in_block(space, ptr(rcx + record_base(environment, offset)))
}

/// What stands in the displacement of such an operand.
pub(super) fn record_base(environment: &Environment, offset: u32) -> u64 {
    u64::from(environment.shared_block + environment.layout.ring() + offset)
}

impl Body<'_> {
    pub(super) fn leave_record(&mut self, record: &Record) -> Result<(), Unsupported> {
        let (environment, space, index) = (self.environment, self.space, self.index);
        let (offsets, size) = record.layout();
        let room = i64::from(environment.layout.ring_size)
            - i64::from(environment.layout.slack())
            - i64::from(size);
        let room = i32::try_from(room).ok().filter(|room| *room > 0);
        let room = room.ok_or_else(|| Unsupported("a ring smaller than a record".to_owned()))?;
        let size = i32::try_from(size).map_err(|_| Unsupported("a record too large".to_owned()))?;
        let head = self.word(abi::HEAD);
        let tail = self.word(abi::TAIL);
        let full = self.frame.out.mark();
        let after = self.frame.out.mark();
        let to_full = self.frame.out.to(full);
        let taken = self.frame.pushed_at(Saved::Time);
        let out = &mut self.frame.out;
        // Time first: it waits longest, and hides what follows. Then rcx = time until the position is
        // known, rdx after.
        if let (true, Some(time)) = (record.time, taken) {
            out.asm.mov(rdx, qword_ptr(rsp + time))?;
        } else if record.time {
            out.asm.rdtsc()?;
            out.asm.shl(rdx, 32)?;
            out.asm.or(rdx, rax)?;
        } else {
            out.asm.xor(edx, edx)?;
        }
        match space {
            Space::Own => {
                out.asm.mov(rax, head)?;
                out.asm.sub(rax, tail)?;
                out.asm.cmp(rax, room)?;
                out.asm.ja(to_full)?;
                // One unlocked xadd: a signal handler that hits the same probe between any two
                // instructions gets a position of its own.
                out.asm.mov(eax, size)?;
                out.asm.xadd(head, rax)?;
            }
            Space::Shared => {
                let again = out.mark();
                let to_again = out.to(again);
                out.asm.mov(rax, head)?;
                out.here(again)?;
                out.asm.mov(rcx, rax)?;
                out.asm.sub(rcx, tail)?;
                out.asm.cmp(rcx, room)?;
                out.asm.ja(to_full)?;
                out.asm.lea(rcx, qword_ptr(rax + size))?;
                out.asm.lock().cmpxchg(head, rcx)?;
                out.asm.jne(to_again)?;
            }
        }
        let mask = i32::try_from(environment.layout.ring_size - 1);
        let mask = mask.map_err(|_| Unsupported("a ring too large".to_owned()))?;
        out.asm.mov(ecx, eax)?;
        out.asm.and(ecx, mask)?;
        let at = |offset| record_field(environment, space, offset);
        out.asm.mov(at(abi::REC_TIME), rdx)?;
        // Probe number in the low half, no faults in the high half.
        out.patch_next(Patch::Number(index));
        let action = (u32::from(record.action) << abi::PROBE_BITS).cast_signed();
        if action >= 0 {
            out.asm.mov(qword_ptr(at(abi::REC_PROBE)), action)?;
        } else {
            // It would be extended into the faults.
            out.asm.mov(dword_ptr(at(abi::REC_PROBE)), action)?;
            out.asm.mov(dword_ptr(at(abi::REC_FAULTS)), 0)?;
        }
        match space {
            Space::Shared if environment.own_blocks => {
                out.asm.rdfsbase(rdx)?;
                out.asm.mov(at(abi::REC_THREAD), rdx)?;
            }
            _ => out.asm.mov(qword_ptr(at(abi::REC_THREAD)), 0)?,
        }
        for (number, (field, &offset)) in record.fields.iter().zip(&offsets).enumerate() {
            self.field(field.kind, number, offset)?;
        }
        // The position last: x86 makes stores visible in order, so a reader that sees it sees all.
        self.frame.out.asm.mov(at(abi::REC_POSITION), rax)?;
        self.frame.out.here(after)?;
        let lost = in_block(
            space,
            qword_ptr(u64::from(
                environment.shared_block + environment.layout.lost(ProbeId(0)),
            )),
        );
        let all = self.word(abi::LOST);
        self.frame.later(move |frame| {
            frame.out.here(full)?;
            frame.out.patch_next(Patch::Counter(index));
            space.changing(&mut frame.out).inc(lost)?;
            space.changing(&mut frame.out).inc(all)?;
            let to_after = frame.out.to(after);
            Ok(frame.out.asm.jmp(to_after)?)
        });
        Ok(())
    }
}
