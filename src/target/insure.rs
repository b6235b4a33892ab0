//! The way back of a thread that makes a call for us: a signal frame in the target that holds all
//! the thread was. The call is made by a `syscall; ret` whose return address is `rt_sigreturn`, so
//! the thread goes back by itself when we die before it was given back.
//!
//! Knows nothing of the calls. Invariant: what is written lies in memory that nobody uses: a page
//! of ours, or the far end of the first thread's stack; small stacks are never written.

use std::io;

use memchr::memmem;

use super::process::Process;
use super::thread::State;
use crate::abi::MAGIC;
use crate::base::{Addr, Pid, Span, Tid};
use crate::sys::mem::Memory;
use crate::sys::procfs::{self, Mapping, Where};
use crate::sys::regs::Regs;
use crate::sys::{ptrace, sigframe};

/// How far below everything in use a frame is written on the first thread's stack.
const FAR: u64 = 64 << 10;
/// `syscall; ret`.
const CALL: &[u8] = &[0x0f, 0x05, 0xc3];
/// `mov $15,%rax; syscall` and `mov $15,%eax; syscall`: what handlers return through (glibc, musl).
const BACK: [&[u8]; 2] = [
    &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05],
    &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05],
];

/// What a process has that makes calls in it safe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Insurance {
    code: Option<Code>,
    /// It was looked for, and is not there.
    none: bool,
    /// Memory of ours in it, for frames.
    page: Option<Span>,
}

/// Code of the target that is used.
#[derive(Clone, Copy, Debug)]
struct Code {
    call: Addr,
    back: Addr,
}

impl Code {
    /// Whether it is still there: somebody may have a breakpoint in it, or have unmapped it.
    fn stands(self, memory: &Memory) -> bool {
        let is = |at, what: &[u8]| {
            let mut now = [0; 9];
            let now = &mut now[..what.len()];
            memory.read(at, now).is_ok() && now == what
        };
        is(self.call, CALL) && BACK.iter().any(|back| is(self.back, back))
    }

    fn find(memory: &Memory, maps: &[Mapping]) -> Option<Code> {
        let (mut call, mut back) = (None, None);
        let text = maps.iter().filter(|m| m.exec && m.path != "[vsyscall]");
        // What comes from a file stays there, longer than what a program makes itself. Code of ours
        // does not: calls may be made to unmap it.
        let stays = |m: &&Mapping| m.inode != 0 && !m.path.starts_with("/memfd:");
        for mapping in text.filter(|m| stays(m) || m.path == "[vdso]") {
            let mut at = mapping.span.start;
            let mut chunk = vec![0; 64 << 10];
            while at < mapping.span.end && (call.is_none() || back.is_none()) {
                let left = usize::try_from(mapping.span.end.0 - at.0).unwrap_or(usize::MAX);
                let want = left.min(chunk.len());
                let got = memory.read_some(at, &mut chunk[..want]).unwrap_or(0);
                let read = &chunk[..got];
                call = call.or_else(|| memmem::find(read, CALL).map(|offset| at + offset as u64));
                let returns = || BACK.iter().find_map(|code| memmem::find(read, code));
                back = back.or_else(|| returns().map(|offset| at + offset as u64));
                // One may lie across the end of what was read.
                at = at
                    + if got > 16 && got < left {
                        got - 16
                    } else {
                        left
                    } as u64;
            }
        }
        Some(Code {
            call: call?,
            back: back?,
        })
    }
}

/// The call that code before `pc` makes, if it says so: `mov $number,%eax; syscall`, and it is one
/// that goes on by `restart_syscall`: poll, nanosleep, futex, clock_nanosleep.
fn call_before(memory: &Memory, pc: Addr) -> Option<i64> {
    let mut code = [0; 7];
    memory.read(pc - 7, &mut code).ok()?;
    match code {
        [0xb8, number @ (7 | 35 | 202 | 230), 0, 0, 0, 0x0f, 0x05] => Some(number.into()),
        _ => None,
    }
}

/// A frame that stands in the target, and the code that goes with it.
#[derive(Debug)]
pub(super) struct WayBack {
    /// The `syscall; ret` to make calls by.
    pub(super) call: Addr,
    /// The stack pointer to make them with.
    pub(super) sp: Addr,
    /// What the frame replaced, where it must be put back.
    kept: Option<Vec<u8>>,
}

impl WayBack {
    /// Writes a frame that brings the stopped thread `tid` back to `regs` and `mask`. `None` where
    /// that cannot be: no code or no memory for it, or a shadow stack, which checks every return.
    pub(super) fn prepare(
        process: &mut Process,
        tid: Tid,
        regs: &Regs,
        mask: u64,
    ) -> Option<WayBack> {
        if !regs.is_64_bit() || procfs::status(Pid(tid.0), tid).ok()?.shadow_stack {
            return None;
        }
        let code = process.code()?;
        let xstate = ptrace::xstate(tid).ok()?;
        let len = sigframe::size(xstate.len()) as u64;
        let (sp, ours) = match process.page(len) {
            Some(at) => (at, true),
            None => (process.far_end(len)?, false),
        };
        let regs = match regs.restarts() {
            Some(number) => regs.again(process.call_of(tid, regs, number)),
            None => *regs,
        };
        let frame = sigframe::build(&regs, mask, &xstate, sp, code.back)?;
        let kept = if ours {
            None
        } else {
            let mut kept = vec![0; frame.len()];
            process.memory.read(sp, &mut kept).ok()?;
            Some(kept)
        };
        process.memory.write(sp, &frame).ok()?;
        Some(WayBack {
            call: code.call,
            sp,
            kept,
        })
    }

    /// Takes the frame away; the thread no longer needs it.
    pub(super) fn remove(self, process: &Process) -> io::Result<()> {
        match self.kept {
            Some(kept) => process.memory.write(self.sp, &kept),
            None => Ok(()),
        }
    }
}

/// The end of the first thread's stack, where frames are written while there is no better place.
pub fn far_end(maps: &[Mapping]) -> Option<Span> {
    let stack = maps.iter().find(|m| m.path == "[stack]")?;
    let writable = stack.read && stack.write;
    writable.then(|| Span {
        start: stack.span.start,
        end: stack.span.end.min(stack.span.start + 4096),
    })
}

impl Process {
    /// Looks for the code that calls are insured by. To be done before a thread is stopped for the
    /// first call: the code of a large program takes a while to look through.
    pub fn prepare_calls(&mut self) {
        let _: Option<Code> = self.code();
    }

    /// Keeps frames in this memory of ours from now on; elsewhere with `None`.
    pub fn keep_frames_in(&mut self, page: Option<Span>) -> io::Result<()> {
        if let Some(page) = page {
            self.memory.write(page.start, &MAGIC.to_le_bytes())?;
        }
        self.insurance.page = page;
        Ok(())
    }

    /// The call to make again for a thread interrupted in call `number`. A wait that was interrupted
    /// before goes on by `restart_syscall(2)`, of which `rt_sigreturn` would make EINTR
    /// (`restore_sigcontext`): the call it stands for is made, and waits for its whole time.
    fn call_of(&mut self, tid: Tid, regs: &Regs, number: i64) -> i64 {
        const RESTART: i64 = 219;
        let place = (regs.pc(), regs.sp());
        if number == RESTART {
            let known = self.threads.get(&tid).and_then(|thread| thread.in_call);
            let known = known.filter(|&(pc, sp, _)| (pc, sp) == place);
            return match known {
                Some((_, _, call)) => call,
                None => call_before(&self.memory, regs.pc()).unwrap_or(number),
            };
        }
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.in_call = Some((place.0, place.1, number));
        }
        number
    }

    fn code(&mut self) -> Option<Code> {
        if let Some(code) = self.insurance.code.filter(|c| c.stands(&self.memory)) {
            return Some(code);
        }
        if self.insurance.none {
            return None;
        }
        let maps = self.maps().ok()?;
        self.insurance.code = Code::find(&self.memory, &maps);
        self.insurance.none = self.insurance.code.is_none();
        self.insurance.code
    }

    /// Room in our own page, while that is there.
    fn page(&self, len: u64) -> Option<Addr> {
        let page = self.insurance.page?;
        let at = Addr(page.end.0.checked_sub(len)? & !(sigframe::ALIGN - 1));
        let fits = at.0 >= page.start.0 + sigframe::ALIGN;
        (fits && self.memory.word(page.start).ok()? == MAGIC).then_some(at)
    }

    /// Room at the end of the first thread's stack, when everybody who is on it is far from there.
    /// A first thread that runs may be anywhere.
    fn far_end(&self, len: u64) -> Option<Addr> {
        let maps = self.maps().ok()?;
        let stack = maps.iter().find(|m| m.path == "[stack]")?;
        if !(stack.read && stack.write) {
            return None;
        }
        let stack = stack.span;
        let mut lowest = stack.end;
        for (&tid, thread) in &self.threads {
            let sp = match thread.state {
                State::Stopped(_) => ptrace::regs(tid).ok()?.sp(),
                State::Running | State::Listening => {
                    match procfs::whereabouts(thread.process, tid) {
                        Ok(Where::Blocked { sp, .. }) => sp,
                        _ => {
                            let state = procfs::status(thread.process, tid).map(|s| s.state);
                            let ended =
                                !matches!(state, Ok(state) if state != b'Z' && state != b'X');
                            if tid.0 == self.pid.0 && !ended {
                                return None;
                            }
                            continue;
                        }
                    }
                }
            };
            if stack.contains(sp) {
                lowest = lowest.min(sp);
            }
        }
        let room = lowest.0.checked_sub(stack.start.0)?;
        (room >= FAR + len).then_some(Addr(stack.start.0.next_multiple_of(sigframe::ALIGN)))
    }
}
