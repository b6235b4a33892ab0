//! The bytes of a stored analysis: little-endian, checked in full when read. Whoever changes what a
//! verdict means must change [`VERSION`].

use super::{Entry, File, Key};
use crate::arch::native::scan::{Refusal, Window, WindowKind};
use crate::base::LinkAddr;

/// Version of the format and of the rules behind the verdicts.
pub(super) const VERSION: u32 = 6;

const MAGIC: &[u8; 8] = b"kptrace\x01";
const KINDS: [WindowKind; 5] = [
    WindowKind::Plain,
    WindowKind::Padding,
    WindowKind::Nop,
    WindowKind::Trap,
    WindowKind::Springboard,
];
/// Address, size, detail, registers, hole, length, bits, refusal.
const ENTRY: usize = 8 + 8 + 4 + 2 + 2 + 1 + 1 + 1;
const KIND: u8 = (1 << 3) - 1;
const FLAGS_DEAD: u8 = 1 << 3;
const SYSCALL: u8 = 1 << 4;
const HAS_WINDOW: u8 = 1 << 5;

/// The bytes of an analysis.
pub(super) fn encode(key: &Key, file: &File) -> Vec<u8> {
    let mut out = head(key);
    out.reserve(16 + ENTRY * file.entries().len());
    out.extend((file.entries().len() as u64).to_le_bytes());
    for entry in file.entries() {
        let (window, (refusal, detail)) = match entry.verdict {
            Ok(window) => (Some(window), (0, 0)),
            Err(refusal) => (entry.trap, refusal.code()),
        };
        out.extend(entry.addr.0.to_le_bytes());
        out.extend(entry.size.to_le_bytes());
        out.extend(detail.to_le_bytes());
        out.extend(window.map_or(0, |w| w.dead_regs).to_le_bytes());
        out.extend(window.map_or(0, |w| w.hole).to_le_bytes());
        out.extend([window.map_or(0, |w| w.len), bits(window), refusal]);
    }
    let sum = checksum(&out);
    out.extend(sum.to_le_bytes());
    out
}

/// The analysis that the bytes hold; `None` for damaged or foreign bytes, or another key's.
pub(super) fn decode(key: &Key, bytes: &[u8]) -> Option<File> {
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    if checksum(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let rest = body.strip_prefix(head(key).as_slice())?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    if rest.len() != count.checked_mul(ENTRY)? {
        return None;
    }
    let entries = rest.chunks_exact(ENTRY).map(entry);
    File::from_entries(entries.collect::<Option<Vec<_>>>()?)
}

/// What precedes the entries: everything that makes an analysis belong to one file.
fn head(key: &Key) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend(key.file_size.to_le_bytes());
    out.extend(key.stamp.device.to_le_bytes());
    out.extend(key.stamp.inode.to_le_bytes());
    out.extend(key.stamp.changed.to_le_bytes());
    for id in [&key.build_id, &key.debug_id] {
        out.extend((id.len() as u64).to_le_bytes());
        out.extend(id);
    }
    out
}

fn bits(window: Option<Window>) -> u8 {
    let Some(window) = window else { return 0 };
    let kind = KINDS.iter().position(|&kind| kind == window.kind);
    let mut bits = HAS_WINDOW | kind.unwrap_or(0) as u8;
    if window.flags_dead {
        bits |= FLAGS_DEAD;
    }
    if window.syscall {
        bits |= SYSCALL;
    }
    bits
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let (addr, bytes) = bytes.split_first_chunk::<8>()?;
    let (size, bytes) = bytes.split_first_chunk::<8>()?;
    let (detail, bytes) = bytes.split_first_chunk::<4>()?;
    let (dead_regs, bytes) = bytes.split_first_chunk::<2>()?;
    let (hole, bytes) = bytes.split_first_chunk::<2>()?;
    let &[len, bits, refusal] = bytes else {
        return None;
    };
    if bits >= HAS_WINDOW << 1 {
        return None;
    }
    let window = Window {
        len,
        kind: *KINDS.get(usize::from(bits & KIND))?,
        flags_dead: bits & FLAGS_DEAD != 0,
        dead_regs: u16::from_le_bytes(*dead_regs),
        syscall: bits & SYSCALL != 0,
        hole: i16::from_le_bytes(*hole),
    };
    let fits = match window.kind {
        WindowKind::Plain | WindowKind::Nop => (5..=19).contains(&len),
        WindowKind::Padding => (1..5).contains(&len),
        WindowKind::Springboard => (1..=16).contains(&len),
        WindowKind::Trap => (1..=15).contains(&len),
    };
    let fits = fits
        && match window.kind {
            // Within reach of a short jump, and apart from it.
            WindowKind::Springboard => {
                (-126..=129).contains(&window.hole) && !(-4..=1).contains(&window.hole)
            }
            _ => window.hole == 0,
        };
    let window = match (bits & HAS_WINDOW != 0, fits) {
        (true, false) => return None,
        (has, _) => has.then_some(window),
    };
    let detail = i32::from_le_bytes(*detail);
    let trap = |w: &Window| w.kind == WindowKind::Trap;
    let (verdict, trap) = match (refusal, window) {
        (0, Some(window)) if !trap(&window) => (Ok(window), None),
        (0, _) => return None,
        (_, Some(window)) if !trap(&window) => return None,
        (kind, window) => (Err(Refusal::from_code(kind, detail)?), window),
    };
    Some(Entry {
        addr: LinkAddr(u64::from_le_bytes(*addr)),
        size: u64::from_le_bytes(*size),
        verdict,
        trap,
    })
}

/// Tells damage, not malice: the directory belongs to the user alone.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| {
        (sum ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    };
    let mut words = bytes.chunks_exact(8);
    let mut sum = bytes.len() as u64;
    for word in &mut words {
        sum = mix(sum, <[u8; 8]>::try_from(word).map_or(0, u64::from_le_bytes));
    }
    let tail = words.remainder();
    tail.iter().fold(sum, |sum, &byte| mix(sum, byte.into()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::symbols::Stamp;

    pub(in super::super) fn sample() -> (Key, File) {
        let window = |kind, len| Window {
            len,
            kind,
            flags_dead: true,
            dead_regs: 0x8001,
            syscall: false,
            hole: if kind == WindowKind::Springboard {
                -126
            } else {
                0
            },
        };
        let entry = |addr, verdict, trap| Entry {
            addr: LinkAddr(addr),
            size: addr / 2,
            verdict,
            trap,
        };
        let entries = vec![
            entry(0x10, Ok(window(WindowKind::Plain, 7)), None),
            entry(0x20, Ok(window(WindowKind::Padding, 1)), None),
            entry(
                0x30,
                Err(Refusal::BranchInto { from: Some(-3) }),
                Some(window(WindowKind::Trap, 2)),
            ),
            entry(0x40, Err(Refusal::Undecodable), None),
            entry(0x50, Ok(window(WindowKind::Springboard, 3)), None),
        ];
        let key = Key {
            build_id: vec![1, 2, 3],
            file_size: 77,
            debug_id: vec![],
            stamp: Stamp {
                device: 1,
                inode: 2,
                changed: 3,
            },
        };
        (key, File::from_entries(entries).unwrap())
    }

    #[test]
    fn what_was_stored_is_read_back() {
        let (key, file) = sample();
        assert_eq!(decode(&key, &encode(&key, &file)), Some(file));
    }

    #[test]
    fn another_files_analysis_is_not_taken() {
        let (key, file) = sample();
        let bytes = encode(&key, &file);
        let larger = Key {
            file_size: 78,
            ..key.clone()
        };
        let debug = Key {
            debug_id: vec![3],
            ..key.clone()
        };
        let other = Key {
            stamp: Stamp::default(),
            ..key.clone()
        };
        assert_eq!(decode(&other, &bytes), None);
        assert_eq!(decode(&larger, &bytes), None);
        assert_eq!(decode(&debug, &bytes), None);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let (key, file) = sample();
        let bytes = encode(&key, &file);
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 4;
            assert_eq!(decode(&key, &damaged), None, "byte {index}");
            assert_eq!(decode(&key, &bytes[..index]), None, "cut at {index}");
        }
    }

    #[test]
    fn impossible_verdicts_are_refused_even_with_a_right_checksum() {
        let (key, file) = sample();
        let bytes = encode(&key, &file);
        let first = head(&key).len() + 8;
        // a hole, and the length, of a plain window; bits; kind; refusal; address out of order
        for (offset, value) in [
            (22, 3),
            (24, 3),
            (25, 0x40),
            (25, 0x27),
            (26, 99),
            (0, 0x25),
        ] {
            let mut body = bytes[..bytes.len() - 8].to_vec();
            body[first + offset] = value;
            let sum = checksum(&body);
            body.extend(sum.to_le_bytes());
            assert_eq!(decode(&key, &body), None, "offset {offset}");
        }
    }
}
