//! Mapping memory in the target, by calls of a borrowed thread: the kernel's numbers, objects that have
//! no descriptor there afterwards. Knows nothing of what the memory is for.

use std::os::unix::fs::FileExt;

use anyhow::Context as _;

use super::remote::{MapRequest, Remote};
use crate::abi;
use crate::base::{Addr, Span};
use crate::sys::errno;
use crate::sys::file::open_target_fd;
use crate::sys::shm::Shared;

const PAGE: u64 = 4096;

// mman-linux.h, mman-common.h, memfd.h: the kernel's interface, the same on every x86-64 Linux.
pub(super) const PROT_READ: u64 = 1;
pub(super) const PROT_WRITE: u64 = 2;
pub(super) const PROT_EXEC: u64 = 4;
pub(super) const MAP_SHARED: u64 = 1;
pub(super) const MAP_PRIVATE: u64 = 2;
pub(super) const MAP_FIXED: u64 = 0x10;
pub(super) const MAP_ANONYMOUS: u64 = 0x20;
pub(super) const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
pub(super) const MADV_DONTFORK: u64 = 10;
pub(super) const MADV_DONTDUMP: u64 = 16;
pub(super) const MADV_WIPEONFORK: u64 = 18;
pub(super) const MFD_CLOEXEC: u64 = 1;
pub(super) const MFD_ALLOW_SEALING: u64 = 2;
pub(super) const MFD_EXEC: u64 = 0x10;

/// A request for private memory.
pub(super) fn private(at: Addr, len: u64, protection: u64) -> MapRequest {
    MapRequest {
        at,
        len,
        protection,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
        fd: -1,
        offset: 0,
    }
}

/// Makes a memory object in the target and maps it here; it has no descriptor there afterwards.
pub(super) fn with_object<T>(
    remote: &mut Remote<'_>,
    size: u64,
    work: impl FnOnce(&mut Remote<'_>, i64, &Shared) -> anyhow::Result<T>,
) -> anyhow::Result<(Shared, T)> {
    let fd = memory_object(remote)?;
    let shared = open_target_fd(remote.tid(), fd)
        .and_then(|file| {
            // First of all: by this it is known, and taken away, when we die on the way.
            let version = u64::from(abi::VERSION);
            file.write_all_at(&version.to_le_bytes(), abi::VERSION_AT.into())?;
            file.write_all_at(&abi::MAGIC.to_le_bytes(), abi::MAGIC_AT.into())?;
            Shared::map(&file, size)
        })
        .with_context(|| format!("sizing {size} bytes of shared memory"));
    let result = shared.and_then(|shared| work(remote, fd, &shared).map(|value| (shared, value)));
    let closed = remote.close(fd).context("closing the memory object");
    let made = result?;
    closed?;
    Ok(made)
}

fn memory_object(remote: &mut Remote<'_>) -> anyhow::Result<i64> {
    // The padding of an ELF header is zero: an empty name (gABI, e_ident).
    let vdso = remote.process().auxv.vdso;
    let header = if vdso != 0 {
        vdso
    } else {
        remote.process().auxv.phdr & !(PAGE - 1)
    };
    let name = Addr(header + 9);
    let flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    let made = match remote.memfd(name, flags | MFD_EXEC) {
        // Kernels before 6.3 do not know MFD_EXEC, and need none.
        Err(error) if errno::number(&error) == errno::EINVAL => remote.memfd(name, flags),
        other => other,
    };
    made.context("memfd_create in the target")
}

/// Maps memory in the target; what it is becomes one of `mapped`.
pub(super) fn map(
    remote: &mut Remote<'_>,
    mapped: &mut Vec<Span>,
    request: MapRequest,
) -> anyhow::Result<Addr> {
    let at = remote.map(request).map_err(|error| {
        let locked = errno::number(&error) == errno::EAGAIN;
        let hint = if locked {
            " (it locks its memory: mlockall)"
        } else {
            ""
        };
        anyhow::Error::new(error)
            .context(format!("mmap of {} bytes in the target{hint}", request.len))
    })?;
    // Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint.
    let span = Span::new(at, request.len);
    mapped.push(span);
    anyhow::ensure!(
        request.at.0 == 0 || at == request.at,
        "mmap gave another address"
    );
    Ok(at)
}
