//! Memory of the target: reads by `process_vm_readv`, text writes by `/proc/PID/mem` (which writes
//! through read-only mappings, in a private copy).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use nix::libc;

use crate::base::{Addr, Pid, Tid};

/// The memory of one address space.
#[derive(Debug)]
pub struct Memory {
    tid: Tid,
    file: File,
}

impl Memory {
    /// Opens the memory that thread `tid` of process `pid` lives in. Any living thread will do: a
    /// leader that has ended no longer has memory.
    pub fn open(pid: Pid, tid: Tid) -> io::Result<Memory> {
        let path = format!("/proc/{pid}/task/{tid}/mem");
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Memory { tid, file })
    }

    /// The file behind it, which reads and writes at addresses.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The thread it was opened through.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Fills `out` from `at`; fails if a byte of it cannot be read.
    pub fn read(&self, at: Addr, out: &mut [u8]) -> io::Result<()> {
        let got = self.read_some(at, out)?;
        if got == out.len() {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EFAULT))
        }
    }

    /// The same, of the address space that was opened: a thread that began another program since has
    /// left it, and what it left is gone.
    pub fn read_own(&self, at: Addr, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, at.0)
    }

    /// Reads as much of `out` from `at` as is mapped; returns how much.
    pub fn read_some(&self, at: Addr, out: &mut [u8]) -> io::Result<usize> {
        let local = libc::iovec {
            iov_base: out.as_mut_ptr().cast(),
            iov_len: out.len(),
        };
        let remote = libc::iovec {
            iov_base: at.0 as *mut libc::c_void,
            iov_len: out.len(),
        };
        // SAFETY: `local` names exactly `out`, which is writable; the remote range is checked by
        // the kernel in the other process.
        let got = unsafe {
            libc::process_vm_readv(self.tid.0, &raw const local, 1, &raw const remote, 1, 0)
        };
        match usize::try_from(got) {
            Ok(got) if got > 0 || out.is_empty() => Ok(got),
            // Pages without read permission, or a kernel that refuses the call: the file reads on.
            _ => self.file.read_at(out, at.0),
        }
    }

    /// The word at `at`.
    pub fn word(&self, at: Addr) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes 0 to the word at each of these places, which are writable.
    pub fn clear_words(&self, places: &[Addr]) -> io::Result<()> {
        // uio.h, UIO_MAXIOV.
        const AT_ONCE: usize = 1024;
        let mut zero = 0_u64;
        let word = |base: *mut libc::c_void| libc::iovec {
            iov_base: base,
            iov_len: size_of::<u64>(),
        };
        for places in places.chunks(AT_ONCE) {
            let local = vec![word((&raw mut zero).cast()); places.len()];
            let remote = places.iter().map(|at| word(at.0 as *mut libc::c_void));
            let remote: Vec<libc::iovec> = remote.collect();
            let count = places.len() as libc::c_ulong;
            // SAFETY: every local range is `zero`, which is only read; the remote ranges are checked
            // by the kernel in the other process.
            let put = unsafe {
                libc::process_vm_writev(
                    self.tid.0,
                    local.as_ptr(),
                    count,
                    remote.as_ptr(),
                    count,
                    0,
                )
            };
            // What a kernel that refuses the call left is written one by one.
            let done = usize::try_from(put).unwrap_or(0) / size_of::<u64>();
            for &at in places.get(done..).unwrap_or_default() {
                self.write(at, &zero.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// Writes `bytes` at `at`, read-only text included.
    pub fn write(&self, at: Addr, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at.0)
    }
}
