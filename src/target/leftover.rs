//! What a kptrace that died left in a process: known by the magic word in its memory object, or at
//! the start of its code where a forked child has no more than that. Changes nothing.
//!
//! All of it is the process's to write, so a thing is taken for ours only when it looks as we map it
//! and lies where we map it.

use std::collections::BTreeMap;

use super::process::Process;
use crate::abi::{self, Activations};
use crate::base::{Addr, Span};
use crate::sys::mem::Memory;
use crate::sys::procfs::{self, Mapping};

/// What `maps` calls an object of ours: a memory file without a name.
const OBJECT: &str = "/memfd:";
/// Where shared blocks lie at the highest.
const LOW: u64 = 1 << 31;

/// What one session left.
#[derive(Clone, Debug, Default)]
pub struct Leftover {
    /// Where block 0 lies, or lay.
    pub low: Addr,
    /// Code of ours, in order.
    pub code: Vec<Span>,
    /// Blocks of threads.
    pub blocks: Vec<Span>,
    /// The alive word.
    pub alive: Option<Addr>,
    /// Private memory for frames.
    pub frames: Option<Span>,
    /// Where calls are kept that were to return through our code.
    pub activations: Option<Activations>,
    /// Everything of ours that is mapped.
    pub mapped: Vec<Span>,
    /// Descriptors of the object that are still open in the process.
    pub descriptors: Vec<i64>,
    /// Version of the layout.
    pub version: u64,
}

impl Leftover {
    /// Whether an address is in code of ours.
    pub fn is_code(&self, at: Addr) -> bool {
        self.code.iter().any(|span| span.contains(at))
    }

    /// Bytes of address space.
    pub fn size(&self) -> u64 {
        self.mapped.iter().map(|span| span.len()).sum()
    }
}

/// What the mappings of one object look like.
#[derive(Default)]
struct Object {
    marked: Option<(u64, Addr)>,
    /// The version of a session's maps, if it is these.
    maps: Option<u64>,
    code: Vec<Span>,
    data: Vec<Span>,
    activations: Option<Activations>,
}

impl Process {
    /// What sessions that are no more left in this process.
    pub fn leftovers(&self, maps: &[Mapping]) -> Vec<Leftover> {
        let mut objects: BTreeMap<u64, Object> = BTreeMap::new();
        let is_ours = |m: &&Mapping| m.shared && m.path == OBJECT && m.deleted;
        for mapping in maps.iter().filter(is_ours) {
            let object = objects.entry(mapping.inode).or_default();
            let start = mapping.span.start;
            if mapping.exec {
                object.code.push(mapping.span);
                object.marked = object.marked.or(code_mark(&self.memory, start));
                let calls = calls_mark(&self.memory, start);
                object.activations = object.activations.or(calls);
            } else {
                object.data.push(mapping.span);
                if mapping.offset == 0 && start.0 < LOW {
                    object.marked = block_mark(&self.memory, start).or(object.marked);
                    object.maps = maps_mark(&self.memory, start).or(object.maps);
                }
            }
        }
        let open = procfs::objects(self.pid, OBJECT);
        for (_, inode, head) in &open {
            let word = |at: u32| {
                let bytes = head.get(at as usize..at as usize + 8)?;
                bytes.try_into().ok().map(u64::from_le_bytes)
            };
            // It died before anything was mapped.
            match (word(abi::MAGIC_AT), word(abi::VERSION_AT)) {
                (Some(abi::MAGIC), Some(version)) => {
                    let object = objects.entry(*inode).or_default();
                    object.marked = object.marked.or(Some((version, Addr(0))));
                }
                (Some(abi::MAPS_MAGIC), version @ Some(_)) => {
                    let object = objects.entry(*inode).or_default();
                    object.maps = object.maps.or(version);
                }
                _ => {}
            }
        }
        // One session has several objects: code for what came later has one of its own.
        let mut sessions: BTreeMap<(Addr, u64), Leftover> = BTreeMap::new();
        let descriptors = |inode: u64| {
            let same = open.iter().filter(move |(_, other, _)| *other == inode);
            same.map(|(fd, _, _)| *fd)
        };
        // Maps do not say whose they are: they go by themselves.
        let mut shared: Option<Leftover> = None;
        for (inode, object) in objects {
            if let Some(version) = object.maps {
                let left = shared.get_or_insert_with(Leftover::default);
                left.version = version;
                left.mapped.extend(object.data);
                left.descriptors.extend(descriptors(inode));
                continue;
            }
            let Some((version, low)) = object.marked else {
                continue;
            };
            let left = sessions
                .entry((low, version))
                .or_insert_with(|| session(maps, version, low));
            left.mapped.extend(object.data.iter().chain(&object.code));
            left.blocks.extend(object.data);
            if let Some(activations) = object.activations {
                let words = activations.words();
                if private(maps, words, true).is_some() {
                    left.mapped.push(words);
                    left.activations = Some(activations);
                }
            }
            left.code.extend(object.code);
            left.descriptors.extend(descriptors(inode));
        }
        sessions.into_values().chain(shared).collect()
    }
}

/// A session by where its block 0 lies, with what is before that.
fn session(maps: &[Mapping], version: u64, low: Addr) -> Leftover {
    let before = |end: Addr, size: u64| Span {
        start: end - size.min(end.0),
        end,
    };
    let alive = private(maps, before(low, abi::ALIVE_SIZE), false);
    let frames = before(low - abi::ALIVE_SIZE.min(low.0), abi::FRAME_SIZE);
    let frames = private(maps, frames, true);
    Leftover {
        low,
        alive: alive.map(|span| span.start),
        frames,
        mapped: alive.into_iter().chain(frames).collect(),
        version,
        ..Leftover::default()
    }
}

/// A part of the process's memory, if it is such as we make for ourselves: private, of no file.
fn private(maps: &[Mapping], span: Span, write: bool) -> Option<Span> {
    let alike = |m: &&Mapping| {
        !m.shared && m.inode == 0 && m.path.is_empty() && m.read && !m.exec && m.write == write
    };
    let holds = |m: &&Mapping| m.span.start <= span.start && m.span.end >= span.end;
    maps.iter().filter(alike).find(holds).map(|_| span)
}

/// Where activations lie, if this is the code of their thunks.
fn calls_mark(memory: &Memory, start: Addr) -> Option<Activations> {
    code_mark(memory, start)?;
    let found = Activations::marked(|at| memory.word(start + at).ok())?;
    (u64::from(found.thunks) == start.0).then_some(found)
}

/// The version in block 0, if this is one.
fn block_mark(memory: &Memory, block: Addr) -> Option<(u64, Addr)> {
    let word = |at: u32| memory.word(block + u64::from(at)).ok();
    (word(abi::MAGIC_AT)? == abi::MAGIC).then_some((word(abi::VERSION_AT)?, block))
}

/// The version in a session's maps, if these are some.
fn maps_mark(memory: &Memory, start: Addr) -> Option<u64> {
    let word = |at: u32| memory.word(start + u64::from(at)).ok();
    (word(abi::MAGIC_AT)? == abi::MAPS_MAGIC).then(|| word(abi::VERSION_AT))?
}

/// The version at the start of code, and where block 0 lay.
fn code_mark(memory: &Memory, start: Addr) -> Option<(u64, Addr)> {
    let word = |at: u64| memory.word(start + at).ok();
    let low = word(16)?;
    (word(0)? == abi::MAGIC && low < LOW && low.is_multiple_of(4096))
        .then_some((word(8)?, Addr(low)))
}
