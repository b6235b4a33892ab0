//! Starting a program so that it can be seized before it becomes that program. Its signal mask,
//! its SIGPIPE and its descriptors are as the caller of kptrace left them.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

use super::poll::SignalMask;
use crate::base::Pid;

/// Whether SIGPIPE was ignored when this process started: Rust's runtime ignores it before `main`,
/// so a constructor looks first.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn look_at_sigpipe() {
    // SAFETY: reads the current action into zeroed, writable memory; async-signal-safe, and runs
    // before any thread exists.
    let ignored = unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut action);
        action.sa_sigaction == libc::SIG_IGN
    };
    PIPE_IGNORED.store(ignored, Ordering::Relaxed);
}

// SAFETY: `.init_array` holds pointers to functions of this type, which the loader calls once
// before `main` (System V gABI, "Initialization and Termination Functions").
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK_AT_SIGPIPE: extern "C" fn() = look_at_sigpipe;

/// A forked child that waits to be let go, before `execve`.
#[derive(Debug)]
pub struct Waiting {
    /// The child.
    pub pid: Pid,
    go: File,
    failed: File,
}

fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` is writable for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: two fresh descriptors that nobody else owns.
    Ok(unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) })
}

/// Forks a child that will become `command` when told to. Call it while this process has one
/// thread.
pub fn fork(command: &[OsString], mask: SignalMask) -> io::Result<Waiting> {
    let words: Vec<CString> = command
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()?;
    let mut argv: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    let Some(&program) = argv.first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    argv.push(std::ptr::null());
    let (wait_go, go) = pipe()?;
    let (failed, tell_failed) = pipe()?;
    // SAFETY: we have one thread, so the child has a whole, unlocked process; it runs only
    // `child`, which never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => child(
            program,
            &argv,
            mask,
            wait_go.as_raw_fd(),
            go.as_raw_fd(),
            tell_failed.as_raw_fd(),
        ),
        pid => Ok(Waiting {
            pid: Pid(pid),
            go,
            failed,
        }),
    }
}

fn child(
    program: *const libc::c_char,
    argv: &[*const libc::c_char],
    mask: SignalMask,
    wait_go: i32,
    go: i32,
    failed: i32,
) -> ! {
    let pipe = if PIPE_IGNORED.load(Ordering::Relaxed) {
        libc::SIG_IGN
    } else {
        libc::SIG_DFL
    };
    // SAFETY: async-signal-safe calls in the only thread of a fresh process; `argv` is
    // NUL-terminated and lives until the end. Closing our copy of `go` lets the read end if the
    // tracer dies.
    unsafe {
        libc::close(go);
        let mut byte = 0_u8;
        while libc::read(wait_go, (&raw mut byte).cast(), 1) == -1
            && *libc::__errno_location() == libc::EINTR
        {}
        if byte != b'g' {
            libc::_exit(125);
        }
        libc::signal(libc::SIGPIPE, pipe);
        libc::sigprocmask(libc::SIG_SETMASK, mask.0.as_ref(), std::ptr::null_mut());
        libc::execvp(program, argv.as_ptr());
        let errno = (*libc::__errno_location()).to_le_bytes();
        libc::write(failed, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

impl Waiting {
    /// Lets the child call `execve`.
    pub fn go(&mut self) -> io::Result<()> {
        self.go.write_all(b"g")
    }

    /// After the child has ended without becoming the program: why `execve` failed.
    pub fn failure(mut self) -> io::Error {
        let mut errno = [0; 4];
        match self.failed.read_exact(&mut errno) {
            Ok(()) => io::Error::from_raw_os_error(i32::from_le_bytes(errno)),
            Err(_) => io::Error::other("it ended before it began"),
        }
    }
}
