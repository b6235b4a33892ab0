//! A forked child with a memory of its own: clean text and none of our mappings, before its first
//! instruction. What is cleaned is what its memory holds, whatever became of the target since.

use std::io::ErrorKind;

use super::detours::Inside;
use super::ground::Hole;
use super::jump;
use super::tracee::Tracee;
use crate::base::{Addr, Pid, Span, Tid};
use crate::sys::mem::Memory;
use crate::sys::ptrace;
use crate::sys::wait::Status;
use crate::target::{Process, Remote, State, Thread};

pub(super) const INT3: u8 = 0xcc;
/// `jmp rel32`.
const JUMP: u8 = 0xe9;
/// `jmp rel8`.
const SHORT: u8 = 0xeb;

impl Tracee {
    /// Takes everything of ours out of a forked child and lets it go.
    pub(super) fn let_child_go(&self, tid: Tid, pid: Pid) -> anyhow::Result<()> {
        if let Some(live) = &self.live {
            let memory = Memory::open(pid, tid)?;
            self.lower_inherited(&memory);
            let mut text = super::text::Text::new(&memory, true);
            let foreign = |at: Addr| self.registry.site(at).is_some_and(|site| site.foreign());
            let mut edits: Vec<(Addr, &[u8])> = Vec::new();
            // Padding that leads to a detour, for as long as a signal frame may lead back into it.
            let mut holes: Vec<&Hole> = Vec::new();
            for (&at, ground) in self.plan.ground.iter().filter(|(at, _)| !foreign(**at)) {
                let code = |to| live.injected.is_code(to);
                let mut now = [0; 5];
                if let Some(hole) = &ground.hole
                    && text.read(hole.at, &mut now)
                    && now != hole.original
                    && ours(hole.at, &hole.original, &now, code)
                {
                    holes.push(hole);
                }
                let original = ground.head();
                let now = &mut now[..original.len()];
                let leads = |to| ground.hole.map_or_else(|| code(to), |hole| to == hole.at);
                if text.read(at, now) && now != original && ours(at, original, now, leads) {
                    edits.push((at, original));
                }
            }
            text.write(edits.into_iter())?;
            let mut regs = ptrace::regs(tid)?;
            if let Some(Inside::Displaced {
                original, pushed, ..
            }) = live.detours.locate(regs.pc())
            {
                regs.set_pc(original);
                regs.drop_pushed(u64::from(pushed));
            }
            if (1..live.injected.layout.blocks).any(|b| live.injected.gs_base(b) == regs.gs_base())
            {
                regs.set_gs_base(0);
            }
            ptrace::set_regs(tid, &regs)?;
            // A signal frame may lead back into a detour; then the code stays, and passes through.
            let mut child = Process::new(pid, tid)?;
            child.insurance = self.process.insurance;
            let mut thread = Thread::new(pid);
            thread.state = State::Stopped(Status::Interrupted);
            child.threads.insert(tid, thread);
            let calls = match &live.injected.activations {
                Some(activations) => super::returns::put_back(activations, &memory)?,
                None => false,
            };
            let maps = child.maps()?;
            let spans = live.injected.code();
            let mut looked = spans.clone();
            looked.extend(holes.iter().map(|hole| jump::span(hole.at)));
            looked.sort_by_key(|span| span.start);
            let occupied = child.occupied(&maps, &looked)?.unwrap_or_default();
            let (kept, free): (Vec<&Hole>, Vec<&Hole>) = holes
                .into_iter()
                .partition(|hole| occupied.holds(jump::span(hole.at)));
            let restored = free.iter().map(|hole| (hole.at, &hole.original[..]));
            text.write(restored)?;
            let inside = |span: &Span| {
                occupied.holds(*span) || occupied.pcs.iter().any(|(_, pc)| span.contains(*pc))
            };
            let keep_code = calls || !kept.is_empty() || spans.iter().any(inside);
            let ours = |span: &&Span| {
                let maps = live.injected.maps == Some(**span);
                let activations = live.injected.activations;
                let calls = activations.is_some_and(|activations| {
                    activations.words() == **span || activations.thunks().contains(span.start)
                });
                calls || spans.contains(span) || span.contains(live.injected.alive) || maps
            };
            match Remote::begin(&mut child, tid) {
                Ok(mut remote) => {
                    self.unland_child(&mut remote, regs.sp())?;
                    // Block memory was not inherited (MADV_DONTFORK).
                    let inherited = live.injected.mapped.iter().filter(ours);
                    for span in inherited.filter(|_| !keep_code) {
                        let _ = remote.unmap(span.start, span.len());
                    }
                    remote.finish()?;
                }
                // No call may be made in it: what is mapped there stays, and is never entered.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ptrace::detach(tid, 0)?)
    }
}

/// Whether bytes at `at` that are not the original are what we write there: a breakpoint before the
/// original or before the tail of a jump, or a jump that leads where `leads` says ours do.
pub(super) fn ours(at: Addr, original: &[u8], now: &[u8], leads: impl Fn(Addr) -> bool) -> bool {
    let tail = now.get(1..).unwrap_or_default();
    let distance = match tail.len() {
        1 => tail.first().map(|near| i64::from(near.cast_signed())),
        _ => <[u8; 4]>::try_from(tail)
            .ok()
            .map(|far| i32::from_le_bytes(far).into()),
    };
    let end = at + now.len() as u64;
    let jump = distance.is_some_and(|distance| leads(Addr(end.0.wrapping_add_signed(distance))));
    let opcode = if tail.len() == 1 { SHORT } else { JUMP };
    match now.first() {
        Some(&INT3) => jump || Some(tail) == original.get(1..now.len()),
        Some(&first) => first == opcode && jump,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_write_is_taken_for_ours() {
        let original = [0x55, 0x48, 0x89, 0xe5, 0x90, 0x90];
        let is_ours = |now: &[u8]| ours(Addr(0x1000), &original, now, |to| to == Addr(0x2005));
        assert!(is_ours(&[0xcc, 0x48, 0x89, 0xe5, 0x90]));
        assert!(is_ours(&[0xcc]));
        assert!(is_ours(&[0xe9, 0, 0x10, 0, 0]));
        assert!(is_ours(&[0xcc, 0, 0x10, 0, 0]));
        assert!(!is_ours(&[0xe9, 1, 0x10, 0, 0]));
        assert!(!is_ours(&[0xcc, 1, 0x10, 0, 0]));
        assert!(!is_ours(&[0x90, 0x48, 0x89, 0xe5, 0x90]));
    }

    #[test]
    fn a_short_jump_is_ours_when_it_leads_to_its_hole() {
        let original = [0x48, 0x89, 0xf8];
        let is_ours = |now: &[u8]| ours(Addr(0x1000), &original, now, |to| to == Addr(0xff2));
        assert!(is_ours(&[0xeb, 0xf0]));
        assert!(is_ours(&[0xcc, 0xf0]));
        assert!(is_ours(&[0xcc, 0x89]));
        assert!(!is_ours(&[0xeb, 0xf1]));
        assert!(!is_ours(&[0xe9, 0xf0]));
        assert!(!is_ours(&[0xcc, 0xf1]));
    }
}
