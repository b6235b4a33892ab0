//! A process of ours that stands apart: in a session of its own, without terminal, working
//! directory or descriptors of its maker, deaf to every signal but SIGKILL. It outlives its maker.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::libc;

use crate::base::{Pid, Tid};

/// A process made by [`fork`].
#[derive(Debug)]
pub struct Apart {
    /// Its number. It is a child of the thread that made it.
    pub pid: Pid,
    /// Numbers are used again; this is not.
    fd: OwnedFd,
}

/// A descriptor of a process, readable when it has ended with all its threads (`pidfd_open(2)`).
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: an integer system call.
    let fd = super::errno::check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) })?;
    owned(fd)
}

/// A descriptor of ours for what a traced process has open as `descriptor` (`pidfd_getfd(2)`, kernel
/// 5.6). `tid` is a living thread of it, for when its first thread has ended (kernel 6.9).
pub fn descriptor_of(pid: Pid, tid: Tid, descriptor: i64) -> io::Result<OwnedFd> {
    let take = |process: OwnedFd| {
        let process = process.as_raw_fd();
        // SAFETY: three integers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, descriptor, 0) };
        owned(super::errno::check(fd)?)
    };
    pidfd(pid).and_then(take).or_else(|error| {
        // SAFETY: an integer system call.
        let thread = unsafe { libc::syscall(libc::SYS_pidfd_open, tid.0, libc::O_EXCL) };
        let thread = super::errno::check(thread).and_then(owned).and_then(take);
        thread.map_err(|_| error)
    })
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// This process's number.
pub fn own_pid() -> Pid {
    Pid(std::process::id().cast_signed())
}

/// Forks a process that does `work` and ends. Of all descriptors it has those in `keep` alone, and
/// `/dev/null` for the three standard ones. `name` is what `ps` shows. Call it while this process
/// has one thread.
pub fn fork(
    name: &CStr,
    keep: &[BorrowedFd<'_>],
    work: impl FnOnce() + std::panic::UnwindSafe,
) -> io::Result<Apart> {
    // SAFETY: we have one thread, so the child has a whole, unlocked process; it never returns from
    // the arm below.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            stand_apart(name, keep);
            // Nothing of its maker's is dropped or written in it, whatever happens.
            let _ = std::panic::catch_unwind(work);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        pid => {
            let pid = Pid(pid);
            let fd = pidfd(pid).inspect_err(|_| {
                let _ = super::poll::kill(pid, libc::SIGKILL);
                let _ = super::wait::thread(Tid(pid.0));
            })?;
            Ok(Apart { pid, fd })
        }
    }
}

fn stand_apart(name: &CStr, keep: &[BorrowedFd<'_>]) {
    std::panic::set_hook(Box::new(|_| {}));
    // SAFETY: plain system calls in the only thread of a fresh process; the set and the strings
    // live across them.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        libc::chdir(c"/".as_ptr());
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        for standard in 0..3 {
            libc::dup2(null, standard);
        }
    }
    let mut kept: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .collect();
    kept.sort_unstable();
    let mut from = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if fd > from {
            close_range(from, fd.saturating_sub(u32::from(fd != u32::MAX)));
        }
        from = fd.saturating_add(1);
    }
    show_as(name);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: three integers; the descriptors closed belong to the maker of this process, none of
    // whose owners runs here.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0;
    if done {
        return;
    }
    // Kernels before 5.9.
    for entry in std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
    {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(fd) = number.filter(|&fd: &u32| (first..=last).contains(&fd)) {
            // SAFETY: as above; closing the directory's own descriptor ends the walk early at worst.
            unsafe { libc::close(fd.cast_signed()) };
        }
    }
}

/// Puts `name` where the command line was, so that who looks for its maker's does not find it.
fn show_as(name: &CStr) -> Option<()> {
    let (start, end) = super::procfs::own_arguments()?;
    let mut line = vec![0; usize::try_from(end.checked_sub(start)?).ok()?.min(1 << 20)];
    let len = name.to_bytes().len().min(line.len().saturating_sub(1));
    line.get_mut(..len)?
        .copy_from_slice(name.to_bytes().get(..len)?);
    let memory = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/mem");
    memory.ok()?.write_all_at(&line, start).ok()
}

impl Apart {
    /// Whether it has ended; it leaves no zombie then.
    pub fn has_ended(&self) -> bool {
        self.is_over(0) && {
            // It may have been waited for before.
            let _ = super::wait::thread_now(Tid(self.pid.0));
            true
        }
    }

    fn is_over(&self, milliseconds: u32) -> bool {
        super::poll::readable(&[self.fd.as_fd()], Some(milliseconds))
            .is_ok_and(|ready| ready.first() == Some(&true))
    }

    /// Waits until it has ended, for so many milliseconds at most; then it is ended.
    pub fn end_within(&self, milliseconds: u32) {
        if !self.is_over(milliseconds) {
            // SAFETY: integers, and no signal information.
            unsafe {
                let fd = self.fd.as_raw_fd();
                let nothing = std::ptr::null::<libc::siginfo_t>();
                libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, nothing, 0);
            }
            self.is_over(milliseconds);
        }
        self.has_ended();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn it_has_nothing_but_what_it_is_given() {
        let (mut read, write) = std::io::pipe().unwrap();
        let look = || {
            let mut write = std::fs::File::from(write.as_fd().try_clone_to_owned().unwrap());
            let mut links: Vec<String> = std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
                .map(|link| link.display().to_string())
                .filter(|link| !link.starts_with("/proc/"))
                .map(|link| link.split(':').next().unwrap_or_default().to_owned())
                .collect();
            links.sort();
            let line = std::fs::read_to_string("/proc/self/cmdline").unwrap();
            let line = line.trim_end_matches('\0');
            let told = format!(
                "{links:?} {line} {}",
                std::fs::read_link("/proc/self/cwd").unwrap().display()
            );
            std::io::Write::write_all(&mut write, told.as_bytes()).unwrap();
        };
        let apart = fork(
            c"apart",
            &[write.as_fd()],
            std::panic::AssertUnwindSafe(look),
        )
        .unwrap();
        drop(write);
        let mut told = String::new();
        read.read_to_string(&mut told).unwrap();
        let null = r#""/dev/null", "/dev/null", "/dev/null""#;
        assert_eq!(told, format!(r#"[{null}, "pipe", "pipe"] apart /"#));
        apart.end_within(10_000);
        assert!(apart.has_ended());
    }
}
