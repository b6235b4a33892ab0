//! The calls of one thread that have begun. The newest entry is held back until the next record of
//! the thread: it may be one about the call before.

use std::collections::{HashMap, VecDeque};

use super::{Around, Ended, Fate, FunctionId, Reader, Thread};
use crate::base::{Addr, ProbeId};
use crate::data::{ArgValue, End, Hit, Return};

/// Most calls of one thread that have begun: when there are more, their ends were missed.
const MOST: usize = 1 << 18;
/// Calls that ended last of those directly in one: a return without its entry may hold them.
const RECENT: usize = 32;
/// How far the time of a record may be from what a duration says: the clock is made while we run.
const SLACK: u64 = 50_000;

/// A call that has begun.
#[derive(Debug)]
pub(in crate::output) struct Call {
    pub(in crate::output) function: FunctionId,
    /// How many calls that may be shown are around it; `None` when it is outside of these.
    pub(in crate::output) level: Option<u32>,
    /// Its arguments, as the reader printed them.
    pub(in crate::output) values: Vec<u8>,
    /// The reader's own, 0 at first. When it is not, the reader is told of its end in any case.
    pub(in crate::output) mark: u32,
    /// Wall-clock time of its entry, when there was one.
    entered: Option<u64>,
    address: Option<Addr>,
    probe: ProbeId,
    more_probes: Vec<ProbeId>,
    inner: Inner,
}

/// What is known of the calls directly in a call that have ended.
#[derive(Debug, Default)]
struct Inner {
    /// What those that are shown took.
    sum: u64,
    /// Start of the first.
    first: Option<u64>,
    /// None of them starts before.
    floor: u64,
    /// No call to come starts before: the end of the last.
    end: u64,
    /// The last of them.
    recent: VecDeque<Over>,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
struct Over {
    start: u64,
    end: u64,
    /// What of it is in `sum`.
    shown: u64,
}

impl Inner {
    fn from(floor: u64) -> Inner {
        Inner {
            floor,
            end: floor,
            ..Inner::default()
        }
    }

    fn ended(&mut self, over: Over) {
        let Over { start, end, shown } = over;
        self.sum = self.sum.saturating_add(shown);
        self.first = Some(self.first.map_or(start, |first| first.min(start)));
        self.end = self.end.max(end);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(over);
    }

    /// Takes out the calls that began no earlier.
    fn since(&mut self, began: u64) -> Inner {
        if self.first.is_none_or(|first| began <= first) {
            let left = Inner::from(self.floor);
            return std::mem::replace(self, left);
        }
        let mut inner = Inner::default();
        while let Some(&Over { start, shown, .. }) = self.recent.back()
            && start >= began
        {
            self.recent.pop_back();
            inner.sum = inner.sum.saturating_add(shown);
            inner.first = Some(start);
        }
        self.sum = self.sum.saturating_sub(inner.sum);
        if let Some(first) = inner.first {
            self.end = self.recent.back().map_or(first, |last| last.end);
        }
        inner
    }
}

impl Call {
    fn began_no_later(&self, began: Option<u64>, slack: u64) -> bool {
        match (self.entered, began) {
            (Some(entered), Some(began)) => entered <= began.saturating_add(slack),
            _ => true,
        }
    }

    fn has(&self, probe: ProbeId) -> bool {
        self.probe == probe || self.more_probes.contains(&probe)
    }
}

/// The end that was told last, when nothing came since: another probe at the same return tells it again.
struct Last {
    function: FunctionId,
    address: Option<Addr>,
    probes: Vec<ProbeId>,
}

/// One thread.
pub(super) struct Stack {
    thread: Thread,
    pub(super) comm: String,
    calls: Vec<Call>,
    /// How many of `calls` are of a function.
    open: HashMap<FunctionId, usize>,
    held: Option<Call>,
    outermost: Inner,
    last: Option<Last>,
    /// Time of the newest record.
    now: u64,
}

impl Stack {
    pub(super) fn new(thread: Thread) -> Stack {
        Stack {
            thread,
            comm: String::new(),
            calls: Vec::new(),
            open: HashMap::new(),
            held: None,
            outermost: Inner::default(),
            last: None,
            now: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.held.is_none()
    }

    fn at(&mut self, hit: &Hit<'_>) -> u64 {
        self.now = hit.time.map_or(self.now, |time| time.max(self.now));
        self.now
    }

    fn call<R: Reader>(&self, hit: &Hit<'_>, function: FunctionId, around: &Around<'_, R>) -> Call {
        let level = match self.calls.last().and_then(|call| call.level) {
            Some(level) => Some(level.saturating_add(1)),
            None => around.functions.get(function).meant.then_some(0),
        };
        let mut values = Vec::new();
        if hit.end.is_none() {
            around.reader.values(&mut values, hit);
        }
        Call {
            function,
            level,
            values,
            mark: 0,
            entered: None,
            address: hit.probe.address,
            probe: hit.probe.id,
            more_probes: Vec::new(),
            inner: Inner::default(),
        }
    }

    pub(super) fn enter<R: Reader>(
        &mut self,
        hit: &Hit<'_>,
        function: FunctionId,
        around: &mut Around<'_, R>,
    ) {
        let now = self.at(hit);
        self.last = None;
        let same = self.held.as_mut().filter(|held| {
            held.function == function
                && held.address == hit.probe.address
                && !held.has(hit.probe.id)
        });
        if let Some(held) = same {
            // Another probe at the same entry.
            held.more_probes.push(hit.probe.id);
            let mut more = Vec::new();
            around.reader.values(&mut more, hit);
            if !held.values.is_empty() && !more.is_empty() {
                held.values.extend_from_slice(b", ");
            }
            held.values.extend(more);
            return;
        }
        self.push_held(around);
        let mut call = self.call(hit, function, around);
        call.entered = Some(now);
        self.held = Some(call);
    }

    fn push_held<R: Reader>(&mut self, around: &mut Around<'_, R>) {
        let Some(mut call) = self.held.take() else {
            return;
        };
        if self.calls.len() >= MOST {
            self.miss_down_to(0, around);
        }
        // The calls around it may have ended since.
        call.level = match self.calls.last().and_then(|outer| outer.level) {
            Some(level) => Some(level.saturating_add(1)),
            None => around.functions.get(call.function).meant.then_some(0),
        };
        call.inner = Inner::from(self.inner().end);
        *self.open.entry(call.function).or_default() += 1;
        let shown = around.filter.shows(call.level);
        self.calls.push(call);
        if shown {
            around
                .reader
                .entered(around.functions, self.thread, &mut self.calls);
        }
    }

    fn pop(&mut self) -> Option<Call> {
        let call = self.calls.pop()?;
        if let Some(open) = self.open.get_mut(&call.function) {
            *open = open.saturating_sub(1);
        }
        Some(call)
    }

    fn inner(&mut self) -> &mut Inner {
        match self.calls.last_mut() {
            Some(call) => &mut call.inner,
            None => &mut self.outermost,
        }
    }

    /// A hit that begins no call.
    pub(super) fn pass<R: Reader>(
        &mut self,
        hit: &Hit<'_>,
        function: FunctionId,
        around: &mut Around<'_, R>,
    ) {
        let now = self.at(hit);
        self.last = None;
        self.push_held(around);
        let call = self.call(hit, function, around);
        if !around.filter.shows(call.level) || around.filter.at_least > 0 {
            return;
        }
        let passed = Ended {
            thread: self.thread,
            comm: &self.comm,
            call: &call,
            fate: Fate::Missed,
            start: now,
            end: now,
            duration: None,
            own: 0,
            late: false,
            returned: &[],
        };
        around
            .reader
            .passed(around.functions, &mut self.calls, &passed);
    }

    /// A call ended, by the record of a probe at its return.
    pub(super) fn end<R: Reader>(
        &mut self,
        hit: &Hit<'_>,
        function: FunctionId,
        end: Return,
        around: &mut Around<'_, R>,
    ) {
        let now = self.at(hit);
        let address = hit.probe.address;
        if let Some(last) = &mut self.last
            && (last.function, last.address) == (function, address)
            && !last.probes.contains(&hit.probe.id)
        {
            last.probes.push(hit.probe.id);
            return;
        }
        let is = |call: &Call| call.function == function && call.address == address;
        let began = end.duration.map(|duration| now.saturating_sub(duration));
        let slack = SLACK + end.duration.unwrap_or(0) / 16;
        // The entry that is held is of the function that returns in its place.
        let before_held =
            end.end == End::Tail && self.held.is_some() && self.calls.last().is_some_and(is);
        let held = if before_held { self.held.take() } else { None };
        self.push_held(around);
        let mut returned = Vec::new();
        around.reader.values(&mut returned, hit);
        let open = self.open.get(&function).copied().unwrap_or(0);
        let found = if open > 0 {
            self.calls
                .iter()
                .rposition(|call| is(call) && call.began_no_later(began, slack))
                .filter(|&found| self.holds(found, began, slack))
        } else {
            None
        };
        let call = match found {
            Some(found) => {
                self.miss_down_to(found + 1, around);
                self.pop()
            }
            None => None,
        };
        let call = call.unwrap_or_else(|| {
            // Its entry was not seen. What began later is in it.
            let outside = |call: &Call| call.began_no_later(began, 0);
            let keep = self.calls.iter().rposition(outside).map_or(0, |at| at + 1);
            self.miss_down_to(keep, around);
            let mut call = self.call(hit, function, around);
            if let Some(began) = began {
                call.inner = self.inner().since(began);
            }
            call
        });
        let start = began.or(call.entered).unwrap_or(now);
        let duration = end.duration.or(call.entered.map(|entered| now - entered));
        self.over(
            call,
            Fate::Ended(end.end),
            (start, duration),
            &returned,
            around,
        );
        self.held = held;
        self.last = Some(Last {
            function,
            address,
            probes: vec![hit.probe.id],
        });
    }

    /// Whether the call at this place may have begun then: nothing in it began before.
    fn holds(&self, place: usize, began: Option<u64>, slack: u64) -> bool {
        let first = self.calls.get(place).and_then(|call| call.inner.first);
        let next = self.calls.get(place + 1).and_then(|call| call.entered);
        let earliest = first.into_iter().chain(next).min();
        match (began, earliest) {
            (Some(began), Some(earliest)) => began <= earliest.saturating_add(slack),
            _ => true,
        }
    }

    fn miss_down_to<R: Reader>(&mut self, keep: usize, around: &mut Around<'_, R>) {
        while self.calls.len() > keep {
            let Some(call) = self.pop() else {
                return;
            };
            let start = call.entered.unwrap_or(self.now);
            self.over(call, Fate::Missed, (start, None), &[], around);
        }
    }

    /// Tells of a call that was taken off the stack.
    fn over<R: Reader>(
        &mut self,
        mut call: Call,
        fate: Fate,
        (start, duration): (u64, Option<u64>),
        returned: &[u8],
        around: &mut Around<'_, R>,
    ) {
        let now = self.now;
        let inner = std::mem::take(&mut call.inner);
        let late = call.entered.is_none() && inner.sum > 0;
        let latest = inner.first.unwrap_or(now).min(now);
        let earliest = self.inner().end.min(latest);
        let start = start.clamp(earliest, latest);
        // When a call ended whose end was missed is not known: no earlier than the last in it.
        let end = match fate {
            Fate::Missed => inner.end.max(start),
            Fate::Ended(_) | Fate::Inside => now,
        };
        let span = end.saturating_sub(start);
        let known = duration.unwrap_or(now.saturating_sub(start));
        let filter = around.filter;
        let shown = call.mark > 0 || (filter.shows(call.level) && known >= filter.at_least);
        let counted = match duration {
            Some(duration) if shown => duration,
            _ => inner.sum,
        };
        if fate != Fate::Inside {
            self.inner().ended(Over {
                start,
                end,
                shown: counted,
            });
        }
        if !shown {
            return;
        }
        let ended = Ended {
            thread: self.thread,
            comm: &self.comm,
            call: &call,
            fate,
            start,
            end,
            duration,
            own: duration.unwrap_or(span).saturating_sub(inner.sum),
            late,
            returned,
        };
        around
            .reader
            .ended(around.functions, &mut self.calls, &ended);
    }

    /// Nothing more comes.
    pub(super) fn finish<R: Reader>(&mut self, around: &mut Around<'_, R>) {
        self.push_held(around);
        while let Some(call) = self.pop() {
            let start = call.entered.unwrap_or(self.now);
            self.over(call, Fate::Inside, (start, None), &[], around);
        }
    }
}

/// The values of a hit, with their names.
pub(in crate::output) fn named<'h>(
    hit: &'h Hit<'_>,
) -> impl Iterator<Item = (&'h str, ArgValue<'h>)> {
    let names = hit.probe.args.iter().map(String::as_str);
    names.zip(hit.values.iter().copied())
}
