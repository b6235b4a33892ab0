//! Operations, values and effects. Values are in single assignment: each refers to earlier ones
//! only; effects happen in order. Nothing here knows registers by name, addresses or bytes.

use crate::abi;

/// Index of a value in [`Program::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u16);

/// A register of the target machine by its DWARF number (System V ABI, AMD64, figure 3.36).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegId(pub u8);

/// Width of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One byte.
    W8,
    /// Two bytes.
    W16,
    /// Four bytes.
    W32,
    /// Eight bytes.
    W64,
}

impl Width {
    /// Size in bytes.
    pub fn bytes(self) -> u32 {
        self.bits() / 8
    }
    /// Size in bits.
    pub fn bits(self) -> u32 {
        match self {
            Width::W8 => 8,
            Width::W16 => 16,
            Width::W32 => 32,
            Width::W64 => 64,
        }
    }
}

/// Wrapping 64-bit arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a & b
    And,
    /// a >> b, unsigned; b modulo 64
    Shr,
}

/// How one value is made; all values are 64 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inst {
    /// A constant.
    Const(u64),
    /// A register as it was at the hit.
    Reg(RegId),
    /// The n-th integer argument, from 0, by the platform's calling convention; valid at entries.
    Arg(u8),
    /// An operation on two earlier values.
    Binary(BinaryOp, Value, Value),
    /// `width` bytes at `base + offset` in the target, zero- or sign-extended. It may fault: the
    /// field that asked for it then says so, and the program goes on.
    Load {
        /// Address.
        base: Value,
        /// Displacement.
        offset: i32,
        /// How much to read.
        width: Width,
        /// Whether to extend the sign.
        signed: bool,
    },
}

/// How an integer field is shown. The bits above the width are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntFormat {
    /// `0x2a`
    Hex(Width),
    /// `42`
    Unsigned(Width),
    /// `-42`
    Signed(Width),
    /// `'a'`
    Char,
    /// `true`, `false`; any non-zero byte is true
    Bool,
}

/// What a field of a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// The value itself, in 8 bytes.
    Int {
        /// What is stored.
        value: Value,
        /// How it is shown.
        format: IntFormat,
    },
    /// The NUL-terminated bytes at `pointer`, at most `max`.
    Str {
        /// Where the string is in the target.
        pointer: Value,
        /// Most bytes to copy, a multiple of 8, at most 4096.
        max: u16,
    },
}

impl FieldKind {
    /// Bytes the field takes in a record; a multiple of 8.
    pub fn size(self) -> u32 {
        match self {
            FieldKind::Int { .. } => 8,
            FieldKind::Str { max, .. } => abi::STR_BYTES + u32::from(max).next_multiple_of(8),
        }
    }
}

/// A named field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// What the user called it.
    pub name: String,
    /// What it holds.
    pub kind: FieldKind,
}

/// A record: what a hit leaves in the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Whether it carries a time. Reading the clock is the whole cost of a record.
    pub time: bool,
    /// Its fields, at most 32.
    pub fields: Vec<Field>,
}

impl Record {
    /// Offset of each field from the record's start, and the record's size.
    pub fn layout(&self) -> (Vec<u32>, u32) {
        let mut at = abi::REC_FIELDS;
        let offsets = self
            .fields
            .iter()
            .map(|field| {
                let offset = at;
                at += field.kind.size();
                offset
            })
            .collect();
        (offsets, at)
    }
}

/// Something a hit does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Adds one to the probe's hit counter.
    Count,
    /// Leaves a record in the ring, or counts it as lost when there is no room.
    Record(Record),
    /// Tells the tracer that control is here, and waits until it has answered; for a moment only,
    /// since there may be none.
    Ask,
}

/// What a probe does at a hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Program {
    /// Values in single assignment.
    pub values: Vec<Inst>,
    /// What happens, in order.
    pub effects: Vec<Effect>,
}

impl Program {
    /// The program that counts and does nothing else.
    pub fn count() -> Program {
        Program {
            values: Vec::new(),
            effects: vec![Effect::Count],
        }
    }

    /// The program that asks the tracer and does nothing else.
    pub fn ask() -> Program {
        Program {
            values: Vec::new(),
            effects: vec![Effect::Ask],
        }
    }

    /// Adds a value and names it. Programs are small: a front end refuses more than 65,535 values
    /// before it lowers them.
    pub fn push(&mut self, inst: Inst) -> Value {
        let value = Value(u16::try_from(self.values.len()).unwrap_or(u16::MAX));
        self.values.push(inst);
        value
    }

    /// The record this program leaves, if it leaves one.
    pub fn record(&self) -> Option<&Record> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Record(record) => Some(record),
            Effect::Count | Effect::Ask => None,
        })
    }

    /// Checks what the back end relies on: values refer backwards, at most 32 fields, a record
    /// within [`abi::MAX_RECORD`].
    pub fn check(&self) -> Result<(), String> {
        for (index, inst) in self.values.iter().enumerate() {
            let earlier = |v: Value| usize::from(v.0) < index;
            let ok = match *inst {
                Inst::Const(_) | Inst::Reg(_) | Inst::Arg(_) => true,
                Inst::Binary(_, a, b) => earlier(a) && earlier(b),
                Inst::Load { base, .. } => earlier(base),
            };
            if !ok {
                return Err(format!("value {index} refers to a later one"));
            }
        }
        let Some(record) = self.record() else {
            return Ok(());
        };
        if record.fields.len() > 32 {
            return Err(format!(
                "{} arguments, at most 32 fit a record",
                record.fields.len()
            ));
        }
        for field in &record.fields {
            let value = match field.kind {
                FieldKind::Int { value, .. } => value,
                FieldKind::Str { pointer, max } => {
                    if max == 0 || !max.is_multiple_of(8) || max > 4096 {
                        return Err(format!("string {} of {max} bytes", field.name));
                    }
                    pointer
                }
            };
            if usize::from(value.0) >= self.values.len() {
                return Err(format!("argument {} has no value", field.name));
            }
        }
        let (_, size) = record.layout();
        if size > abi::MAX_RECORD {
            return Err(format!(
                "a record of {size} bytes, at most {} fit",
                abi::MAX_RECORD
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_refers_forward_is_refused() {
        let mut program = Program::count();
        program.push(Inst::Binary(BinaryOp::Add, Value(0), Value(1)));
        assert!(program.check().is_err());
    }

    #[test]
    fn fields_follow_the_header_without_gaps() {
        let mut program = Program::default();
        let pointer = program.push(Inst::Arg(0));
        let record = Record {
            time: true,
            fields: vec![
                Field {
                    name: "path".into(),
                    kind: FieldKind::Str { pointer, max: 64 },
                },
                Field {
                    name: "n".into(),
                    kind: FieldKind::Int {
                        value: pointer,
                        format: IntFormat::Hex(Width::W64),
                    },
                },
            ],
        };
        let (offsets, size) = record.layout();
        assert_eq!(offsets, [abi::REC_FIELDS, abi::REC_FIELDS + 72]);
        assert_eq!(size, abi::REC_FIELDS + 80);
        program.effects.push(Effect::Record(record));
        assert_eq!(program.check(), Ok(()));
    }
}
