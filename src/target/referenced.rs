//! Which activations somebody may still return to: those whose address, or their thunk's, stands in a
//! register or in writable memory of the process, as a garbage collector looks for it. Stacks may lie
//! anywhere, and may have been copied to anywhere; comparing stack pointers would not do.
//!
//! Knows nothing of what is done with the others. Nothing is written, and no page that the process
//! never touched is.

use std::io;

use super::process::Process;
use super::thread::State;
use crate::abi::{self, Activations};
use crate::base::{Addr, Span, Tid};
use crate::sys::errno::is_gone;
use crate::sys::pagemap::Pages;
use crate::sys::procfs::{self, Mapping, Where};
use crate::sys::{clock, ptrace};

/// Bytes that are looked at before the clock is.
const PIECE: usize = 256 << 10;
/// Words that are looked at together.
const GROUP: usize = 32;

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// The activations that are referred to.
    Referenced(Referenced),
    /// A blocked thread woke up meanwhile.
    Woke,
    /// There was not enough time.
    TooMuch,
}

/// Activations that somebody refers to.
#[derive(Debug)]
pub struct Referenced {
    /// Words and thunks, side by side.
    from: u64,
    words: u64,
    size: u64,
    held: Vec<bool>,
}

impl Referenced {
    fn new(activations: &Activations) -> Referenced {
        let size = u64::from(activations.size());
        let words = activations.words().start.0;
        let held = vec![false; (size / u64::from(abi::ACTIVATION)) as usize];
        let from = words.min(activations.thunks().start.0);
        Referenced {
            from,
            words,
            size,
            held,
        }
    }

    /// Whether the activation with these words is referred to.
    pub fn holds(&self, words: Addr) -> bool {
        let number = words.0.wrapping_sub(self.words) / u64::from(abi::ACTIVATION);
        let held = usize::try_from(number).ok().and_then(|n| self.held.get(n));
        held.copied().unwrap_or(true)
    }

    fn see(&mut self, word: u64) {
        let offset = word.wrapping_sub(self.from);
        if offset < 2 * self.size {
            let number = offset % self.size / u64::from(abi::ACTIVATION);
            if let Some(held) = self.held.get_mut(number as usize) {
                *held = true;
            }
        }
    }

    /// Looks at words, 8 bytes each.
    fn see_all(&mut self, bytes: &[u8]) {
        let (from, both) = (self.from, 2 * self.size);
        for group in bytes.chunks(8 * GROUP) {
            let words = || {
                let words = group.chunks_exact(8);
                words.map(|word| word.try_into().map_or(0, u64::from_le_bytes))
            };
            let any = words().fold(false, |any, word| any | (word.wrapping_sub(from) < both));
            if any {
                words().for_each(|word| self.see(word));
            }
        }
    }
}

/// Whether somebody may have kept a stack there. Looking at a device may do something.
fn may_hold(mapping: &Mapping) -> bool {
    let device = mapping.path.starts_with("/dev/")
        && !["/dev/zero", "/dev/shm/"]
            .iter()
            .any(|memory| mapping.path.starts_with(memory));
    mapping.read && mapping.write && !device
}

/// The parts of a span that are in none of `others`.
fn without(span: Span, others: &[Span]) -> Vec<Span> {
    let mut parts = vec![span];
    for other in others.iter().filter(|other| other.overlaps(span)) {
        let cut = |part: Span| {
            let before = Span {
                start: part.start,
                end: part.end.min(other.start),
            };
            let after = Span {
                start: part.start.max(other.end),
                end: part.end,
            };
            [before, after].into_iter().filter(|part| !part.is_empty())
        };
        parts = parts.into_iter().flat_map(cut).collect();
    }
    parts
}

impl Process {
    /// Looks for references to activations, until `until` at most, when threads that ran are stopped.
    /// What is at `ours` is not looked at.
    ///
    /// # Errors
    /// Mappings or registers cannot be read.
    pub fn referenced(
        &self,
        activations: &Activations,
        ours: &[Span],
        until: u64,
    ) -> io::Result<Found> {
        let mut found = Referenced::new(activations);
        let mut blocked = Vec::new();
        for (&tid, thread) in &self.threads {
            if let State::Stopped(_) = thread.state {
                match ptrace::regs(tid) {
                    Ok(regs) => regs.words().iter().for_each(|&word| found.see(word)),
                    Err(error) if is_gone(&error) => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            match self.asleep(tid) {
                Some(Sleep::In(where_and_when)) => blocked.push((tid, where_and_when)),
                Some(Sleep::No) => return Ok(Found::Woke),
                None => {}
            }
        }
        let mut pages = Pages::open(self.pid, self.memory.tid())?;
        let mut bytes = vec![0; PIECE];
        let mut present = Vec::new();
        for mapping in self.maps()?.iter().filter(|mapping| may_hold(mapping)) {
            for mut rest in without(mapping.span, ours) {
                while !rest.is_empty() {
                    if clock::monotonic() >= until {
                        return Ok(Found::TooMuch);
                    }
                    present.clear();
                    rest = pages.next(rest, &mut present)?;
                    for &span in &present {
                        if !self.see_span(span, &mut found, &mut bytes, until) {
                            return Ok(Found::TooMuch);
                        }
                    }
                }
            }
        }
        for (tid, then) in blocked {
            match self.asleep(tid) {
                Some(Sleep::In(now)) if now == then => {}
                None => {}
                Some(_) => return Ok(Found::Woke),
            }
        }
        Ok(Found::Referenced(found))
    }

    /// False when time is over.
    fn see_span(&self, span: Span, found: &mut Referenced, bytes: &mut [u8], until: u64) -> bool {
        let mut at = Addr(span.start.0 & !7);
        while at < span.end {
            let want = usize::try_from(span.end.0 - at.0)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let got = self.memory.read_some(at, &mut bytes[..want]).unwrap_or(0);
            found.see_all(&bytes[..got]);
            // A page that cannot be read is no stack.
            at = at + (got as u64).max(4096);
            if clock::monotonic() >= until {
                return false;
            }
        }
        true
    }

    /// Where a thread sleeps that was not stopped; `None` when it has ended.
    fn asleep(&self, tid: Tid) -> Option<Sleep> {
        let thread = self.threads.get(&tid)?;
        let switches = procfs::status(thread.process, tid).ok()?.switches;
        match procfs::whereabouts(thread.process, tid).ok()? {
            // Where it waits for a page its registers may hold anything.
            Where::Blocked { number, pc, .. } if number >= 0 => Some(Sleep::In((switches, pc))),
            _ => Some(Sleep::No),
        }
    }
}

enum Sleep {
    /// How often it slept, and in which call.
    In((u64, Addr)),
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activations() -> Activations {
        Activations {
            words: 0x1000_0000,
            thunks: 0x1002_0000,
            pools: 2,
            pool_size: 1 << 16,
            unwind: 0,
        }
    }

    #[test]
    fn an_activation_is_held_by_its_words_and_by_any_byte_of_its_thunk() {
        let activations = activations();
        let pool = activations.pool(1).unwrap();
        let [first, second, third] = [64, 128, 192].map(|offset| pool + offset);
        let mut found = Referenced::new(&activations);
        let mut bytes = vec![0; 8 * 100];
        bytes[8 * 77..8 * 78].copy_from_slice(&activations.return_point(first).0.to_le_bytes());
        bytes[8 * 99..].copy_from_slice(&third.0.to_le_bytes());
        found.see_all(&bytes);
        assert!(found.holds(first) && !found.holds(second) && found.holds(third));
        // Nobody is let go of by mistake.
        assert!(found.holds(Addr(0x2000_0000)));
    }

    #[test]
    fn what_is_ours_is_cut_out_of_a_mapping() {
        let span = |start, end| Span {
            start: Addr(start),
            end: Addr(end),
        };
        let parts = without(span(10, 100), &[span(0, 20), span(30, 40), span(90, 200)]);
        assert_eq!(parts, [span(20, 30), span(40, 90)]);
        assert_eq!(without(span(10, 20), &[span(5, 50)]), []);
    }
}
