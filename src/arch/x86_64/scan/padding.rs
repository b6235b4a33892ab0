//! Padding: bytes between functions that nobody runs or reads, no-ops, breakpoints and zeros as
//! assemblers and linkers fill gaps with. What is left for another tool is none, whatever it holds.

use iced_x86::{FlowControl, Instruction, Mnemonic};

use super::movable::is_terminator;
use super::targets::{Arrival, Targets};
use super::{Code, Input, Refusal};

/// A gap between functions that is larger is not taken for padding when it holds zeros.
const MOST_ZEROS: u64 = 64;
/// What compilers align functions and tables to, at least.
const ALIGN: u64 = 16;
/// How much of a set of targets is looked at at once.
const LOOK: u64 = 64;

/// Checks that nobody runs or reads `[from, to)`: only fillers, up to the next known start.
/// The caller checks that nothing leads into it.
pub(super) fn is_padding(
    input: &Input<'_>,
    from: u64,
    to: u64,
    function_end: u64,
) -> Result<(), Refusal> {
    let (_, code) = input.code_at(from).ok_or(Refusal::TooShort)?;
    let next = input.next_start(from - 1).unwrap_or(u64::MAX);
    let gap_end = next.min(code.end());
    let known = function_end != u64::MAX;
    let refusal = match known && function_end > from {
        true => Refusal::TerminatorInside,
        false => Refusal::TooShort,
    };
    if gap_end < to || input.first_reserved(from, to).is_some() {
        return Err(refusal);
    }
    // Zeros within a function may be data.
    let zeros_from = if known { function_end } else { from };
    match filled(code, from, to, gap_end, zeros_from) {
        true => Ok(()),
        false => Err(refusal),
    }
}

/// The unused bytes behind a function up to `next`, the next known start, as far as nothing leads
/// into them: `(start, end)`. The function's last instruction must be one that control does not
/// pass. `end == start` of the function where its end is unknown.
pub fn unused(
    input: &Input<'_>,
    targets: &Targets,
    (start, end): (u64, u64),
    next: u64,
) -> Option<(u64, u64)> {
    let (_, code) = input.code_at(start)?;
    let next = next.min(code.end());
    let known = end > start;
    if end >= next {
        return None;
    }
    let mut decoder = code.decoder(start)?;
    let mut instruction = Instruction::default();
    // Where fillers begin that follow an instruction which control does not pass.
    let mut from = None;
    while decoder.can_decode() && decoder.ip() < if known { end } else { next } {
        decoder.decode_out(&mut instruction);
        if is_filler(&instruction) {
            continue;
        }
        from = (!instruction.is_invalid() && is_terminator(&instruction))
            .then_some(instruction.next_ip());
        // Zeros decode as something: behind a terminator the rest of the gap is looked at below.
        if let (Some(from), false) = (from, known)
            && filled(code, from, next, next, u64::MAX)
        {
            break;
        }
    }
    // An instruction that runs on into the gap makes it code.
    if known && decoder.ip() != end {
        return None;
    }
    let from = from?.max(end);
    let zeros_from = if known { end } else { u64::MAX };
    let mut to = next;
    if from < next && !filled(code, from, next, next, zeros_from) {
        // Something that no table knows begins before: what lies between is there to align it.
        to = next.min(from.next_multiple_of(ALIGN));
        if !known || !filled(code, from, to, to, u64::MAX) {
            return None;
        }
    }
    untouched(input, targets, from, to)
}

/// The no-ops inside a function that nobody runs: behind an instruction that control does not pass,
/// where nothing leads. Only of a function without indirect jumps, of which every target is known.
pub fn unused_inside(
    input: &Input<'_>,
    targets: &Targets,
    (start, end): (u64, u64),
) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let Some(mut decoder) = input
        .code_at(start)
        .filter(|(_, code)| end <= code.end())
        .and_then(|(_, code)| code.decoder(start))
    else {
        return found;
    };
    let mut instruction = Instruction::default();
    // Where no-ops begin that follow an instruction which control does not pass.
    let mut from = None;
    while decoder.can_decode() && decoder.ip() < end {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() || instruction.flow_control() == FlowControl::IndirectBranch {
            return Vec::new();
        }
        if is_nop(&instruction) {
            continue;
        }
        if let Some(from) = from {
            found.extend(untouched(input, targets, from, instruction.ip()));
        }
        from = is_terminator(&instruction).then_some(instruction.next_ip());
    }
    match decoder.ip() == end {
        true => found,
        false => Vec::new(),
    }
}

/// What of `[from, to)` comes before anything that is left for another tool, and before any address
/// that control may come to.
fn untouched(input: &Input<'_>, targets: &Targets, from: u64, to: u64) -> Option<(u64, u64)> {
    if from >= to {
        return None;
    }
    let mut to = input.first_reserved(from, to).unwrap_or(to);
    for look in (from..to).step_by(LOOK as usize) {
        let end = to.min(look.saturating_add(LOOK));
        let first = |arrival: Arrival| match arrival {
            Arrival::Branch(at) | Arrival::Pointer(at) | Arrival::Start(at) => at,
        };
        // The first of one kind need not be the first of all.
        while let Some(at) = targets.first_in(look, to.min(end)).map(first) {
            to = to.min(at);
        }
    }
    (from < to).then_some((from, to))
}

/// Whether only fillers lie in `[from, to)` of a gap that ends at `gap_end`. Zeros count from
/// `zeros_from` on, and only where they fill the whole rest of the gap.
fn filled(code: &Code<'_>, from: u64, to: u64, gap_end: u64, zeros_from: u64) -> bool {
    let Some(mut decoder) = code.decoder(from) else {
        return false;
    };
    let Some(bytes) = code.offset(from).and_then(|at| code.bytes.get(at..)) else {
        return false;
    };
    let mut instruction = Instruction::default();
    let mut at = from;
    while at < to {
        let offset = usize::try_from(at - from).unwrap_or(usize::MAX);
        let rest = bytes.get(offset..);
        match rest.and_then(<[u8]>::first) {
            Some(0xcc) => at += 1,
            Some(0) => {
                let gap = usize::try_from(gap_end - at).ok();
                let gap = gap.and_then(|len| rest?.get(..len));
                return gap.is_some_and(|gap| gap.iter().all(|&byte| byte == 0))
                    && gap_end - at <= MOST_ZEROS
                    && at >= zeros_from;
            }
            Some(_) => {
                decoder.set_ip(at);
                if decoder.set_position(offset).is_err() {
                    return false;
                }
                decoder.decode_out(&mut instruction);
                if instruction.is_invalid()
                    || !is_nop(&instruction)
                    || instruction.next_ip() > gap_end
                {
                    return false;
                }
                at = instruction.next_ip();
            }
            None => return false,
        }
    }
    true
}

fn is_filler(instruction: &Instruction) -> bool {
    is_nop(instruction) || instruction.mnemonic() == Mnemonic::Int3
}

/// Whether it is a no-op of any length.
pub(super) fn is_nop(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::Next && instruction.mnemonic() == Mnemonic::Nop
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::native::scan::sweep;

    const AT: u64 = 0x1000;

    type Run = (u64, u64);

    /// What lies unused behind, or inside, the first of the functions; offsets from [`AT`].
    fn look(
        bytes: &[u8],
        functions: &[(u64, u64)],
        pointers: &[u64],
        reserved: &[(u64, u64)],
    ) -> (Option<Run>, Vec<Run>) {
        let code = [Code { start: AT, bytes }];
        let from_start = |spans: &[(u64, u64)]| -> Vec<(u64, u64)> {
            spans.iter().map(|s| (AT + s.0, AT + s.1)).collect()
        };
        let pointers: Vec<u64> = pointers.iter().map(|p| AT + p).collect();
        let input = Input {
            code: &code,
            functions: &from_start(functions),
            pointers: &pointers,
            landing_pads: &[],
            rodata: &[],
            reserved: &from_start(reserved),
            pie: true,
        };
        let targets = sweep(&input);
        let first = input.functions[0];
        let next = input.next_start(first.0).unwrap_or(u64::MAX);
        let offset = |(from, to): (u64, u64)| (from - AT, to - AT);
        let behind = unused(&input, &targets, first, next).map(offset);
        let inside = unused_inside(&input, &targets, first);
        (behind, inside.into_iter().map(offset).collect())
    }

    /// `push rbx; ret`, then so many bytes of filler, then another `ret`.
    fn between(filler: &[u8]) -> Option<(u64, u64)> {
        let bytes = [&[0x53, 0xc3][..], filler, &[0xc3]].concat();
        let next = 2 + filler.len() as u64;
        look(&bytes, &[(0, 2), (next, next + 1)], &[], &[]).0
    }

    #[test]
    fn fillers_between_functions_are_unused() {
        assert_eq!(between(&[0x90; 6]), Some((2, 8)));
        assert_eq!(between(&[0xcc; 6]), Some((2, 8)));
        assert_eq!(between(&[0; 6]), Some((2, 8)));
        assert_eq!(
            between(&[0x66, 0x0f, 0x1f, 0x44, 0, 0, 0, 0, 0]),
            Some((2, 11))
        );
        assert_eq!(between(&[0; 65]), None, "as much may be data");
        assert_eq!(between(&[0x90, 0x90, 0x50, 0x90, 0x90, 0x90]), None);
        assert_eq!(between(&[]), None);
    }

    #[test]
    fn what_comes_before_unknown_code_is_unused_up_to_its_alignment() {
        let mut filler = vec![0x90; 14];
        filler.extend([0x50, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90]);
        let bytes = [&[0x53, 0xc3][..], &filler, &[0xc3]].concat();
        let look = |at: u64| {
            let functions = [(at, 2), (23, 24)];
            look(&bytes, &functions, &[], &[]).0
        };
        assert_eq!(look(0), Some((2, 16)));
        // No terminator is known to come before it.
        assert_eq!(look(3), None);
    }

    #[test]
    fn a_function_that_does_not_end_where_its_code_does_leaves_nothing() {
        let bytes = [0x53, 0x50, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3];
        assert_eq!(look(&bytes, &[(0, 2), (7, 8)], &[], &[]).0, None);
        // mov eax, imm32 across the end
        let bytes = [0xc3, 0xb8, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3];
        assert_eq!(look(&bytes, &[(0, 2), (7, 8)], &[], &[]).0, None);
    }

    #[test]
    fn without_a_known_end_no_zeros_are_taken() {
        let size_unknown = |filler: u8| {
            let mut bytes = vec![0x53, 0xc3];
            bytes.extend([filler; 6]);
            bytes.push(0xc3);
            look(&bytes, &[(0, 0), (8, 9)], &[], &[]).0
        };
        assert_eq!(size_unknown(0x90), Some((2, 8)));
        assert_eq!(size_unknown(0), None);
    }

    #[test]
    fn targets_and_what_others_write_end_it() {
        let mut bytes = vec![0x53, 0xc3];
        bytes.extend([0x90; 70]);
        bytes.push(0xc3);
        let functions = [(0, 2), (72, 73)];
        let of = |pointers: &[u64], reserved: &[(u64, u64)]| {
            look(&bytes, &functions, pointers, reserved).0
        };
        assert_eq!(of(&[], &[]), Some((2, 72)));
        assert_eq!(of(&[69], &[]), Some((2, 69)));
        assert_eq!(of(&[9, 69], &[(8, 10)]), Some((2, 8)));
        assert_eq!(of(&[2], &[]), None);
        assert_eq!(of(&[], &[(0, 4)]), None);
    }

    #[test]
    fn inside_a_function_only_what_no_jump_can_lead_to_is_unused() {
        // ret; six no-ops; ret
        let packed = [0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3];
        let whole = [(0, 8)];
        assert_eq!(look(&packed, &whole, &[], &[]).1, [(1, 7)]);
        assert_eq!(look(&packed, &whole, &[3], &[]).1, [(1, 3)]);
        assert_eq!(look(&packed, &whole, &[], &[(0, 11)]).1, []);
        // inc eax first: control runs on into them
        let through = [0xff, 0xc0, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3];
        assert_eq!(look(&through, &whole, &[], &[]).1, []);
        // jmp rax: who knows where
        let anywhere = [0xff, 0xe0, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3];
        assert_eq!(look(&anywhere, &whole, &[], &[]).1, []);
    }
}
