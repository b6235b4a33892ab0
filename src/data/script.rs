//! A program of the probe language as the drain runs it: what records ask for is done, maps are read,
//! summed and cleared, `BEGIN`, `END` and `interval` blocks run in our own process.
//!
//! Invariant: of maps, the cells that detours write are never written here, but for plain values,
//! which both change by the same indivisible steps. What was cleared is a baseline that is taken off.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::applied::Applied;
use super::datum::{self, Names};
use super::event::Sink;
use super::record::{self, Decoder};
use super::source::Source;
use super::stack;
use super::tables::{self, Contents};
use super::value::{Cell, Datum, MapData};
use crate::abi;
use crate::base::Pid;
use crate::language::layout;
use crate::language::lower::{Action, Lowered};
use crate::language::typed::{Map, MapId, Piece, Type};
use crate::program::{self, Home, Table};
use crate::sys::clock;
use crate::sys::native::Native;
use crate::sys::shm::Shared;

/// Most of a file that `cat` shows.
const CAT: u64 = 1 << 20;

/// Code that runs in our own process each time some nanoseconds have passed.
#[derive(Debug)]
pub struct Interval {
    /// How many.
    pub nanos: u64,
    /// The code.
    pub code: Native,
}

/// The blocks that run in our own process. They write to a block and a ring of their own.
#[derive(Debug, Default)]
pub struct Own {
    /// `BEGIN`, in source order.
    pub begin: Vec<Native>,
    /// `END`, in source order.
    pub end: Vec<Native>,
    /// `interval`
    pub intervals: Vec<Interval>,
}

/// A program, ready to run.
pub struct Script {
    /// Its maps: names and types.
    pub maps: Vec<Map>,
    /// Where they lie, and what its records mean.
    pub lowered: Arc<Lowered>,
    /// The object of the maps that belong to the session.
    pub session: Option<Arc<Shared>>,
    /// Its own blocks.
    pub own: Own,
    /// The word that lets them run.
    pub alive: Shared,
    /// Which half of minima and maxima is written in processes that are yet to come.
    pub epoch: Arc<AtomicU64>,
    /// Whether all maps are printed at the end.
    pub print_at_end: bool,
    /// Who knows what numbers stand for.
    pub names: Box<dyn Names>,
}

/// What is no longer shown of a map that only grows.
struct Baseline {
    before: Contents,
    kept: BTreeSet<Vec<u8>>,
}

/// Who asks for something to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// When, in nanoseconds since 1970.
    pub wall: u64,
    /// In which process.
    pub pid: Pid,
    /// Whether it is a block that runs in our own.
    pub own: bool,
}

/// A program that runs.
pub(super) struct Running {
    script: Script,
    /// What processes that are gone have left in their threads' maps.
    retired: Vec<Contents>,
    /// Minima and maxima of halves that were turned round.
    carried: Vec<Contents>,
    /// What those halves held when they were left.
    left: Vec<Contents>,
    /// What was put into maps by records.
    applied: Vec<Applied>,
    /// What was there when a map was cleared, and the keys that stay.
    baseline: Vec<Option<Baseline>>,
    /// What a block of our own has just printed: what it clears then, so that nothing is lost between.
    shown: Vec<Option<Contents>>,
    epoch: u64,
    due: Vec<u64>,
    exited: bool,
    /// Of processes that are gone.
    faults: u64,
    dropped: u64,
}

impl Running {
    /// Runs the `BEGIN` blocks; what they print lies in their ring then.
    pub(super) fn begin(script: Script) -> Running {
        script.own.begin.iter().for_each(Native::run);
        let count = script.maps.len();
        let now = clock::monotonic();
        let due = |interval: &Interval| now.saturating_add(interval.nanos);
        Running {
            due: script.own.intervals.iter().map(due).collect(),
            script,
            retired: vec![Contents::default(); count],
            carried: vec![Contents::default(); count],
            left: vec![Contents::default(); count],
            applied: vec![Applied::default(); count],
            baseline: (0..count).map(|_| None).collect(),
            shown: vec![None; count],
            epoch: 0,
            exited: false,
            faults: 0,
            dropped: 0,
        }
    }

    /// Runs the intervals that are due; says how long it is to the next.
    pub(super) fn tick(&mut self) -> Option<Duration> {
        let now = clock::monotonic();
        for (interval, due) in self.script.own.intervals.iter().zip(&mut self.due) {
            if *due > now || self.exited {
                continue;
            }
            interval.code.run();
            // What was late is not made up for: a step further than now.
            let nanos = interval.nanos.max(1);
            *due += nanos * ((now - *due) / nanos + 1);
        }
        let next = self.due.iter().min()?;
        Some(Duration::from_nanos(next.saturating_sub(now)))
    }

    /// Another round of records: what was printed in the last one is no longer what is there.
    pub(super) fn round(&mut self) {
        self.shown.fill(None);
    }

    /// Runs the `END` blocks.
    pub(super) fn end(&mut self) {
        self.exited = false;
        self.script.own.end.iter().for_each(Native::run);
    }

    /// Does what a record asks for. The status, when it asks for the session's end.
    pub(super) fn perform<'a>(
        &mut self,
        (action, bytes): (u16, &[u8]),
        Asker { wall, pid, own }: Asker,
        sources: impl Iterator<Item = &'a Source> + Clone,
        sink: &mut dyn Sink,
    ) -> io::Result<Option<u8>> {
        let lowered = Arc::clone(&self.script.lowered);
        let Some(deed) = lowered.deed(action).filter(|_| !self.exited) else {
            return Ok(None);
        };
        let fields = bytes.get(abi::REC_FIELDS as usize..).unwrap_or_default();
        let faults = Decoder::faults(bytes);
        let mut values = self.values(&deed.values, fields, faults, pid);
        match &deed.action {
            Action::Printf(format) => sink.printed(format, &values)?,
            Action::Print => {
                if let Some(value) = values.pop() {
                    sink.value(&Cell::Value(value))?;
                }
            }
            Action::PrintMap { map, top, div } => {
                let total = self.total(*map, sources);
                let data = self.data(*map, pid, total.clone(), true);
                if own {
                    self.shown[map.0 as usize] = Some(total);
                }
                sink.map(&data, *top, *div)?;
            }
            Action::PrintEntry(map) => {
                let cell = self.entry(*map, fields, pid, sources);
                sink.value(&cell)?;
            }
            Action::Change { map, change } => {
                if let (Some(table), Some(applied)) = (
                    lowered.tables.get(map.0 as usize),
                    self.applied.get_mut(map.0 as usize),
                ) {
                    let size: u32 = table.key.iter().map(|part| part.size()).sum();
                    let value = fields.get(size as usize..).unwrap_or_default();
                    applied.change(table, *change, tables::key(table, fields), value);
                }
            }
            Action::Clear(map) => self.clear(*map, (false, own), sources),
            Action::Zero(map) => self.clear(*map, (true, own), sources),
            Action::Exit => {
                self.exited = true;
                let status = match values.first() {
                    Some(Datum::Int(status)) => *status as u8,
                    Some(Datum::Uint(status)) => *status as u8,
                    _ => 0,
                };
                return Ok(Some(status));
            }
            Action::Time(format) => {
                let text = self.script.names.wall(format, wall);
                sink.time(&text)?;
            }
            Action::Join(separator) => {
                // A null pointer ends the array.
                let parts = values.into_iter().enumerate();
                let parts = parts.map_while(|(number, value)| match value {
                    Datum::Str(bytes) if faults >> (number & 31) & 1 == 0 => Some(bytes),
                    _ => None,
                });
                sink.join(&parts.collect::<Vec<_>>(), separator)?;
            }
            Action::Cat(path) => sink.cat(&cat(&plain(path, &values)))?,
            Action::System(command) => sink.system(&system(&plain(command, &values)))?,
        }
        Ok(None)
    }

    /// Puts a stack into the values of a record.
    pub(super) fn put_stack(&self, action: u16, bytes: &mut [u8], frames: &[u64]) {
        if let Some(deed) = self.script.lowered.deed(action)
            && let Some(fields) = bytes.get_mut(abi::REC_FIELDS as usize..)
        {
            stack::put(&deed.values, fields, frames);
        }
    }

    fn values(&mut self, types: &[Type], bytes: &[u8], faults: u32, pid: Pid) -> Vec<Datum> {
        let mut at = 0;
        let mut values = Vec::with_capacity(types.len());
        for (number, ty) in types.iter().enumerate() {
            let field = bytes.get(at..).unwrap_or_default();
            values.push(if faults >> (number & 31) & 1 != 0 {
                match (record::word(field, 0).unwrap_or(0), ty) {
                    // A null pointer is the empty string.
                    (0, Type::Str { .. }) => Datum::Str(Vec::new()),
                    (address, _) => Datum::Fault(address),
                }
            } else {
                datum::datum(ty, field, pid, self.script.names.as_mut())
            });
            at += layout::size(ty) as usize;
        }
        values
    }

    fn table(&self, map: MapId) -> Option<&Arc<Table>> {
        self.script.lowered.tables.get(map.0 as usize)
    }

    /// Everything that was ever put into a map.
    fn total<'a>(&self, map: MapId, sources: impl Iterator<Item = &'a Source>) -> Contents {
        let Some(table) = self.table(map) else {
            return Contents::default();
        };
        let mut contents = match table.home {
            Home::Session => {
                let mut contents = Contents::default();
                if let Some(shared) = &self.script.session {
                    contents.add(shared, u64::from(table.offset), table, self.epoch);
                }
                contents
            }
            Home::Thread => {
                let mut contents = self.retired[map.0 as usize].clone();
                for source in sources {
                    source.add_table(table, self.epoch, &mut contents);
                }
                contents
            }
        };
        contents.merge(self.applied[map.0 as usize].contents(), table.cell);
        contents
    }

    /// What a map holds when this is all that was ever put into it.
    fn contents(&self, map: MapId, total: Contents) -> Contents {
        let mut contents = total;
        let Some(table) = self.table(map) else {
            return contents;
        };
        let mut carried = self.carried[map.0 as usize].clone();
        let Some(Baseline { before, kept }) = &self.baseline[map.0 as usize] else {
            if table.is_reused() {
                carried.forget_those_gone(&contents);
            }
            contents.merge(&carried, table.cell);
            return contents;
        };
        let (mut before, mut kept) = (before.clone(), kept.clone());
        if table.is_reused() {
            carried.forget_those_gone(&contents);
            kept.retain(|key| before.is_same(&contents, key));
            before.forget_those_gone(&contents);
        }
        contents.merge(&carried, table.cell);
        contents.since(&before, table.cell, &kept);
        contents
    }

    fn entry<'a>(
        &mut self,
        map: MapId,
        key: &[u8],
        pid: Pid,
        sources: impl Iterator<Item = &'a Source>,
    ) -> Cell {
        let mut contents = self.contents(map, self.total(map, sources));
        let table = self.table(map).cloned();
        let key = table.map_or(Vec::new(), |table| tables::key(&table, key));
        let words = contents.entries.remove(&key).unwrap_or_default();
        self.cell(map, &words, pid)
    }

    fn cell(&mut self, map: MapId, words: &[u64], pid: Pid) -> Cell {
        match self.script.maps.get(map.0 as usize) {
            Some(map) => datum::cell(&map.value, words, pid, self.script.names.as_mut()),
            None => Cell::Value(Datum::Int(0)),
        }
    }

    /// A map to be shown. One without keys that holds nothing is shown as nothing was put in, if
    /// `always`.
    fn data(&mut self, map: MapId, pid: Pid, total: Contents, always: bool) -> MapData {
        let contents = self.contents(map, total);
        let Some(declared) = self.script.maps.get(map.0 as usize).cloned() else {
            return MapData {
                name: String::new(),
                entries: Vec::new(),
            };
        };
        let mut entries = Vec::with_capacity(contents.entries.len());
        for (key, words) in &contents.entries {
            let names = self.script.names.as_mut();
            let key = datum::key(&declared.key, key, pid, names);
            entries.push((key, datum::cell(&declared.value, words, pid, names)));
        }
        if always && declared.key.is_empty() && entries.is_empty() {
            entries.push((Vec::new(), self.cell(map, &[], pid)));
        }
        MapData {
            name: declared.name,
            entries,
        }
    }

    /// Every map that holds something, and what found no room in them, in words.
    pub(super) fn at_end<'a>(
        &mut self,
        sources: impl Iterator<Item = &'a Source> + Clone,
    ) -> (Vec<MapData>, Vec<String>) {
        // Whose addresses they are, nobody knows any more.
        let pid = Pid(0);
        let mut maps = Vec::new();
        let mut notes = Vec::new();
        for index in 0..u32::try_from(self.script.maps.len()).unwrap_or(0) {
            let total = self.total(MapId(index), sources.clone());
            let counts = [total.full, total.unwritten, total.lost];
            let data = self.data(MapId(index), pid, total, false);
            let name = &data.name;
            let said = [
                "had no room for # entries: config = { max_map_keys = N } makes more",
                "did not take # values: a thread was, or ended, in the midst of writing one",
                "has lost room for # entries: threads ended while they changed them",
            ];
            for (count, said) in counts.into_iter().zip(said).filter(|(count, _)| *count > 0) {
                notes.push(format!("{name} {}", said.replace('#', &count.to_string())));
            }
            if self.script.print_at_end && !data.entries.is_empty() {
                maps.push(data);
            }
        }
        (maps, notes)
    }

    /// A process's threads will write no more: keeps what they have written.
    pub(super) fn retire(&mut self, source: &Source) {
        self.faults += source.sum(abi::FAULTS);
        self.dropped += source.sum(abi::DROPPED);
        let lowered = Arc::clone(&self.script.lowered);
        for (table, retired) in lowered.tables.iter().zip(&mut self.retired) {
            if table.home == Home::Thread {
                source.add_table(table, self.epoch, retired);
            }
        }
    }

    fn clear<'a>(
        &mut self,
        map: MapId,
        (to_zero, own): (bool, bool),
        sources: impl Iterator<Item = &'a Source> + Clone,
    ) {
        let Some(table) = self.table(map).cloned() else {
            return;
        };
        match table.cell {
            program::Cell::Word | program::Cell::Wide(_) => {
                if let Some(shared) = &self.script.session {
                    tables::clear_plain(shared, u64::from(table.offset), &table, to_zero);
                }
            }
            program::Cell::Least { .. } | program::Cell::Greatest { .. } => {
                let before = self.total(map, sources.clone());
                let kept = match to_zero {
                    true => {
                        let now = self.contents(map, before.clone());
                        now.entries.into_keys().collect()
                    }
                    false => BTreeSet::new(),
                };
                self.turn(map, sources);
                self.baseline[map.0 as usize] = Some(Baseline { before, kept });
            }
            _ => {
                let shown = self.shown[map.0 as usize].clone().filter(|_| own);
                let before = shown.unwrap_or_else(|| self.total(map, sources));
                // Keys that were cleared before are not among them.
                let kept = match to_zero {
                    true => {
                        let now = self.contents(map, before.clone());
                        now.entries.into_keys().collect()
                    }
                    false => BTreeSet::new(),
                };
                self.baseline[map.0 as usize] = Some(Baseline { before, kept });
            }
        }
        self.applied[map.0 as usize].clear(&table, to_zero);
    }

    /// Turns the halves of all minima and maxima round: what `cleared` holds is forgotten, what others
    /// hold is carried on.
    fn turn<'a>(&mut self, cleared: MapId, sources: impl Iterator<Item = &'a Source> + Clone) {
        let extremes: Vec<(MapId, Arc<Table>)> = (0..)
            .map(MapId)
            .zip(self.script.lowered.tables.iter().cloned())
            .filter(|(_, table)| {
                matches!(
                    table.cell,
                    program::Cell::Least { .. } | program::Cell::Greatest { .. }
                )
            })
            .collect();
        // Late writes to the half that was left the last time.
        self.epoch ^= 1;
        for (map, table) in &extremes {
            let mut late = self.total(*map, sources.clone());
            late.keep_greater(&self.left[map.0 as usize]);
            self.carry(*map, table, &late);
        }
        self.epoch ^= 1;
        for (_, table) in &extremes {
            match table.home {
                Home::Session => {
                    if let Some(shared) = &self.script.session {
                        tables::empty_half(shared, u64::from(table.offset), table, self.epoch);
                    }
                }
                Home::Thread => {
                    for source in sources.clone() {
                        source.empty_half(table, self.epoch);
                    }
                }
            }
        }
        self.script.epoch.store(self.epoch ^ 1, Ordering::Release);
        for source in sources.clone() {
            source.set_epoch(self.epoch ^ 1);
        }
        for (map, table) in &extremes {
            let now = self.total(*map, sources.clone());
            self.carry(*map, table, &now);
            self.left[map.0 as usize] = now;
        }
        self.epoch ^= 1;
        self.carried[cleared.0 as usize] = Contents::default();
        self.retired[cleared.0 as usize] = Contents::default();
    }

    /// Takes in what a half held; keys that have left since take theirs along.
    fn carry(&mut self, map: MapId, table: &Table, half: &Contents) {
        let carried = &mut self.carried[map.0 as usize];
        if table.is_reused() {
            carried.forget_those_gone(half);
        }
        carried.merge(half, table.cell);
    }

    /// Which half of minima and maxima is written.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What did not happen as the program says.
    pub(super) fn notes<'a>(&self, sources: impl Iterator<Item = &'a Source>) -> Vec<String> {
        let (mut faults, mut dropped) = (self.faults, self.dropped);
        for source in sources {
            faults += source.sum(abi::FAULTS);
            dropped += source.sum(abi::DROPPED);
        }
        let mut notes = Vec::new();
        if faults > 0 {
            notes.push(format!("{faults} reads of bad pointers gave 0 or nothing"));
        }
        if dropped > 0 {
            notes.push(format!(
                "{dropped} hits were cut short: a loop went on too long, or too many were in progress at once"
            ));
        }
        notes
    }
}

/// A format with plain values in it.
fn plain(format: &[Piece], values: &[Datum]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut values = values.iter();
    for piece in format {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Arg(_) => match values.next() {
                Some(Datum::Str(bytes) | Datum::Literal(bytes) | Datum::Buf(bytes)) => {
                    out.extend_from_slice(bytes);
                }
                Some(Datum::Int(n)) => out.extend_from_slice(n.to_string().as_bytes()),
                Some(Datum::Uint(n)) => out.extend_from_slice(n.to_string().as_bytes()),
                Some(Datum::Text(text)) => out.extend_from_slice(text.as_bytes()),
                _ => {}
            },
        }
    }
    out
}

fn cat(path: &[u8]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
    let mut bytes = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => {
            let _ = file.take(CAT).read_to_end(&mut bytes);
        }
        Err(error) => bytes = format!("cat: {}: {error}\n", path.display()).into_bytes(),
    }
    bytes
}

fn system(command: &[u8]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let output = Command::new("/bin/sh")
        .arg("-c")
        .arg(std::ffi::OsStr::from_bytes(command))
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => [output.stdout, output.stderr].concat(),
        Err(error) => format!("system: {error}\n").into_bytes(),
    }
}
