//! Text that differs from its file, after a session that died: which bytes are that session's, by
//! what they are, and what stood there. Writes nothing.
//!
//! Files are read, in pieces, and what they hold is compared: a file that was replaced since it was
//! mapped is not believed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::base::{Addr, Span, Tid};
use crate::sys::mem::Memory;
use crate::sys::procfs::{self, Mapping};
use crate::target::Leftover;

const INT3: u8 = 0xcc;
/// `jmp rel32`.
const JUMP: u8 = 0xe9;
/// `jmp rel8`.
const SHORT: u8 = 0xeb;
/// Bytes of a jump.
const LEN: usize = 5;
/// How far a jump into our code may be from it.
const REACH: u64 = 1 << 31;
/// Detours start at multiples of this.
const ALIGN: u64 = 16;
/// A detour ends with a jump to the first instruction that it has no copy of, this far behind its
/// site at most.
const BACK: u64 = 24;
const PAGE: usize = 4096;
/// How much is compared at a time.
const PIECE: usize = 256 << 10;
const _: () = assert!(PIECE > PAGE && PIECE > 8 * LEN);

/// Bytes of a dead session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) at: Addr,
    pub(super) len: usize,
    now: [u8; LEN],
    original: [u8; LEN],
}

impl Difference {
    pub(super) fn now(&self) -> &[u8] {
        &self.now[..self.len]
    }
    pub(super) fn original(&self) -> &[u8] {
        &self.original[..self.len]
    }
    /// Whether what stood there looks like what fills the space between functions.
    pub(super) fn is_in_padding(&self) -> bool {
        let nop = matches!(self.original, [0x0f, 0x1f, ..] | [0x66, ..] | [0x90, ..]);
        let fill = self.original.iter().all(|byte| matches!(byte, 0 | 0xcc));
        self.len == LEN && (nop || fill)
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Differences {
    pub(super) ours: Vec<Difference>,
    /// Bytes that are neither the file's nor ours.
    pub(super) foreign: usize,
    /// Files that could not be compared though something there leads into our code.
    pub(super) unread: Vec<String>,
}

/// Compares all text within reach of our code with its files. `may_trap` says whether a lone
/// breakpoint that nothing else tells of is taken for ours.
pub(super) fn differences(
    tid: Tid,
    memory: &Memory,
    maps: &[Mapping],
    left: &[Leftover],
    may_trap: bool,
) -> Differences {
    let mut found = Differences::default();
    let mut known = Known {
        left,
        memory,
        may_trap,
        backs: None,
    };
    let near = |span: Span| {
        let code = left.iter().flat_map(|left| &left.code);
        code.into_iter().any(|code| {
            span.start.0 < code.end.0.saturating_add(REACH)
                && code.start.0 < span.end.0.saturating_add(REACH)
        })
    };
    let program = procfs::auxv(tid).map_or(0, |auxv| auxv.phdr);
    for mapping in maps {
        let text = mapping.exec && mapping.inode != 0 && !mapping.shared;
        if !text || !near(mapping.span) {
            continue;
        }
        match open(tid, memory, maps, mapping, program) {
            Some(file) => compare(&file, mapping, &mut known, &mut found),
            None if leads_to_us(mapping.span, &known) => found.unread.push(mapping.path.clone()),
            None => {}
        }
    }
    found
}

/// The file of a mapping, if it begins as the process has it.
fn open(
    tid: Tid,
    memory: &Memory,
    maps: &[Mapping],
    mapping: &Mapping,
    program: u64,
) -> Option<File> {
    let same = |m: &&Mapping| m.inode == mapping.inode && m.device == mapping.device;
    let mut paths = procfs::file_paths(tid, mapping);
    if maps
        .iter()
        .filter(same)
        .any(|m| m.span.contains(Addr(program)))
    {
        paths.push(PathBuf::from(format!("/proc/{tid}/exe")));
    }
    let first = maps
        .iter()
        .filter(same)
        .find(|m| m.offset == 0 && !m.write && !m.shared);
    let begins_alike = |file: &File| {
        let Some(first) = first else { return true };
        let (mut ours, mut theirs) = ([0; PAGE], [0; PAGE]);
        let got = fill(file, 0, &mut theirs);
        let text = memory.read(first.span.start, &mut ours).is_ok();
        // A program whose header is executable too may have sites there.
        text && (first.exec || ours.get(..got) == theirs.get(..got))
    };
    let files = paths.into_iter().filter_map(|path| File::open(path).ok());
    files
        .filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))
        .find(begins_alike)
}

/// Reads as much as there is; the rest stays zero, as beyond the end of a file in memory.
fn fill(file: &File, at: u64, out: &mut [u8]) -> usize {
    let mut got = 0;
    while got < out.len() {
        match file.read_at(&mut out[got..], at + got as u64) {
            Ok(more) if more > 0 => got += more,
            _ => break,
        }
    }
    got
}

fn compare(file: &File, mapping: &Mapping, known: &mut Known<'_>, found: &mut Differences) {
    let (mut now, mut original) = (vec![0; PIECE], vec![0; PIECE]);
    let Span { start, end } = mapping.span;
    // All before this is dealt with.
    let mut done = start;
    while done < end {
        // A head may lie before what differs, a tail behind it.
        let at = start.max(done - 2 * LEN as u64);
        let left = usize::try_from(end.0 - at.0).unwrap_or(usize::MAX);
        let want = left.min(PIECE);
        let (now, original) = (&mut now[..want], &mut original[..want]);
        original.fill(0);
        let got = fill(file, mapping.offset + (at.0 - start.0), original);
        // Pages wholly beyond the end of a file cannot be read, and hold nothing.
        let offset = (at.0 as usize) % PAGE;
        let there = ((got + offset).next_multiple_of(PAGE) - offset).min(want);
        let readable = got > 0 && known.memory.read(at, &mut now[..there]).is_ok();
        let there = if readable { there } else { 0 };
        let last = want == left;
        let limit = if last {
            there
        } else {
            there.min(want - 2 * LEN)
        };
        let mut index = usize::try_from(done.0 - at.0).unwrap_or(0);
        while let Some(next) = first_difference(&now[..there], &original[..there], index)
            && next < limit
        {
            index = match known.ours(at, &now[..there], &original[..there], next) {
                Some(difference) => {
                    let head = usize::try_from(difference.at.0 - at.0).unwrap_or(next);
                    found.ours.push(difference);
                    head + difference.len
                }
                None => {
                    found.foreign += 1;
                    next + 1
                }
            };
        }
        let reached = if last {
            want
        } else {
            index.max(want - 2 * LEN)
        };
        done = at + reached as u64;
    }
}

fn first_difference(now: &[u8], original: &[u8], from: usize) -> Option<usize> {
    let pairs = now.get(from..)?.iter().zip(original.get(from..)?);
    pairs
        .into_iter()
        .position(|(now, original)| now != original)
        .map(|at| from + at)
}

/// What tells our bytes from others'.
struct Known<'a> {
    left: &'a [Leftover],
    memory: &'a Memory,
    may_trap: bool,
    /// Where jumps in our code lead that leave it, in order; looked for when needed.
    backs: Option<Vec<u64>>,
}

impl Known<'_> {
    /// Whether `tail` completes a jump at `at` that leads to a detour.
    fn leads(&self, at: Addr, tail: &[u8]) -> bool {
        let Ok(tail) = <[u8; 4]>::try_from(tail) else {
            return false;
        };
        let distance = i64::from(i32::from_le_bytes(tail));
        let to = Addr((at + LEN as u64).0.wrapping_add_signed(distance));
        to.0.is_multiple_of(ALIGN) && self.left.iter().any(|left| left.is_code(to))
    }

    /// Whether a short jump at `at` leads to a jump that leads to a detour.
    fn leads_through_hole(&self, at: Addr, near: u8) -> bool {
        let distance = i64::from(near.cast_signed());
        let hole = Addr((at + 2).0.wrapping_add_signed(distance));
        let mut bytes = [0; LEN];
        self.memory.read(hole, &mut bytes).is_ok()
            && bytes[0] == JUMP
            && self.leads(hole, &bytes[1..])
    }

    /// The bytes of ours that begin at, or up to four bytes before, the difference at `next`.
    fn ours(&mut self, base: Addr, now: &[u8], original: &[u8], next: usize) -> Option<Difference> {
        let take = |head: usize, len: usize| {
            let mut difference = Difference {
                at: base + head as u64,
                len,
                now: [0; LEN],
                original: [0; LEN],
            };
            difference.now[..len].copy_from_slice(now.get(head..head + len)?);
            difference.original[..len].copy_from_slice(original.get(head..head + len)?);
            Some(difference)
        };
        // The first byte of a jump may be what the file has there.
        for head in (next.saturating_sub(LEN - 1)..=next).rev() {
            let tail = now.get(head + 1..head + LEN);
            let headed = matches!(now.get(head), Some(&(JUMP | INT3)));
            if headed && tail.is_some_and(|tail| self.leads(base + head as u64, tail)) {
                return take(head, LEN);
            }
        }
        // A springboard: two bytes that lead to a jump of ours in padding.
        for head in (next.saturating_sub(1)..=next).rev() {
            if let (Some(&(SHORT | INT3)), Some(&near)) = (now.get(head), now.get(head + 1))
                && self.leads_through_hole(base + head as u64, near)
            {
                return take(head, 2);
            }
        }
        if now.get(next) != Some(&INT3) {
            return None;
        }
        // A tail is written in one piece, or in two where a page ends in it: the session may have
        // died between them.
        let edge = PAGE - ((base + next as u64).0 as usize) % PAGE;
        if edge < LEN {
            let differs = |from: usize, to: usize| {
                now.get(next + from..next + to) != original.get(next + from..next + to)
            };
            if differs(1, edge) != differs(edge, LEN) {
                return take(next, LEN);
            }
        }
        let ours = self.may_trap || self.comes_back(base + next as u64);
        ours.then(|| take(next, 1)).flatten()
    }

    /// Whether a detour leads back behind `at`.
    fn comes_back(&mut self, at: Addr) -> bool {
        let backs = self.backs.get_or_insert_with(|| {
            let code = self.left.iter().flat_map(|left| &left.code);
            let mut backs: Vec<u64> = code.flat_map(|span| jumps(self.memory, *span)).collect();
            backs.sort_unstable();
            backs
        });
        let behind = backs.partition_point(|&to| to <= at.0);
        backs.get(behind).is_some_and(|&to| to <= at.0 + BACK)
    }
}

/// Where whatever looks like a jump in this span leads.
fn jumps(memory: &Memory, span: Span) -> Vec<u64> {
    let mut found = Vec::new();
    pieces(memory, span, |at, bytes| {
        for (offset, jump) in bytes.windows(LEN).enumerate() {
            if let [JUMP, a, b, c, d] = *jump {
                let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
                let next = at.0 + (offset + LEN) as u64;
                found.push(next.wrapping_add_signed(distance));
            }
        }
    });
    found
}

/// Whether something in a mapping leads into our code.
fn leads_to_us(span: Span, known: &Known<'_>) -> bool {
    let mut found = false;
    pieces(known.memory, span, |at, bytes| {
        found |= bytes.windows(LEN).enumerate().any(|(offset, jump)| {
            matches!(jump[0], JUMP | INT3) && known.leads(at + offset as u64, &jump[1..])
        });
    });
    found
}

/// Calls `look` with all there is to read of a span, in pieces that overlap by less than a jump.
fn pieces(memory: &Memory, span: Span, mut look: impl FnMut(Addr, &[u8])) {
    let mut bytes = vec![0; PIECE];
    let mut at = span.start;
    while at < span.end {
        let left = usize::try_from(span.end.0 - at.0).unwrap_or(usize::MAX);
        let want = left.min(PIECE);
        let got = memory.read_some(at, &mut bytes[..want]).unwrap_or(0);
        look(at, &bytes[..got]);
        at = at + if want < left { want - (LEN - 1) } else { want } as u64;
    }
}
