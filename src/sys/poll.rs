//! Waiting for signals, descriptors and time in one place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal that reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub signal: i32,
    /// Whether the kernel sent it, as a terminal does for Ctrl-C, rather than a process by `kill`.
    pub by_kernel: bool,
}

/// Signals delivered as data. While it lives they are blocked in the thread that made it and in
/// threads made after.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks and collects SIGCHLD, the signals that end or stop a command, and SIGUSR1 and SIGUSR2.
    pub fn collect() -> io::Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGTSTP,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
        ] {
            set.add(signal);
        }
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { fd, before })
    }

    /// The mask as it was: what a launched program must start with.
    pub fn mask_before(&self) -> SignalMask {
        SignalMask(self.before)
    }

    /// Waits until a signal is there or the time (milliseconds; `None` for ever) is over, then
    /// takes every signal that is there. SIGCHLD coalesces: look at every child.
    pub fn wait(&self, timeout_ms: Option<u32>) -> io::Result<Vec<Arrived>> {
        self.wait_beside(None, timeout_ms)
    }

    /// The same, or until another descriptor can be read.
    pub fn wait_beside(
        &self,
        other: Option<BorrowedFd<'_>>,
        timeout_ms: Option<u32>,
    ) -> io::Result<Vec<Arrived>> {
        let timeout = match timeout_ms {
            None => PollTimeout::NONE,
            Some(ms) => PollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX)),
        };
        let fds = [self.fd.as_fd()].into_iter().chain(other);
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut arrived = Vec::new();
        while let Ok(Some(info)) = self.fd.read_signal() {
            arrived.push(Arrived {
                signal: info.ssi_signo.cast_signed(),
                by_kernel: info.ssi_code == libc::SI_KERNEL,
            });
        }
        Ok(arrived)
    }
}

/// Waits until one of these is readable or closed at the other end, or the time (milliseconds;
/// `None` for ever) is over; says which.
pub fn readable(fds: &[BorrowedFd<'_>], timeout_ms: Option<u32>) -> io::Result<Vec<bool>> {
    let timeout = timeout_ms.map_or(PollTimeout::NONE, |ms| {
        PollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX))
    });
    let mut fds: Vec<PollFd<'_>> = fds
        .iter()
        .map(|&fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(fds.iter().map(|fd| fd.any().unwrap_or(false)).collect())
}

/// A signal mask to start a program with.
#[derive(Clone, Copy, Debug)]
pub struct SignalMask(pub(super) SigSet);

/// Stops this process as a terminal's Ctrl-Z does; returns when it is continued.
pub fn stop_self() {
    // SAFETY: sends a signal to ourselves; no memory is involved.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// Ends this process by `signal`, as its default action does; returns only if that is impossible.
pub fn die_by(signal: i32) {
    // A core dump of the tracer would only hide the target's own.
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: plain system calls on our own process; `set` and `none` live across them.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
}

/// Makes a thread of ours that waits in [`Signals::wait`] look around.
pub fn wake() {
    // SAFETY: sends a signal to ourselves that is blocked and collected.
    unsafe { libc::kill(libc::getpid(), libc::SIGCHLD) };
}

/// Sends a signal to a process.
pub fn kill(pid: crate::base::Pid, signal: i32) -> io::Result<()> {
    // SAFETY: an integer system call.
    super::errno::check(unsafe { libc::kill(pid.0, signal) }.into()).map(drop)
}

/// Sends a signal to one thread.
pub fn kill_thread(pid: crate::base::Pid, tid: crate::base::Tid, signal: i32) -> io::Result<()> {
    // SAFETY: an integer system call.
    super::errno::check(unsafe { libc::syscall(libc::SYS_tgkill, pid.0, tid.0, signal) }).map(drop)
}

/// Makes the calling thread run on these processors only; false if it may not.
fn run_on(processors: &[usize]) -> bool {
    let mut set = nix::sched::CpuSet::new();
    for &processor in processors {
        if set.set(processor).is_err() {
            return false;
        }
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).is_ok()
}

/// Makes each of these processors forget what it fetched ahead: the calling thread runs there for a
/// moment, and the change of address space serialises (Intel SDM volume 3, "Handling Self- and
/// Cross-Modifying Code"). Where it may not run, every processor is waited for until it has taken
/// an interrupt, whose return serialises too (`MEMBARRIER_CMD_GLOBAL`, `membarrier(2)`).
pub fn serialise(processors: &std::collections::BTreeSet<usize>) {
    const MEMBARRIER_CMD_GLOBAL: i32 = 1;
    if processors.is_empty() {
        return;
    }
    let own = self::processors(crate::base::Tid(0));
    let visited = processors.iter().all(|&processor| run_on(&[processor]));
    run_on(&own);
    if !visited {
        // SAFETY: three integers; no memory is touched.
        unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    }
}

/// The processors a thread may run on; those of the calling thread for 0.
pub fn processors(tid: crate::base::Tid) -> Vec<usize> {
    let Ok(set) = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(tid.0)) else {
        return Vec::new();
    };
    (0..nix::sched::CpuSet::count())
        .filter(|&n| set.is_set(n).unwrap_or(false))
        .collect()
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: &impl AsRawFd) -> bool {
    // SAFETY: an integer library call.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}
