//! Memory for activations in the target: thunks, which are one file's pages mapped again and again, and
//! the words of each, private to the process. Knows nothing of who takes them.

use std::io;

use anyhow::Context as _;

use super::inject::mark_code;
use super::mapping::{
    MADV_DONTDUMP, MAP_FIXED_NOREPLACE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE, map, private,
    with_object,
};
use super::remote::{MapRequest, Remote};
use super::room::Space;
use crate::abi::{self, Activations};
use crate::arch::native::emit::thunk::thunks;
use crate::base::{Addr, Span};
use crate::sys::mem::Memory;

/// Bytes of the file that holds thunks: more of them are mappings of the same.
const FILE: u32 = 1 << 20;

/// Maps at most so many pools of so many activations each: fewer where there is no room.
pub(super) fn map_pools(
    remote: &mut Remote<'_>,
    mapped: &mut Vec<Span>,
    space: &mut Space,
    (pools, most): (u32, u32),
    (low, unwind): (Addr, Addr),
) -> anyhow::Result<Activations> {
    let pool_size = Activations::pool_of(most);
    let mut pools = pools.max(1).next_power_of_two();
    let file = FILE.max(pool_size);
    let at = loop {
        let size = u64::from(pools) * u64::from(pool_size);
        // Words begin at a multiple of the pool's size; thunks follow.
        let room = 2 * size + u64::from(pool_size);
        match space.low(room).filter(|_| size <= 1 << 29) {
            Some(at) => break at.0.next_multiple_of(pool_size.into()),
            None if pools > 1 => pools /= 2,
            None => anyhow::bail!("no room for them below 2 GiB"),
        }
    };
    let size = u64::from(pools) * u64::from(pool_size);
    let low_half = |at: u64| u32::try_from(at).context("activations beyond 4 GiB");
    let activations = Activations {
        words: low_half(at)?,
        thunks: low_half(at + size)?,
        pools,
        pool_size,
        unwind: low_half(unwind.0)?,
    };
    let bytes = thunks(&activations, (file / abi::ACTIVATION) as usize);
    with_object(remote, file.into(), |remote, fd, object| {
        object.copy_in(0, &bytes);
        mark_code(object, 0, low);
        activations.mark(|at, word| object.store(at, word));
        let Span { start, end } = activations.thunks();
        let mut at = start;
        while at < end {
            let len = (end.0 - at.0).min(file.into());
            map(
                remote,
                mapped,
                MapRequest {
                    at,
                    len,
                    protection: PROT_READ | PROT_EXEC,
                    flags: MAP_SHARED | MAP_FIXED_NOREPLACE,
                    fd,
                    offset: 0,
                },
            )?;
            let _ = remote.advise(at, len, MADV_DONTDUMP);
            at = at + len;
        }
        let words = activations.words();
        map(
            remote,
            mapped,
            private(words.start, words.len(), PROT_READ | PROT_WRITE),
        )?;
        let _ = remote.advise(words.start, words.len(), MADV_DONTDUMP);
        Ok(())
    })?;
    space.take(activations.words());
    space.take(activations.thunks());
    Ok(activations)
}

/// Makes a pool ready for its first owner, if it is not: what is taken of it stays taken.
pub fn prepare(activations: &Activations, memory: &Memory, pool: Addr) -> io::Result<()> {
    if memory.word(pool)? != 0 {
        return Ok(());
    }
    let last = pool + u64::from(activations.pool_size - abi::ACTIVATION);
    let never_free = 1_u64 << 63;
    memory.write(last + u64::from(abi::ACT_TAKEN), &never_free.to_le_bytes())?;
    let first = pool + u64::from(abi::ACTIVATION);
    memory.write(pool, &first.0.to_le_bytes())
}

/// An activation that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outstanding {
    /// Its words.
    pub words: Addr,
    /// The real return address.
    pub returns_to: Addr,
    /// Where that stood.
    pub slot: Addr,
    /// The exit code it leads to.
    pub exit: Addr,
}

/// The activations that are taken, in the pools that were ever used. What is there is the target's to
/// write: any of it may be nonsense.
pub fn outstanding(activations: &Activations, memory: &Memory) -> io::Result<Vec<Outstanding>> {
    let mut found = Vec::new();
    let mut bytes = vec![0; activations.pool_size as usize];
    for pool in (0..activations.pools).filter_map(|number| activations.pool(number)) {
        // Pages that were never touched stay without memory.
        if memory.word(pool)? == 0 {
            continue;
        }
        memory.read(pool, &mut bytes)?;
        for offset in activations.offsets() {
            let word = |at: u32| {
                let at = (offset + at) as usize;
                let bytes = bytes
                    .get(at..at + 8)
                    .and_then(|bytes| bytes.try_into().ok());
                Addr(bytes.map_or(0, u64::from_le_bytes))
            };
            let slot = word(abi::ACT_SLOT);
            // Without a slot it has ended.
            if word(abi::ACT_TAKEN).0 != 0 && slot.0 != 0 {
                found.push(Outstanding {
                    words: pool + u64::from(offset),
                    returns_to: word(abi::ACT_RETURN),
                    slot,
                    exit: word(abi::ACT_EXIT),
                });
            }
        }
    }
    Ok(found)
}
