//! Writing text, in passes. While no thread of the target can run whole pages are written, many
//! sites at once; otherwise site by site. Reads each page once, so that what is about to be
//! overwritten can be compared with what should be there.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use crate::base::Addr;
use crate::sys::mem::Memory;

const PAGE: u64 = 4096;

/// Whether memory is what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// It is.
    Same,
    /// Somebody else's bytes are there.
    Foreign,
    /// Nothing is mapped there.
    Gone,
}

/// The pages of text that a batch of changes touches.
#[derive(Debug)]
pub(super) struct Text<'m> {
    memory: &'m Memory,
    /// Whether whole pages may be written: no thread can run.
    whole: bool,
    /// Whether the target may have begun another program, which we were not told yet.
    unsure: bool,
    pages: BTreeMap<u64, Option<Box<[u8; PAGE as usize]>>>,
}

impl<'m> Text<'m> {
    pub(super) fn new(memory: &'m Memory, whole: bool) -> Text<'m> {
        Text {
            memory,
            whole,
            unsure: false,
            pages: BTreeMap::new(),
        }
    }

    /// Text that is only looked at, while the target runs: nothing is read of another program.
    pub(super) fn glance(memory: &'m Memory) -> Text<'m> {
        Text {
            unsure: true,
            ..Text::new(memory, false)
        }
    }

    fn page(&mut self, number: u64) -> Option<&mut [u8; PAGE as usize]> {
        let (memory, unsure) = (self.memory, self.unsure);
        let page = self.pages.entry(number).or_insert_with(|| {
            let mut bytes = Box::new([0; PAGE as usize]);
            let (at, out) = (Addr(number * PAGE), bytes.as_mut_slice());
            let read = if unsure {
                memory.read_own(at, out)
            } else {
                memory.read(at, out)
            };
            read.ok().map(|()| bytes)
        });
        page.as_deref_mut()
    }

    /// Reads what is there; false if nothing is mapped there.
    pub(super) fn read(&mut self, at: Addr, out: &mut [u8]) -> bool {
        pieces(at, out.len()).all(|piece| {
            let page = self.page(piece.page);
            page.map(|page| out[piece.of_bytes].copy_from_slice(&page[piece.of_page]))
                .is_some()
        })
    }

    /// Compares memory with what should be there.
    pub(super) fn check(&mut self, at: Addr, expected: &[u8]) -> Check {
        for piece in pieces(at, expected.len()) {
            match self.page(piece.page) {
                None => return Check::Gone,
                Some(page) if page[piece.of_page] != expected[piece.of_bytes] => {
                    return Check::Foreign;
                }
                Some(_) => {}
            }
        }
        Check::Same
    }

    /// Writes all edits of one pass.
    pub(super) fn write<'e>(
        &mut self,
        edits: impl Iterator<Item = (Addr, &'e [u8])>,
    ) -> io::Result<()> {
        let mut dirty = Vec::new();
        for (at, bytes) in edits {
            for piece in pieces(at, bytes.len()) {
                if let Some(page) = self.page(piece.page) {
                    page[piece.of_page].copy_from_slice(&bytes[piece.of_bytes]);
                }
                if self.whole && dirty.last() != Some(&piece.page) {
                    dirty.push(piece.page);
                }
            }
            if !self.whole {
                self.memory.write(at, bytes)?;
            }
        }
        dirty.sort_unstable();
        dirty.dedup();
        for run in dirty.chunk_by(|a, b| a + 1 == *b) {
            let mut bytes = Vec::with_capacity(run.len() * PAGE as usize);
            for &number in run {
                if let Some(page) = self.page(number) {
                    bytes.extend_from_slice(page);
                }
            }
            if let Some(&first) = run.first() {
                self.memory.write(Addr(first * PAGE), &bytes)?;
            }
        }
        Ok(())
    }
}

/// The part of a range of bytes that lies in one page.
struct Piece {
    page: u64,
    of_page: Range<usize>,
    of_bytes: Range<usize>,
}

fn pieces(at: Addr, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let address = at.0.wrapping_add(done as u64);
        let offset = (address % PAGE) as usize;
        let size = (len - done).min(PAGE as usize - offset);
        let piece = Piece {
            page: address / PAGE,
            of_page: offset..offset + size,
            of_bytes: done..done + size,
        };
        done += size;
        (size > 0).then_some(piece)
    })
}
