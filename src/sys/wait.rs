//! Raw wait statuses to typed stops. Real-time signals included; nothing is consumed twice.

use std::io;

use nix::libc;

use super::{clock, errno, procfs};
use crate::base::{Addr, Pid, Tid};

/// What happened to a thread (`ptrace(2)`, "Stopped states"; `wait(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It ended by `exit`, with this status.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// Signal-delivery-stop: the signal is delivered when it is resumed with it.
    Signal(i32),
    /// Group-stop, by this stopping signal.
    GroupStop(i32),
    /// `PTRACE_EVENT_STOP` that is no group-stop: it was interrupted, or is a newborn.
    Interrupted,
    /// Entry to or exit from a system call.
    Syscall,
    /// It made a process: fork.
    Fork,
    /// It made a process and waits for it: vfork.
    Vfork,
    /// It made a thread, or a process in another way: clone.
    Clone,
    /// It began another program; the stop is before its first instruction.
    Exec,
    /// It is about to end, and still has its memory.
    Ending,
    /// Another event.
    Other(i32),
    /// A breakpoint of ours at this address: the thread was sent where it belongs before its report
    /// was taken. Nothing decodes to it.
    Hit(Addr),
}

fn decode(status: i32) -> Status {
    if libc::WIFEXITED(status) {
        return Status::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Status::Killed(libc::WTERMSIG(status));
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Status::Syscall,
        0 => Status::Signal(signal),
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Status::Interrupted,
        libc::PTRACE_EVENT_STOP => Status::GroupStop(signal),
        libc::PTRACE_EVENT_FORK => Status::Fork,
        libc::PTRACE_EVENT_VFORK => Status::Vfork,
        libc::PTRACE_EVENT_CLONE => Status::Clone,
        libc::PTRACE_EVENT_EXEC => Status::Exec,
        libc::PTRACE_EVENT_EXIT => Status::Ending,
        event => Status::Other(event),
    }
}

fn wait(tid: i32, flags: i32) -> io::Result<Option<(Tid, Status)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable for the call.
        let result = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | flags) };
        match result {
            0 => return Ok(None),
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            tid => return Ok(Some((Tid(tid), decode(status)))),
        }
    }
}

fn look(kind: libc::idtype_t, id: libc::id_t, extra: i32) -> io::Result<Option<Tid>> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    let flags = flags | extra;
    // SAFETY: `info` is writable for the call, which fills it or leaves it zero.
    errno::check(unsafe { libc::waitid(kind, id, info.as_mut_ptr(), flags) }.into())?;
    // SAFETY: zeroed above; the fields read are plain integers.
    let tid = unsafe { info.assume_init().si_pid() };
    Ok((tid != 0).then_some(Tid(tid)))
}

/// A thread that has something to report, if there is one; the report stays where it is: what is
/// done to the thread before it is consumed outlives the tracer. Children of other threads of ours
/// are theirs to wait for. `ECHILD` when there is nobody to wait for.
pub fn peek() -> io::Result<Option<Tid>> {
    look(libc::P_ALL, 0, libc::__WNOTHREAD)
}

/// Whether this thread has something to report; it stays where it is.
pub fn has_report(tid: Tid) -> bool {
    libc::id_t::try_from(tid.0).is_ok_and(|id| matches!(look(libc::P_PID, id, 0), Ok(Some(_))))
}

/// The next status of this thread; waits for it.
pub fn thread(tid: Tid) -> io::Result<Status> {
    Ok(wait(tid.0, 0)?.map_or(Status::Other(0), |(_, status)| status))
}

/// The next status of a traced thread that was made to stop soon. `ESRCH` where it has ended and that
/// is not to be had yet: the end of a process's first thread is reported after those of all others,
/// which somebody must take (`delay_group_leader` in the kernel's `exit.c`).
pub fn stop(tid: Tid) -> io::Result<Status> {
    let mut looks = 1_u32;
    loop {
        let ended = looks.is_multiple_of(64)
            && procfs::status(Pid(tid.0), tid).is_ok_and(|status| status.state == b'Z');
        match thread_now(tid)? {
            Some(status) => return Ok(status),
            None if ended => return Err(io::Error::from_raw_os_error(errno::ESRCH)),
            None => clock::pause(looks),
        }
        looks = looks.wrapping_add(1);
    }
}

/// The next status of this thread, if one is there.
pub fn thread_now(tid: Tid) -> io::Result<Option<Status>> {
    Ok(wait(tid.0, libc::WNOHANG)?.map(|(_, status)| status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_time_signal_is_a_signal() {
        assert_eq!(decode((34 << 8) | 0x7f), Status::Signal(34));
        assert_eq!(decode((64 << 8) | 0x7f), Status::Signal(64));
    }

    #[test]
    fn a_group_stop_is_no_interruption() {
        let stop = libc::PTRACE_EVENT_STOP << 16;
        assert_eq!(
            decode(stop | (libc::SIGTSTP << 8) | 0x7f),
            Status::GroupStop(libc::SIGTSTP)
        );
        assert_eq!(
            decode(stop | (libc::SIGTRAP << 8) | 0x7f),
            Status::Interrupted
        );
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(decode(3 << 8), Status::Exited(3));
        assert_eq!(decode(libc::SIGSEGV | 0x80), Status::Killed(libc::SIGSEGV));
    }
}
