//! Frames whose place the unwind tables compute by reading memory: functions that align their stack and
//! keep in a slot where it was before. Knows the stack pointer and the frame pointer alone.
//!
//! Invariant: work is bounded, and what is broken or needs another register gives nothing.

use std::ops::Range;

use gimli::{
    BaseAddresses, CallFrameInstruction, CfaRule, CieOrFde, DebugFrame, EhFrame, EndianSlice,
    Evaluation, EvaluationResult, Expression, LittleEndian, Location, Register, RegisterRule,
    UnwindContext, UnwindSection, Value, X86_64,
};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Most steps of one computation.
const STEPS: u32 = 1000;
/// Most such functions of a file.
const MOST: usize = 1 << 16;

/// The functions of a file, by address, with the offsets of their entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Computed(Vec<(Range<u64>, usize)>);

/// The registers that are known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) instruction: u64,
    pub(super) stack: u64,
    pub(super) frame: u64,
}

/// A section of unwind entries: `.eh_frame`, with where it lies, or `.debug_frame`.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) at: Option<u64>,
    pub(super) bytes: &'a [u8],
}

impl<'a> Table<'a> {
    fn eh_frame(self) -> EhFrame<Slice<'a>> {
        EhFrame::new(self.bytes, LittleEndian)
    }

    fn debug_frame(self) -> DebugFrame<Slice<'a>> {
        let mut section = DebugFrame::new(self.bytes, LittleEndian);
        section.set_address_size(8);
        section
    }

    fn bases(self) -> BaseAddresses {
        BaseAddresses::default().set_eh_frame(self.at.unwrap_or(0))
    }
}

impl Computed {
    /// Looks for them.
    pub(super) fn of(table: Table<'_>) -> Computed {
        let bases = table.bases();
        match table.at {
            Some(_) => Computed::look(&table.eh_frame(), &bases),
            None => Computed::look(&table.debug_frame(), &bases),
        }
    }

    fn look<'a, S: UnwindSection<Slice<'a>>>(section: &S, bases: &BaseAddresses) -> Computed {
        let mut entries = section.entries(bases);
        let mut found = Vec::new();
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(fde) = entry else { continue };
            let Ok(fde) = fde.parse(S::cie_from_offset) else {
                continue;
            };
            let mut instructions = fde.instructions(section, bases);
            while let Ok(Some(instruction)) = instructions.next() {
                if let CallFrameInstruction::DefCfaExpression { .. } = instruction {
                    let start = fde.initial_address();
                    found.push((start..start.saturating_add(fde.len()), fde.offset()));
                    break;
                }
            }
            if found.len() == MOST {
                break;
            }
        }
        found.sort_by_key(|(range, _)| range.start);
        Computed(found)
    }

    fn entry(&self, at: u64) -> Option<usize> {
        let index = self.0.partition_point(|(range, _)| range.start <= at);
        let (range, offset) = self.0.get(index.checked_sub(1)?)?;
        range.contains(&at).then_some(*offset)
    }

    /// Whether an address is in one of them.
    pub(super) fn holds(&self, at: u64) -> bool {
        self.entry(at).is_some()
    }

    /// The caller of a frame that is at this address of the file.
    pub(super) fn step(
        &self,
        table: Table<'_>,
        at: u64,
        known: Known,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Option<Known> {
        let offset = self.entry(at)?;
        let bases = table.bases();
        match table.at {
            Some(_) => caller(&table.eh_frame(), &bases, (offset, at), known, read),
            None => caller(&table.debug_frame(), &bases, (offset, at), known, read),
        }
    }
}

/// By the entry at this offset, for this address.
fn caller<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    (offset, at): (usize, u64),
    known: Known,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Option<Known> {
    let fde = section.fde_from_offset(bases, S::Offset::from(offset), S::cie_from_offset);
    let fde = fde.ok()?;
    let encoding = fde.cie().encoding();
    let mut context = UnwindContext::new();
    let row = fde.unwind_info_for_address(section, bases, &mut context, at);
    let row = row.ok()?;
    let mut compute = |expression: Expression<Slice<'_>>, first: Option<u64>| {
        evaluate(expression.evaluation(encoding), first, known, read)
    };
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            register_of(known, *register)?.wrapping_add_signed(*offset)
        }
        CfaRule::Expression(expression) => compute(expression.get(section).ok()?, None)?,
    };
    let kept = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue) => Err(known.frame),
        Some(RegisterRule::Offset(offset)) => Ok(cfa.wrapping_add_signed(offset)),
        Some(RegisterRule::Expression(expression)) => {
            Ok(compute(expression.get(section).ok()?, Some(cfa))?)
        }
        Some(_) => return None,
    };
    let Some(RegisterRule::Offset(back)) = row.register(X86_64::RA) else {
        return None;
    };
    Some(Known {
        instruction: read(cfa.wrapping_add_signed(back)).ok()?,
        stack: cfa,
        frame: match kept {
            Ok(at) => read(at).ok()?,
            Err(same) => same,
        },
    })
}

fn register_of(known: Known, register: Register) -> Option<u64> {
    match register {
        X86_64::RSP => Some(known.stack),
        X86_64::RBP => Some(known.frame),
        X86_64::RA => Some(known.instruction),
        _ => None,
    }
}

fn evaluate(
    mut evaluation: Evaluation<Slice<'_>>,
    first: Option<u64>,
    known: Known,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Option<u64> {
    evaluation.set_max_iterations(STEPS);
    if let Some(first) = first {
        evaluation.set_initial_value(first);
    }
    let mut result = evaluation.evaluate().ok()?;
    for _ in 0..STEPS {
        result = match result {
            EvaluationResult::Complete => {
                let location = evaluation.as_result().last()?.location;
                return match location {
                    Location::Address { address } => Some(address),
                    _ => None,
                };
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = Value::Generic(register_of(known, register)?);
                evaluation.resume_with_register(value).ok()?
            }
            EvaluationResult::RequiresMemory {
                address, size: 8, ..
            } => {
                let value = Value::Generic(read(address).ok()?);
                evaluation.resume_with_memory(value).ok()?
            }
            _ => return None,
        };
    }
    None
}
