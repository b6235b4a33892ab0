//! Jump tables: runs of entries that all lead into code. The sweep says where tables may start;
//! each is read up to the next such place, or to the first entry that leads nowhere.

use super::targets::Targets;
use super::{Code, Input};

/// No table is read further; the largest known ones have some thousand entries.
const MOST_ENTRIES: usize = 1 << 16;
/// The same for tables that an interpreter has for its instructions.
const MOST_DISTANCES: usize = 1 << 10;

/// Tables of 32-bit distances from the table's own start, as position-independent code has them.
pub(super) fn relative(input: &Input<'_>, targets: &Targets, mut bases: Vec<u64>) {
    bases.sort_unstable();
    bases.dedup();
    for (number, &base) in bases.iter().enumerate() {
        let next = bases.get(number + 1).copied().unwrap_or(u64::MAX);
        for entry in bytes_from(input, base, next)
            .chunks_exact(4)
            .take(MOST_ENTRIES)
        {
            let Ok(entry) = <[u8; 4]>::try_from(entry) else {
                break;
            };
            let to = base.wrapping_add_signed(i32::from_le_bytes(entry).into());
            let Some((map, index)) = targets.find(to) else {
                break;
            };
            map.pointer.set(index);
        }
    }
}

/// Tables of 64-bit addresses in a file that is linked to a fixed place: every aligned word of its
/// data, and whatever an operand of the form `[index*8+table]` names.
pub(super) fn absolute(input: &Input<'_>, targets: &Targets, mut bases: Vec<u64>) {
    let note = |word: &[u8]| {
        let word = <[u8; 8]>::try_from(word).map(u64::from_le_bytes);
        let (map, index) = targets.find(word.ok()?)?;
        map.pointer.set(index);
        Some(())
    };
    for data in input.rodata {
        let skew = (data.start.wrapping_neg() % 8) as usize;
        for word in data.bytes.get(skew..).unwrap_or(&[]).chunks_exact(8) {
            note(word);
        }
    }
    bases.sort_unstable();
    bases.dedup();
    for base in bases {
        for word in bytes_from(input, base, u64::MAX)
            .chunks_exact(8)
            .take(MOST_ENTRIES)
        {
            if note(word).is_none() {
                break;
            }
        }
    }
}

/// Tables of 32-bit addresses in a file that is linked to a fixed place, where an operand of the
/// form `[index*4+table]` names them. Loose 32-bit words are not taken for addresses: most that look
/// like one are numbers, and no compiler stores code addresses so.
pub(super) fn narrow(input: &Input<'_>, targets: &Targets, mut bases: Vec<u64>) {
    bases.sort_unstable();
    bases.dedup();
    for base in bases {
        let words = bytes_from(input, base, u64::MAX).chunks_exact(4);
        for word in words.take(MOST_ENTRIES) {
            let word = <[u8; 4]>::try_from(word).map(u32::from_le_bytes);
            let Some((map, index)) = word.ok().and_then(|to| targets.find(to.into())) else {
                break;
            };
            map.pointer.set(index);
        }
    }
}

/// Tables of 32-bit distances from a label of the function that reads them, as `&&case - &&first`
/// makes them in C: pairs of table and label.
pub(super) fn distances(input: &Input<'_>, targets: &Targets, mut pairs: Vec<(u64, u64)>) {
    pairs.sort_unstable();
    pairs.dedup();
    for (table, label) in pairs {
        let entries = bytes_from(input, table, u64::MAX).chunks_exact(4);
        for entry in entries.take(MOST_DISTANCES) {
            let Ok(entry) = <[u8; 4]>::try_from(entry) else {
                break;
            };
            let to = label.wrapping_add_signed(i32::from_le_bytes(entry).into());
            let Some((map, index)) = targets.find(to) else {
                break;
            };
            map.pointer.set(index);
        }
    }
}

/// The bytes of `[from, to)` as far as one range holds them.
fn bytes_from<'a>(input: &Input<'a>, from: u64, to: u64) -> &'a [u8] {
    let ranges = input.rodata.iter().chain(input.code);
    let mut holding = ranges.filter_map(|range: &Code<'a>| Some((range, range.offset(from)?)));
    let Some((range, offset)) = holding.next() else {
        return &[];
    };
    let bytes = range.bytes.get(offset..).unwrap_or(&[]);
    let len = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    &bytes[..len.min(bytes.len())]
}
