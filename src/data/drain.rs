//! The second thread: drains the rings of every process, merges what it finds by time, feeds the
//! sink. The first thread keeps to ptrace. They share directories of who owns which block,
//! catalogues of probes, and a channel.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::catalogue::Catalogue;
use super::clock::Clock;
use super::directory::Directory;
use super::event::{ArgValue, End, Hit, ProbeKind, Return, Sink};
use super::script::{Asker, Running, Script};
use super::source::{Source, Waiting};
use crate::abi::{self, Layout};
use crate::base::{FeedId, Pid, ProbeId};
use crate::language::lower::FIRST_ACTION;
use crate::sys::shm::Shared;
use crate::sys::{clock, poll};

/// How long rings are left alone while records come, and while none do.
const BUSY: Duration = Duration::from_millis(2);
const IDLE: Duration = Duration::from_millis(20);

/// The feed of a program's own blocks.
const OWN: FeedId = FeedId(u32::MAX);

/// What the drain is told.
pub enum Command {
    /// One more process has rings.
    Open(FeedId, Feed),
    /// Everything that is there at the start is armed, so many probes: from here on hits are shown.
    Armed(usize),
    /// The owner of this block has ended.
    Retire(FeedId, u32),
    /// Nothing will be written to these rings any more.
    Close(FeedId),
    /// Nothing will be written anywhere: drain everything and end.
    Finish,
}

/// What the drain reads of one process and what it needs to make sense of it.
pub struct Feed {
    /// The object.
    pub shared: Arc<Shared>,
    /// Its layout.
    pub layout: Layout,
    /// Who owns what.
    pub directory: Arc<Directory>,
    /// The probes, by number.
    pub catalogue: Arc<Catalogue>,
    /// The process.
    pub pid: Pid,
    /// Its command name.
    pub comm: String,
}

/// Records delivered of a feed that was closed: probes that had any, with how many.
pub type Recorded = (FeedId, Vec<(ProbeId, u64)>);

/// What came of it.
pub struct Drained {
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// What was delivered of each feed.
    pub recorded: Vec<Recorded>,
    /// Why the sink took no more.
    pub error: Option<io::Error>,
    /// What a user must know of a program's maps.
    pub notes: Vec<String>,
}

/// The running drain.
#[derive(Debug)]
pub struct Drain {
    commands: Sender<Command>,
    thread: JoinHandle<Drained>,
    failed: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    /// One more than the status with which a program wants to end; 0 while none does.
    exit: Arc<AtomicU32>,
}

impl Drain {
    /// Starts draining into `sink`. A program's `BEGIN` blocks have run when this returns.
    pub fn start(sink: Box<dyn Sink>, script: Option<(Script, Feed)>) -> io::Result<Drain> {
        let (commands, inbox) = channel();
        let exit = Arc::new(AtomicU32::new(0));
        let mut worker = Worker::new(sink, Arc::clone(&exit));
        if let Some((script, feed)) = script {
            worker.sources.insert(OWN, Source::new(feed));
            worker.running = Some(Running::begin(script));
        }
        let failed = Arc::new(AtomicBool::new(false));
        let over = Arc::new(AtomicBool::new(false));
        let over_flag = Arc::clone(&over);
        worker.failed = Arc::clone(&failed);
        let thread = std::thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                let drained = worker.run(&inbox);
                over_flag.store(true, Ordering::Release);
                poll::wake();
                drained
            })?;
        Ok(Drain {
            commands,
            thread,
            failed,
            over,
            exit,
        })
    }

    /// The status with which a program wants to end, if it does.
    pub fn wants_to_end(&self) -> Option<u8> {
        let wish = self.exit.load(Ordering::Relaxed).checked_sub(1)?;
        u8::try_from(wish).ok()
    }

    /// Tells it something; a drain that has ended does not mind.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Another way to tell it something.
    pub fn commands(&self) -> Sender<Command> {
        self.commands.clone()
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

struct Worker {
    sources: BTreeMap<FeedId, Source>,
    sink: Box<dyn Sink>,
    /// Whether hits are shown, or wait for what is told before the first.
    shown: bool,
    recorded: Vec<Recorded>,
    losses: u64,
    notes: Vec<String>,
    clock: Clock,
    running: Option<Running>,
    error: Option<io::Error>,
    failed: Arc<AtomicBool>,
    exit: Arc<AtomicU32>,
}

impl Worker {
    fn new(sink: Box<dyn Sink>, exit: Arc<AtomicU32>) -> Worker {
        Worker {
            sources: BTreeMap::new(),
            sink,
            shown: false,
            recorded: Vec::new(),
            losses: 0,
            notes: Vec::new(),
            clock: Clock::start(),
            running: None,
            error: None,
            failed: Arc::default(),
            exit,
        }
    }

    fn run(mut self, inbox: &Receiver<Command>) -> Drained {
        let mut pause = BUSY;
        loop {
            let first = match inbox.recv_timeout(pause) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Command::Finish),
            };
            // Before it is looked who has rings, and before the heads are read: what is older than this
            // is all here then.
            let horizon = clock::ticks();
            let (opened, rest): (Vec<Command>, Vec<Command>) = first
                .into_iter()
                .chain(inbox.try_iter())
                .partition(|command| matches!(command, Command::Open(..)));
            opened.into_iter().for_each(|command| self.obey(command));
            self.clock.renew();
            let next = self.tick();
            let any = self.sources.values_mut().fold(false, |any, source| {
                let more = source.read_all();
                any | more
            });
            let finish = rest
                .iter()
                .any(|command| matches!(command, Command::Finish));
            rest.into_iter().for_each(|command| self.obey(command));
            if finish {
                self.deliver(u64::MAX);
                self.end();
            } else if self.shown && self.clock.is_ready() {
                self.deliver(horizon);
            }
            self.tell_losses();
            self.let_go();
            // Also when nothing came: what was read a round ago may be delivered only now.
            self.attempt(|sink| sink.flush());
            if finish {
                return Drained {
                    sink: self.sink,
                    recorded: self.recorded,
                    error: self.error,
                    notes: self.notes,
                };
            }
            pause = if any { BUSY } else { IDLE };
            pause = next.map_or(pause, |next| pause.min(next));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open(id, feed) => {
                let source = Source::new(feed);
                if let Some(running) = &self.running {
                    // It may have begun while the halves were turned round.
                    source.set_epoch(running.epoch());
                }
                self.sources.insert(id, source);
            }
            Command::Armed(probes) => {
                self.shown = true;
                self.attempt(|sink| sink.armed(probes));
            }
            Command::Retire(id, block) => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.retire(block);
                }
            }
            Command::Close(id) => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.close();
                }
            }
            Command::Finish => self.close_all(),
        }
    }

    /// Runs the intervals of a program that are due, once hits are shown.
    fn tick(&mut self) -> Option<Duration> {
        let running = self.running.as_mut().filter(|_| self.shown)?;
        running.tick()
    }

    fn close_all(&mut self) {
        let others = self.sources.iter_mut().filter(|(id, _)| **id != OWN);
        others.for_each(|(_, source)| source.close());
    }

    /// The end of a program: its `END` blocks, then its maps.
    fn end(&mut self) {
        self.let_go();
        let Some(running) = &mut self.running else {
            return;
        };
        running.end();
        if let Some(own) = self.sources.get_mut(&OWN) {
            own.read_all();
            own.close();
        }
        self.deliver(u64::MAX);
        let Some(running) = &mut self.running else {
            return;
        };
        let (maps, full) = running.at_end(self.sources.values());
        let notes = running.notes(self.sources.values());
        self.attempt(|sink| sink.maps_at_end(&maps));
        self.notes.extend(full);
        self.notes.extend(notes);
    }

    /// Gives the sink every record up to a time, oldest first; order within a block is kept.
    fn deliver(&mut self, horizon: u64) {
        if let Some(running) = &mut self.running {
            running.round();
        }
        let mut heap: BinaryHeap<Reverse<(u64, FeedId, u32)>> = BinaryHeap::new();
        for (&id, source) in &self.sources {
            let fronts = source.fronts();
            heap.extend(fronts.map(|(ticks, block)| Reverse((ticks, id, block))));
        }
        while let Some(Reverse((ticks, id, block))) = heap.pop() {
            if ticks > horizon {
                break;
            }
            let Some(source) = self.sources.get_mut(&id) else {
                continue;
            };
            let Some(record) = source.pop(block) else {
                continue;
            };
            if let Some(ticks) = source.front(block) {
                heap.push(Reverse((ticks, id, block)));
            }
            let Some(probe) = source.probe(record.probe) else {
                continue;
            };
            let Some(decoder) = probe.decoder(record.action) else {
                continue;
            };
            if self.error.is_some() {
                continue;
            }
            if record.action >= FIRST_ACTION {
                self.perform(id, &record);
                continue;
            }
            let mut values = Vec::new();
            decoder.values(&record.bytes, &mut values);
            let end = match probe.info.kind {
                ProbeKind::Entry => None,
                ProbeKind::Return => Some(ended(&self.clock, &record, &mut values)),
            };
            let hit = Hit {
                probe: &probe.info,
                end,
                returns: source.returns(&probe.info),
                time: (record.ticks != 0).then(|| self.clock.next_wall(record.ticks)),
                pid: source.feed.pid,
                tid: record.tid,
                comm: &source.feed.comm,
                values: &values,
            };
            match self.sink.hit(&hit) {
                Ok(()) => source.delivered(record.probe),
                Err(error) => self.fail(error),
            }
        }
    }

    /// Does what a record of a program asks for.
    fn perform(&mut self, id: FeedId, record: &Waiting) {
        let wall = self.clock.next_wall(record.ticks);
        let (Some(running), Some(source)) = (&mut self.running, self.sources.get(&id)) else {
            return;
        };
        let asker = Asker {
            wall,
            pid: source.feed.pid,
            own: id == OWN,
        };
        let done = running.perform(
            (record.action, &record.bytes),
            asker,
            self.sources.values(),
            self.sink.as_mut(),
        );
        match done {
            Ok(exit) => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.delivered(record.probe);
                }
                if let Some(status) = exit {
                    self.exit.store(u32::from(status) + 1, Ordering::Relaxed);
                    poll::wake();
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// Says how many more records found no room, as soon as it is known.
    fn tell_losses(&mut self) {
        let more = self.sources.values_mut().fold(0, |sum: u64, source| {
            sum.saturating_add(source.more_losses())
        });
        self.losses = self.losses.saturating_add(more);
        if self.shown && self.losses > 0 {
            let more = std::mem::take(&mut self.losses);
            self.attempt(|sink| sink.lost(more));
        }
    }

    /// Forgets processes that are gone and read to the end.
    fn let_go(&mut self) {
        let over: Vec<FeedId> = self
            .sources
            .iter()
            .filter(|(_, source)| source.is_over())
            .map(|(&id, _)| id)
            .collect();
        for id in over {
            if let Some(mut source) = self.sources.remove(&id) {
                // What found no room since it was last looked: told with the next.
                self.losses = self.losses.saturating_add(source.more_losses());
                if let Some(running) = &mut self.running {
                    running.retire(&source);
                }
                self.attempt(|sink| sink.closed(&source.feed));
                self.recorded.push((id, source.recorded()));
            }
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

/// What a return probe's record says of the call's end: behind the arguments stand what was returned
/// and when it began; of other ends the latter alone.
fn ended(clock: &Clock, record: &Waiting, values: &mut Vec<ArgValue<'_>>) -> Return {
    let mut word = || match values.pop() {
        Some(ArgValue::Int(word, _)) => word,
        _ => 0,
    };
    let began = word();
    let end = match u32::from(record.action) {
        0 => End::Returned(word()),
        abi::END_TAIL => End::Tail,
        _ => End::Unwound,
    };
    let both = began != 0 && record.ticks != 0;
    Return {
        end,
        duration: both.then(|| clock.between(began, record.ticks)).flatten(),
    }
}
