//! Generated code that we run ourselves: the blocks of a probe program that belong to no place in the
//! target (`BEGIN`, `END`, `interval`). Decides nothing; what the code may touch is the caller's
//! promise to itself: it is made by `arch` for memory of ours.

use std::io;
use std::ptr::NonNull;

use nix::libc;

pub mod trial;

/// Code in memory that can be run and no longer written.
#[derive(Debug)]
pub struct Native {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is read-only code that lives as long as `Native`.
unsafe impl Send for Native {}
// SAFETY: as above; `&Native` lets it be run, which any thread may.
unsafe impl Sync for Native {}

impl Native {
    /// Puts code into memory of its own. `code(address)` is asked once for the bytes that belong at
    /// `address`, at most `len` of them.
    pub fn new(len: usize, code: impl FnOnce(u64) -> Option<Vec<u8>>) -> io::Result<Native> {
        let len = len.max(1).next_multiple_of(4096);
        let write = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh private mapping at an address the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, write, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let native = Native { start, len };
        let bytes = code(start.as_ptr() as u64).filter(|bytes| bytes.len() <= len);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the mapping has `len` bytes, nobody else knows it, and it is no part of `bytes`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.as_ptr(), bytes.len()) };
        let run = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: the mapping just made; nothing writes to it any more.
        if unsafe { libc::mprotect(start.as_ptr().cast(), len, run) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(native)
    }

    /// Runs it from its first byte until it returns. It is code of the back end's, so it saves what it
    /// uses; it writes to blocks and maps by the addresses it was made for.
    pub fn run(&self) {
        // SAFETY: `start` is code that ends in `ret`, keeps every register and the stack as it
        // found them, and skips the red zone. The clobbers are more than it changes: flags.
        unsafe {
            std::arch::asm!("call {}", in(reg) self.start.as_ptr(), clobber_abi("C"));
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the range mapped in `new`; nobody runs in it: `run` borrows.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
