//! Free address space: near enough to what a detour refers to, clear of the heap and the loader.

use crate::base::{Addr, Span};
use crate::sys::procfs::Mapping;

/// How far a rel32 and a RIP-relative operand reach, less what an instruction adds.
const REACH: u64 = (1 << 31) - 4096;
/// Distance kept from other mappings where there is room: things grow.
const CLEAR: u64 = 16 << 20;
/// Lowest address used: `vm.mmap_min_addr` and null pointers with an offset stay below.
const LOWEST: u64 = 1 << 20;
/// End of the addresses user code has with four-level paging, less a guard page.
const HIGHEST: u64 = (1 << 47) - 4096;
/// Where absolute 32-bit operands end.
const LOW: u64 = 1 << 31;
/// Space left to the program break and the stack to grow into: as much as there is room for.
const GROWTH: [u64; 3] = [1 << 30, 1 << 28, 1 << 25];

/// What is known of a process's address space.
#[derive(Clone, Debug)]
pub struct Space {
    /// What is mapped, in order.
    mapped: Vec<Span>,
    /// Where the heap lies: from the start of the program break to its end, or to its start while
    /// it is empty.
    heap: Option<Span>,
    stack: Option<Span>,
}

impl Space {
    /// The space that these mappings leave; `start_brk` is where the program break started.
    pub fn new(maps: &[Mapping], start_brk: Option<Addr>) -> Space {
        let named = |name: &str| maps.iter().find(|m| m.path == name).map(|m| m.span);
        let heap = match (start_brk, named("[heap]")) {
            (Some(start), Some(heap)) => Some(Span {
                start: start.min(heap.start),
                end: heap.end,
            }),
            (Some(start), None) => Some(Span { start, end: start }),
            (None, heap) => heap,
        };
        Space {
            mapped: maps.iter().map(|m| m.span).collect(),
            heap,
            stack: named("[stack]"),
        }
    }

    /// Takes a span that was mapped since.
    pub fn take(&mut self, span: Span) {
        let at = self.mapped.partition_point(|m| m.start < span.start);
        self.mapped.insert(at, span);
    }

    /// What is free in `[low, high)` when the heap and the stack keep `growth` bytes to grow into.
    fn free(&self, low: u64, high: u64, growth: u64) -> Vec<Span> {
        let mut taken = self.mapped.clone();
        taken.extend(self.heap.map(|heap| Span {
            start: heap.start,
            end: heap.end + growth,
        }));
        taken.extend(self.stack.map(|stack| Span {
            start: Addr(stack.start.0.saturating_sub(growth)),
            end: stack.start,
        }));
        taken.sort_by_key(|span| span.start);
        let mut free = Vec::new();
        let mut at = low.max(LOWEST);
        let high = high.min(HIGHEST);
        for span in taken {
            let end = span.start.0.min(high);
            if at < end {
                free.push(Span {
                    start: Addr(at),
                    end: Addr(end),
                });
            }
            at = at.max(span.end.0);
        }
        if at < high {
            free.push(Span {
                start: Addr(at),
                end: Addr(high),
            });
        }
        free
    }

    /// A place for `len` bytes from which all of `span` is within reach of every byte. Prefers
    /// room to spare on both sides.
    pub fn near(&self, span: Span, len: u64) -> Option<Addr> {
        let low = span.end.0.saturating_sub(REACH);
        let high = span.start.0.saturating_add(REACH);
        let best = |growth| {
            let place = |gap: Span| {
                let spare = gap.len().checked_sub(len)?;
                // Mappings to come are placed from the top of a gap down: stay off that, but no
                // farther than need be.
                let at = if spare / 2 > CLEAR {
                    gap.end.0 - len - (spare / 2).min(REACH / 4)
                } else {
                    gap.start.0 + spare / 2
                };
                let at = at & !4095;
                (at >= gap.start.0).then_some(((spare / 2).min(CLEAR), Addr(at)))
            };
            let places = self.free(low, high, growth).into_iter().filter_map(place);
            places.max_by_key(|&(room, _)| room).map(|(_, at)| at)
        };
        GROWTH.into_iter().find_map(best)
    }

    /// A place for `len` bytes below 2 GiB.
    pub fn low(&self, len: u64) -> Option<Addr> {
        let widest = |growth| {
            let gaps = self.free(0, LOW, growth).into_iter();
            let gap = gaps.max_by_key(|gap| gap.len())?;
            let spare = gap.len().checked_sub(len)?;
            let at = (gap.start.0 + spare / 2) & !4095;
            (at >= gap.start.0).then_some(Addr(at))
        };
        GROWTH.into_iter().find_map(widest)
    }
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

    fn reaches(room: Addr, len: u64, span: Span) -> bool {
        let far = |a: u64, b: u64| a.abs_diff(b) < 1 << 31;
        far(room.0, span.end.0) && far(room.0 + len, span.start.0)
    }

    const NODE: Span = Span {
        start: Addr(0x40_0000),
        end: Addr(0x500_0000),
    };

    fn node(heap: u64) -> [Mapping; 3] {
        [
            mapping(NODE.start.0, NODE.end.0, 7, "/bin/node"),
            mapping(heap, heap + 0x100_0000, 0, "[heap]"),
            mapping(0x7f00_0000_0000, 0x7f00_1000_0000, 8, "/lib/c.so"),
        ]
    }

    #[test]
    fn a_low_program_gets_room_clear_of_its_heap_wherever_that_starts() {
        // The kernel starts the heap up to 1 GiB behind the program (arch_randomize_brk).
        for heap in (0x510_0000..0x4510_0000_u64).step_by(0x111_1000) {
            let maps = node(heap);
            let space = Space::new(&maps, Some(Addr(heap)));
            let len = 60 << 20;
            for at in [space.near(NODE, len), space.low(3 << 20)] {
                let at = at.unwrap_or_else(|| panic!("heap at {heap:#x}"));
                let place = Span::new(at, len);
                assert!(maps.iter().all(|m| !m.span.overlaps(place)), "{at}");
                let heap = maps[1].span;
                let below = at < heap.start;
                assert!(below || at.0 >= heap.end.0 + (1 << 28), "{at} {heap:?}");
            }
            assert!(reaches(space.near(NODE, len).unwrap(), len, NODE));
            assert!(space.low(3 << 20).unwrap().0 + (3 << 20) < LOW);
        }
    }

    #[test]
    fn a_heap_that_is_still_empty_keeps_its_room() {
        let maps = [mapping(NODE.start.0, NODE.end.0, 7, "/bin/node")];
        let brk = Addr(0x3000_0000);
        let space = Space::new(&maps, Some(brk));
        for at in [space.near(NODE, 4096), space.low(4096)] {
            let at = at.unwrap();
            assert!(at < brk || at.0 >= brk.0 + GROWTH[2], "{at}");
        }
    }

    #[test]
    fn a_library_gets_room_within_reach() {
        let maps = [
            mapping(0x5555_0000_0000, 0x5555_0010_0000, 7, "/bin/ls"),
            mapping(0x7f00_0000_0000, 0x7f00_1000_0000, 8, "/lib/c.so"),
            mapping(0x7ffc_0000_0000, 0x7ffc_0010_0000, 0, "[stack]"),
        ];
        let space = Space::new(&maps, None);
        for span in [maps[0].span, maps[1].span] {
            let at = space.near(span, 1 << 20).unwrap();
            assert!(reaches(at, 1 << 20, span), "{at}");
            let place = Span::new(at, 1 << 20);
            assert!(!maps.iter().any(|m| m.span.overlaps(place)));
        }
    }

    #[test]
    fn no_room_is_no_place() {
        let maps = [mapping(0, HIGHEST, 7, "/everything")];
        let space = Space::new(&maps, None);
        assert_eq!(space.near(NODE, 4096), None);
        assert_eq!(space.low(4096), None);
    }
}
