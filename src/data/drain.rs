//! The second thread: drains the rings, merges what it finds by time, feeds the sink. The first
//! thread keeps to ptrace. They share a directory of who owns which block, and a channel.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::Clock;
use super::event::{Hit, ProbeInfo, Sink};
use super::record::Decoder;
use super::ring::Ring;
use crate::abi::Layout;
use crate::base::{Pid, ProbeId, Tid};
use crate::program::Program;
use crate::sys::shm::Shared;
use crate::sys::{clock, poll};

/// How long rings are left alone while records come, and while none do.
const BUSY: Duration = Duration::from_millis(2);
const IDLE: Duration = Duration::from_millis(20);

/// Who owns which block, and which thread pointer is whose.
#[derive(Debug, Default)]
pub struct Directory {
    inner: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    owners: BTreeMap<u32, Tid>,
    free: Vec<u32>,
    next: u32,
    blocks: u32,
    pointers: HashMap<u64, Tid>,
}

impl Directory {
    /// A directory of blocks 1 to `blocks - 1`, all free. Block 0 is everybody's.
    pub fn new(blocks: u32) -> Directory {
        Directory {
            inner: Mutex::new(Entries {
                next: 1,
                blocks,
                ..Entries::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a block for a thread; `None` when all are taken. One that was never used is made ready
    /// by `prepare` before anybody reads it.
    pub fn take(&self, tid: Tid, prepare: impl FnOnce(u32)) -> Option<u32> {
        let mut entries = self.lock();
        let block = entries.free.pop().or_else(|| {
            let fresh = entries.next;
            (fresh < entries.blocks).then(|| {
                prepare(fresh);
                entries.next += 1;
                fresh
            })
        })?;
        entries.owners.insert(block, tid);
        Some(block)
    }

    /// Gives a block back, once it is drained.
    fn release(&self, block: u32) {
        let mut entries = self.lock();
        if entries.owners.remove(&block).is_some() {
            entries.free.push(block);
        }
    }

    /// Remembers which thread has this thread pointer.
    pub fn learn(&self, fs_base: u64, tid: Tid) {
        self.lock().pointers.insert(fs_base, tid);
    }

    /// Every block that was ever used, the shared one first.
    pub fn used(&self) -> Vec<u32> {
        (0..self.lock().next).collect()
    }

    fn owned(&self) -> Vec<(u32, Tid)> {
        self.lock()
            .owners
            .iter()
            .map(|(&block, &tid)| (block, tid))
            .collect()
    }

    fn by_pointer(&self, fs_base: u64) -> Option<Tid> {
        self.lock().pointers.get(&fs_base).copied()
    }
}

/// What the drain is told.
#[derive(Debug)]
pub enum Command {
    /// The owner of this block has ended.
    Retire(u32),
    /// Nothing will be written any more: drain everything and end.
    Finish,
}

/// What the drain reads and what it needs to make sense of it.
pub struct Feed {
    /// The object.
    pub shared: Arc<Shared>,
    /// Its layout.
    pub layout: Layout,
    /// Who owns what.
    pub directory: Arc<Directory>,
    /// The probes, by number.
    pub probes: Arc<Vec<ProbeInfo>>,
    /// Their programs, by number.
    pub programs: Arc<Vec<Program>>,
    /// The process.
    pub pid: Pid,
    /// Its command name.
    pub comm: String,
}

/// What came of it.
pub struct Drained {
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// Records delivered, by probe.
    pub recorded: Vec<u64>,
    /// Why the sink took no more.
    pub error: Option<io::Error>,
}

/// The running drain.
#[derive(Debug)]
pub struct Drain {
    commands: Sender<Command>,
    thread: JoinHandle<Drained>,
    failed: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Drain {
    /// Starts draining into `sink`.
    pub fn start(feed: Feed, sink: Box<dyn Sink>) -> io::Result<Drain> {
        let (commands, inbox) = channel();
        let failed = Arc::new(AtomicBool::new(false));
        let over = Arc::new(AtomicBool::new(false));
        let (failed_flag, over_flag) = (Arc::clone(&failed), Arc::clone(&over));
        let thread = std::thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                let drained = Worker::new(feed, sink, failed_flag).run(&inbox);
                over_flag.store(true, Ordering::Release);
                poll::wake();
                drained
            })?;
        Ok(Drain {
            commands,
            thread,
            failed,
            over,
        })
    }

    /// Tells it something; a drain that has ended does not mind.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Whether the sink failed: nothing more can be delivered.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Drains the rest and waits for it. `None` if the thread panicked.
    pub fn finish(self) -> Option<Drained> {
        self.tell(Command::Finish);
        self.thread.join().ok()
    }

    /// The same, unless `give_up`, which may wait for a wake-up, says to leave it: who reads our
    /// output may never read again. `None` then, too.
    pub fn finish_unless(self, mut give_up: impl FnMut() -> bool) -> Option<Drained> {
        self.tell(Command::Finish);
        while !self.over.load(Ordering::Acquire) && !self.thread.is_finished() {
            if give_up() {
                return None;
            }
        }
        self.thread.join().ok()
    }
}

/// A record on its way to the sink.
struct Waiting {
    ticks: u64,
    probe: ProbeId,
    tid: Option<Tid>,
    bytes: Box<[u8]>,
}

struct Worker {
    feed: Feed,
    sink: Box<dyn Sink>,
    decoders: Vec<Option<Decoder>>,
    rings: BTreeMap<u32, Ring>,
    waiting: BTreeMap<u32, VecDeque<Waiting>>,
    recorded: Vec<u64>,
    losses: u64,
    clock: Clock,
    error: Option<io::Error>,
    failed: Arc<AtomicBool>,
}

impl Worker {
    fn new(feed: Feed, sink: Box<dyn Sink>, failed: Arc<AtomicBool>) -> Worker {
        let decoders = feed
            .programs
            .iter()
            .map(|p| p.record().map(Decoder::new))
            .collect();
        let recorded = vec![0; feed.probes.len()];
        Worker {
            feed,
            sink,
            decoders,
            rings: BTreeMap::new(),
            waiting: BTreeMap::new(),
            recorded,
            losses: 0,
            clock: Clock::start(),
            error: None,
            failed,
        }
    }

    fn run(mut self, inbox: &Receiver<Command>) -> Drained {
        let mut pause = BUSY;
        loop {
            let command = match inbox.recv_timeout(pause) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Command::Finish),
            };
            // Before the heads are read: what is older than this is all here.
            let horizon = clock::ticks();
            self.clock.renew();
            let mut any = self.read(0, None);
            for (block, tid) in self.feed.directory.owned() {
                any |= self.read(block, Some(tid));
            }
            match command {
                Some(Command::Retire(block)) => {
                    self.abandon(block);
                    self.feed.directory.release(block);
                }
                Some(Command::Finish) => {
                    for block in self.feed.directory.used() {
                        self.abandon(block);
                    }
                    self.deliver(u64::MAX);
                    self.tell_losses();
                    self.attempt(|sink| sink.flush());
                    return Drained {
                        sink: self.sink,
                        recorded: self.recorded,
                        error: self.error,
                    };
                }
                None => {}
            }
            if self.clock.is_ready() {
                self.deliver(horizon);
            }
            self.tell_losses();
            // Also when nothing came: what was read a round ago may be delivered only now.
            self.attempt(|sink| sink.flush());
            pause = if any { BUSY } else { IDLE };
        }
    }

    /// Takes what is whole in a block's ring; true if something was.
    fn read(&mut self, block: u32, owner: Option<Tid>) -> bool {
        let Feed {
            shared,
            layout,
            directory,
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
        let decoders = &self.decoders;
        let size_of = |probe: ProbeId| decoders.get(probe.0 as usize)?.as_ref().map(Decoder::size);
        let before = queue.len();
        ring.read(shared, &mut Vec::new(), &size_of, |probe, bytes| {
            let tid = owner.or_else(|| directory.by_pointer(Decoder::thread(bytes)));
            queue.push_back(Waiting {
                // A time to come would keep it, and all behind it, in memory until then.
                ticks: match Decoder::ticks(bytes) {
                    0 => 0,
                    ticks => ticks.min(clock::ticks()),
                },
                probe,
                tid,
                bytes: bytes.into(),
            });
        });
        queue.len() > before
    }

    /// Reads a ring to its end, over records that will never be finished.
    fn abandon(&mut self, block: u32) {
        let owner = self
            .feed
            .directory
            .owned()
            .into_iter()
            .find(|(b, _)| *b == block);
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

    /// Gives the sink every record up to a time, oldest first; order within a block is kept.
    fn deliver(&mut self, horizon: u64) {
        let front = |queue: &VecDeque<Waiting>| queue.front().map(|record| record.ticks);
        let mut heap: BinaryHeap<Reverse<(u64, u32)>> = self
            .waiting
            .iter()
            .filter_map(|(&block, queue)| Some(Reverse((front(queue)?, block))))
            .collect();
        while let Some(Reverse((ticks, block))) = heap.pop() {
            if ticks > horizon {
                break;
            }
            let Some(queue) = self.waiting.get_mut(&block) else {
                continue;
            };
            let Some(record) = queue.pop_front() else {
                continue;
            };
            if let Some(ticks) = front(queue) {
                heap.push(Reverse((ticks, block)));
            }
            let index = record.probe.0 as usize;
            let (Some(probe), Some(Some(decoder))) =
                (self.feed.probes.get(index), self.decoders.get(index))
            else {
                continue;
            };
            if self.error.is_some() {
                continue;
            }
            let mut values = Vec::new();
            decoder.values(&record.bytes, &mut values);
            let hit = Hit {
                probe,
                time: (record.ticks != 0).then(|| self.clock.wall(record.ticks)),
                pid: self.feed.pid,
                tid: record.tid,
                comm: &self.feed.comm,
                values: &values,
            };
            match self.sink.hit(&hit) {
                Ok(()) => self.recorded[index] += 1,
                Err(error) => self.fail(error),
            }
        }
    }

    /// Says how many more records found no room, as soon as it is known.
    fn tell_losses(&mut self) {
        let Feed {
            shared,
            layout,
            directory,
            ..
        } = &self.feed;
        if layout.ring_size == 0 {
            return;
        }
        let used = directory.used();
        let losses = super::counters::all_losses(shared, layout, &used);
        let more = std::mem::replace(&mut self.losses, losses);
        let more = losses.saturating_sub(more);
        if more > 0 {
            self.attempt(|sink| sink.lost(more));
        }
    }

    fn attempt(&mut self, what: impl FnOnce(&mut dyn Sink) -> io::Result<()>) {
        if self.error.is_none()
            && let Err(error) = what(self.sink.as_mut())
        {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.error = Some(error);
        self.failed.store(true, Ordering::Relaxed);
        poll::wake();
    }
}
