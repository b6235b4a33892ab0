//! x86-64 registers: names, numbers, the calling convention, and the state of a stopped thread.
//!
//! Knows no operating system type: `sys` fills [`Regs`]. Numbers are those of DWARF (System V ABI,
//! AMD64, figure 3.36), as [`RegId`] says.

use crate::program::{RegId, Width};

/// The stack pointer.
pub const RSP: RegId = RegId(7);
/// The instruction pointer ("return address column" in DWARF).
pub const RIP: RegId = RegId(16);

/// The eight registers with historic names, in DWARF order: 64, 32, 16 and low 8 bits.
const LEGACY: [[&str; 4]; 8] = [
    ["rax", "eax", "ax", "al"],
    ["rdx", "edx", "dx", "dl"],
    ["rcx", "ecx", "cx", "cl"],
    ["rbx", "ebx", "bx", "bl"],
    ["rsi", "esi", "si", "sil"],
    ["rdi", "edi", "di", "dil"],
    ["rbp", "ebp", "bp", "bpl"],
    ["rsp", "esp", "sp", "spl"],
];

/// Registers of the first six integer arguments (System V ABI, section 3.2.3).
const ARGUMENTS: [RegId; 6] = [RegId(5), RegId(4), RegId(1), RegId(2), RegId(8), RegId(9)];

/// A register as a user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    /// The whole register.
    pub id: RegId,
    /// How much of it, from bit 0, the name stands for.
    pub width: Width,
}

/// The register of that name, with or without `%`, in any case. `di` is all of `rdi`, as it is for
/// perf-probe and the kernel; `edi`, `dil`, `r8d`, `r8w`, `r8b` are parts. `ah` and its like, flags
/// and segment registers have no number here.
pub fn parse(name: &str) -> Option<Named> {
    let name = name.strip_prefix('%').unwrap_or(name).to_ascii_lowercase();
    let named = |id, width| Some(Named { id, width });
    if matches!(name.as_str(), "rip" | "ip") {
        return named(RIP, Width::W64);
    }
    for (id, spellings) in (0u8..).zip(LEGACY) {
        let width = match spellings.iter().position(|s| *s == name) {
            Some(0 | 2) => Width::W64,
            Some(1) => Width::W32,
            Some(_) => Width::W8,
            None => continue,
        };
        return named(RegId(id), width);
    }
    let tail = name.strip_prefix('r')?;
    let (number, width) = match tail.as_bytes().last()? {
        b'd' => (&tail[..tail.len() - 1], Width::W32),
        b'w' => (&tail[..tail.len() - 1], Width::W16),
        b'b' => (&tail[..tail.len() - 1], Width::W8),
        _ => (tail, Width::W64),
    };
    let id = match number {
        "8" => 8,
        "9" => 9,
        "10" => 10,
        "11" => 11,
        "12" => 12,
        "13" => 13,
        "14" => 14,
        "15" => 15,
        _ => return None,
    };
    named(RegId(id), width)
}

/// The 64-bit name of a register, without `%`.
pub fn name(id: RegId) -> Option<&'static str> {
    const REST: [&str; 9] = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"];
    let index = usize::from(id.0);
    match LEGACY.get(index) {
        Some(spellings) => Some(spellings[0]),
        None => REST.get(index.checked_sub(8)?).copied(),
    }
}

/// Where an integer argument is when a function is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// In a register.
    Register(RegId),
    /// On the stack, so many bytes above the stack pointer, which points to the return address.
    Stack(u32),
}

/// The place of the n-th integer argument, from 0, at an entry.
pub fn argument(n: u8) -> Argument {
    match ARGUMENTS.get(usize::from(n)) {
        Some(id) => Argument::Register(*id),
        None => Argument::Stack(8 * (u32::from(n) - 5)),
    }
}

/// The registers of a stopped thread, as far as kptrace looks at them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each field is the register of that name")]
pub struct Regs {
    pub rax: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub eflags: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    /// Number of the system call the thread is in; -1 when it is in none.
    pub orig_rax: u64,
}

impl Regs {
    /// The value of a register; `None` for a number that names none.
    pub fn get(&self, id: RegId) -> Option<u64> {
        let mut copy = *self;
        copy.slot(id).map(|slot| *slot)
    }

    /// Sets a register; `false`, and nothing set, for a number that names none.
    pub fn set(&mut self, id: RegId, value: u64) -> bool {
        match self.slot(id) {
            Some(slot) => {
                *slot = value;
                true
            }
            None => false,
        }
    }

    fn slot(&mut self, id: RegId) -> Option<&mut u64> {
        Some(match id.0 {
            0 => &mut self.rax,
            1 => &mut self.rdx,
            2 => &mut self.rcx,
            3 => &mut self.rbx,
            4 => &mut self.rsi,
            5 => &mut self.rdi,
            6 => &mut self.rbp,
            7 => &mut self.rsp,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            15 => &mut self.r15,
            16 => &mut self.rip,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_spellings_mean_whole_registers_and_intel_parts_their_width() {
        for (text, id, width) in [
            ("%di", 5, Width::W64),
            ("%rdi", 5, Width::W64),
            ("edi", 5, Width::W32),
            ("%dil", 5, Width::W8),
            ("%ax", 0, Width::W64),
            ("%al", 0, Width::W8),
            ("%dx", 1, Width::W64),
            ("%cx", 2, Width::W64),
            ("%r8", 8, Width::W64),
            ("r8d", 8, Width::W32),
            ("%r15w", 15, Width::W16),
            ("%R10B", 10, Width::W8),
            ("%sp", 7, Width::W64),
            ("%ip", 16, Width::W64),
        ] {
            let id = RegId(id);
            assert_eq!(parse(text), Some(Named { id, width }), "{text}");
        }
    }

    #[test]
    fn other_words_are_no_registers() {
        for text in [
            "", "%", "r", "rd", "r7", "r16", "r08", "r8q", "%%di", "ah", "r1\u{e9}", "\u{e9}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_register_has_a_name_that_means_it() {
        let mut regs = Regs::default();
        for id in (0..=16).map(RegId) {
            assert_eq!(name(id).and_then(parse).map(|named| named.id), Some(id));
            assert!(regs.set(id, 100 + u64::from(id.0)));
        }
        assert!((0..=16).all(|n| regs.get(RegId(n)) == Some(100 + u64::from(n))));
        assert_eq!(
            (regs.rdx, regs.rcx, regs.rbx, regs.rip),
            (101, 102, 103, 116)
        );
        assert_eq!(
            (name(RegId(17)), regs.get(RegId(17)), regs.set(RegId(17), 1)),
            (None, None, false)
        );
    }

    #[test]
    fn the_seventh_argument_lies_above_the_return_address() {
        assert_eq!(argument(0), Argument::Register(RegId(5)));
        assert_eq!(argument(3), Argument::Register(RegId(2)));
        assert_eq!(argument(5), Argument::Register(RegId(9)));
        assert_eq!(argument(6), Argument::Stack(8));
        assert_eq!(argument(255), Argument::Stack(2000));
    }
}
