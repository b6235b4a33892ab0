//! The `chrome` format: calls as trace events in JSON, which the Perfetto UI and chrome://tracing
//! open. An array of one event a line: each call is a complete event, hits that are no calls and what
//! programs print are instants; processes and threads are named as they appear. Times are
//! microseconds since midnight (UTC) of the day of the first hit: since 1970 they would be more than a
//! double holds.
//!
//! Invariant: what was written is a JSON document when the run is over, also when it was cut short.

use std::collections::HashMap;
use std::io::{self, Write};

use super::calls::{Call, CallFilter, Calls, Ended, Fate, Functions, Reader, Thread, named};
use super::{BUFFER, escape, json, language, number};
use crate::base::Pid;
use crate::data::{End, Feed, Hit, MapData, Sink, Summary};

const DAY: u64 = 86_400_000_000_000;

/// The `chrome` format.
pub struct Chrome<W: Write + Send> {
    calls: Calls,
    events: Events<W>,
}

impl<W: Write + Send> Chrome<W> {
    /// Writes to `out` the calls that the filter shows.
    pub fn new(out: W, filter: CallFilter) -> Chrome<W> {
        Chrome {
            calls: Calls::new(filter),
            events: Events {
                out,
                buffer: Vec::new(),
                state: State::Nothing,
                midnight: None,
                now: 0,
                named: HashMap::new(),
            },
        }
    }

    fn print(&mut self, make: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut args = Vec::new();
        make(&mut args);
        let now = self.events.now;
        for args in args.split(|byte| *byte == b'\n') {
            if args.is_empty() {
                continue;
            }
            self.events.begin(b'i');
            self.events.field("pid", b"0");
            self.events.field("tid", b"0");
            self.events.time("ts", now);
            self.events.field("s", b"\"g\"");
            self.events.field("name", b"\"print\"");
            self.events.field("args", args);
            self.events.buffer.push(b'}');
        }
        self.events.write_when_full()
    }
}

impl<W: Write + Send> Sink for Chrome<W> {
    fn armed(&mut self, _probes: usize) -> io::Result<()> {
        self.events.start();
        Ok(())
    }

    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        if let Some(time) = hit.time {
            self.events.midnight.get_or_insert(time - time % DAY);
            self.events.now = self.events.now.max(time);
        }
        self.calls.hit(hit, &mut self.events);
        self.events.write_when_full()
    }

    language::prints!(json);

    fn maps_at_end(&mut self, maps: &[MapData]) -> io::Result<()> {
        self.print(|out| language::json::maps_at_end(out, maps))
    }

    fn lost(&mut self, events: u64) -> io::Result<()> {
        self.print(|out| {
            let _ = writeln!(out, r#"{{"lost_events":{events}}}"#);
        })
    }

    fn closed(&mut self, feed: &Feed) -> io::Result<()> {
        self.calls.finish(Some(feed.pid), &mut self.events);
        self.events.named.retain(|thread, _| thread.pid != feed.pid);
        self.events.write_when_full()
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        self.calls.finish(None, &mut self.events);
        self.events.close();
        self.events.write_out()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.events.write_out()?;
        self.events.out.flush()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    /// The array has begun.
    Open {
        empty: bool,
    },
    Closed,
}

struct Events<W: Write> {
    out: W,
    buffer: Vec<u8>,
    state: State,
    /// The midnight that times are told from.
    midnight: Option<u64>,
    /// Time of the newest hit.
    now: u64,
    /// Threads that have a name, with it.
    named: HashMap<Thread, String>,
}

impl<W: Write> Events<W> {
    fn write_out(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.buffer);
        self.buffer.clear();
        result
    }

    fn write_when_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.write_out()
    }

    fn start(&mut self) {
        if self.state == State::Nothing {
            self.buffer.push(b'[');
            self.state = State::Open { empty: true };
        }
    }

    fn close(&mut self) {
        self.start();
        if self.state != State::Closed {
            self.buffer.extend_from_slice(b"\n]\n");
            self.state = State::Closed;
        }
    }

    fn begin(&mut self, phase: u8) {
        self.start();
        if self.state != (State::Open { empty: true }) {
            self.buffer.push(b',');
        }
        self.state = State::Open { empty: false };
        self.buffer.extend_from_slice(b"\n{\"ph\":\"");
        self.buffer.push(phase);
        self.buffer.push(b'"');
    }

    fn field(&mut self, name: &str, json: &[u8]) {
        let out = &mut self.buffer;
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(json);
    }

    fn string(&mut self, name: &str, text: &str) {
        self.field(name, b"");
        escape::json(&mut self.buffer, text.as_bytes());
    }

    fn time(&mut self, name: &str, time: u64) {
        self.field(name, b"");
        let since = time.saturating_sub(self.midnight.unwrap_or(0));
        number::micros(&mut self.buffer, since);
    }

    fn who(&mut self, thread: Thread) {
        self.field("pid", thread.pid.to_string().as_bytes());
        self.field("tid", thread.number().to_string().as_bytes());
    }

    /// Names a thread and its process before their first event.
    fn name(&mut self, thread: Thread, comm: &str) {
        if self.named.get(&thread).is_some_and(|named| named == comm) {
            return;
        }
        let of = |pid: Pid| Thread { pid, tid: None };
        for (what, thread) in [("process_name", of(thread.pid)), ("thread_name", thread)] {
            self.begin(b'M');
            self.who(thread);
            self.string("name", what);
            self.field("args", b"{\"name\":");
            escape::json(&mut self.buffer, comm.as_bytes());
            self.buffer.extend_from_slice(b"}}");
        }
        self.named.insert(thread, comm.to_owned());
    }

    /// Name, category and the arguments, that what ended it is one of; the end of the event.
    fn rest(&mut self, functions: &Functions, ended: &Ended<'_>, end: Option<&[u8]>) {
        let function = functions.get(ended.call.function);
        self.string("name", &function.name);
        if !function.module.is_empty() {
            self.string("cat", &function.module);
        }
        self.field("args", b"{");
        let end = end.unwrap_or_default();
        let parts = [ended.call.values.as_slice(), ended.returned, end];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        for (index, part) in parts.enumerate() {
            if index > 0 {
                self.buffer.push(b',');
            }
            self.buffer.extend_from_slice(part);
        }
        self.buffer.extend_from_slice(b"}}");
    }
}

impl<W: Write> Reader for Events<W> {
    fn values(&self, out: &mut Vec<u8>, hit: &Hit<'_>) {
        for (index, (name, value)) in named(hit).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            escape::json(out, name.as_bytes());
            out.push(b':');
            json::argument(out, value);
        }
    }

    fn ended(&mut self, functions: &Functions, _stack: &mut [Call], ended: &Ended<'_>) {
        self.name(ended.thread, ended.comm);
        self.begin(b'X');
        self.who(ended.thread);
        self.time("ts", ended.start);
        self.field("dur", b"");
        number::micros(&mut self.buffer, ended.end.saturating_sub(ended.start));
        let end: Option<&[u8]> = match ended.fate {
            Fate::Ended(End::Returned(_)) => None,
            Fate::Ended(End::Tail) => Some(br#""end":"tail""#),
            Fate::Ended(End::Unwound) => Some(br#""end":"unwound""#),
            Fate::Inside => Some(br#""end":"still inside""#),
            Fate::Missed => Some(br#""end":"missed""#),
        };
        self.rest(functions, ended, end);
    }

    fn passed(&mut self, functions: &Functions, _stack: &mut [Call], passed: &Ended<'_>) {
        self.name(passed.thread, passed.comm);
        self.begin(b'i');
        self.who(passed.thread);
        self.time("ts", passed.start);
        self.field("s", b"\"t\"");
        self.rest(functions, passed, None);
    }
}

impl<W: Write> Drop for Events<W> {
    fn drop(&mut self) {
        if matches!(self.state, State::Open { .. }) {
            self.close();
            // Nobody is left to be told.
            let _ = self.write_out();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::calls::testing::Events as Stream;
    use super::*;
    use crate::data::{Cell, Datum};

    fn stream() -> Stream {
        let mut events = Stream::default();
        events.enter(10, "main", DAY + 1_000, &[("argc", 1)]);
        events.pass(10, "_start", DAY + 1_500);
        events.enter(11, "f\"", DAY + 2_000, &[]);
        events.end(11, "f\"", DAY + 3_204, 1_204, End::Unwound);
        events.leave(10, "main", DAY + 9_000, 8_000, &[("ret", 7)]);
        events.enter(10, "sleep", DAY + 9_500, &[]);
        events
    }

    const EVENTS: &str = r#"
{"ph":"M","pid":10,"tid":10,"name":"process_name","args":{"name":"prog"}},
{"ph":"M","pid":10,"tid":10,"name":"thread_name","args":{"name":"prog"}},
{"ph":"i","pid":10,"tid":10,"ts":1.500,"s":"t","name":"_start","cat":"prog","args":{}},
{"ph":"M","pid":10,"tid":10,"name":"process_name","args":{"name":"prog"}},
{"ph":"M","pid":10,"tid":11,"name":"thread_name","args":{"name":"prog"}},
{"ph":"X","pid":10,"tid":11,"ts":2.000,"dur":1.204,"name":"f\"","cat":"prog","args":{"end":"unwound"}},
{"ph":"X","pid":10,"tid":10,"ts":1.000,"dur":8.000,"name":"main","cat":"prog","args":{"argc":1,"ret":7}},"#;

    #[test]
    fn calls_are_complete_events() {
        let mut bytes = Vec::new();
        let mut chrome = Chrome::new(&mut bytes, CallFilter::default());
        chrome.armed(1).unwrap();
        stream().play(&mut chrome);
        chrome.value(&Cell::Value(Datum::Int(4))).unwrap();
        chrome.summary(&Summary::default()).unwrap();
        drop(chrome);
        let text = String::from_utf8(bytes).unwrap();
        let rest = text
            .strip_prefix('[')
            .and_then(|text| text.strip_prefix(EVENTS))
            .unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            rest,
            r#"
{"ph":"i","pid":0,"tid":0,"ts":9.500,"s":"g","name":"print","args":{"type":"value","data":4}},
{"ph":"X","pid":10,"tid":10,"ts":9.500,"dur":0.000,"name":"sleep","cat":"prog","args":{"end":"still inside"}}
]
"#
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn it_is_a_document_when_the_run_is_cut_short() {
        for hits in 0..=6 {
            let mut bytes = Vec::new();
            let mut chrome = Chrome::new(&mut bytes, CallFilter::default());
            chrome.armed(1).unwrap();
            let mut some = stream();
            some.0.truncate(hits);
            some.play(&mut chrome);
            chrome.flush().unwrap();
            drop(chrome);
            let events: Vec<serde_json::Value> = serde_json::from_slice(&bytes)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&bytes)));
            assert_eq!(events.is_empty(), hits < 2, "{events:?}");
        }
    }
}
