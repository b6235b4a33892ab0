//! The guardian's side: it waits, and when the tracer is gone it puts back what the journals hold.
//!
//! Invariant: a byte is written only where all bytes of a site are what the journal says they may
//! be. Writes are small and single, and the first byte comes last.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::packet::{Packet, SIZE};
use super::record::{self, Site, WINDOW, Word};
use crate::base::{Addr, Pid, Tid};
use crate::sys::mem::Memory;
use crate::sys::packets::{Came, DESCRIPTORS, Packets};
use crate::sys::{poll, procfs, ptrace};

const INT3: u8 = 0xcc;
/// Most processes below a target that are looked at.
const MOST_CHILDREN: usize = 4096;

/// A process that the tracer changed.
struct Target {
    pid: Pid,
    tid: Tid,
    started: u64,
    alive: Addr,
    memory: File,
    journal: File,
}

/// Waits until the tracer is gone, and does what is left to do.
pub(super) fn wait(socket: &Packets, tracer: &OwnedFd) {
    let mut targets = BTreeMap::new();
    loop {
        let ready = poll::readable(&[socket.as_fd(), tracer.as_fd()], None);
        let gone = ready.is_ok_and(|ready| ready.get(1) == Some(&true));
        // What it said last is heard first.
        if listen(socket, &mut targets) || gone {
            break;
        }
    }
    targets.into_values().for_each(|target| target.restore());
}

/// Hears what there is to hear; true at the end.
fn listen(socket: &Packets, targets: &mut BTreeMap<u64, Target>) -> bool {
    let mut buffer = [0; SIZE];
    loop {
        let (bytes, descriptors) = match socket.receive(&mut buffer) {
            Ok(Came::Packet(bytes, descriptors)) => (bytes, descriptors),
            Ok(Came::Nothing) => return false,
            Ok(Came::End) | Err(_) => return true,
        };
        match buffer.get(..bytes).and_then(Packet::of) {
            Some(Packet::Watch {
                id,
                pid,
                tid,
                started,
                alive,
            }) => {
                if let Ok([memory, journal]) = <[OwnedFd; DESCRIPTORS]>::try_from(descriptors) {
                    let target = Target {
                        pid,
                        tid,
                        started,
                        alive,
                        memory: memory.into(),
                        journal: journal.into(),
                    };
                    targets.insert(id, target);
                }
            }
            Some(Packet::Forget { id }) => {
                targets.remove(&id);
            }
            None => {}
        }
    }
}

impl Target {
    fn restore(&self) {
        let sites = record::read(&self.journal);
        // First of all: a thread that runs into a breakpoint may not survive it.
        if put_back(&self.memory, &sites).is_err() && self.become_tracer() {
            let _ = put_back(&self.memory, &sites);
        }
        let _ = self.memory.write_all_at(&[0; 8], self.alive.0);
        self.children(&sites);
        count_down(&self.memory, &record::words(&self.journal));
    }

    /// Kernels may let only a tracer write text (`proc_mem.force_override=ptrace`).
    fn become_tracer(&self) -> bool {
        procfs::start_time(self.pid, self.tid) == Some(self.started)
            && ptrace::seize_only(self.tid).is_ok()
    }

    /// Processes that were forked and not cleaned yet have copies of the text.
    fn children(&self, sites: &[Site]) {
        let tasks = |pid| procfs::tasks(pid).unwrap_or_default().into_iter();
        let mut below: Vec<Pid> = tasks(self.pid)
            .flat_map(|tid| procfs::children(self.pid, tid))
            .collect();
        let mut looked_at = 0;
        while let Some(child) = below.pop() {
            looked_at += 1;
            if looked_at > MOST_CHILDREN {
                return;
            }
            below.extend(tasks(child).flat_map(|tid| procfs::children(child, tid)));
            if let Ok(memory) = Memory::open(child, Tid(child.0)) {
                let _ = put_back(memory.file(), sites);
            }
        }
    }
}

/// What is to be done at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    /// The first byte is no breakpoint, or something else stands there that is not ours.
    Nothing,
    /// A breakpoint before the original.
    Head,
    /// A breakpoint before the rest of a jump, or a part of it.
    TailAndHead,
}

/// Judges the bytes at a site. `breakpoint` says whether an address is in the journal too.
fn judge(site: &Site, now: &[u8], breakpoint: impl Fn(Addr) -> bool) -> Repair {
    if now.first() != Some(&INT3) {
        return Repair::Nothing;
    }
    let mut repair = Repair::Head;
    for (index, &byte) in now.iter().enumerate().skip(1) {
        let tail = site.tail.and_then(|tail| tail.get(index - 1).copied());
        if Some(&byte) == site.original.get(index) {
            continue;
        }
        if Some(byte) == tail {
            repair = Repair::TailAndHead;
        } else if !(byte == INT3 && breakpoint(site.at + index as u64)) {
            return Repair::Nothing;
        }
    }
    repair
}

/// Counts down the words that are 1 more than they were. One that is anything else was not reached, or
/// others count it too.
fn count_down(memory: &File, words: &[Word]) {
    for word in words {
        let mut now = [0; 2];
        let read = memory.read_exact_at(&mut now, word.at.0).is_ok();
        if read && Some(u16::from_le_bytes(now)) == word.before.checked_add(1) {
            let _ = memory.write_all_at(&word.before.to_le_bytes(), word.at.0);
        }
    }
}

/// Takes every breakpoint back. An error is that of the last write that was refused.
fn put_back(memory: &File, sites: &[Site]) -> io::Result<()> {
    let ours: HashSet<Addr> = sites.iter().map(|site| site.at).collect();
    let mut heads = Vec::new();
    let mut result = Ok(());
    for site in sites {
        let len = usize::from(site.len).min(WINDOW);
        let mut now = [0; WINDOW];
        let Some(now) = now.get_mut(..len) else {
            continue;
        };
        if memory.read_exact_at(now, site.at.0).is_err() {
            continue;
        }
        let written = match judge(site, now, |at| ours.contains(&at)) {
            Repair::Nothing => Ok(()),
            Repair::Head => memory.write_all_at(&site.original[..1], site.at.0),
            Repair::TailAndHead => memory
                .write_all_at(&site.original[1..len], site.at.0 + 1)
                .map(|()| heads.push(site)),
        };
        if written.is_err() {
            result = written;
        }
    }
    if heads.is_empty() {
        return result;
    }
    // No core may still hold a tail that was there before.
    poll::serialise(&poll::processors(Tid(0)).into_iter().collect());
    for site in heads {
        memory.write_all_at(&site.original[..1], site.at.0)?;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_journal_knows_is_repaired() {
        let site = Site {
            at: Addr(0x1000),
            original: [0x55, 1, 2, 3, 4],
            len: 5,
            tail: Some([9, 8, 7, 6]),
        };
        let judged = |now: &[u8]| judge(&site, now, |at| at == Addr(0x1003));
        assert_eq!(judged(&[0xcc, 1, 2, 3, 4]), Repair::Head);
        assert_eq!(judged(&[0xcc]), Repair::Head);
        assert_eq!(judged(&[0xcc, 9, 8, 7, 6]), Repair::TailAndHead);
        // Torn between two pages.
        assert_eq!(judged(&[0xcc, 9, 8, 3, 4]), Repair::TailAndHead);
        // Another breakpoint of ours in the window.
        assert_eq!(judged(&[0xcc, 1, 2, 0xcc, 4]), Repair::Head);
        assert_eq!(judged(&[0xcc, 1, 0xcc, 3, 4]), Repair::Nothing);
        assert_eq!(judged(&[0xe9, 9, 8, 7, 6]), Repair::Nothing);
        assert_eq!(judged(&[0x55, 1, 2, 3, 4]), Repair::Nothing);
        assert_eq!(judged(&[]), Repair::Nothing);
    }

    #[test]
    fn breakpoints_in_this_process_are_taken_back() {
        // Memory of ours that is never run: what stands there is looked at through the file.
        let text = vec![0xcc_u8, 0x11, 0xcc, 9, 8, 7, 6, 0xe9, 9, 8, 7, 6, 0xcc, 5];
        let base = text.as_ptr() as u64;
        let site = |offset: u64, original: &[u8], tail| {
            let mut bytes = [0; WINDOW];
            bytes[..original.len()].copy_from_slice(original);
            Site {
                at: Addr(base + offset),
                original: bytes,
                len: original.len() as u8,
                tail,
            }
        };
        let tail = Some([9, 8, 7, 6]);
        let sites = [
            site(0, &[0x90, 0x11], None),
            site(2, &[0x55, 1, 2, 3, 4], tail),
            site(7, &[0x55, 1, 2, 3, 4], tail),
            site(12, &[0x55, 6], None),
        ];
        let file = File::options()
            .read(true)
            .write(true)
            .open("/proc/self/mem")
            .unwrap();
        put_back(&file, &sites).unwrap();
        let mut now = vec![0; text.len()];
        file.read_exact_at(&mut now, base).unwrap();
        assert_eq!(
            now,
            [0x90, 0x11, 0x55, 1, 2, 3, 4, 0xe9, 9, 8, 7, 6, 0xcc, 5]
        );
    }

    #[test]
    fn only_words_that_are_one_more_are_counted_down() {
        let words: Vec<u16> = vec![1, 0, 3, 8, 0xffff, 0];
        let word = |index: usize, before| Word {
            at: Addr(words.as_ptr() as u64 + 2 * index as u64),
            before,
        };
        let all = [
            word(0, 0),
            word(1, 0),
            word(2, 1),
            word(3, 7),
            word(4, 0xfffe),
            word(5, 0xffff),
        ];
        let file = File::options()
            .read(true)
            .write(true)
            .open("/proc/self/mem")
            .unwrap();
        count_down(&file, &all);
        let mut now = vec![0; 2 * words.len()];
        file.read_exact_at(&mut now, words.as_ptr() as u64).unwrap();
        let now: Vec<u16> = now
            .chunks(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .collect();
        assert_eq!(now, [0, 0, 3, 7, 0xfffe, 0]);
    }
}
