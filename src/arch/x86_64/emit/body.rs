//! One program's effects: counting, and leaving a record in the ring.

use iced_x86::code_asm::registers::gpr32::{eax, ecx, edx};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, AsmRegister64, byte_ptr, dword_ptr, ptr, qword_ptr};

use super::assembler::Patch;
use super::template::{Environment, Frame, Unsupported};
use super::value;
use crate::abi;
use crate::base::ProbeId;
use crate::program::{Effect, Program, Record};

/// How many times a waiting thread looks for its answer: 0.3 to 1 s.
const WAIT: u32 = 1 << 24;

/// Which block a copy of the code writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// The thread's own, through gs, without locks.
    Own,
    /// The shared one, by its address, with locks.
    Shared,
}

/// An operand in the block's memory. The size is given by the register or by a `_ptr` cast.
pub(super) fn in_block(space: Space, operand: AsmMemoryOperand) -> AsmMemoryOperand {
    match space {
        Space::Own => operand.gs(),
        Space::Shared => operand,
    }
}

/// The x86-64 register with this DWARF number.
pub(super) fn register(number: u8) -> Option<AsmRegister64> {
    const REGISTERS: [AsmRegister64; 16] = [
        rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15,
    ];
    REGISTERS.get(usize::from(number)).copied()
}

/// Emits a program's effects in order. `index` is its probe's index in the template.
pub(super) fn emit(
    frame: &mut Frame,
    program: &Program,
    index: usize,
    environment: &Environment,
    space: Space,
) -> Result<(), Unsupported> {
    for effect in &program.effects {
        match effect {
            Effect::Count => {
                let hits = environment.layout.hits(ProbeId(0));
                increment(frame, environment.shared_block + hits, index, space)?;
            }
            Effect::Ask => ask(frame, environment)?,
            Effect::Record(record) => {
                leave_record(frame, program, record, index, environment, space)?
            }
        }
    }
    Ok(())
}

/// Asks, and waits for the answer without a system call: there may be filters that know none of ours.
/// Bounded, since whoever should answer may have been killed; who waited in vain says so, and nobody
/// waits again until somebody answers.
fn ask(frame: &mut Frame, environment: &Environment) -> Result<(), Unsupported> {
    let word = |offset: u32| qword_ptr(u64::from(environment.shared_block + offset));
    let [again, done] = [frame.out.mark(), frame.out.mark()];
    frame.out.asm.mov(eax, 1)?;
    frame.out.asm.lock().xadd(word(abi::ASKED), rax)?;
    frame.out.asm.mov(ecx, WAIT)?;
    frame.out.here(again)?;
    let to_done = frame.out.to(done);
    frame.out.asm.cmp(word(abi::IN_VAIN), 0)?;
    frame.out.asm.jne(to_done)?;
    let alive = byte_ptr(u64::from(environment.alive));
    frame.out.asm.cmp(alive, 0)?;
    frame.out.asm.je(to_done)?;
    frame.out.asm.mov(rdx, word(abi::ANSWERED))?;
    frame.out.asm.sub(rdx, rax)?;
    frame.out.asm.jg(to_done)?;
    frame.out.asm.pause()?;
    frame.out.asm.dec(ecx)?;
    let to_again = frame.out.to(again);
    frame.out.asm.jnz(to_again)?;
    frame.out.asm.mov(word(abi::IN_VAIN), 1)?;
    frame.out.here(done)?;
    Ok(())
}

/// Adds one to the counter at `at`, the counter of probe 0.
fn increment(frame: &mut Frame, at: u32, index: usize, space: Space) -> Result<(), Unsupported> {
    frame.out.patch_next(Patch::Counter(index));
    let counter = in_block(space, qword_ptr(u64::from(at)));
    match space {
        Space::Own => frame.out.asm.inc(counter)?,
        Space::Shared => frame.out.asm.lock().inc(counter)?,
    }
    Ok(())
}

/// `rcx`-relative operand of the record's bytes.
pub(super) fn record_field(
    environment: &Environment,
    space: Space,
    offset: u32,
) -> AsmMemoryOperand {
    let base = environment.shared_block + environment.layout.ring() + offset;
    in_block(space, ptr(rcx + u64::from(base)))
}

fn leave_record(
    frame: &mut Frame,
    program: &Program,
    record: &Record,
    index: usize,
    environment: &Environment,
    space: Space,
) -> Result<(), Unsupported> {
    let (offsets, size) = record.layout();
    let room = i64::from(environment.layout.ring_size)
        - i64::from(environment.layout.slack())
        - i64::from(size);
    let room = i32::try_from(room).ok().filter(|room| *room > 0);
    let room = room.ok_or_else(|| Unsupported("a ring smaller than a record".to_owned()))?;
    let size = i32::try_from(size).map_err(|_| Unsupported("a record too large".to_owned()))?;
    let head = environment.shared_block + abi::HEAD;
    let tail = environment.shared_block + abi::TAIL;
    let full = frame.out.mark();
    let after = frame.out.mark();
    // Time first: it waits longest, and hides what follows. Then rcx = time until the position is
    // known, rdx after.
    if record.time {
        frame.out.asm.rdtsc()?;
        frame.out.asm.shl(rdx, 32)?;
        frame.out.asm.or(rdx, rax)?;
    } else {
        frame.out.asm.xor(edx, edx)?;
    }
    let to_full = frame.out.to(full);
    match space {
        Space::Own => {
            frame.out.asm.mov(rax, ptr(u64::from(head)).gs())?;
            frame.out.asm.sub(rax, ptr(u64::from(tail)).gs())?;
            frame.out.asm.cmp(rax, room)?;
            frame.out.asm.ja(to_full)?;
            // One unlocked xadd: a signal handler that hits the same probe between any two
            // instructions gets a position of its own.
            frame.out.asm.mov(eax, size)?;
            frame.out.asm.xadd(qword_ptr(u64::from(head)).gs(), rax)?;
        }
        Space::Shared => {
            let again = frame.out.mark();
            frame.out.asm.mov(rax, ptr(u64::from(head)))?;
            frame.out.here(again)?;
            frame.out.asm.mov(rcx, rax)?;
            frame.out.asm.sub(rcx, ptr(u64::from(tail)))?;
            frame.out.asm.cmp(rcx, room)?;
            frame.out.asm.ja(to_full)?;
            frame.out.asm.lea(rcx, qword_ptr(rax + size))?;
            frame
                .out
                .asm
                .lock()
                .cmpxchg(qword_ptr(u64::from(head)), rcx)?;
            let to_again = frame.out.to(again);
            frame.out.asm.jne(to_again)?;
        }
    }
    let mask = i32::try_from(environment.layout.ring_size - 1);
    let mask = mask.map_err(|_| Unsupported("a ring too large".to_owned()))?;
    frame.out.asm.mov(ecx, eax)?;
    frame.out.asm.and(ecx, mask)?;
    let at = |offset| record_field(environment, space, offset);
    frame.out.asm.mov(at(abi::REC_TIME), rdx)?;
    // Probe number in the low half, no faults in the high half.
    frame.out.patch_next(Patch::Number(index));
    frame.out.asm.mov(dword_ptr(at(abi::REC_PROBE)), 0)?;
    frame.out.asm.mov(dword_ptr(at(abi::REC_FAULTS)), 0)?;
    match space {
        Space::Shared if environment.own_blocks => {
            frame.out.asm.rdfsbase(rdx)?;
            frame.out.asm.mov(at(abi::REC_THREAD), rdx)?;
        }
        _ => frame.out.asm.mov(qword_ptr(at(abi::REC_THREAD)), 0)?,
    }
    for (number, (field, &offset)) in record.fields.iter().zip(&offsets).enumerate() {
        value::field(
            frame,
            program,
            field.kind,
            number,
            offset,
            environment,
            space,
        )?;
    }
    // The position last: x86 makes stores visible in order, so a reader that sees it sees all.
    frame.out.asm.mov(at(abi::REC_POSITION), rax)?;
    frame.out.here(after)?;
    let lost = environment.shared_block + environment.layout.lost(ProbeId(0));
    let all_lost = environment.shared_block + abi::LOST;
    frame.later(move |frame| {
        frame.out.here(full)?;
        increment(frame, lost, index, space)?;
        let all = in_block(space, qword_ptr(u64::from(all_lost)));
        match space {
            Space::Own => frame.out.asm.inc(all)?,
            Space::Shared => frame.out.asm.lock().inc(all)?,
        }
        let to_after = frame.out.to(after);
        frame.out.asm.jmp(to_after)?;
        Ok(())
    });
    Ok(())
}
