//! Free address space: near enough to what a detour refers to, clear of the heap and the loader.

use crate::base::{Addr, Span};
use crate::sys::procfs::Mapping;

/// How far a rel32 and a RIP-relative operand reach, less what a slab itself may span.
const REACH: u64 = (1 << 31) - (64 << 20);
/// Distance kept from other mappings where there is room: things grow.
const CLEAR: u64 = 16 << 20;
/// Lowest address used: `vm.mmap_min_addr` and null pointers with an offset stay below.
const LOWEST: u64 = 1 << 20;
/// End of the addresses user code has with four-level paging, less a guard page.
const HIGHEST: u64 = (1 << 47) - 4096;
/// Space left to the program break behind a program that lies low.
const BREAK: u64 = 1 << 30;

/// A place found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room(pub Addr);

/// The gaps between mappings, in order.
fn gaps(maps: &[Mapping]) -> impl Iterator<Item = Span> + '_ {
    let starts = maps
        .iter()
        .map(|m| m.span.start.0)
        .filter(|&s| s < HIGHEST)
        .chain([HIGHEST]);
    let ends = [LOWEST]
        .into_iter()
        .chain(maps.iter().map(|m| m.span.end.0));
    ends.zip(starts)
        .filter(|(end, start)| end < start)
        .map(|(end, start)| Span {
            start: Addr(end),
            end: Addr(start),
        })
}

/// Whether a gap begins where the program break may grow: behind `[heap]`, or behind a program's
/// last mapping.
fn grows_from_below(maps: &[Mapping], gap: Span) -> bool {
    maps.iter()
        .any(|m| m.span.end == gap.start && (m.path == "[heap]" || is_program(maps, m)))
}

fn is_program(maps: &[Mapping], mapping: &Mapping) -> bool {
    // The program is the first file mapped below the break; its bss may have no name.
    let Some(first) = maps.iter().find(|m| m.inode != 0) else {
        return false;
    };
    let far = mapping.span.start.0.saturating_sub(first.span.start.0) > REACH;
    !far && (mapping.inode == first.inode || mapping.path.is_empty())
}

/// A place for `len` bytes from which all of `span` is within reach of every byte. Prefers room to
/// spare on both sides, keeps off the break and the stack.
pub fn near(maps: &[Mapping], span: Span, len: u64) -> Option<Room> {
    let low = span.end.0.saturating_sub(REACH).max(LOWEST);
    let high = span.start.0.saturating_add(REACH).min(HIGHEST);
    let mut best: Option<(u64, u64)> = None;
    for gap in gaps(maps) {
        let mut start = gap.start.0;
        let mut end = gap.end.0;
        if grows_from_below(maps, gap) {
            start = start.saturating_add(BREAK);
        }
        if maps
            .iter()
            .any(|m| m.span.start == gap.end && m.path == "[stack]")
        {
            end = end.saturating_sub(BREAK);
        }
        start = start.max(low);
        end = end.min(high);
        let Some(spare) = end
            .checked_sub(start)
            .and_then(|size| size.checked_sub(len))
        else {
            continue;
        };
        // Middle of what is left, but no farther from the neighbours than need be.
        let at = if spare / 2 > CLEAR && end == gap.end.0 {
            end - len - (spare / 2).min(REACH / 4)
        } else {
            start + spare / 2
        };
        let at = at & !4095;
        if at < gap.start.0 || at + len > gap.end.0 {
            continue;
        }
        let score = (spare / 2).min(CLEAR);
        if best.is_none_or(|(other, _)| score > other) {
            best = Some((score, at));
        }
    }
    best.map(|(_, at)| Room(Addr(at)))
}

/// A place for `len` bytes below 2 GiB, where absolute 32-bit operands reach.
pub fn low_room(maps: &[Mapping], len: u64) -> Option<Room> {
    let limit = 1 << 31;
    let mut best: Option<(u64, u64)> = None;
    for gap in gaps(maps) {
        let end = gap.end.0.min(limit);
        let mut start = gap.start.0;
        if grows_from_below(maps, gap) {
            start = start.saturating_add(BREAK);
        }
        let Some(spare) = end
            .checked_sub(start)
            .and_then(|size| size.checked_sub(len))
        else {
            continue;
        };
        let at = (start + spare / 2) & !4095;
        if at >= gap.start.0 && best.is_none_or(|(other, _)| spare > other) {
            best = Some((spare, at));
        }
    }
    best.map(|(_, at)| Room(Addr(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, inode: u64, path: &str) -> Mapping {
        Mapping {
            span: Span {
                start: Addr(start),
                end: Addr(end),
            },
            read: true,
            write: false,
            exec: true,
            shared: false,
            offset: 0,
            device: 0,
            inode,
            path: path.to_owned(),
            deleted: false,
        }
    }

    fn reaches(room: Room, len: u64, span: Span) -> bool {
        let far = |a: u64, b: u64| a.abs_diff(b) < 1 << 31;
        far(room.0.0, span.end.0) && far(room.0.0 + len, span.start.0)
    }

    #[test]
    fn a_low_program_keeps_its_break() {
        let maps = [
            mapping(0x40_0000, 0x500_0000, 7, "/bin/node"),
            mapping(0x600_0000, 0x700_0000, 0, "[heap]"),
            mapping(0x7f00_0000_0000, 0x7f00_1000_0000, 8, "/lib/c.so"),
        ];
        let program = Span {
            start: Addr(0x40_0000),
            end: Addr(0x500_0000),
        };
        let room = near(&maps, program, 12 << 20).unwrap();
        assert!(reaches(room, 12 << 20, program));
        assert!(room.0.0 >= 0x700_0000 + BREAK, "{}", room.0);
        let low = low_room(&maps, 1 << 20).unwrap();
        assert!(
            low.0.0 >= 0x700_0000 + BREAK && low.0.0 < 1 << 31,
            "{}",
            low.0
        );
    }

    #[test]
    fn a_library_gets_room_within_reach() {
        let maps = [
            mapping(0x5555_0000_0000, 0x5555_0010_0000, 7, "/bin/ls"),
            mapping(0x7f00_0000_0000, 0x7f00_1000_0000, 8, "/lib/c.so"),
            mapping(0x7ffc_0000_0000, 0x7ffc_0010_0000, 0, "[stack]"),
        ];
        for span in [maps[0].span, maps[1].span] {
            let room = near(&maps, span, 1 << 20).unwrap();
            assert!(reaches(room, 1 << 20, span), "{}", room.0);
            assert!(
                !maps
                    .iter()
                    .any(|m| m.span.overlaps(Span::new(room.0, 1 << 20)))
            );
        }
    }

    #[test]
    fn no_room_is_no_place() {
        let maps = [mapping(0, HIGHEST, 7, "/everything")];
        assert_eq!(near(&maps, Span::new(Addr(0x40_0000), 4096), 4096), None);
        assert_eq!(low_room(&maps, 4096), None);
    }
}
