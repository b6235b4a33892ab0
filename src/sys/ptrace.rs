//! `ptrace(2)` requests on one thread, with raw signal numbers. All but [`seize`] and
//! [`interrupt`] need the thread to be in a ptrace-stop; `ESRCH` means that it is not, or is gone.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use nix::libc::{self, c_long, c_void};

use super::errno::check;
use super::regs::{PC_OFFSET, Regs};
use crate::base::{Addr, Tid};

/// What a tracee's stop on a signal carries (`sigaction(2)`, `siginfo_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// Signal number.
    pub signal: i32,
    /// Who raised it: [`super::errno::sig::SI_KERNEL`] for an int3.
    pub code: i32,
    /// Faulting address, for SIGSEGV and SIGBUS.
    pub address: Addr,
}

/// Options of every seized thread: follow every way a task is made or replaced, tell system call
/// stops from signals.
const OPTIONS: c_long = (libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESYSGOOD) as c_long;

/// Kills the target when its tracer dies; for a target that is not yet running its own code.
const EXITKILL: c_long = libc::PTRACE_O_EXITKILL as c_long;

/// `NT_X86_XSTATE` (`elf.h`).
const NT_X86_XSTATE: usize = 0x202;

// `addr` and `data` are plain words for every request used here.
fn request(op: libc::c_uint, tid: Tid, addr: usize, data: c_long) -> io::Result<c_long> {
    // SAFETY: the requests passed here read `addr` and `data` as integers and write none of our
    // memory; requests that write have functions of their own below.
    check(unsafe { libc::ptrace(op, tid.0, addr as *mut c_void, data as *mut c_void) })
}

fn fetch<T>(op: libc::c_uint, tid: Tid, addr: usize) -> io::Result<T> {
    let mut out = MaybeUninit::<T>::zeroed();
    // SAFETY: `out` is writable and as large as the request's result type, which each caller
    // names from ptrace(2); the kernel fills it when the call succeeds.
    check(unsafe {
        libc::ptrace(
            op,
            tid.0,
            addr as *mut c_void,
            out.as_mut_ptr().cast::<c_void>(),
        )
    })?;
    // SAFETY: zeroed above, then filled by the kernel; every T used is plain old data.
    Ok(unsafe { out.assume_init() })
}

fn store<T>(op: libc::c_uint, tid: Tid, addr: usize, value: &T) -> io::Result<()> {
    // SAFETY: the kernel only reads `value`, which lives across the call and has the size the
    // request expects.
    check(unsafe {
        libc::ptrace(
            op,
            tid.0,
            addr as *mut c_void,
            ptr::from_ref(value).cast_mut().cast::<c_void>(),
        )
    })?;
    Ok(())
}

/// Becomes the tracer of a thread without stopping it.
pub fn seize(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0, OPTIONS).map(drop)
}

/// Becomes the tracer of a thread, and follows nothing that it makes.
pub fn seize_only(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0, 0).map(drop)
}

/// Becomes the tracer of a thread that must not outlive us while we set it up.
pub fn seize_or_kill(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0, OPTIONS | EXITKILL).map(drop)
}

/// Puts the ordinary options in place of [`seize_or_kill`]'s.
pub fn let_live(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_SETOPTIONS, tid, 0, OPTIONS).map(drop)
}

/// As [`let_live`]; and the thread, and those that it makes, stop before they end.
pub fn stop_at_end(tid: Tid) -> io::Result<()> {
    let options = OPTIONS | libc::PTRACE_O_TRACEEXIT as c_long;
    request(libc::PTRACE_SETOPTIONS, tid, 0, options).map(drop)
}

/// Asks a running thread to stop; it reports `PTRACE_EVENT_STOP`.
pub fn interrupt(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Resumes a thread, delivering `signal` unless it is 0.
pub fn cont(tid: Tid, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, tid, 0, c_long::from(signal)).map(drop)
}

/// Resumes a thread until its next system call entry or exit.
pub fn cont_to_syscall(tid: Tid, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_SYSCALL, tid, 0, c_long::from(signal)).map(drop)
}

/// Resumes a thread for one instruction.
pub fn step(tid: Tid, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_SINGLESTEP, tid, 0, c_long::from(signal)).map(drop)
}

/// Leaves a thread in its group stop, awake for `SIGCONT`.
pub fn listen(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_LISTEN, tid, 0, 0).map(drop)
}

/// Lets go of a stopped thread, delivering `signal` unless it is 0.
pub fn detach(tid: Tid, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, tid, 0, c_long::from(signal)).map(drop)
}

/// The registers of a stopped thread.
pub fn regs(tid: Tid) -> io::Result<Regs> {
    fetch::<libc::user_regs_struct>(libc::PTRACE_GETREGS, tid, 0).map(Regs)
}

/// Sets the registers of a stopped thread.
pub fn set_regs(tid: Tid, regs: &Regs) -> io::Result<()> {
    store(libc::PTRACE_SETREGS, tid, 0, &regs.0)
}

/// All that the processor keeps of a stopped thread beyond its general registers, in the
/// uncompacted format of `XSAVE`. Fails where the processor has none.
pub fn xstate(tid: Tid) -> io::Result<Vec<u8>> {
    // AMX tiles end at 11008.
    const LARGEST: usize = 16 << 10;
    let mut bytes = vec![0_u8; LARGEST];
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: `vector` names exactly `bytes`, which is writable; the kernel writes no more than
    // that and sets the length to what it wrote.
    check(unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGSET,
            tid.0,
            NT_X86_XSTATE as *mut c_void,
            (&raw mut vector).cast::<c_void>(),
        )
    })?;
    if vector.iov_len >= LARGEST {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    bytes.truncate(vector.iov_len);
    Ok(bytes)
}

/// The program counter alone: cheaper than all registers.
pub fn pc(tid: Tid) -> io::Result<Addr> {
    // The libc wrapper of PEEKUSER returns the word; -1 is an error only if errno says so, and is
    // no user-space pc either way.
    request(libc::PTRACE_PEEKUSER, tid, PC_OFFSET, 0).map(|word| Addr(word.cast_unsigned()))
}

/// Sets the program counter alone.
pub fn set_pc(tid: Tid, pc: Addr) -> io::Result<()> {
    request(libc::PTRACE_POKEUSER, tid, PC_OFFSET, pc.0.cast_signed()).map(drop)
}

/// The number an event stop carries: a new task's id, an exit status.
pub fn event_message(tid: Tid) -> io::Result<u64> {
    fetch::<libc::c_ulong>(libc::PTRACE_GETEVENTMSG, tid, 0)
}

/// The signal a thread is stopped for. Fails with `EINVAL` in a group stop.
pub fn siginfo(tid: Tid) -> io::Result<SigInfo> {
    let info = fetch::<libc::siginfo_t>(libc::PTRACE_GETSIGINFO, tid, 0)?;
    // SAFETY: si_addr reads a union member; every bit pattern is a valid pointer value and it is
    // not followed. It means something only for fault signals, as documented.
    let address = unsafe { info.si_addr() } as u64;
    Ok(SigInfo {
        signal: info.si_signo,
        code: info.si_code,
        address: Addr(address),
    })
}

/// The signals a thread blocks: bit `n - 1` for signal `n`.
pub fn sigmask(tid: Tid) -> io::Result<u64> {
    fetch::<u64>(libc::PTRACE_GETSIGMASK, tid, size_of::<u64>())
}

/// Sets the signals a thread blocks.
pub fn set_sigmask(tid: Tid, mask: u64) -> io::Result<()> {
    store(libc::PTRACE_SETSIGMASK, tid, size_of::<u64>(), &mask)
}
