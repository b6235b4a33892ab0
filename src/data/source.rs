//! One process as the drain sees it: its rings, what was read and not delivered yet, what was lost.
//! Knows no sink.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::catalogue::Known;
use super::counters;
use super::drain::Feed;
use super::event::{ProbeInfo, ProbeKind};
use super::record::Decoder;
use super::ring::Ring;
use super::tables::{self, Contents};
use crate::abi::{self, Layout};
use crate::base::{Addr, ProbeId, Tid};
use crate::program::Table;
use crate::sys::clock;

/// A record on its way to the sink.
pub(super) struct Waiting {
    pub(super) ticks: u64,
    pub(super) probe: ProbeId,
    pub(super) action: u16,
    pub(super) tid: Option<Tid>,
    pub(super) bytes: Box<[u8]>,
}

/// A feed and how far it was read.
pub(super) struct Source {
    pub(super) feed: Feed,
    rings: BTreeMap<u32, Ring>,
    waiting: BTreeMap<u32, VecDeque<Waiting>>,
    recorded: BTreeMap<ProbeId, u64>,
    losses: u64,
    closed: bool,
    /// Functions whose returns are probed, and how many probes were looked at for them.
    returning: HashSet<Addr>,
    looked_at: usize,
}

impl Source {
    pub(super) fn new(feed: Feed) -> Source {
        Source {
            feed,
            rings: BTreeMap::new(),
            waiting: BTreeMap::new(),
            recorded: BTreeMap::new(),
            losses: 0,
            closed: false,
            returning: HashSet::new(),
            looked_at: 0,
        }
    }

    /// Takes what is whole in every ring; true if something was.
    pub(super) fn read_all(&mut self) -> bool {
        let mut any = self.read(0, None);
        for (block, tid) in self.feed.directory.owned() {
            any |= self.read(block, Some(tid));
        }
        any
    }

    fn read(&mut self, block: u32, owner: Option<Tid>) -> bool {
        let Feed {
            shared,
            layout,
            directory,
            catalogue,
            ..
        } = &self.feed;
        if layout.ring_size == 0 {
            return false;
        }
        let ring = self
            .rings
            .entry(block)
            .or_insert_with(|| Ring::new(shared, layout, block));
        let queue = self.waiting.entry(block).or_default();
        let known = catalogue.look();
        let size_of = |probe: ProbeId, action| {
            let decoder = known.get(probe.0 as usize)?.decoder(action)?;
            Some(decoder.size())
        };
        let before = queue.len();
        ring.read(shared, &mut Vec::new(), &size_of, |bytes| {
            let (probe, action) = Decoder::source(bytes);
            let tid = owner.or_else(|| directory.by_pointer(Decoder::thread(bytes)));
            queue.push_back(Waiting {
                // A time to come would keep it, and all behind it, in memory until then.
                ticks: match Decoder::ticks(bytes) {
                    0 => 0,
                    ticks => ticks.min(clock::ticks()),
                },
                probe,
                action,
                tid,
                bytes: bytes.into(),
            });
        });
        queue.len() > before
    }

    /// Reads a ring to its end, over records that will never be finished.
    fn abandon(&mut self, block: u32) {
        let owners = self.feed.directory.owned();
        let owner = owners.into_iter().find(|(other, _)| *other == block);
        loop {
            self.read(block, owner.map(|(_, tid)| tid));
            let shared = &self.feed.shared;
            if !self
                .rings
                .get_mut(&block)
                .is_some_and(|ring| ring.skip(shared))
            {
                return;
            }
        }
    }

    /// The owner of a block has ended.
    pub(super) fn retire(&mut self, block: u32) {
        self.abandon(block);
        self.feed.directory.release(block);
    }

    /// Nobody writes to the rings any more.
    pub(super) fn close(&mut self) {
        for block in self.feed.directory.used() {
            self.abandon(block);
        }
        self.closed = true;
    }

    /// Whether it is closed and all of it was delivered.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.waiting.values().all(VecDeque::is_empty)
    }

    /// Blocks with records that wait, and the time of the oldest in each.
    pub(super) fn fronts(&self) -> impl Iterator<Item = (u64, u32)> {
        let front =
            |(&block, queue): (&u32, &VecDeque<Waiting>)| Some((queue.front()?.ticks, block));
        self.waiting.iter().filter_map(front)
    }

    /// The time of the oldest record that waits in a block.
    pub(super) fn front(&self, block: u32) -> Option<u64> {
        Some(self.waiting.get(&block)?.front()?.ticks)
    }

    /// Takes the oldest record of a block.
    pub(super) fn pop(&mut self, block: u32) -> Option<Waiting> {
        self.waiting.get_mut(&block)?.pop_front()
    }

    /// A probe that leaves records.
    pub(super) fn probe(&self, id: ProbeId) -> Option<Known> {
        let known = self.feed.catalogue.look();
        known.get(id.0 as usize).cloned()
    }

    /// Whether the return of the function is probed too, at whose entry this probe is.
    pub(super) fn returns(&mut self, info: &ProbeInfo) -> bool {
        let known = self.feed.catalogue.look();
        let more = known.get(self.looked_at..).unwrap_or_default();
        let leaves =
            |known: &&Known| known.info.kind == ProbeKind::Return && known.decoder(0).is_some();
        let more = more.iter().filter(leaves);
        self.returning
            .extend(more.filter_map(|known| known.info.address));
        self.looked_at = known.len();
        info.kind == ProbeKind::Entry
            && info
                .address
                .is_some_and(|address| self.returning.contains(&address))
    }

    /// A record of this probe reached the sink.
    pub(super) fn delivered(&mut self, id: ProbeId) {
        *self.recorded.entry(id).or_default() += 1;
    }

    /// Takes in what the threads of this process have put into a table of theirs.
    pub(super) fn add_table(&self, table: &Table, epoch: u64, contents: &mut Contents) {
        let Feed { shared, layout, .. } = &self.feed;
        for block in self.feed.directory.used() {
            contents.add(shared, self.table_at(block, table, layout), table, epoch);
        }
    }

    fn table_at(&self, block: u32, table: &Table, layout: &Layout) -> u64 {
        layout.block(block) + u64::from(layout.tables()) + u64::from(table.offset)
    }

    /// Empties the half of minima and maxima that is not written at this epoch.
    pub(super) fn empty_half(&self, table: &Table, epoch: u64) {
        let Feed { shared, layout, .. } = &self.feed;
        for block in self.feed.directory.used() {
            tables::empty_half(shared, self.table_at(block, table, layout), table, epoch);
        }
    }

    /// The sum of a word over all blocks.
    pub(super) fn sum(&self, offset: u32) -> u64 {
        let Feed { shared, layout, .. } = &self.feed;
        let of = |block: u32| shared.load(layout.block(block) + u64::from(offset));
        let used = self.feed.directory.used();
        used.into_iter().map(of).fold(0, u64::wrapping_add)
    }

    /// From now on the other half is written.
    pub(super) fn set_epoch(&self, epoch: u64) {
        self.feed.shared.store(u64::from(abi::EPOCH), epoch);
    }

    /// Records delivered, by probe.
    pub(super) fn recorded(self) -> Vec<(ProbeId, u64)> {
        self.recorded.into_iter().collect()
    }

    /// How many records found no room since this was asked last.
    pub(super) fn more_losses(&mut self) -> u64 {
        let Feed {
            shared,
            layout,
            directory,
            ..
        } = &self.feed;
        if layout.ring_size == 0 {
            return 0;
        }
        let used = directory.used();
        let losses = counters::all_losses(shared, layout, &used);
        losses.saturating_sub(std::mem::replace(&mut self.losses, losses))
    }
}
