//! Values and fields: registers as they were at the hit, loads that may fault, strings.
//!
//! While a record is filled `rax` holds its position and `rcx` its place in the ring; `rdx` is
//! free, and so are the temporaries that the frame saved.

use iced_x86::code_asm::registers::gpr8::dl;
use iced_x86::code_asm::registers::gpr32::{edx, r10d};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{
    AsmMemoryOperand, AsmRegister64, byte_ptr, dword_ptr, ptr, qword_ptr, word_ptr,
};

use super::assembler::Mark;
use super::body::{Space, record_field, register};
use super::template::{Environment, Frame, RED_ZONE, Unsupported};
use crate::abi;
use crate::program::{BinaryOp, FieldKind, Inst, Program, Value, Width};

/// Temporaries, in the order they are taken.
pub(super) const TEMPORARIES: [AsmRegister64; 4] = [r11, r10, r9, r8];

/// DWARF numbers of the registers that hold the first integer arguments (System V ABI AMD64,
/// section 3.2.3).
const ARGUMENTS: [u8; 6] = [5, 4, 1, 2, 8, 9];

/// How many temporaries a program's fields need.
pub(super) fn temporaries(program: &Program) -> usize {
    // Values refer backwards, so one pass computes the depth of each.
    let mut depths: Vec<usize> = Vec::with_capacity(program.values.len());
    let depth =
        |depths: &[usize], value: Value| depths.get(usize::from(value.0)).copied().unwrap_or(1);
    for inst in &program.values {
        let own = match *inst {
            Inst::Const(_) | Inst::Reg(_) | Inst::Arg(_) => 1,
            Inst::Load { base, .. } => depth(&depths, base),
            Inst::Binary(BinaryOp::Shr, a, _) => depth(&depths, a),
            Inst::Binary(_, a, b) => depth(&depths, a).max(depth(&depths, b).saturating_add(1)),
        };
        depths.push(own);
    }
    let fields = program.record().map_or(&[][..], |record| &record.fields);
    let needed = fields.iter().map(|field| match field.kind {
        FieldKind::Int { value, .. } => depth(&depths, value),
        FieldKind::Str { .. } => TEMPORARIES.len(),
    });
    needed.max().unwrap_or(0).min(TEMPORARIES.len())
}

/// Where a faulting load leaves the address, and what it does then.
#[derive(Clone, Copy)]
struct OnFault {
    field: AsmMemoryOperand,
    faults: AsmMemoryOperand,
    bit: i32,
    after: Mark,
}

/// Fills field `number` of the record, at `offset` from its start.
pub(super) fn field(
    frame: &mut Frame,
    program: &Program,
    kind: FieldKind,
    number: usize,
    offset: u32,
    environment: &Environment,
    space: Space,
) -> Result<(), Unsupported> {
    let after = frame.out.mark();
    let at = |offset| record_field(environment, space, offset);
    let bit = (1_u32 << (number & 31)).cast_signed();
    let on_fault = OnFault {
        field: at(offset),
        faults: at(abi::REC_FAULTS),
        bit,
        after,
    };
    match kind {
        FieldKind::Int { value, .. } => {
            let result = evaluate(frame, program, value, 0, on_fault)?;
            frame.out.asm.mov(at(offset), result)?;
        }
        FieldKind::Str { pointer, max } => {
            let source = evaluate(frame, program, pointer, 0, on_fault)?;
            if source != r11 {
                frame.out.asm.mov(r11, source)?;
            }
            string(frame, i32::from(max), offset, environment, space, on_fault)?;
        }
    }
    frame.out.here(after)?;
    Ok(())
}

/// Computes a value and says which register holds it: one of the temporaries from `depth` on, or
/// the target's own register where it still has its value.
fn evaluate(
    frame: &mut Frame,
    program: &Program,
    value: Value,
    depth: usize,
    on_fault: OnFault,
) -> Result<AsmRegister64, Unsupported> {
    let deep = || Unsupported("an argument's expression is too deep".to_owned());
    let target = TEMPORARIES.get(depth).copied().ok_or_else(deep)?;
    let saved = frame.pushed.contains(&Some(target));
    if !saved {
        return Err(deep());
    }
    let inst = program
        .values
        .get(usize::from(value.0))
        .copied()
        .ok_or_else(deep)?;
    match inst {
        Inst::Const(constant) => frame.out.asm.mov(target, constant)?,
        Inst::Reg(reg) => return original(frame, reg.0, target),
        Inst::Arg(n) => match ARGUMENTS.get(usize::from(n)) {
            Some(&number) => return original(frame, number, target),
            None => {
                // At an entry the return address is on top, the seventh argument above it.
                let slot = 8 * (i32::from(n) - 5) + to_stack_pointer(frame);
                frame.out.asm.mov(target, qword_ptr(rsp + slot))?;
            }
        },
        Inst::Binary(op, a, b) => binary(frame, program, op, [a, b], depth, on_fault)?,
        Inst::Load {
            base,
            offset,
            width,
            signed,
        } => {
            let base = evaluate(frame, program, base, depth, on_fault)?;
            load(frame, base, target, offset, (width, signed), on_fault)?;
        }
    }
    Ok(target)
}

fn binary(
    frame: &mut Frame,
    program: &Program,
    op: BinaryOp,
    [a, b]: [Value; 2],
    depth: usize,
    on_fault: OnFault,
) -> Result<(), Unsupported> {
    let target = TEMPORARIES[depth];
    let left = evaluate(frame, program, a, depth, on_fault)?;
    if left != target {
        frame.out.asm.mov(target, left)?;
    }
    if op == BinaryOp::Shr {
        let Some(&Inst::Const(by)) = program.values.get(usize::from(b.0)) else {
            return Err(Unsupported("a shift by a variable".to_owned()));
        };
        frame.out.asm.shr(target, (by & 63) as i32)?;
        return Ok(());
    }
    let right = evaluate(frame, program, b, depth + 1, on_fault)?;
    match op {
        BinaryOp::Add => frame.out.asm.add(target, right)?,
        BinaryOp::Sub => frame.out.asm.sub(target, right)?,
        BinaryOp::And | BinaryOp::Shr => frame.out.asm.and(target, right)?,
    }
    Ok(())
}

/// Distance from the stack pointer to where the target's was.
fn to_stack_pointer(frame: &Frame) -> i32 {
    RED_ZONE + 8 * i32::try_from(frame.pushed.len()).unwrap_or(0)
}

/// A register as it was at the hit: itself, or what was saved, brought into `target`.
fn original(
    frame: &mut Frame,
    number: u8,
    target: AsmRegister64,
) -> Result<AsmRegister64, Unsupported> {
    let wanted = register(number)
        .ok_or_else(|| Unsupported(format!("register {number} cannot be read at a probe")))?;
    if wanted == rsp {
        let distance = to_stack_pointer(frame);
        frame.out.asm.lea(target, qword_ptr(rsp + distance))?;
        return Ok(target);
    }
    let Some(index) = frame
        .pushed
        .iter()
        .position(|pushed| *pushed == Some(wanted))
    else {
        return Ok(wanted);
    };
    let slot = 8 * i32::try_from(frame.pushed.len() - 1 - index).unwrap_or(0);
    frame.out.asm.mov(target, qword_ptr(rsp + slot))?;
    Ok(target)
}

fn load(
    frame: &mut Frame,
    base: AsmRegister64,
    target: AsmRegister64,
    offset: i32,
    (width, signed): (Width, bool),
    on_fault: OnFault,
) -> Result<(), Unsupported> {
    let stub = frame.out.mark();
    frame.out.next_may_fault(stub);
    let asm = &mut frame.out.asm;
    match (width, signed) {
        (Width::W8, false) => asm.movzx(target, byte_ptr(base + offset))?,
        (Width::W8, true) => asm.movsx(target, byte_ptr(base + offset))?,
        (Width::W16, false) => asm.movzx(target, word_ptr(base + offset))?,
        (Width::W16, true) => asm.movsx(target, word_ptr(base + offset))?,
        (Width::W32, false) => asm.mov(low_half(target), dword_ptr(base + offset))?,
        (Width::W32, true) => asm.movsxd(target, dword_ptr(base + offset))?,
        (Width::W64, _) => asm.mov(target, qword_ptr(base + offset))?,
    }
    frame.later(move |frame| {
        frame.out.here(stub)?;
        // The load has not written its target: the base still makes the address.
        frame.out.asm.lea(target, qword_ptr(base + offset))?;
        fault(frame, target, on_fault)
    });
    Ok(())
}

/// Leaves the address in the field, marks the field, goes on behind it.
fn fault(frame: &mut Frame, address: AsmRegister64, on_fault: OnFault) -> Result<(), Unsupported> {
    frame.out.asm.mov(on_fault.field, address)?;
    frame.out.asm.or(dword_ptr(on_fault.faults), on_fault.bit)?;
    let to_after = frame.out.to(on_fault.after);
    frame.out.asm.jmp(to_after)?;
    Ok(())
}

fn low_half(register: AsmRegister64) -> iced_x86::code_asm::AsmRegister32 {
    use iced_x86::code_asm::registers::gpr32::{r8d, r9d, r11d};
    if register == r8 {
        r8d
    } else if register == r9 {
        r9d
    } else if register == r10 {
        r10d
    } else {
        r11d
    }
}

/// Copies the string at `r11`, eight bytes at a time; a fault there goes on byte by byte, so a
/// string that ends just before an unmapped page is whole.
fn string(
    frame: &mut Frame,
    max: i32,
    offset: u32,
    environment: &Environment,
    space: Space,
    on_fault: OnFault,
) -> Result<(), Unsupported> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let base = environment.shared_block + environment.layout.ring() + offset;
    let bytes = super::body::in_block(space, ptr(rcx + r10 + u64::from(base + abi::STR_BYTES)));
    let [eight, found, whole, by_byte] = std::array::from_fn(|_| frame.out.mark());
    let asm = &mut frame.out.asm;
    asm.mov(r8, ONES)?;
    asm.xor(r10d, r10d)?;
    frame.out.here(eight)?;
    frame.out.next_may_fault(by_byte);
    let asm = &mut frame.out.asm;
    asm.mov(rdx, qword_ptr(r11 + r10))?;
    asm.mov(qword_ptr(bytes), rdx)?;
    // A byte is zero where subtracting one borrows into its high bit and it had none; the lowest
    // such byte is exact.
    asm.mov(r9, rdx)?;
    asm.sub(r9, r8)?;
    asm.not(rdx)?;
    asm.and(r9, rdx)?;
    asm.mov(rdx, r8)?;
    asm.shl(rdx, 7)?;
    asm.and(r9, rdx)?;
    let to_found = frame.out.to(found);
    frame.out.asm.jne(to_found)?;
    frame.out.asm.add(r10, 8)?;
    frame.out.asm.cmp(r10, max)?;
    let to_eight = frame.out.to(eight);
    frame.out.asm.jb(to_eight)?;
    let header = |at: u32| dword_ptr(record_field(environment, space, offset + at));
    frame
        .out
        .asm
        .mov(header(4), abi::STR_TRUNCATED.cast_signed())?;
    let to_whole = frame.out.to(whole);
    let length = frame.out.mark();
    let to_length = frame.out.to(length);
    frame.out.asm.jmp(to_length)?;
    frame.out.here(found)?;
    frame.out.asm.bsf(r9, r9)?;
    frame.out.asm.shr(r9, 3)?;
    frame.out.asm.add(r10, r9)?;
    frame.out.here(whole)?;
    frame.out.asm.mov(header(4), 0)?;
    frame.out.here(length)?;
    frame.out.asm.mov(header(0), r10d)?;
    let truncated = header(4);
    frame.later(move |frame| {
        let stub = frame.out.mark();
        let next = frame.out.mark();
        frame.out.here(by_byte)?;
        frame.out.here(next)?;
        frame.out.next_may_fault(stub);
        frame.out.asm.movzx(edx, byte_ptr(r11 + r10))?;
        frame.out.asm.mov(byte_ptr(bytes), dl)?;
        frame.out.asm.test(edx, edx)?;
        frame.out.asm.je(to_whole)?;
        frame.out.asm.add(r10, 1)?;
        frame.out.asm.cmp(r10, max)?;
        let to_next = frame.out.to(next);
        frame.out.asm.jb(to_next)?;
        frame
            .out
            .asm
            .mov(truncated, abi::STR_TRUNCATED.cast_signed())?;
        frame.out.asm.jmp(to_length)?;
        frame.out.here(stub)?;
        frame.out.asm.add(r11, r10)?;
        fault(frame, r11, on_fault)
    });
    Ok(())
}
