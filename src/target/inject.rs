//! What we put into the target: one shared memory object for counters, rings and code, and a page
//! with the alive word. Code is executable there and writable only in our own mapping of it.

use std::io;
use std::sync::Arc;

use anyhow::Context as _;

use super::facts::Heads;
use super::mapping::{
    MADV_DONTDUMP, MADV_DONTFORK, MADV_WIPEONFORK, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_SHARED,
    PROT_EXEC, PROT_READ, PROT_WRITE, map, private, with_object,
};
use super::pools::map_pools;
use super::process::Process;
use super::remote::{MapRequest, Remote};
use super::room::Space;
use super::session_maps::{CLOSES, SessionMaps};
use crate::abi::{self, Activations, Layout};
use crate::base::{Addr, Span, Tid};
use crate::sys::procfs;
use crate::sys::shm::Shared;

const PAGE: u64 = 4096;
/// Bytes of what unwinders are told.
const UNWIND: u64 = (abi::UNWIND_SLOT * abi::UNWIND_SLOTS) as u64;
/// Bytes at the start of the memory for frames that are no frame's.
const FRAMES_MARK: u64 = 64;
/// Where in the head of code stands what calls are made by that leave nothing open.
const CALLS_AT: u64 = 24;
const _: () = assert!(CALLS_AT + CLOSES.len() as u64 <= abi::CODE_HEAD);

/// What is needed in the target.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counters and rings.
    pub layout: Layout,
    /// For each slab of code: what must be within its reach, and its size in bytes.
    pub slabs: Vec<(Span, u64)>,
    /// Bytes of a table beside them; it may lie anywhere.
    pub table: u64,
    /// The session's maps, if it has any.
    pub maps: Option<Arc<SessionMaps>>,
    /// Pools of activations, at most, and how many each is to hold; none when no returns are probed.
    pub pools: Option<(u32, u32)>,
}

/// Code memory near some text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slab {
    /// Where it lies in the target.
    pub span: Span,
    /// Which of the objects holds it.
    object: usize,
    /// Where it lies in that.
    offset: u64,
}

impl Slab {
    /// Where it lies in its object.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

/// What stands in the target.
#[derive(Debug)]
pub struct Injected {
    /// Our mapping of the object with the blocks.
    pub shared: Arc<Shared>,
    /// Objects with code: that one, and those that came later.
    objects: Vec<Arc<Shared>>,
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
    /// Tables, each in place of the one before; code like slabs.
    pub tables: Vec<Slab>,
    /// The session's object.
    pub maps: Option<Span>,
    /// Where activations lie, if returns are probed.
    pub activations: Option<Activations>,
    /// What unwinders are told.
    unwind: Option<Slab>,
    /// Everything we mapped there.
    pub mapped: Vec<Span>,
}

impl Injected {
    /// Makes and maps everything, by system calls of the stopped thread `tid`. On failure nothing
    /// is left behind.
    pub fn new(process: &mut Process, tid: Tid, request: &Request) -> anyhow::Result<Injected> {
        let maps = process.maps().context("reading its mappings")?;
        let mut space = Space::new(&maps, procfs::start_brk(process.pid));
        let injected = in_thread(process, tid, |remote, mapped| {
            let mut injected = build(remote, &mut space, request, mapped)?;
            injected.mapped.clone_from(mapped);
            Ok(injected)
        })?;
        injected.offer_frames(process)?;
        Ok(injected)
    }

    /// Adds a table, by system calls of the stopped thread `tid`. Those before stay: threads may be in
    /// them.
    pub fn add_table(&mut self, process: &mut Process, tid: Tid, len: u64) -> anyhow::Result<()> {
        let known = self.slabs.len();
        self.add_slabs(process, tid, &[(self.anywhere(), len)])?;
        let table = self.slabs.drain(known..).flatten().next();
        self.tables
            .push(table.context("no room for the table of its breakpoints")?);
        Ok(())
    }

    /// What any place is near enough to.
    fn anywhere(&self) -> Span {
        Span::new(self.shared_block, self.layout.block_size())
    }

    /// The object that holds code memory.
    pub fn object(&self, slab: &Slab) -> Option<Arc<Shared>> {
        self.objects.get(slab.object).cloned()
    }

    fn all_code(&self) -> impl Iterator<Item = &Slab> {
        self.slabs
            .iter()
            .flatten()
            .chain(&self.tables)
            .chain(&self.unwind)
    }

    /// Adds code memory, by system calls of the stopped thread `tid`.
    pub fn add_slabs(
        &mut self,
        process: &mut Process,
        tid: Tid,
        slabs: &[(Span, u64)],
    ) -> anyhow::Result<()> {
        let code = code_size(slabs);
        if code == 0 {
            self.slabs.extend(slabs.iter().map(|_| None));
            return Ok(());
        }
        let maps = process.maps().context("reading its mappings")?;
        let mut space = Space::new(&maps, procfs::start_brk(process.pid));
        let number = self.objects.len();
        let (object, more, mapped) = in_thread(process, tid, |remote, mapped| {
            let low = self.shared_block;
            let (object, more) = with_object(remote, code, |remote, fd, object| {
                let mut offset = 0;
                let mut more = Vec::new();
                for &(near, len) in slabs {
                    mark_code(object, offset, low);
                    let place = (fd, number, offset);
                    more.push(slab(remote, mapped, &mut space, (near, len), place));
                    offset += len.next_multiple_of(PAGE);
                }
                Ok(more)
            })?;
            Ok((object, more, mapped.clone()))
        })?;
        self.objects.push(Arc::new(object));
        self.slabs.extend(more);
        self.mapped.extend(mapped);
        Ok(())
    }

    /// The same for a forked child, at the same addresses, by system calls of its thread `tid`,
    /// which is stopped: blocks of its own, which it did not inherit, and code of its own in place of
    /// what it shares with its parent. Its alive word is 0 still.
    pub fn fork(&self, child: &mut Process, tid: Tid) -> anyhow::Result<Injected> {
        let slabs: Vec<Slab> = self.all_code().copied().collect();
        let (data, block) = (self.layout.size(), self.layout.block_size());
        let code: u64 = slabs.iter().map(|slab| slab.span.len()).sum();
        let (shared, ()) = in_thread(child, tid, |remote, mapped| {
            with_object(remote, data + code, |remote, fd, shared| {
                let mut offset = data;
                for slab in &slabs {
                    let len = slab.span.len();
                    let parent = self.objects.get(slab.object).context("no such object")?;
                    copy(parent, slab.offset, shared, offset, len);
                    remote.map(MapRequest {
                        at: slab.span.start,
                        len,
                        protection: PROT_READ | PROT_EXEC,
                        flags: MAP_SHARED | MAP_FIXED,
                        fd,
                        offset,
                    })?;
                    let _ = remote.advise(slab.span.start, len, MADV_DONTDUMP);
                    offset += len;
                }
                for (at, len) in [(self.shared_block, block), (self.blocks, data)] {
                    map(remote, mapped, blocks(at, len, fd, MAP_FIXED_NOREPLACE))?;
                    keep_private(remote, at, len)?;
                }
                let frames = self.frames();
                let private = private(frames.start, frames.len(), PROT_READ | PROT_WRITE);
                map(remote, mapped, private)?;
                keep_private(remote, frames.start, frames.len())
            })
        })?;
        let shared = Arc::new(shared);
        let mut offset = data;
        let mut moved = |slab: &Slab| {
            let moved = Slab {
                object: 0,
                offset,
                ..*slab
            };
            offset += slab.span.len();
            moved
        };
        let slabs = self.slabs.iter();
        let slabs = slabs.map(|slab| slab.as_ref().map(&mut moved)).collect();
        let injected = Injected {
            objects: vec![Arc::clone(&shared)],
            shared,
            slabs,
            tables: self.tables.iter().map(&mut moved).collect(),
            unwind: self.unwind.as_ref().map(moved),
            mapped: self.mapped.clone(),
            ..*self
        };
        injected.heads().prepare(0);
        injected.offer_frames(child)?;
        Ok(injected)
    }

    /// Where borrowed threads keep what they are to come back to.
    fn frames(&self) -> Span {
        Span {
            start: self.alive - abi::FRAME_SIZE,
            end: self.alive,
        }
    }

    fn offer_frames(&self, process: &mut Process) -> anyhow::Result<()> {
        let kept = process.keep_frames_in(Some(self.frames()));
        kept.context("writing to our memory in it")
    }

    /// Where the tables of the session's maps lie.
    pub fn tables(&self) -> Option<Addr> {
        self.maps.map(|maps| maps.start + abi::MAPS_HEAD)
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

    /// The heads of its blocks.
    pub fn heads(&self) -> Heads<'_> {
        Heads {
            shared: &self.shared,
            layout: &self.layout,
        }
    }

    /// Lets detours do their work, or pass straight through.
    pub fn set_alive(&self, process: &Process, alive: bool) -> io::Result<()> {
        process
            .memory
            .write(self.alive, &u64::from(alive).to_le_bytes())
    }

    /// Where code of ours lies, in order.
    pub fn code(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.all_code().map(|slab| slab.span).collect();
        spans.extend(self.activations.map(|activations| activations.thunks()));
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// Whether an address is in code of ours.
    pub fn is_code(&self, at: Addr) -> bool {
        let thunks = self.activations.map(|activations| activations.thunks());
        self.all_code().any(|slab| slab.span.contains(at))
            || thunks.is_some_and(|thunks| thunks.contains(at))
    }

    /// Writes code through our own mapping.
    pub fn write_code(&self, at: Addr, bytes: &[u8]) -> bool {
        let slab = self.all_code().find(|slab| slab.span.contains(at));
        slab.is_some_and(|slab| {
            let offset = at.0 - slab.span.start.0;
            let object = self.objects.get(slab.object);
            offset + bytes.len() as u64 <= slab.span.len()
                && object.is_some_and(|object| object.copy_in(slab.offset + offset, bytes))
        })
    }
}

/// Borrows a thread for some calls. What was mapped by them is unmapped when they fail.
fn in_thread<T>(
    process: &mut Process,
    tid: Tid,
    calls: impl FnOnce(&mut Remote<'_>, &mut Vec<Span>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut remote = Remote::begin(process, tid).context("borrowing a thread of it")?;
    let mut mapped = Vec::new();
    let result = calls(&mut remote, &mut mapped);
    if result.is_err() {
        for span in &mapped {
            // The first error is the one to tell.
            let _ = remote.unmap(span.start, span.len());
        }
    }
    let finished = remote.finish().context("giving its thread back");
    let result = result?;
    finished?;
    Ok(result)
}

fn code_size(slabs: &[(Span, u64)]) -> u64 {
    slabs
        .iter()
        .map(|(_, len)| len.next_multiple_of(PAGE))
        .sum()
}

fn copy(from: &Shared, at: u64, to: &Shared, place: u64, len: u64) {
    let mut page = [0; PAGE as usize];
    for offset in (0..len).step_by(PAGE as usize) {
        // Pages without code stay without memory.
        if from.copy_out(at + offset, &mut page) && page.iter().any(|&byte| byte != 0) {
            to.copy_in(place + offset, &page);
        }
    }
}

/// Writes what stands before the first detour of code at `offset`.
pub(super) fn mark_code(object: &Shared, offset: u64, low: Addr) {
    let words = [abi::MAGIC, u64::from(abi::VERSION), low.0];
    for (at, word) in words.into_iter().enumerate() {
        object.store(offset + 8 * at as u64, word);
    }
}

fn blocks(at: Addr, len: u64, fd: i64, how: u64) -> MapRequest {
    MapRequest {
        at,
        len,
        protection: PROT_READ | PROT_WRITE,
        flags: MAP_SHARED | how,
        fd,
        offset: 0,
    }
}

/// Children do not inherit it, core dumps do not hold it.
fn keep_private(remote: &mut Remote<'_>, at: Addr, len: u64) -> anyhow::Result<()> {
    remote
        .advise(at, len, MADV_DONTFORK)
        .context("madvise(MADV_DONTFORK)")?;
    remote
        .advise(at, len, MADV_DONTDUMP)
        .context("madvise(MADV_DONTDUMP)")
}

fn build(
    remote: &mut Remote<'_>,
    space: &mut Space,
    request: &Request,
    mapped: &mut Vec<Span>,
) -> anyhow::Result<Injected> {
    let layout = request.layout;
    let data = layout.size();
    let block = layout.block_size();
    let unwind = request.pools.map_or(0, |_| UNWIND);
    let size = data + code_size(&request.slabs) + request.table.next_multiple_of(PAGE) + unwind;
    let (shared, (alive, all, slabs, table, unwind)) =
        with_object(remote, size, |remote, fd, object| {
            let low = space.low(abi::FRAME_SIZE + abi::ALIVE_SIZE + block);
            let frames = low.context("no room below 2 GiB for the shared block")?;
            let alive = frames + abi::FRAME_SIZE;
            let low = alive + abi::ALIVE_SIZE;
            // First: what lies right before it is known to be ours by it.
            map(remote, mapped, blocks(low, block, fd, MAP_FIXED_NOREPLACE))?;
            let access = PROT_READ | PROT_WRITE;
            map(remote, mapped, private(frames, abi::FRAME_SIZE, access))?;
            map(remote, mapped, private(alive, abi::ALIVE_SIZE, PROT_READ))?;
            // A fork child reads 0 and passes straight through until its tracer says otherwise.
            remote
                .advise(alive, abi::ALIVE_SIZE, MADV_WIPEONFORK)
                .context("madvise(MADV_WIPEONFORK)")?;
            let all = map(remote, mapped, blocks(Addr(0), data, fd, 0))?;
            keep_private(remote, frames, abi::FRAME_SIZE)?;
            keep_private(remote, low, block)?;
            keep_private(remote, all, data)?;
            mapped.iter().for_each(|&span| space.take(span));
            let mut slabs = Vec::new();
            let mut offset = data;
            for &(near, len) in &request.slabs {
                let place = (fd, 0, offset);
                mark_code(object, offset, low);
                slabs.push(slab(remote, mapped, space, (near, len), place));
                offset += len.next_multiple_of(PAGE);
            }
            mark_code(object, offset, low);
            object.copy_in(offset + CALLS_AT, &CLOSES);
            let place = ((Span::new(low, block), request.table), (fd, 0, offset));
            let table = slab(remote, mapped, space, place.0, place.1);
            let table = table.context("no room for the table of its breakpoints")?;
            offset += request.table.next_multiple_of(PAGE);
            // Unwinders are told its address by instructions that hold 32 bits.
            let unwind = match space.low(unwind).filter(|_| unwind > 0) {
                Some(at) => slab_at(remote, mapped, space, (at, unwind), (fd, 0, offset)),
                None => None,
            };
            Ok((alive, all, slabs, table, unwind))
        })?;
    // With one descriptor at a time it serves who has only one left.
    let maps = request.maps.as_ref();
    let room = alive - abi::FRAME_SIZE + FRAMES_MARK;
    let code = table.span.start + CALLS_AT;
    let maps = maps.map(|maps| map_maps(remote, mapped, space, (maps, room, code)));
    let maps = maps.transpose().context("mapping the session's maps")?;
    let low = alive + abi::ALIVE_SIZE;
    let activations = request.pools.zip(unwind);
    let activations = activations
        .map(|(pools, unwind)| map_pools(remote, mapped, space, pools, (low, unwind.span.start)));
    let activations = activations.transpose();
    let activations = activations.context("mapping memory for calls that are to return")?;
    let shared = Arc::new(shared);
    let injected = Injected {
        objects: vec![Arc::clone(&shared)],
        shared,
        layout,
        maps,
        activations,
        unwind,
        alive,
        shared_block: alive + abi::ALIVE_SIZE,
        blocks: all,
        slabs,
        tables: vec![table],
        mapped: Vec::new(),
    };
    injected.heads().prepare(0);
    Ok(injected)
}

/// Maps the session's object. It is inherited: children that are followed have it, others lose it.
fn map_maps(
    remote: &mut Remote<'_>,
    mapped: &mut Vec<Span>,
    space: &mut Space,
    (maps, room, code): (&SessionMaps, Addr, Addr),
) -> anyhow::Result<Span> {
    let len = maps.size();
    let at = space.low(len).context("no room for them below 2 GiB")?;
    let descriptor = maps.pass(remote, room, code)?;
    let request = blocks(at, len, descriptor, MAP_FIXED_NOREPLACE);
    let done = map(remote, mapped, request).and_then(|at| {
        let kept = remote.advise(at, len, MADV_DONTDUMP);
        kept.context("madvise(MADV_DONTDUMP)")
    });
    let closed = remote.close(descriptor);
    done?;
    closed.context("closing their descriptor")?;
    let span = Span::new(at, len);
    space.take(span);
    Ok(span)
}

fn slab(
    remote: &mut Remote<'_>,
    mapped: &mut Vec<Span>,
    space: &mut Space,
    (near, len): (Span, u64),
    (fd, object, offset): (i64, usize, u64),
) -> Option<Slab> {
    let len = len.next_multiple_of(PAGE);
    if len == 0 {
        return None;
    }
    let at = space.near(near, len)?;
    slab_at(remote, mapped, space, (at, len), (fd, object, offset))
}

fn slab_at(
    remote: &mut Remote<'_>,
    mapped: &mut Vec<Span>,
    space: &mut Space,
    (at, len): (Addr, u64),
    (fd, object, offset): (i64, usize, u64),
) -> Option<Slab> {
    let request = MapRequest {
        at,
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
        object,
        offset,
    })
}
