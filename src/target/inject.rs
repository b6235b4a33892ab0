//! What we put into the target: one shared memory object for counters, rings and code, and a page
//! with the alive word. Code is executable there and writable only in our own mapping of it.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::Context as _;

use super::process::Process;
use super::remote::{MapRequest, Remote};
use super::room::Space;
use crate::abi::{self, Layout};
use crate::base::{Addr, Span, Tid};
use crate::sys::errno;
use crate::sys::file::open_target_fd;
use crate::sys::procfs;
use crate::sys::shm::Shared;

const PAGE: u64 = 4096;

// mman-linux.h, mman-common.h, memfd.h: the kernel's interface, the same on every x86-64 Linux.
const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MADV_DONTFORK: u64 = 10;
const MADV_DONTDUMP: u64 = 16;
const MADV_WIPEONFORK: u64 = 18;
const MFD_CLOEXEC: u64 = 1;
const MFD_ALLOW_SEALING: u64 = 2;
const MFD_EXEC: u64 = 0x10;

/// What is needed in the target.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counters and rings.
    pub layout: Layout,
    /// For each slab of code: what must be within its reach, and its size in bytes.
    pub slabs: Vec<(Span, u64)>,
}

/// Code memory near some text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slab {
    /// Where it lies in the target.
    pub span: Span,
    /// Where it lies in the shared object.
    pub offset: u64,
}

/// What stands in the target.
#[derive(Debug)]
pub struct Injected {
    /// Our mapping of the object.
    pub shared: Arc<Shared>,
    /// Sizes of the blocks.
    pub layout: Layout,
    /// The alive word.
    pub alive: Addr,
    /// `D`: where block 0 lies low.
    pub shared_block: Addr,
    /// Where all blocks lie, block 0 included.
    pub blocks: Addr,
    /// Code memory, in the order of the request; `None` where there was no room.
    pub slabs: Vec<Option<Slab>>,
    /// Everything we mapped there.
    pub mapped: Vec<Span>,
}

impl Injected {
    /// Makes and maps everything, by system calls of the stopped thread `tid`. On failure nothing
    /// is left behind.
    pub fn new(process: &mut Process, tid: Tid, request: &Request) -> anyhow::Result<Injected> {
        let maps = process.maps().context("reading its mappings")?;
        let mut space = Space::new(&maps, procfs::start_brk(process.pid));
        let mut remote = Remote::begin(process, tid).context("borrowing a thread of it")?;
        let mut mapped = Vec::new();
        let result = build(&mut remote, &mut space, request, &mut mapped);
        if result.is_err() {
            for span in &mapped {
                // The first error is the one to tell.
                let _ = remote.unmap(span.start, span.len());
            }
        }
        let finished = remote.finish().context("giving its thread back");
        let mut injected = result?;
        finished?;
        process
            .keep_frames_in(Some(Span {
                start: injected.alive - abi::FRAME_SIZE,
                end: injected.alive,
            }))
            .context("writing to our memory in it")?;
        injected.mapped = mapped;
        Ok(injected)
    }

    /// Where block `index` lies in the target.
    pub fn block(&self, index: u32) -> Addr {
        self.blocks + self.layout.block(index)
    }

    /// The gs base of a thread that owns block `index`; 0 for the shared block.
    pub fn gs_base(&self, index: u32) -> u64 {
        if index == 0 {
            0
        } else {
            self.block(index).0.wrapping_sub(self.shared_block.0)
        }
    }

    /// Makes a block ready for its first owner. Others are not touched: that would give them memory.
    pub fn prepare_block(&self, index: u32) {
        let at = self.layout.block(index);
        // A random start keeps what an earlier lap left in the ring from passing for a record.
        let start = random_position();
        self.shared.store(at + u64::from(abi::HEAD), start);
        self.shared.store(at + u64::from(abi::TAIL), start);
        self.set_owner(index, abi::NO_OWNER);
    }

    /// Makes a thread the owner of a block, or the block nobody's.
    pub fn set_owner(&self, index: u32, fs_base: u64) {
        self.shared
            .store(self.layout.block(index) + u64::from(abi::OWNER), fs_base);
    }

    /// Lets detours do their work, or pass straight through.
    pub fn set_alive(&self, process: &Process, alive: bool) -> io::Result<()> {
        process
            .memory
            .write(self.alive, &u64::from(alive).to_le_bytes())
    }

    /// Where code of ours lies, in order.
    pub fn code(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.slabs.iter().flatten().map(|slab| slab.span).collect();
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// Whether an address is in code of ours.
    pub fn is_code(&self, at: Addr) -> bool {
        self.slabs
            .iter()
            .flatten()
            .any(|slab| slab.span.contains(at))
    }

    /// Writes code through our own mapping.
    pub fn write_code(&self, at: Addr, bytes: &[u8]) -> bool {
        let slab = self
            .slabs
            .iter()
            .flatten()
            .find(|slab| slab.span.contains(at));
        slab.is_some_and(|slab| {
            let offset = at.0 - slab.span.start.0;
            offset + bytes.len() as u64 <= slab.span.len()
                && self.shared.copy_in(slab.offset + offset, bytes)
        })
    }
}

fn build(
    remote: &mut Remote<'_>,
    space: &mut Space,
    request: &Request,
    mapped: &mut Vec<Span>,
) -> anyhow::Result<Injected> {
    let layout = request.layout;
    let code: u64 = request
        .slabs
        .iter()
        .map(|(_, len)| len.next_multiple_of(PAGE))
        .sum();
    let data = layout.size();
    let fd = memory_object(remote)?;
    let version = u64::from(abi::VERSION);
    let shared = open_target_fd(remote.tid(), fd)
        .and_then(|file| {
            // First of all: by this it is known, and taken away, when we die on the way.
            file.write_all_at(&version.to_le_bytes(), abi::VERSION_AT.into())?;
            file.write_all_at(&abi::MAGIC.to_le_bytes(), abi::MAGIC_AT.into())?;
            Shared::map(&file, data + code)
        })
        .with_context(|| format!("sizing {} bytes of shared memory", data + code));
    let result = shared.and_then(|shared| {
        let low = space.low(abi::FRAME_SIZE + abi::ALIVE_SIZE + layout.block_size());
        let frames = low.context("no room below 2 GiB for the shared block")?;
        let alive = frames + abi::FRAME_SIZE;
        let shared_block = alive + abi::ALIVE_SIZE;
        let access = PROT_READ | PROT_WRITE;
        let fixed = MAP_SHARED | MAP_FIXED_NOREPLACE;
        let block = layout.block_size();
        map(
            remote,
            mapped,
            MapRequest {
                at: shared_block,
                len: block,
                protection: access,
                flags: fixed,
                fd,
                offset: 0,
            },
        )?;
        for (at, len, protection) in [
            (frames, abi::FRAME_SIZE, access),
            (alive, abi::ALIVE_SIZE, PROT_READ),
        ] {
            map(
                remote,
                mapped,
                MapRequest {
                    at,
                    len,
                    protection,
                    flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                    fd: -1,
                    offset: 0,
                },
            )?;
        }
        // A fork child reads 0 and passes straight through until its tracer says otherwise.
        remote
            .advise(alive, abi::ALIVE_SIZE, MADV_WIPEONFORK)
            .context("madvise(MADV_WIPEONFORK)")?;
        let whole = MapRequest {
            at: Addr(0),
            len: data,
            protection: access,
            flags: MAP_SHARED,
            fd,
            offset: 0,
        };
        let blocks = map(remote, mapped, whole)?;
        for (at, len) in [
            (frames, abi::FRAME_SIZE),
            (shared_block, block),
            (blocks, data),
        ] {
            remote
                .advise(at, len, MADV_DONTFORK)
                .context("madvise(MADV_DONTFORK)")?;
            remote
                .advise(at, len, MADV_DONTDUMP)
                .context("madvise(MADV_DONTDUMP)")?;
        }
        mapped.iter().for_each(|&span| space.take(span));
        let mut slabs = Vec::new();
        let mut offset = data;
        for &(near, len) in &request.slabs {
            let len = len.next_multiple_of(PAGE);
            for (at, word) in [abi::MAGIC, version, shared_block.0].iter().enumerate() {
                shared.store(offset + 8 * at as u64, *word);
            }
            slabs.push(slab(remote, mapped, space, (near, len), (fd, offset)));
            offset += len;
        }
        let injected = Injected {
            shared: Arc::new(shared),
            layout,
            alive,
            shared_block,
            blocks,
            slabs,
            mapped: Vec::new(),
        };
        injected.prepare_block(0);
        Ok(injected)
    });
    let closed = remote.close(fd).context("closing the memory object");
    let injected = result?;
    closed?;
    Ok(injected)
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

fn map(
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

fn slab(
    remote: &mut Remote<'_>,
    mapped: &mut Vec<Span>,
    space: &mut Space,
    (near, len): (Span, u64),
    (fd, offset): (i64, u64),
) -> Option<Slab> {
    let place = space.near(near, len)?;
    let request = MapRequest {
        at: place,
        len,
        protection: PROT_READ | PROT_EXEC,
        flags: MAP_SHARED | MAP_FIXED_NOREPLACE,
        fd,
        offset,
    };
    let at = map(remote, mapped, request).ok()?;
    space.take(Span::new(at, len));
    // Only what core dumps hold suffers when this fails.
    let _ = remote.advise(at, len, MADV_DONTDUMP);
    Some(Slab {
        span: Span::new(at, len),
        offset,
    })
}

/// A multiple of 64 that nobody can guess.
fn random_position() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) & !63
}
