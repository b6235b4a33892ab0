//! Names for the error and signal numbers that callers branch on, so that nobody above needs libc.

use std::io;

use nix::libc;

/// No such process or thread.
pub const ESRCH: i32 = libc::ESRCH;
/// Not permitted.
pub const EPERM: i32 = libc::EPERM;
/// Permission denied.
pub const EACCES: i32 = libc::EACCES;
/// File or address already taken.
pub const EEXIST: i32 = libc::EEXIST;
/// Bad address.
pub const EFAULT: i32 = libc::EFAULT;
/// Input/output error; what `/proc/PID/mem` says of an unmapped page.
pub const EIO: i32 = libc::EIO;
/// Nobody to wait for.
pub const ECHILD: i32 = libc::ECHILD;
/// Interrupted system call.
pub const EINTR: i32 = libc::EINTR;
/// Try again.
pub const EAGAIN: i32 = libc::EAGAIN;
/// Invalid argument.
pub const EINVAL: i32 = libc::EINVAL;
/// No descriptor is free.
pub const EMFILE: i32 = libc::EMFILE;
/// No such system call.
pub const ENOSYS: i32 = libc::ENOSYS;

/// Signal numbers that the tracer treats on their own.
pub mod sig {
    use nix::libc;
    /// Hangup.
    pub const HUP: i32 = libc::SIGHUP;
    /// Interrupt from the keyboard.
    pub const INT: i32 = libc::SIGINT;
    /// Quit from the keyboard.
    pub const QUIT: i32 = libc::SIGQUIT;
    /// Illegal instruction.
    pub const ILL: i32 = libc::SIGILL;
    /// Breakpoint.
    pub const TRAP: i32 = libc::SIGTRAP;
    /// Bus error.
    pub const BUS: i32 = libc::SIGBUS;
    /// Arithmetic fault.
    pub const FPE: i32 = libc::SIGFPE;
    /// Kill.
    pub const KILL: i32 = libc::SIGKILL;
    /// Bad memory access.
    pub const SEGV: i32 = libc::SIGSEGV;
    /// Termination.
    pub const TERM: i32 = libc::SIGTERM;
    /// A child changed state.
    pub const USR1: i32 = libc::SIGUSR1;
    /// `SIGUSR2`
    pub const USR2: i32 = libc::SIGUSR2;
    /// `SIGCHLD`
    pub const CHLD: i32 = libc::SIGCHLD;
    /// Stop.
    pub const STOP: i32 = libc::SIGSTOP;
    /// Stop from the keyboard.
    pub const TSTP: i32 = libc::SIGTSTP;
    /// Writing to a pipe that nobody reads.
    pub const PIPE: i32 = libc::SIGPIPE;
    /// Abort.
    pub const ABRT: i32 = libc::SIGABRT;
    /// `si_code` of a signal that the kernel raised for an int3.
    pub const SI_KERNEL: i32 = 0x80;
}

/// The error number of an OS error, 0 if it is none.
pub fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Whether the thread or process is gone: an ordinary branch everywhere.
pub fn is_gone(error: &io::Error) -> bool {
    number(error) == ESRCH
}

/// The result of a raw call that returns -1 and sets `errno`.
pub(super) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
