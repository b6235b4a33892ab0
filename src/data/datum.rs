//! Bytes of records, keys and cells to values, by their types. The bytes are untrusted.

use super::record;
use super::value::{Cell, Datum};
use crate::abi;
use crate::base::Pid;
use crate::language::layout;
use crate::language::typed::{MapValue, Part, Type, Whole};
use crate::program::{self, Width};

/// Who knows what the numbers in values stand for.
pub trait Names: Send {
    /// The symbol of an address, as `name` or `name+0x1c`; hex where there is none.
    fn symbol(&mut self, pid: Pid, address: u64) -> String;
    /// One frame of a stack.
    fn frame(&mut self, pid: Pid, address: u64, mode: crate::language::typed::StackMode) -> String;
    /// A user's name.
    fn user(&mut self, uid: u32) -> String;
    /// The function of a probe, and the probe's full name, by the number that stands in values.
    fn probe(&mut self, number: u64) -> (String, String);
    /// Whether it is a string of the program's text.
    fn is_literal(&self, _: &[u8]) -> bool {
        false
    }
    /// A time of `CLOCK_MONOTONIC` in a format of `strftime`.
    fn time(&mut self, format: &str, nanos: u64) -> String;
    /// Nanoseconds since 1970 in a format of `strftime`.
    fn wall(&mut self, format: &str, nanos: u64) -> String;
}

fn word(bytes: &[u8], at: usize) -> u64 {
    record::word(bytes, at).unwrap_or(0)
}

/// The value at the start of `bytes`.
pub fn datum(ty: &Type, bytes: &[u8], pid: Pid, names: &mut dyn Names) -> Datum {
    let first = word(bytes, 0);
    match ty {
        Type::Void => Datum::Int(0),
        Type::Int { width, signed } => integer(first, *width, *signed),
        Type::Float => Datum::Float(f64::from_bits(first)),
        Type::Single => Datum::Float(f32::from_bits(first as u32).into()),
        Type::Pointer(_) | Type::Struct(_) | Type::Array { .. } => Datum::Pointer(first),
        Type::Str { max } => match text(bytes, *max) {
            // The mark may be forged: what is shown as it stands is the program's own all the same.
            Ok(bytes) if first >> 32 & u64::from(abi::STR_OWN) != 0 && names.is_literal(bytes) => {
                Datum::Literal(bytes.to_vec())
            }
            Ok(bytes) => Datum::Str(bytes.to_vec()),
            Err(address) => Datum::Fault(address),
        },
        Type::Buf { max } => match text(bytes, *max) {
            Ok(bytes) => Datum::Buf(bytes.to_vec()),
            Err(address) => Datum::Fault(address),
        },
        Type::Tuple(parts) => {
            let mut at = 0;
            let mut values = Vec::with_capacity(parts.len());
            for part in parts {
                let rest = bytes.get(at..).unwrap_or_default();
                values.push(datum(part, rest, pid, names));
                at += layout::size(part) as usize;
            }
            Datum::Tuple(values)
        }
        Type::Whole(whole) => match text(bytes, whole.size) {
            Ok(bytes) => image(whole, bytes),
            Err(address) => Datum::Fault(address),
        },
        Type::Usym => Datum::Text(names.symbol(pid, first)),
        Type::Ustack { frames, mode } => {
            let count = usize::try_from(first).unwrap_or(usize::MAX);
            let count = count.min(*frames as usize);
            let frame = |index| names.frame(pid, word(bytes, 8 + 8 * index), *mode);
            Datum::Stack(*mode, (0..count).map(frame).collect())
        }
        Type::Inet => match text(bytes, 16) {
            Ok(bytes) => Datum::Text(network(bytes)),
            Err(address) => Datum::Fault(address),
        },
        Type::Time(format) => Datum::Text(names.time(format, first)),
        Type::Username => Datum::Text(names.user(first as u32)),
        Type::Func => Datum::Text(names.probe(first).0),
        Type::ProbeName => Datum::Text(names.probe(first).1),
    }
}

/// What a copy of a structure or an array holds. Whoever made its type has bounded it.
fn image(whole: &Whole, bytes: &[u8]) -> Datum {
    let mut members = whole.members.iter().map(|part| {
        let rest = bytes.get(part.offset as usize..).unwrap_or_default();
        (part.name.clone().unwrap_or_default(), member(part, rest))
    });
    match whole.list {
        true => Datum::List(members.map(|(_, value)| value).collect()),
        false => Datum::Record(members.by_ref().collect()),
    }
}

fn member(part: &Part, bytes: &[u8]) -> Datum {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = *from;
    }
    let first = u64::from_le_bytes(first);
    match &part.ty {
        Type::Int { width, signed } => match part.bits {
            Some((at, count)) => {
                let count = u32::from(count).clamp(1, 64);
                let value = first.checked_shr(at.into()).unwrap_or(0);
                bits(value, count, *signed)
            }
            None => integer(first, *width, *signed),
        },
        Type::Float => Datum::Float(f64::from_bits(first)),
        Type::Single => Datum::Float(f32::from_bits(first as u32).into()),
        Type::Str { max } => {
            let bytes = bytes.get(..*max as usize).unwrap_or(bytes);
            let text = bytes.split(|byte| *byte == 0).next();
            Datum::Str(text.unwrap_or_default().to_vec())
        }
        Type::Whole(inner) => image(inner, bytes),
        _ => Datum::Pointer(first),
    }
}

fn integer(value: u64, width: Width, signed: bool) -> Datum {
    bits(value, width.bits(), signed)
}

/// The lowest bits of a value, 1 to 64 of them.
fn bits(value: u64, count: u32, signed: bool) -> Datum {
    let unused = 64 - count;
    if signed {
        Datum::Int(value.cast_signed() << unused >> unused)
    } else {
        Datum::Uint(value << unused >> unused)
    }
}

/// Bytes behind a length; the address where reading them faulted.
fn text(bytes: &[u8], max: u32) -> Result<&[u8], u64> {
    let head = word(bytes, 0);
    if head >> 32 & u64::from(abi::STR_FAULT) != 0 {
        return Err(word(bytes, 8));
    }
    let length = (head as u32).min(max) as usize;
    let start = abi::STR_BYTES as usize;
    Ok(bytes.get(start..start + length).unwrap_or_default())
}

fn network(bytes: &[u8]) -> String {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(four).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(sixteen) => std::net::Ipv6Addr::from(sixteen).to_string(),
        Err(_) => String::new(),
    }
}

/// The parts of a key.
pub fn key(types: &[Type], bytes: &[u8], pid: Pid, names: &mut dyn Names) -> Vec<Datum> {
    match datum(&Type::Tuple(types.to_vec()), bytes, pid, names) {
        Datum::Tuple(parts) => parts,
        other => vec![other],
    }
}

fn whole(value: u64, signed: bool) -> Datum {
    integer(value, Width::W64, signed)
}

/// What the words of a cell hold.
pub fn cell(value: &MapValue, words: &[u64], pid: Pid, names: &mut dyn Names) -> Cell {
    let at = |index: usize| words.get(index).copied().unwrap_or(0);
    match *value {
        MapValue::Plain(ref ty) => {
            let bytes: Vec<u8> = words.iter().skip(1).flat_map(|w| w.to_le_bytes()).collect();
            Cell::Value(datum(ty, &bytes, pid, names))
        }
        MapValue::Count => Cell::Number(whole(at(0), true)),
        MapValue::Sum { signed } => Cell::Number(whole(at(1), signed)),
        MapValue::Min { signed } => {
            let stored = program::Cell::Least { signed }.stored(at(0));
            Cell::Number(whole(if at(1) == 0 { 0 } else { stored }, signed))
        }
        MapValue::Max { signed } => {
            let stored = program::Cell::Greatest { signed }.stored(at(0));
            Cell::Number(whole(if at(1) == 0 { 0 } else { stored }, signed))
        }
        MapValue::Avg { signed } => Cell::Avg {
            count: at(0),
            total: whole(at(1), signed),
        },
        MapValue::Stats { signed } => Cell::Stats {
            count: at(0),
            total: whole(at(1), signed),
        },
        MapValue::Hist { bits } => Cell::Hist {
            bits,
            buckets: words.to_vec(),
        },
        MapValue::Lhist { min, max, step } => Cell::Lhist {
            min,
            max,
            step,
            buckets: words.to_vec(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Names for Nobody {
        fn symbol(&mut self, _: Pid, address: u64) -> String {
            format!("{address:#x}")
        }
        fn frame(&mut self, _: Pid, address: u64, _: crate::language::typed::StackMode) -> String {
            format!("{address:#x}")
        }
        fn user(&mut self, uid: u32) -> String {
            uid.to_string()
        }
        fn probe(&mut self, number: u64) -> (String, String) {
            (number.to_string(), number.to_string())
        }
        fn time(&mut self, _: &str, nanos: u64) -> String {
            nanos.to_string()
        }
        fn wall(&mut self, _: &str, nanos: u64) -> String {
            nanos.to_string()
        }
    }

    fn read(ty: &Type, bytes: &[u8]) -> Datum {
        datum(ty, bytes, Pid(1), &mut Nobody)
    }

    #[test]
    fn a_length_or_a_number_of_frames_beyond_its_room_is_cut() {
        let bytes = [0xff; 16];
        let string = Type::Str { max: 8 };
        // The flag of a fault is set as well: the address follows.
        assert_eq!(read(&string, &bytes), Datum::Fault(u64::MAX));
        let mut bytes = [0xff; 16];
        bytes[4..8].fill(0);
        assert_eq!(read(&string, &bytes), Datum::Str(vec![0xff; 8]));
        assert_eq!(read(&string, &[]), Datum::Str(Vec::new()));
        let stack = Type::Ustack {
            frames: 1,
            mode: crate::language::typed::StackMode::Raw,
        };
        let Datum::Stack(_, frames) = read(&stack, &[0xff; 16]) else {
            panic!("a stack");
        };
        assert_eq!(frames.len(), 1);
    }

    #[test]
    fn integers_are_cut_and_extended_by_their_type() {
        let of = |width, signed| Type::Int { width, signed };
        let bytes = 0xffff_fff0_u64.to_le_bytes();
        assert_eq!(read(&of(Width::W32, true), &bytes), Datum::Int(-16));
        assert_eq!(read(&of(Width::W8, false), &bytes), Datum::Uint(0xf0));
        assert_eq!(read(&of(Width::W64, true), &bytes), Datum::Int(0xffff_fff0));
    }

    #[test]
    fn a_network_address_is_as_long_as_it_says() {
        let mut bytes = vec![4, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1];
        bytes.resize(24, 0);
        assert_eq!(read(&Type::Inet, &bytes), Datum::Text("127.0.0.1".into()));
        bytes[0] = 16;
        bytes[8..24].fill(0);
        bytes[23] = 1;
        assert_eq!(read(&Type::Inet, &bytes), Datum::Text("::1".into()));
    }

    #[test]
    fn a_minimum_is_told_as_it_was_put_in() {
        let kind = program::Cell::Least { signed: true };
        let stored = kind.stored((-5_i64).cast_unsigned());
        let shown = cell(
            &MapValue::Min { signed: true },
            &[stored, 1],
            Pid(1),
            &mut Nobody,
        );
        assert_eq!(shown, Cell::Number(Datum::Int(-5)));
    }
}
