//! What the scan is told of a file. All addresses are link addresses; nothing in here is trusted
//! beyond what decoding it shows.

use iced_x86::{Decoder, DecoderOptions, Instruction};

/// A run of a file's bytes and the address it is linked at.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    /// Address of the first byte.
    pub start: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> Code<'a> {
    /// Offset of an address, if it lies inside.
    pub(super) fn offset(&self, addr: u64) -> Option<usize> {
        let offset = usize::try_from(addr.checked_sub(self.start)?).ok()?;
        (offset < self.bytes.len()).then_some(offset)
    }

    /// First address past the end.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// A decoder that stands at `addr`.
    pub(super) fn decoder(&self, addr: u64) -> Option<Decoder<'a>> {
        let bytes = self.bytes.get(self.offset(addr)?..)?;
        Some(Decoder::with_ip(64, bytes, addr, DecoderOptions::NONE))
    }
}

/// A file's code and what its tables say about it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Executable sections or segments; where two overlap, the first is used.
    pub code: &'a [Code<'a>],
    /// `(start, end)` of functions, sorted; `end == start` where it is unknown. Unwind entries,
    /// sized symbols (parts such as `.cold` too) and bare symbols together.
    pub functions: &'a [(u64, u64)],
    /// Every known address of code: relocation addends, data words, exported labels.
    pub pointers: &'a [u64],
    /// Where exceptions land. Kept apart because a landing pad does not make a function.
    pub landing_pads: &'a [u64],
    /// Where jump tables and pointers may lie.
    pub rodata: &'a [Code<'a>],
    /// `(start, end)` of bytes left for another tool to write, sorted and disjoint: never padding.
    pub reserved: &'a [(u64, u64)],
    /// Whether the file can be loaded anywhere: then no constant in it is an address.
    pub pie: bool,
}

impl<'a> Input<'a> {
    /// The code range that holds an address, with its number.
    pub(super) fn code_at(&self, addr: u64) -> Option<(usize, &Code<'a>)> {
        let holds = |(_, code): &(usize, &Code<'a>)| code.offset(addr).is_some();
        self.code.iter().enumerate().find(holds)
    }

    /// The first byte of `[from, to)` that is left for another tool.
    pub(super) fn first_reserved(&self, from: u64, to: u64) -> Option<u64> {
        let index = self.reserved.partition_point(|&(_, end)| end <= from);
        let &(start, _) = self.reserved.get(index)?;
        (start < to).then_some(start.max(from))
    }

    /// The first known start after `addr`.
    pub(super) fn next_start(&self, addr: u64) -> Option<u64> {
        let index = self.functions.partition_point(|&(start, _)| start <= addr);
        self.functions.get(index).map(|&(start, _)| start)
    }

    /// The start nearest at or before `addr`, with the largest end known for it.
    pub(super) fn function_at(&self, addr: u64) -> Option<(u64, u64)> {
        let index = self.functions.partition_point(|&(start, _)| start <= addr);
        let (start, _) = *self.functions.get(index.checked_sub(1)?)?;
        let same = self.functions[..index].iter().rev();
        let end = same
            .take_while(|f| f.0 == start)
            .map(|f| f.1)
            .max()
            .unwrap_or(start);
        Some((start, end))
    }
}

/// Whether an instruction starts at `addr`, by decoding from the start of its function. `None`
/// where no function is known to hold it.
pub fn boundary(input: &Input<'_>, addr: u64) -> Option<bool> {
    let (start, end) = input.function_at(addr)?;
    if end > start && addr >= end {
        return None;
    }
    boundary_from(input, start, addr)
}

/// Whether an instruction starts at `addr`, by decoding from `start`. `None` where they do not lie
/// in one range of code.
pub fn boundary_from(input: &Input<'_>, start: u64, addr: u64) -> Option<bool> {
    let (_, code) = input.code_at(addr)?;
    let mut decoder = code.decoder(start)?;
    let mut instruction = Instruction::default();
    while decoder.ip() < addr && decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return Some(false);
        }
    }
    Some(decoder.ip() == addr)
}

/// The end of the function around `addr`, where one is known.
pub fn function_end(input: &Input<'_>, addr: u64) -> Option<u64> {
    let (_, end) = input.function_at(addr)?;
    (end > addr).then_some(end)
}
