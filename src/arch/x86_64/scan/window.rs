//! The window at an address: what a jump there displaces, or why none can stand there.

use iced_x86::{Code, FlowControl, Instruction, Mnemonic};

use super::live::dead;
use super::movable::{is_call, is_system_call, is_terminator, unmovable};
use super::targets::{Arrival, Targets};
use super::{Input, Refusal};

/// Bytes a jump takes.
pub const JUMP: u8 = 5;
/// A gap between functions that is larger is not taken for padding when it holds zeros.
const MOST_ZEROS: u64 = 64;

/// The displaced instructions of a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Bytes of the displaced instructions, without padding.
    pub len: u8,
    /// What they are.
    pub kind: WindowKind,
    /// All status flags are written before anything reads them.
    pub flags_dead: bool,
    /// General registers that are written before anything reads them, a bit for each DWARF number.
    pub dead_regs: u16,
    /// A `syscall` is among the displaced instructions: threads may be inside it.
    pub syscall: bool,
}

impl Window {
    /// Bytes that no thread and no other site may stand in while a jump does: the displaced
    /// instructions or the jump, whichever is longer. For a breakpoint, its instruction.
    pub fn patched(&self) -> u8 {
        match self.kind {
            WindowKind::Trap => self.len,
            _ => self.len.max(JUMP),
        }
    }
}

/// What a window is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// Whole instructions of the function cover the jump.
    Plain,
    /// Control ends before five bytes; the jump runs on into padding that nobody executes.
    Padding,
    /// A five-byte no-op, left for this purpose: nothing needs to run elsewhere.
    Nop,
    /// One instruction, for a breakpoint where no jump fits.
    Trap,
}

impl WindowKind {
    /// The word in every output.
    pub fn name(self) -> &'static str {
        match self {
            WindowKind::Plain => "plain",
            WindowKind::Padding => "padding",
            WindowKind::Nop => "nop",
            WindowKind::Trap => "trap",
        }
    }
}

/// The window of a jump at `at`, which must be the start of an instruction. `function_end` is the
/// end of the function around it, where that is known.
pub fn window(
    input: &Input<'_>,
    targets: &Targets,
    at: u64,
    function_end: Option<u64>,
) -> Result<Window, Refusal> {
    let (_, code) = input.code_at(at).ok_or(Refusal::NotCode)?;
    let mut decoder = code.decoder(at).ok_or(Refusal::NotCode)?;
    let next_start = input.next_start(at).unwrap_or(u64::MAX);
    let function_end = function_end.filter(|&end| end > at).unwrap_or(u64::MAX);
    let limit = code.end().min(next_start).min(function_end);
    let inside = |addr: u64| u8::try_from(addr - at).unwrap_or(u8::MAX);

    let mut instruction = Instruction::default();
    let (mut syscall, mut nop5, mut only_nops, mut terminated) = (false, false, true, false);
    let mut end = at;
    while end - at < JUMP.into() && !terminated {
        if end >= limit {
            return Err(match limit == next_start {
                true => Refusal::StartInside { at: inside(limit) },
                false => Refusal::TooShort,
            });
        }
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return Err(Refusal::Undecodable);
        }
        if let Some(why) = unmovable(&instruction) {
            return Err(Refusal::Unmovable(why));
        }
        end = instruction.next_ip();
        if end > limit {
            return Err(match limit == next_start {
                true => Refusal::StartInside { at: inside(limit) },
                false => Refusal::TooShort,
            });
        }
        if is_call(&instruction) && end - at < JUMP.into() {
            return Err(Refusal::ReturnInside);
        }
        syscall |= is_system_call(instruction.code());
        nop5 |= is_nop(&instruction) && instruction.len() == usize::from(JUMP);
        only_nops &= is_nop(&instruction) || instruction.code() == Code::Endbr64;
        terminated = is_terminator(&instruction);
    }
    let len = inside(end);
    let mut kind = match nop5 && only_nops {
        true => WindowKind::Nop,
        false => WindowKind::Plain,
    };
    if len < JUMP {
        is_padding(input, end, at + u64::from(JUMP), function_end)?;
        kind = WindowKind::Padding;
    }
    match targets.first_in(at + 1, at + u64::from(len.max(JUMP))) {
        None => {}
        Some(Arrival::Start(start)) => {
            return Err(Refusal::StartInside { at: inside(start) });
        }
        Some(Arrival::Pointer(to)) => return Err(Refusal::PointerInto { at: inside(to) }),
        Some(Arrival::Branch(to)) => {
            let source = targets.source(to).or_else(|| find_source(input, to));
            let from =
                source.and_then(|from| i32::try_from(from.wrapping_sub(at).cast_signed()).ok());
            return Err(Refusal::BranchInto { from });
        }
    }
    let dead = dead(code, at);
    Ok(Window {
        len,
        kind,
        flags_dead: dead.flags,
        dead_regs: dead.registers,
        syscall,
    })
}

/// The first instruction alone: what a breakpoint at `at` displaces where no jump fits.
pub fn first(input: &Input<'_>, at: u64) -> Result<Window, Refusal> {
    let (_, code) = input.code_at(at).ok_or(Refusal::NotCode)?;
    let mut decoder = code.decoder(at).ok_or(Refusal::NotCode)?;
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return Err(Refusal::Undecodable);
    }
    if let Some(why) = unmovable(&instruction) {
        return Err(Refusal::Unmovable(why));
    }
    let dead = dead(code, at);
    Ok(Window {
        len: u8::try_from(instruction.len()).unwrap_or(u8::MAX),
        kind: WindowKind::Trap,
        flags_dead: dead.flags,
        dead_regs: dead.registers,
        syscall: is_system_call(instruction.code()),
    })
}

/// Checks that nobody runs or reads `[from, to)`: only fillers, up to the next known start.
/// The caller checks that nothing leads into it.
fn is_padding(input: &Input<'_>, from: u64, to: u64, function_end: u64) -> Result<(), Refusal> {
    let (_, code) = input.code_at(from).ok_or(Refusal::TooShort)?;
    let gap_end = input
        .next_start(from - 1)
        .unwrap_or(u64::MAX)
        .min(code.end());
    let refusal = match function_end > from && function_end != u64::MAX {
        true => Refusal::TerminatorInside,
        false => Refusal::TooShort,
    };
    if gap_end < to {
        return Err(refusal);
    }
    let bytes = code
        .offset(from)
        .and_then(|offset| code.bytes.get(offset..));
    let bytes = bytes.ok_or(Refusal::TooShort)?;
    let mut decoder = code.decoder(from).ok_or(Refusal::TooShort)?;
    let mut instruction = Instruction::default();
    let mut at = from;
    while at < to {
        let rest = usize::try_from(at - from).ok().and_then(|n| bytes.get(n..));
        match rest.and_then(<[u8]>::first) {
            Some(0xcc) => at += 1,
            Some(0) => {
                // Zeros may be data: only where they fill a whole gap between functions.
                let gap = usize::try_from(gap_end - at)
                    .ok()
                    .and_then(|n| rest?.get(..n));
                let filler = gap.is_some_and(|gap| gap.iter().all(|&byte| byte == 0));
                if !filler
                    || gap_end - at > MOST_ZEROS
                    || (at < function_end && function_end != u64::MAX)
                {
                    return Err(refusal);
                }
                return Ok(());
            }
            Some(_) => {
                decoder.set_ip(at);
                let position = usize::try_from(at - from).unwrap_or(usize::MAX);
                if decoder.set_position(position).is_err() {
                    return Err(refusal);
                }
                decoder.decode_out(&mut instruction);
                if instruction.is_invalid()
                    || !is_nop(&instruction)
                    || instruction.next_ip() > gap_end
                {
                    return Err(refusal);
                }
                at = instruction.next_ip();
            }
            None => return Err(refusal),
        }
    }
    Ok(())
}

/// Whether it is a no-op of any length.
fn is_nop(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::Next && instruction.mnemonic() == Mnemonic::Nop
}

/// Looks for a branch to `to` in the function around it; only for words to the user.
fn find_source(input: &Input<'_>, to: u64) -> Option<u64> {
    let (start, _) = input.function_at(to)?;
    let (_, code) = input.code_at(to)?;
    let end = input.next_start(to).unwrap_or(u64::MAX).min(code.end());
    let mut decoder = code.decoder(start)?;
    let mut instruction = Instruction::default();
    while decoder.can_decode() && decoder.ip() < end {
        decoder.decode_out(&mut instruction);
        let branch = instruction.op0_kind() == iced_x86::OpKind::NearBranch64;
        if branch && instruction.near_branch_target() == to {
            return Some(instruction.ip());
        }
    }
    None
}
