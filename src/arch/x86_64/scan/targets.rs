//! The set of addresses where control may arrive other than by fall-through.

use super::Input;
use super::bits::Bits;

/// How far before a target a start may lie for the branch to be remembered: no window is longer.
pub(super) const NEAR: u64 = 19;

/// What is known of each byte of one code range.
pub(super) struct Map {
    pub(super) start: u64,
    len: usize,
    /// A direct branch or call leads here.
    pub(super) branch: Bits,
    /// A direct call leads here.
    pub(super) called: Bits,
    /// The file takes this address: a pointer, a jump table, an operand.
    pub(super) pointer: Bits,
    /// An exception lands here.
    pub(super) landing: Bits,
    /// A branch leads here from another function.
    pub(super) crossed: Bits,
    /// A function or symbol starts here.
    pub(super) starts: Bits,
}

impl Map {
    pub(super) fn new(start: u64, len: usize) -> Map {
        Map {
            start,
            len,
            branch: Bits::new(len),
            called: Bits::new(len),
            pointer: Bits::new(len),
            landing: Bits::new(len),
            crossed: Bits::new(len),
            starts: Bits::new(len),
        }
    }

    /// Number of an address in this range's sets.
    pub(super) fn index(&self, addr: u64) -> Option<usize> {
        let index = usize::try_from(addr.checked_sub(self.start)?).ok()?;
        (index < self.len).then_some(index)
    }

    /// Whether a start lies closely before `index`, so that a branch there may lead into a window.
    pub(super) fn near_start(&self, index: usize) -> bool {
        let from = index.saturating_sub(NEAR as usize);
        self.starts.first(from, index).is_some()
    }
}

/// Where control may arrive other than by fall-through, in one file.
pub struct Targets {
    pub(super) maps: Vec<Map>,
    /// `(target, branch)` of branches that lead closely behind a start, sorted.
    pub(super) near: Vec<(u64, u64)>,
}

/// An arrival inside a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A direct branch or call.
    Branch(u64),
    /// An address the file takes, or where an exception lands.
    Pointer(u64),
    /// A known start.
    Start(u64),
}

/// How control reaches an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// By a direct call.
    pub called: bool,
    /// Through an address the file takes.
    pub pointed: bool,
    /// By a branch from another function.
    pub crossed: bool,
    /// By an exception.
    pub landing: bool,
}

impl Targets {
    /// Nothing known yet but what the file's tables say.
    pub(super) fn new(input: &Input<'_>) -> Targets {
        let map = |code: &super::Code<'_>| Map::new(code.start, code.bytes.len());
        let targets = Targets {
            maps: input.code.iter().map(map).collect(),
            near: Vec::new(),
        };
        let each = |addrs: &mut dyn Iterator<Item = u64>, set: fn(&Map) -> &Bits| {
            for addr in addrs {
                if let Some((map, index)) = targets.find(addr) {
                    set(map).set(index);
                }
            }
        };
        each(&mut input.functions.iter().map(|f| f.0), |m| &m.starts);
        each(&mut input.pointers.iter().copied(), |m| &m.pointer);
        each(&mut input.landing_pads.iter().copied(), |m| &m.landing);
        targets
    }

    /// The range that holds an address, and the address's number in it.
    pub(super) fn find(&self, addr: u64) -> Option<(&Map, usize)> {
        self.maps
            .iter()
            .find_map(|map| Some((map, map.index(addr)?)))
    }

    /// Whether control may arrive at an address other than by fall-through.
    pub fn contains(&self, addr: u64) -> bool {
        self.first_in(addr, addr.saturating_add(1)).is_some()
    }

    /// The first arrival in `[from, to)`, of which at most 64 bytes are looked at. What users
    /// understand best comes first: a start, then a branch.
    pub fn first_in(&self, from: u64, to: u64) -> Option<Arrival> {
        let (map, index) = self.find(from)?;
        let end = index.saturating_add(usize::try_from(to.checked_sub(from)?).ok()?);
        let first = |bits: &Bits| Some(map.start + bits.first(index, end)? as u64);
        first(&map.starts)
            .map(Arrival::Start)
            .or_else(|| first(&map.branch).map(Arrival::Branch))
            .or_else(|| first(&map.pointer).map(Arrival::Pointer))
            .or_else(|| first(&map.landing).map(Arrival::Pointer))
    }

    /// Whether an address lies in the code.
    pub fn in_code(&self, addr: u64) -> bool {
        self.find(addr).is_some()
    }

    /// How control reaches an address.
    pub fn reached(&self, addr: u64) -> Reached {
        let Some((map, index)) = self.find(addr) else {
            return Reached::default();
        };
        Reached {
            called: map.called.get(index),
            pointed: map.pointer.get(index),
            crossed: map.crossed.get(index),
            landing: map.landing.get(index),
        }
    }

    /// Whether a branch from another function or an exception leads into `(from, to)`.
    pub fn entered_sideways(&self, from: u64, to: u64) -> bool {
        let Some((map, first)) = self.find(from) else {
            return false;
        };
        let len = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let end = first.saturating_add(len).min(map.len);
        let any = |bits: &Bits| {
            (first + 1..end)
                .step_by(64)
                .any(|at| bits.first(at, end).is_some())
        };
        any(&map.crossed) || any(&map.landing)
    }

    /// A branch that leads to `to`, when `to` lies closely behind a start.
    pub(super) fn source(&self, to: u64) -> Option<u64> {
        let index = self.near.partition_point(|&(target, _)| target < to);
        let &(target, from) = self.near.get(index)?;
        (target == to).then_some(from)
    }
}
