//! Which instructions may run from another place. The only place where this is decided; the
//! relocation relies on it.

use iced_x86::{Code, FlowControl, Instruction, OpKind, Register};

use super::Unmovable;

/// Why an instruction cannot be displaced, if it cannot.
pub(super) fn unmovable(instruction: &Instruction) -> Option<Unmovable> {
    let i = instruction;
    if i.memory_base() == Register::EIP {
        return Some(Unmovable::Eip);
    }
    match i.flow_control() {
        FlowControl::Next | FlowControl::Exception => match i.code() {
            Code::Enterq_imm16_imm8 | Code::Enterw_imm16_imm8 => Some(Unmovable::Enter),
            _ => None,
        },
        FlowControl::Interrupt => Some(Unmovable::Interrupt),
        FlowControl::XbeginXabortXend => Some(Unmovable::Transaction),
        FlowControl::Return if !is_near_return(i.code()) => Some(Unmovable::Far),
        FlowControl::Return => None,
        FlowControl::Call if is_system_call(i.code()) => None,
        FlowControl::Call if i.is_call_far() => Some(Unmovable::Far),
        FlowControl::Call if i.near_branch_target() == i.next_ip() => Some(Unmovable::OwnAddress),
        FlowControl::IndirectCall if i.is_call_far_indirect() => Some(Unmovable::Far),
        FlowControl::IndirectCall if uses_rsp(i) => Some(Unmovable::StackCall),
        FlowControl::UnconditionalBranch if i.is_jmp_far() => Some(Unmovable::Far),
        FlowControl::IndirectBranch if i.is_jmp_far_indirect() => Some(Unmovable::Far),
        _ if matches!(i.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32) => {
            Some(Unmovable::ShortPointer)
        }
        _ => None,
    }
}

/// Whether control never goes on behind the instruction.
pub(super) fn is_terminator(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Exception => true,
        _ => instruction.code() == Code::Hlt,
    }
}

/// Whether it is `syscall` or one of its kin, which iced files under calls.
pub(super) fn is_system_call(code: Code) -> bool {
    matches!(code, Code::Syscall | Code::Sysenter)
}

/// Whether it pushes a return address.
pub(super) fn is_call(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::Call => !is_system_call(instruction.code()),
        FlowControl::IndirectCall => true,
        _ => false,
    }
}

fn is_near_return(code: Code) -> bool {
    use Code::{Retnq, Retnq_imm16, Retnw, Retnw_imm16};
    matches!(code, Retnq | Retnq_imm16 | Retnw | Retnw_imm16)
}

fn uses_rsp(instruction: &Instruction) -> bool {
    let registers = [
        instruction.op0_register(),
        instruction.memory_base(),
        instruction.memory_index(),
    ];
    registers
        .iter()
        .any(|r| r.full_register() == Register::RSP && *r != Register::None)
}
