//! A thin layer over iced's assembler: two sections in one stream, marks that may share a place,
//! operands to be patched per site, instructions that may fault and where to go on.

use iced_x86::code_asm::{AsmRegister64, CodeAssembler, CodeLabel, ptr};
use iced_x86::{BlockEncoderOptions, Decoder, DecoderOptions, FlowControl, IcedError, Instruction};

use super::template::{Place, Section};

/// Distance kept between the sections while assembling, so that every jump from one to the other
/// is a rel32 that can be patched.
const GAP: usize = 512;

/// Something that differs from site to site. The number is the probe's index in the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patch {
    /// A displacement to which eight times the probe number is added.
    Counter(usize),
    /// A 32-bit immediate to which the probe number is added.
    Number(usize),
    /// A 32-bit immediate: the number of the probe's name.
    Name(usize),
    /// The same of its function's name.
    Function(usize),
    /// A 32-bit displacement from the instruction's end, which it ends with: the site.
    Site,
}

/// A place that can be jumped to; may be used before it is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

/// Code being assembled.
pub(super) struct Assembler {
    pub(super) asm: CodeAssembler,
    marks: Vec<(CodeLabel, Option<usize>)>,
    patches: Vec<(usize, Patch)>,
    faults: Vec<(usize, Mark)>,
    /// Instructions whose displacement leads to a mark.
    addresses: Vec<(usize, Mark)>,
    cold_from: Option<usize>,
}

/// The two sections and what is to be patched in them.
#[derive(Clone, Debug)]
pub(super) struct Assembled {
    pub(super) hot: Vec<u8>,
    pub(super) cold: Vec<u8>,
    /// Where four bytes are to be patched.
    pub(super) patches: Vec<(Place, Patch)>,
    /// Fields that lead to the other section, relative to their ends, and what they lead to.
    pub(super) crossings: Vec<(Place, Place)>,
    /// Instructions that may fault and where to go on.
    pub(super) faults: Vec<(Place, Place)>,
}

impl Assembler {
    pub(super) fn new() -> Result<Assembler, IcedError> {
        Ok(Assembler {
            asm: CodeAssembler::new(64)?,
            marks: Vec::new(),
            patches: Vec::new(),
            faults: Vec::new(),
            addresses: Vec::new(),
            cold_from: None,
        })
    }

    pub(super) fn mark(&mut self) -> Mark {
        let label = self.asm.create_label();
        self.marks.push((label, None));
        Mark(self.marks.len() - 1)
    }

    /// The label to jump to.
    pub(super) fn to(&self, mark: Mark) -> CodeLabel {
        self.marks[mark.0].0
    }

    /// Puts a mark here.
    pub(super) fn here(&mut self, mark: Mark) -> Result<(), IcedError> {
        let at = self.asm.instructions().len();
        let (label, place) = &mut self.marks[mark.0];
        self.asm.set_label(label)?;
        *place = Some(at);
        // An instruction can carry one label only; an empty one lets marks share a place.
        self.asm.zero_bytes()
    }

    /// The next instruction is to be patched for each site.
    pub(super) fn patch_next(&mut self, patch: Patch) {
        self.patches.push((self.asm.instructions().len(), patch));
    }

    /// The next instruction may fault; the thread then goes on at `mark`.
    pub(super) fn next_may_fault(&mut self, mark: Mark) {
        self.faults.push((self.asm.instructions().len(), mark));
    }

    /// The address of a mark, which may be in the other section.
    pub(super) fn address(&mut self, register: AsmRegister64, mark: Mark) -> Result<(), IcedError> {
        let label = self.to(mark);
        self.addresses.push((self.asm.instructions().len(), mark));
        self.asm.lea(register, ptr(label))
    }

    /// Everything from here on is cold.
    pub(super) fn begin_cold(&mut self) -> Result<(), IcedError> {
        self.cold_from = Some(self.asm.instructions().len());
        self.asm.db(&[0xcc; GAP])
    }

    pub(super) fn finish(mut self) -> Result<Assembled, IcedError> {
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS
            | BlockEncoderOptions::RETURN_CONSTANT_OFFSETS;
        // Empty cold part: the gap alone.
        if self.cold_from.is_none() {
            self.begin_cold()?;
        }
        // A label must be on an instruction, also one at the very end.
        self.asm.zero_bytes()?;
        let result = self.asm.assemble_options(0, options)?.inner;
        let offsets = &result.new_instruction_offsets;
        let offset_of = |index: usize| offsets.get(index).map_or(0, |&at| at as usize);
        let hot_len = self.cold_from.map_or(0, offset_of);
        let place = |at: usize| {
            if at < hot_len {
                Place {
                    section: Section::Hot,
                    offset: at,
                }
            } else if at < hot_len + GAP {
                Place {
                    section: Section::Hot,
                    offset: hot_len,
                }
            } else {
                Place {
                    section: Section::Cold,
                    offset: at - hot_len - GAP,
                }
            }
        };
        let code = result.code_buffer;
        let patches = self
            .patches
            .iter()
            .map(|&(index, patch)| {
                let constants = &result.constant_offsets[index];
                let field = match patch {
                    Patch::Counter(_) | Patch::Site => constants.displacement_offset(),
                    Patch::Number(_) | Patch::Name(_) | Patch::Function(_) => {
                        constants.immediate_offset()
                    }
                };
                (place(offset_of(index) + field), patch)
            })
            .collect();
        let faults = self
            .faults
            .iter()
            .map(|&(index, mark)| {
                (
                    place(offset_of(index)),
                    place(self.marks[mark.0].1.map_or(0, offset_of)),
                )
            })
            .collect();
        let cold_at = hot_len + GAP;
        let hot = code.get(..hot_len).unwrap_or_default().to_vec();
        let cold = code.get(cold_at..).unwrap_or_default().to_vec();
        let mut crossings = Vec::new();
        for (bytes, start) in [(&hot, 0), (&cold, cold_at)] {
            let mut decoder = Decoder::with_ip(64, bytes, start as u64, DecoderOptions::NONE);
            let mut instruction = Instruction::default();
            while decoder.can_decode() {
                decoder.decode_out(&mut instruction);
                let jumps = matches!(
                    instruction.flow_control(),
                    FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
                );
                if !jumps {
                    continue;
                }
                let field = place(instruction.next_ip() as usize - 4);
                let target = place(instruction.near_branch_target() as usize);
                if field.section != target.section {
                    crossings.push((field, target));
                }
            }
        }
        for &(index, mark) in &self.addresses {
            let displacement = result.constant_offsets[index].displacement_offset();
            let field = place(offset_of(index) + displacement);
            let target = place(self.marks[mark.0].1.map_or(0, offset_of));
            if field.section != target.section {
                crossings.push((field, target));
            }
        }
        Ok(Assembled {
            hot,
            cold,
            patches,
            crossings,
            faults,
        })
    }
}
