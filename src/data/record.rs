//! A record's bytes to argument values, by its program's layout. The bytes are untrusted.

use std::sync::Arc;

use super::event::ArgValue;
use super::stack::{Sample, StackRecord};
use crate::abi;
use crate::base::ProbeId;
use crate::program::{FieldKind, IntFormat, Record, Width};

/// How to read the records that one probe leaves by one action.
#[derive(Clone, Debug)]
pub struct Decoder {
    fields: Vec<(usize, FieldKind)>,
    size: u32,
}

/// A word of untrusted bytes.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

impl Decoder {
    /// For records of this form.
    pub fn new(record: &Record) -> Decoder {
        let (offsets, size) = record.layout();
        let fields = record
            .fields
            .iter()
            .zip(offsets)
            .map(|(f, at)| (at as usize, f.kind))
            .collect();
        Decoder { fields, size }
    }

    /// Of each action that the program leaves records by, by number.
    pub fn by_action(records: &[&Record]) -> Arc<[Option<Decoder>]> {
        let actions = records.iter().map(|record| usize::from(record.action) + 1);
        let mut decoders = vec![None; actions.max().unwrap_or(0)];
        for record in records {
            if let Some(place) = decoders.get_mut(usize::from(record.action)) {
                place.get_or_insert_with(|| Decoder::new(record));
            }
        }
        decoders.into()
    }

    /// Which probe a record's word at [`abi::REC_PROBE`] names, and which action.
    pub(super) fn split(word: u64) -> (ProbeId, u16) {
        let low = word as u32;
        let probe = low & ((1 << abi::PROBE_BITS) - 1);
        let action = u16::try_from(low >> abi::PROBE_BITS).unwrap_or(u16::MAX);
        (ProbeId(probe), action)
    }

    /// Which probe left a record, and by which action.
    pub fn source(bytes: &[u8]) -> (ProbeId, u16) {
        Decoder::split(word(bytes, abi::REC_PROBE as usize).unwrap_or(0))
    }

    /// Size of the records.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Which fields could not be read, a bit each.
    pub(super) fn faults(bytes: &[u8]) -> u32 {
        word(bytes, abi::REC_PROBE as usize).map_or(0, |word| (word >> 32) as u32)
    }

    /// Time stamp counter, 0 when none was taken.
    pub fn ticks(bytes: &[u8]) -> u64 {
        word(bytes, abi::REC_TIME as usize).unwrap_or(0)
    }

    /// Thread pointer of the thread, 0 when its block tells.
    pub fn thread(bytes: &[u8]) -> u64 {
        word(bytes, abi::REC_THREAD as usize).unwrap_or(0)
    }

    /// The values, in the order of the probe's arguments.
    pub fn values<'a>(&self, bytes: &'a [u8], out: &mut Vec<ArgValue<'a>>) {
        let faults = Decoder::faults(bytes);
        out.clear();
        for (number, &(at, kind)) in self.fields.iter().enumerate() {
            let first = word(bytes, at).unwrap_or(0);
            let value = if faults >> (number & 31) & 1 != 0 {
                ArgValue::Fault(first)
            } else {
                match kind {
                    FieldKind::Int { format, .. } => ArgValue::Int(first, format),
                    FieldKind::Str { max, .. } => {
                        let length = (first as u32 as usize).min(usize::from(max));
                        let truncated = first >> 32 & u64::from(abi::STR_TRUNCATED) != 0;
                        let from = at + abi::STR_BYTES as usize;
                        ArgValue::Str(
                            bytes.get(from..from + length).unwrap_or_default(),
                            truncated,
                        )
                    }
                    // They have readers of their own.
                    FieldKind::Stack { .. } | FieldKind::Frames { .. } => continue,
                    // Of the language's records, which have a reader of their own.
                    FieldKind::Scratch { .. } => ArgValue::Int(first, IntFormat::Hex(Width::W64)),
                }
            };
            out.push(value);
        }
    }
}

impl Decoder {
    /// The stack that the record holds, if it holds one.
    pub fn stack<'a>(&self, bytes: &'a [u8]) -> Option<StackRecord<'a>> {
        self.fields.iter().find_map(|&(at, kind)| match kind {
            FieldKind::Frames { most, .. } => {
                let count = word(bytes, at)?.min(most.into());
                let from = at + 8;
                let frames = (0..count as usize).map_while(|n| word(bytes, from + 8 * n));
                Some(StackRecord::Walked(frames.collect()))
            }
            FieldKind::Stack { most, entry } => {
                let part = |offset: u32| word(bytes, at + offset as usize);
                let length = part(abi::STACK_LENGTH)?.min(most.into()) as usize;
                let from = at + abi::STACK_BYTES as usize;
                Some(StackRecord::Copied(Sample {
                    stack_pointer: part(abi::STACK_POINTER)?,
                    frame_pointer: part(abi::STACK_FRAME)?,
                    entry,
                    stack: bytes.get(from..from + length)?,
                }))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Field, Value};

    #[test]
    fn a_length_beyond_the_field_is_cut() {
        let kind = FieldKind::Str {
            pointer: Value(0),
            max: 8,
        };
        let record = Record {
            action: 0,
            time: true,
            fields: vec![Field {
                name: "s".into(),
                kind,
            }],
        };
        let decoder = Decoder::new(&record);
        let mut bytes = vec![0xff; decoder.size() as usize];
        bytes[abi::REC_FAULTS as usize..][..4].fill(0);
        let mut values = Vec::new();
        decoder.values(&bytes, &mut values);
        assert_eq!(values, [ArgValue::Str(&[0xff; 8], true)]);
        decoder.values(&[], &mut values);
        assert_eq!(values, [ArgValue::Str(&[], false)]);
    }

    #[test]
    fn a_faulted_field_tells_its_address() {
        let kind = FieldKind::Int {
            value: Value(0),
            format: IntFormat::Hex(Width::W64),
        };
        let record = Record {
            action: 0,
            time: false,
            fields: vec![Field {
                name: "n".into(),
                kind,
            }],
        };
        let decoder = Decoder::new(&record);
        let mut bytes = vec![0; decoder.size() as usize];
        bytes[abi::REC_FAULTS as usize] = 1;
        bytes[abi::REC_FIELDS as usize] = 0x2a;
        let mut values = Vec::new();
        decoder.values(&bytes, &mut values);
        assert_eq!(values, [ArgValue::Fault(0x2a)]);
    }
}
