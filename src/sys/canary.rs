//! Trying system calls in a child of ours: filters (`seccomp(2)`) may refuse them, or end whoever
//! makes them. The child runs under the filters of its maker.

use std::io;

use nix::libc;

/// What the calls made in a target are, in the order in which they are tried.
const NAMES: [&str; 10] = [
    "memfd_create",
    "mmap",
    "mmap with PROT_EXEC",
    "madvise",
    "rt_sigaction",
    "munmap",
    "close",
    "socket of AF_UNIX",
    "bind",
    "recvmsg",
];
/// How many of these every target makes; the others those that are passed a descriptor.
const ALWAYS: u8 = 7;
/// Where a child says how far it came when it is refused a call.
const FAILED: i32 = 100;

/// The first call that may not be made, if there is one. `passing`: those by which a descriptor is
/// passed are tried as well.
pub fn forbidden(passing: bool) -> io::Result<Option<&'static str>> {
    let page = 4096;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping at an address the kernel chooses.
    let told = unsafe { libc::mmap(std::ptr::null_mut(), page, access, flags, -1, 0) };
    if told == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let step = told.cast::<u8>();
    // SAFETY: the child makes system calls only and then ends, so that it does not matter what
    // other threads held when it was forked; `step` is a writable byte that both share.
    let result = unsafe {
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => libc::_exit(attempt(step, passing)),
            child => wait(child).map(|status| {
                let fine = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                let reached = usize::from(step.read_volatile());
                (!fine).then(|| NAMES.get(reached).copied().unwrap_or("_exit"))
            }),
        }
    };
    // SAFETY: the range mapped above, which nothing refers to any more.
    unsafe { libc::munmap(told, page) };
    result
}

fn wait(child: i32) -> io::Result<i32> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable for the call.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if waited == child {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Makes the calls one after the other; the number of the one that is tried stands in `step`.
///
/// # Safety
///
/// `step` must be writable. Makes system calls only: for a child that was forked from a process
/// with threads.
unsafe fn attempt(step: *mut u8, passing: bool) -> i32 {
    let page = 4096;
    // SAFETY: the byte is the caller's to give; the calls are given memory of this child alone, and
    // what they map nobody refers to.
    unsafe {
        step.write_volatile(0);
        let fd = libc::syscall(libc::SYS_memfd_create, c"".as_ptr(), libc::MFD_CLOEXEC);
        let Ok(fd) = i32::try_from(fd) else {
            return FAILED;
        };
        if fd < 0 {
            return FAILED;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let mut last = libc::MAP_FAILED;
        for (number, protection) in [(1, access), (2, libc::PROT_READ | libc::PROT_EXEC)] {
            step.write_volatile(number);
            last = libc::mmap(
                std::ptr::null_mut(),
                page,
                protection,
                libc::MAP_SHARED,
                fd,
                0,
            );
            if last == libc::MAP_FAILED {
                return FAILED;
            }
        }
        step.write_volatile(3);
        if libc::madvise(last, page, libc::MADV_DONTFORK) == -1 {
            return FAILED;
        }
        step.write_volatile(4);
        let mut action = std::mem::zeroed::<libc::sigaction>();
        if libc::sigaction(libc::SIGTRAP, std::ptr::null(), &raw mut action) == -1 {
            return FAILED;
        }
        step.write_volatile(5);
        if libc::munmap(last, page) == -1 {
            return FAILED;
        }
        step.write_volatile(6);
        if libc::close(fd) == -1 {
            return FAILED;
        }
        if passing { receive(step) } else { 0 }
    }
}

/// The calls by which a descriptor is received.
///
/// # Safety
///
/// As for [`attempt`].
unsafe fn receive(step: *mut u8) -> i32 {
    // SAFETY: the byte is the caller's to give; the calls are given memory of this function alone.
    unsafe {
        step.write_volatile(ALWAYS);
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let socket = libc::socket(libc::AF_UNIX, kind, 0);
        if socket == -1 {
            return FAILED;
        }
        step.write_volatile(ALWAYS + 1);
        // The kernel chooses a name when none is given.
        let family = libc::AF_UNIX as libc::sa_family_t;
        let len = std::mem::size_of_val(&family) as libc::socklen_t;
        if libc::bind(socket, (&raw const family).cast(), len) == -1 {
            return FAILED;
        }
        step.write_volatile(ALWAYS + 2);
        let mut message = std::mem::zeroed::<libc::msghdr>();
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let came = libc::recvmsg(socket, &raw mut message, flags);
        if came == -1 && *libc::__errno_location() != libc::EAGAIN {
            return FAILED;
        }
    }
    0
}
