//! The window at an address: what a jump there displaces, or why none can stand there.

use iced_x86::{Code, Instruction};

use super::live::dead;
use super::movable::{is_call, is_system_call, is_terminator, unmovable};
use super::padding::{is_nop, is_padding};
use super::targets::{Arrival, Targets};
use super::{Input, Refusal};

/// Bytes a jump takes.
pub const JUMP: u8 = 5;
/// Bytes a short jump takes.
pub const SHORT_JUMP: u8 = 2;
/// No jump over no-ops is taken for a sled when it leads further: no window is longer.
const MOST_SLED: u64 = 19;

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
    /// Of a springboard: how far from the window the padding lies that its short jump leads to.
    /// 0 for all other kinds, and while none is assigned.
    pub hole: i16,
}

impl Window {
    /// Bytes that no thread and no other site may stand in while a jump does: the displaced
    /// instructions or the jump, whichever is longer. For a breakpoint, its instruction.
    pub fn patched(&self) -> u8 {
        match self.kind {
            WindowKind::Trap => self.len,
            // What lies behind the short jump stays as it is; no instruction starts there.
            WindowKind::Springboard => SHORT_JUMP,
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
    /// A two-byte jump, which leads to the jump in unused padding near by.
    Springboard,
    /// No-ops, or a jump over no-ops, left for this purpose: nothing needs to run elsewhere.
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
            WindowKind::Springboard => "springboard",
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
    match sled(input, at)
        .filter(|&len| function_end.is_none_or(|end| at.saturating_add(len.into()) <= end))
    {
        Some(len) if targets.first_in(at + 1, at + u64::from(len)).is_none() => {
            let (_, code) = input.code_at(at).ok_or(Refusal::NotCode)?;
            Ok(made(code, at, len, WindowKind::Nop, false))
        }
        _ => cover(input, targets, at, function_end, JUMP),
    }
}

/// The window of a short jump at `at`, for a springboard; where that leads is decided later.
pub fn springboard(
    input: &Input<'_>,
    targets: &Targets,
    at: u64,
    function_end: Option<u64>,
) -> Result<Window, Refusal> {
    cover(input, targets, at, function_end, SHORT_JUMP)
}

/// The window of a jump that takes `jump` bytes.
fn cover(
    input: &Input<'_>,
    targets: &Targets,
    at: u64,
    function_end: Option<u64>,
    jump: u8,
) -> Result<Window, Refusal> {
    let (_, code) = input.code_at(at).ok_or(Refusal::NotCode)?;
    let mut decoder = code.decoder(at).ok_or(Refusal::NotCode)?;
    let next_start = input.next_start(at).unwrap_or(u64::MAX);
    let function_end = function_end.filter(|&end| end > at).unwrap_or(u64::MAX);
    let limit = code.end().min(next_start).min(function_end);
    let inside = |addr: u64| u8::try_from(addr - at).unwrap_or(u8::MAX);

    let mut instruction = Instruction::default();
    let (mut syscall, mut only_nops, mut terminated) = (false, true, false);
    let mut end = at;
    while end - at < jump.into() && !terminated {
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
        if is_call(&instruction) && end - at < jump.into() {
            return Err(Refusal::ReturnInside);
        }
        syscall |= is_system_call(instruction.code());
        only_nops &= is_nop(&instruction) || instruction.code() == Code::Endbr64;
        terminated = is_terminator(&instruction);
    }
    let len = inside(end);
    let mut kind = match only_nops {
        true => WindowKind::Nop,
        false => WindowKind::Plain,
    };
    if len < jump {
        is_padding(input, end, at + u64::from(jump), function_end)?;
        kind = WindowKind::Padding;
    }
    let patched = match jump {
        JUMP => len.max(JUMP),
        _ => jump,
    };
    match targets.first_in(at + 1, at + u64::from(patched)) {
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
    if jump == SHORT_JUMP {
        kind = WindowKind::Springboard;
    }
    Ok(made(code, at, len, kind, syscall))
}

/// A window with what is dead before it.
fn made(code: &super::Code<'_>, at: u64, len: u8, kind: WindowKind, syscall: bool) -> Window {
    let dead = dead(code, at);
    Window {
        len,
        kind,
        flags_dead: dead.flags,
        dead_regs: dead.registers,
        syscall,
        hole: 0,
    }
}

/// Bytes of a jump over no-ops at `at`, behind `endbr64` or not: what XRay leaves at the entry of a
/// function (`compiler-rt/lib/xray/xray_x86_64.cpp`). All of it does nothing.
fn sled(input: &Input<'_>, at: u64) -> Option<u8> {
    let (_, code) = input.code_at(at)?;
    let mut decoder = code.decoder(at)?;
    let mut instruction = decoder.decode();
    if instruction.code() == Code::Endbr64 {
        instruction = decoder.decode();
    }
    if instruction.code() != Code::Jmp_rel8_64 {
        return None;
    }
    let end = instruction.near_branch_target();
    let next_start = input.next_start(at).unwrap_or(u64::MAX);
    let behind = instruction.next_ip()..=at.saturating_add(MOST_SLED).min(next_start);
    if !behind.contains(&end) {
        return None;
    }
    while decoder.ip() < end {
        let instruction = decoder.decode();
        if instruction.is_invalid() || !is_nop(&instruction) {
            return None;
        }
    }
    let len = u8::try_from(end.checked_sub(at)?).ok()?;
    (decoder.ip() == end && len >= JUMP).then_some(len)
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
    let len = u8::try_from(instruction.len()).unwrap_or(u8::MAX);
    let syscall = is_system_call(instruction.code());
    Ok(made(code, at, len, WindowKind::Trap, syscall))
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
