//! Shared memory: our mapping of an object that the target made, and bounds-checked cells in it.
//! The target may write any of it at any time, so every access is atomic or a copy.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

/// Bytes of an object that are not mapped here when it was made by [`Shared::create_behind`].
pub const HEAD_PAGE: u64 = 4096;

/// A shared mapping of an object; unmapped when dropped.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that lives as long as `Shared`; every access goes through
// atomics or byte copies, which any thread may make.
unsafe impl Send for Shared {}
// SAFETY: as above; `&Shared` gives no plain references into the mapping.
unsafe impl Sync for Shared {}

impl Shared {
    /// Sizes the object behind `file` (sparse), seals its size, and maps it readable and writable.
    pub fn map(file: &File, len: u64) -> io::Result<Shared> {
        seal(file, len)?;
        map(file, 0, len, 0)
    }

    /// An object of our own, closed at exec, and the descriptor to pass on.
    pub fn create(len: u64) -> io::Result<(Shared, File)> {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
        let file = File::from(memfd_create(c"kptrace", flags)?);
        Ok((Shared::map(&file, len)?, file))
    }

    /// An object of our own without a name, as those are that targets make: its first page holds
    /// `head`, which we do not map; the `len` bytes behind it are mapped where 31 bits of address are
    /// enough.
    pub fn create_behind(head: &[u8], len: u64) -> io::Result<(Shared, File)> {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
        let file = File::from(memfd_create(c"", flags)?);
        let page = HEAD_PAGE;
        if head.len() as u64 > page {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        file.write_all_at(head, 0)?;
        let size = len.checked_add(page).ok_or(io::ErrorKind::OutOfMemory)?;
        seal(&file, size)?;
        let shared = map(&file, page, len, libc::MAP_32BIT)?;
        Ok((shared, file))
    }

    /// An object of our own, mapped where 31 bits of address are enough: generated code that we run
    /// ourselves reaches it there.
    pub fn create_low(len: u64) -> io::Result<(Shared, File)> {
        let (_, file) = Shared::create(len)?;
        Ok((map(&file, 0, len, libc::MAP_32BIT)?, file))
    }

    /// Where it is mapped in our own memory.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// An object of our own: for tests of what is built on one.
    #[cfg(test)]
    pub fn anonymous(len: u64) -> io::Result<Shared> {
        Shared::create(len).map(|(shared, _)| shared)
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn cell(&self, offset: u64) -> Option<&AtomicU64> {
        let offset = usize::try_from(offset).ok()?;
        if !offset.is_multiple_of(8) || offset.checked_add(8)? > self.len {
            return None;
        }
        // SAFETY: within the mapping and aligned to 8 (the mapping is page aligned); an atomic
        // may be shared with another process's writes.
        Some(unsafe { &*self.start.as_ptr().add(offset).cast::<AtomicU64>() })
    }

    /// The word at `offset`; 0 outside the object. What follows it in program order is read
    /// after it.
    pub fn load(&self, offset: u64) -> u64 {
        self.cell(offset)
            .map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    /// Sets the word at `offset`; ignored outside the object.
    pub fn store(&self, offset: u64, value: u64) {
        if let Some(cell) = self.cell(offset) {
            cell.store(value, Ordering::Release);
        }
    }

    /// Sets the word at `offset` to `new` if it is `old`; else tells what it is. Outside the object
    /// it is 0 and stays so.
    pub fn compare_exchange(&self, offset: u64, old: u64, new: u64) -> Result<(), u64> {
        let Some(cell) = self.cell(offset) else {
            return if old == 0 { Ok(()) } else { Err(0) };
        };
        cell.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }

    /// Copies bytes out; false when the range is not within the object.
    pub fn copy_out(&self, offset: u64, out: &mut [u8]) -> bool {
        let Some(start) = self.range(offset, out.len()) else {
            return false;
        };
        // SAFETY: `range` checked the source; `out` is ours and does not overlap it. A racing
        // write by the target tears at worst bytes that are untrusted anyway.
        unsafe { std::ptr::copy_nonoverlapping(start, out.as_mut_ptr(), out.len()) };
        true
    }

    /// Copies bytes in; false when the range is not within the object.
    pub fn copy_in(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(start) = self.range(offset, bytes.len()) else {
            return false;
        };
        // SAFETY: `range` checked the destination; `bytes` is ours.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
        true
    }

    fn range(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        (offset.checked_add(len)? <= self.len).then(|| {
            // SAFETY: the result is within the mapping or one past its end.
            unsafe { self.start.as_ptr().add(offset) }
        })
    }
}

/// Sizes an object, for good.
fn seal(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: an integer command on an open descriptor.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Maps `len` bytes of a sealed object from `offset` on; `how` are more flags of `mmap(2)`.
fn map(file: &File, offset: u64, len: u64, how: i32) -> io::Result<Shared> {
    let too_large = |_| io::Error::from_raw_os_error(libc::ENOMEM);
    let offset = libc::off_t::try_from(offset).map_err(too_large)?;
    let len = usize::try_from(len).map_err(too_large)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | how;
    // SAFETY: a fresh mapping at an address the kernel chooses. The size is sealed, so no access
    // within `len` can fault for a shrunk object.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            access,
            flags,
            file.as_raw_fd(),
            offset,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: the range just mapped; only advice, failure is harmless.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTDUMP) };
    Ok(Shared { start, len })
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the range mapped in `map`; nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_object_is_touched() {
        let shared = Shared::anonymous(4096).unwrap();
        shared.store(4096, 1);
        shared.store(4089, 1);
        assert_eq!(shared.load(4096), 0);
        assert!(!shared.copy_out(4090, &mut [0; 8]));
        assert!(!shared.copy_in(u64::MAX, &[1]));
        shared.store(4088, 7);
        assert_eq!(shared.load(4088), 7);
    }
}
