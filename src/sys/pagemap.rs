//! `/proc/PID/pagemap`: which pages of another process hold something. What it never touched is not
//! there, and reading it would give it memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::{Addr, Pid, Span, Tid};

const PAGE: u64 = 4096;
/// Bytes of an entry, and the bits that say that a page is in memory or in swap
/// (`Documentation/admin-guide/mm/pagemap.rst`).
const ENTRY: usize = 8;
const SOMEWHERE: u64 = 1 << 63 | 1 << 62;
/// Entries that are read at once: those of 64 MiB.
const ONCE: usize = 16 << 10;

/// The pages of a process.
pub struct Pages {
    file: File,
    entries: Vec<u8>,
}

impl Pages {
    /// Opens it, through a living thread.
    pub fn open(pid: Pid, tid: Tid) -> io::Result<Pages> {
        let file = File::open(format!("/proc/{pid}/task/{tid}/pagemap"))?;
        let entries = vec![0; ONCE * ENTRY];
        Ok(Pages { file, entries })
    }

    /// Appends the parts of the first pages of a span that hold something, and gives what was not
    /// looked at.
    pub fn next(&mut self, span: Span, found: &mut Vec<Span>) -> io::Result<Span> {
        let first = span.start.0 / PAGE;
        let count = span.end.0.div_ceil(PAGE).saturating_sub(first);
        let count = usize::try_from(count).unwrap_or(ONCE).min(ONCE);
        let entries = &mut self.entries[..count * ENTRY];
        self.file.read_exact_at(entries, first * ENTRY as u64)?;
        let mut page = Addr(first * PAGE);
        for entry in entries.chunks_exact(ENTRY) {
            let entry = entry.try_into().map_or(0, u64::from_le_bytes);
            let next = page + PAGE;
            if entry & SOMEWHERE != 0 {
                match found.last_mut().filter(|last| last.end == page) {
                    Some(last) => last.end = next,
                    None => found.push(Span {
                        start: page.max(span.start),
                        end: next,
                    }),
                }
            }
            page = next;
        }
        if let Some(last) = found.last_mut() {
            last.end = last.end.min(span.end);
        }
        Ok(Span {
            start: page.min(span.end),
            end: span.end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::shm::Shared;

    #[test]
    fn pages_that_were_touched_hold_something() {
        let shared = Shared::anonymous(16 * PAGE).unwrap();
        shared.store(PAGE, 1);
        shared.store(2 * PAGE + 8, 1);
        shared.store(15 * PAGE, 1);
        let own = i32::try_from(std::process::id()).unwrap();
        let mut pages = Pages::open(Pid(own), Tid(own)).unwrap();
        let at = |page: u64| Addr(shared.address() + page * PAGE);
        let all = Span::new(at(0), 16 * PAGE);
        let mut found = Vec::new();
        let rest = pages.next(all, &mut found).unwrap();
        assert!(rest.is_empty());
        let expected = [(1, 3), (15, 16)].map(|(from, to)| Span {
            start: at(from),
            end: at(to),
        });
        assert_eq!(found, expected);
    }
}
