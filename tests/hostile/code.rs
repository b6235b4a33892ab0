//! Any bytes as code: the scan and the relocation, held against a second look that knows nothing
//! of theirs but the lengths of instructions.

use kptrace::analysis::{EntryFact, File, Text};
use kptrace::arch::native::relocate::{MAX_COPY, Unrelocatable, instruction_len, relocate};
use kptrace::arch::native::scan::{Code, Input, JUMP, WindowKind};

const AT: u64 = 0x40_1000;
const DETOURS: u64 = 0x4000_0000;

/// Scans code in which functions start at `starts` (offsets, in any order), each to the next.
/// Returns how many entries may take a jump.
pub fn scan(bytes: &[u8], starts: &[u16], pie: bool) -> usize {
    let mut starts: Vec<u64> = starts
        .iter()
        .map(|&start| u64::from(start))
        .filter(|&start| start < bytes.len() as u64)
        .collect();
    starts.push(0);
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([bytes.len() as u64]);
    let functions: Vec<(u64, u64)> = starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| (AT + start, AT + end))
        .collect();
    let code = [Code { start: AT, bytes }];
    let text = Text::new(Input {
        code: &code,
        functions: &functions,
        pointers: &[],
        landing_pads: &[],
        rodata: &[],
        reserved: &[],
        pie,
    });
    let facts: Vec<EntryFact> = functions
        .iter()
        .map(|&(start, end)| EntryFact {
            start,
            end,
            named: true,
        })
        .collect();
    let file = File::of(&text, &facts);
    assert_eq!(file.entries().len(), functions.len());
    let windows: Vec<(u64, u64)> = file
        .entries()
        .iter()
        .filter_map(|entry| {
            let window = entry.verdict.ok()?;
            displace(bytes, entry.addr.0, window.len, window.kind);
            Some((entry.addr.0, u64::from(window.patched())))
        })
        .collect();
    for entry in file.entries() {
        if let Some(trap) = entry.trap {
            displace(bytes, entry.addr.0, trap.len, trap.kind);
        }
    }
    let owner = |at: u64| {
        windows
            .iter()
            .find(|(start, len)| *start < at && at < start + len)
    };
    let springs = file.entries().iter().filter_map(|entry| {
        let window = entry.verdict.ok()?;
        let hole = entry.addr.0.wrapping_add_signed(window.hole.into());
        (window.kind == WindowKind::Springboard).then_some((entry.addr.0, hole))
    });
    let mut holes: Vec<u64> = Vec::new();
    for (site, hole) in springs {
        let reach = hole.wrapping_sub(site + 2).cast_signed();
        assert!((-128..128).contains(&reach), "{hole:#x} from {site:#x}");
        let inside = (AT..AT + bytes.len() as u64 - 4).contains(&hole);
        assert!(inside, "a hole at {hole:#x}");
        let own = (hole..hole + 5).all(|at| {
            let taken = windows
                .iter()
                .any(|(start, len)| (*start..start + len).contains(&at));
            let start = functions.iter().any(|&(start, _)| start == at);
            !taken && !start && holes.iter().all(|&other| !(other..other + 5).contains(&at))
        });
        assert!(own, "the hole at {hole:#x} has another owner");
        holes.push(hole);
    }
    for &(start, end) in &functions {
        assert_eq!(owner(start), None, "a start inside a window");
        let mut at = start;
        while at < end {
            let rest = &bytes[(at - AT) as usize..];
            let Some(len) = instruction_len(rest) else {
                at += 1;
                continue;
            };
            let next = at + len as u64;
            if let Some(to) = branch(&rest[..len], next) {
                let window = owner(to);
                assert_eq!(window, None, "a branch at {at:#x} to {to:#x}: {rest:02x?}");
                let hole = holes.iter().find(|&&hole| (hole..hole + 5).contains(&to));
                assert_eq!(hole, None, "a branch at {at:#x} to {to:#x}: {rest:02x?}");
            }
            at = next;
        }
    }
    // Every other address: no panic, and a window is whole.
    for offset in 0..bytes.len() as u64 {
        if let Ok(window) = text.window_at(AT + offset) {
            displace(bytes, AT + offset, window.len, window.kind);
        }
        let _ = text.trap_at(AT + offset);
    }
    windows.len()
}

/// What is displaced is whole, and its copy is right or refused.
fn displace(bytes: &[u8], at: u64, len: u8, kind: WindowKind) {
    let start = (at - AT) as usize;
    let displaced = &bytes[start..start + usize::from(len)];
    let mut offset = 0;
    while offset < displaced.len() {
        offset += instruction_len(&displaced[offset..]).expect("an instruction");
    }
    assert_eq!(offset, displaced.len());
    match kind {
        WindowKind::Padding => {
            assert!(len < JUMP && start + usize::from(JUMP) <= bytes.len());
        }
        WindowKind::Springboard => {
            assert!((1..=16).contains(&len) && start + 2 <= bytes.len());
        }
        WindowKind::Trap => assert!(len <= 15),
        WindowKind::Plain | WindowKind::Nop => assert!((JUMP..=19).contains(&len)),
    }
    copy(at, displaced);
}

/// Relocates any bytes; the crate's own second look must never find a difference.
pub fn copy(at: u64, displaced: &[u8]) {
    match relocate(at, displaced, DETOURS) {
        Ok(copy) => {
            assert!(copy.bytes.len() <= MAX_COPY);
            assert!(copy.map.is_sorted());
            assert!(copy.map.iter().all(|&(from, to)| {
                usize::from(from) < displaced.len() && usize::from(to) < copy.bytes.len()
            }));
        }
        Err(reason @ Unrelocatable::Mismatch { .. }) => {
            panic!("{displaced:02x?} at {at:#x}: {reason}")
        }
        Err(_) => {}
    }
}

/// Where a direct branch leads, read from its bytes.
fn branch(instruction: &[u8], next: u64) -> Option<u64> {
    const PREFIXES: [u8; 10] = [0xf2, 0xf3, 0x2e, 0x3e, 0x26, 0x36, 0x64, 0x65, 0x67, 0xf0];
    // With an operand-size prefix, processors disagree on the length: not this look's business.
    let start = instruction.iter().position(|b| !PREFIXES.contains(b))?;
    let rest = &instruction[start..];
    let rest = rest.strip_prefix(&[0x40]).unwrap_or(rest);
    let distance = match *rest {
        [0x70..=0x7f | 0xeb | 0xe0..=0xe3, near] => i64::from(near.cast_signed()),
        [0xe8 | 0xe9, a, b, c, d] | [0x0f, 0x80..=0x8f, a, b, c, d] | [0xc7, 0xf8, a, b, c, d] => {
            i32::from_le_bytes([a, b, c, d]).into()
        }
        _ => return None,
    };
    Some(next.wrapping_add_signed(distance))
}
