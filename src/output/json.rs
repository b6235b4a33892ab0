//! JSON, one object a line: `attached_probes`, `hit`, `lost_events`, what programs print
//! ([`super::language`]), and last `summary`. Keys without a value are left out, but for `hits`: null
//! where a program of the language does not count them.
//!
//! * Integers beyond ±2^53, which a double cannot hold, are strings (so `ts`, nanoseconds since
//!   1970, always is one); hex arguments are numbers too.
//! * Strings are UTF-8: bytes that are not become U+FFFD. Control characters and direction marks
//!   are `\u....`. Strings whose end was cut off are named in `truncated`.
//! * A character argument is a string of one character (ISO 8859-1), a boolean is one, an argument
//!   that could not be read is `{"fault":"0x.."}`.

use std::io::{self, Write};

use super::number::{self, Shown};
use super::{BUFFER, escape, frames, language};
use crate::data::{
    ArgValue, Cell, Datum, End, Hit, MapData, Missed, ProbeInfo, ProbeKind, ProbeSummary, Return,
    Sink, Summary,
};
use crate::language::typed::Piece;

const EXACT: u64 = 1 << 53;

/// The `json` format.
pub struct Json<W: Write + Send> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write + Send> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Json<W> {
        Json {
            out,
            buffer: Vec::with_capacity(BUFFER + 4096),
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.buffer);
        // After an error too: a line is never written twice, and the buffer never grows on.
        self.buffer.clear();
        result
    }

    fn write_when_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.write_out()
    }
}

impl<W: Write + Send> Sink for Json<W> {
    fn armed(&mut self, probes: usize) -> io::Result<()> {
        writeln!(
            self.buffer,
            r#"{{"type":"attached_probes","data":{{"probes":{probes}}}}}"#
        )
    }

    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        let out = &mut self.buffer;
        out.extend_from_slice(br#"{"type":"hit""#);
        if let Some(time) = hit.time {
            key(out, "ts");
            unsigned(out, time);
        }
        key(out, "pid");
        number::signed(out, i64::from(hit.pid.0));
        if let Some(tid) = hit.tid {
            key(out, "tid");
            number::signed(out, i64::from(tid.0));
        }
        key(out, "comm");
        escape::json(out, hit.comm.as_bytes());
        key(out, "probe");
        label(out, hit.probe);
        key(out, "kind");
        escape::json(out, hit.probe.kind.name().as_bytes());
        let named = || hit.probe.args.iter().zip(hit.values);
        if !hit.values.is_empty() {
            key(out, "args");
            for (index, (name, value)) in named().enumerate() {
                out.push(if index == 0 { b'{' } else { b',' });
                escape::json(out, name.as_bytes());
                out.push(b':');
                argument(out, *value);
            }
            if hit.probe.args.is_empty() {
                out.push(b'{');
            }
            out.push(b'}');
        }
        if let Some(Return { end, duration }) = hit.end {
            match end {
                End::Returned(value) => {
                    key(out, "retval");
                    unsigned(out, value);
                }
                End::Tail => out.extend_from_slice(br#","end":"tail""#),
                End::Unwound => out.extend_from_slice(br#","end":"unwound""#),
            }
            if let Some(nanoseconds) = duration {
                key(out, "duration");
                unsigned(out, nanoseconds);
            }
        }
        frames::json(out, hit.stack);
        let mut cut = named().filter(|(_, value)| matches!(value, ArgValue::Str(_, true)));
        if let Some((first, _)) = cut.next() {
            key(out, "truncated");
            out.push(b'[');
            escape::json(out, first.as_bytes());
            for (name, _) in cut {
                out.push(b',');
                escape::json(out, name.as_bytes());
            }
            out.push(b']');
        }
        out.extend_from_slice(b"}\n");
        self.write_when_full()
    }

    fn printed(&mut self, format: &[Piece], args: &[Datum]) -> io::Result<()> {
        language::json::printf(&mut self.buffer, format, args);
        self.write_when_full()
    }

    fn map(&mut self, map: &MapData, top: u64, div: u64) -> io::Result<()> {
        language::json::map(&mut self.buffer, map, top, div);
        self.write_when_full()
    }

    fn value(&mut self, value: &Cell) -> io::Result<()> {
        language::json::value(&mut self.buffer, value);
        self.write_when_full()
    }

    fn time(&mut self, text: &str) -> io::Result<()> {
        language::json::time(&mut self.buffer, text);
        self.write_when_full()
    }

    fn join(&mut self, parts: &[Vec<u8>], separator: &str) -> io::Result<()> {
        language::json::join(&mut self.buffer, parts, separator);
        self.write_when_full()
    }

    fn cat(&mut self, bytes: &[u8]) -> io::Result<()> {
        language::json::cat(&mut self.buffer, bytes);
        self.write_when_full()
    }

    fn system(&mut self, bytes: &[u8]) -> io::Result<()> {
        language::json::system(&mut self.buffer, bytes);
        self.write_when_full()
    }

    fn maps_at_end(&mut self, maps: &[MapData]) -> io::Result<()> {
        language::json::maps_at_end(&mut self.buffer, maps);
        self.write_when_full()
    }

    fn lost(&mut self, events: u64) -> io::Result<()> {
        let out = &mut self.buffer;
        out.extend_from_slice(br#"{"type":"lost_events","data":{"events":"#);
        unsigned(out, events);
        out.extend_from_slice(b"}}\n");
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.buffer
            .extend_from_slice(br#"{"type":"summary","probes":["#);
        for (index, probe) in summary.probes.iter().enumerate() {
            if index > 0 {
                self.buffer.push(b',');
            }
            probe_summary(&mut self.buffer, probe);
            // There may be 100,000 of them on this line.
            self.write_when_full()?;
        }
        let out = &mut self.buffer;
        out.push(b']');
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        for (name, n) in [
            ("armed", count(summary.armed)),
            ("jump", count(summary.jump)),
            ("trap", count(summary.trap)),
        ] {
            key(out, name);
            unsigned(out, n);
        }
        let counted = summary.probes.iter().filter_map(|probe| probe.hits);
        let hits = counted.reduce(u64::saturating_add);
        let none = summary.probes.is_empty().then_some(0);
        maybe(out, "hits", hits.or(none));
        key(out, "cost");
        out.extend_from_slice(br#"{"text_bytes":"#);
        unsigned(out, summary.cost.text_bytes);
        key(out, "pauses");
        unsigned(out, summary.cost.pauses);
        key(out, "longest_pause");
        unsigned(out, summary.cost.longest_pause);
        out.push(b'}');
        key(out, "processes");
        list(out, &summary.processes, |out, process| {
            out.extend_from_slice(br#"{"pid":"#);
            out.extend_from_slice(process.pid.to_string().as_bytes());
            key(out, "comm");
            escape::json(out, process.comm.as_bytes());
            maybe(out, "hits", process.hits);
            key(out, "missed");
            unsigned(out, process.missed);
            out.push(b'}');
        });
        key(out, "notes");
        list(out, &summary.notes, |out, note| {
            escape::json(out, note.as_bytes());
        });
        out.extend_from_slice(b"}\n");
        self.write_out()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.out.flush()
    }
}

pub(super) fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// `"libc.so.6:malloc"`.
fn label(out: &mut Vec<u8>, probe: &ProbeInfo) {
    out.push(b'"');
    if !probe.module.is_empty() {
        escape::json_part(out, probe.module.as_bytes());
        out.push(b':');
    }
    escape::json_part(out, probe.name.as_bytes());
    out.push(b'"');
}

pub(super) fn unsigned(out: &mut Vec<u8>, n: u64) {
    let exact = n <= EXACT;
    if !exact {
        out.push(b'"');
    }
    number::decimal(out, n);
    if !exact {
        out.push(b'"');
    }
}

/// A number that may not be known.
fn maybe(out: &mut Vec<u8>, name: &str, n: Option<u64>) {
    key(out, name);
    match n {
        Some(n) => unsigned(out, n),
        None => out.extend_from_slice(b"null"),
    }
}

/// An argument's value.
pub(super) fn argument(out: &mut Vec<u8>, value: ArgValue<'_>) {
    match value {
        ArgValue::Int(value, format) => match number::shown(value, format) {
            Shown::Hex(n) | Shown::Unsigned(n) => unsigned(out, n),
            Shown::Signed(n) if n.unsigned_abs() <= EXACT => number::signed(out, n),
            Shown::Signed(n) => {
                out.push(b'"');
                number::signed(out, n);
                out.push(b'"');
            }
            Shown::Char(b) => {
                let mut utf8 = [0; 4];
                escape::json(out, char::from(b).encode_utf8(&mut utf8).as_bytes());
            }
            Shown::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        },
        ArgValue::Str(bytes, _) => escape::json(out, bytes),
        ArgValue::Fault(address) => {
            out.extend_from_slice(br#"{"fault":""#);
            number::hex(out, address);
            out.extend_from_slice(br#""}"#);
        }
    }
}

/// An array.
pub(super) fn list<T>(out: &mut Vec<u8>, items: &[T], print: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        print(out, item);
    }
    out.push(b']');
}

fn probe_summary(out: &mut Vec<u8>, probe: &ProbeSummary) {
    out.extend_from_slice(br#"{"id":"#);
    number::decimal(out, u64::from(probe.info.id.0));
    key(out, "name");
    escape::json(out, probe.info.name.as_bytes());
    key(out, "module");
    escape::json(out, probe.info.module.as_bytes());
    key(out, "kind");
    escape::json(out, probe.info.kind.name().as_bytes());
    if let Some(address) = probe.info.address {
        key(out, "address");
        out.push(b'"');
        number::hex(out, address.0);
        out.push(b'"');
    }
    if let Some(offset) = probe.info.offset {
        key(out, "offset");
        out.push(b'"');
        number::hex(out, offset.0);
        out.push(b'"');
    }
    key(out, "state");
    escape::json(out, probe.state.name().as_bytes());
    key(out, "reason");
    match &probe.reason {
        Some(reason) => escape::json(out, reason.as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    maybe(out, "hits", probe.hits);
    key(out, "missed");
    let Missed {
        ring_full,
        abandoned,
        trap,
        untracked,
        crowded,
        runtime,
    } = probe.missed;
    out.extend_from_slice(br#"{"ring_full":"#);
    unsigned(out, ring_full);
    key(out, "abandoned");
    unsigned(out, abandoned);
    key(out, "trap");
    unsigned(out, trap);
    if probe.info.kind == ProbeKind::Return {
        key(out, "untracked");
        unsigned(out, untracked);
        key(out, "crowded");
        unsigned(out, crowded);
        key(out, "runtime");
        unsigned(out, runtime);
    }
    out.push(b'}');
    if probe.info.kind == ProbeKind::Return {
        key(out, "tail");
        unsigned(out, probe.ends.tail);
        key(out, "unwound");
        unsigned(out, probe.ends.unwound);
        maybe(out, "inside", probe.ends.inside);
        key(out, "inherited");
        unsigned(out, probe.ends.inherited);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Addr, LinkAddr, Pid, ProbeId, Tid};
    use crate::data::{Ends, ProcessSummary, SiteState};
    use crate::program::{IntFormat, Width};

    fn probe(args: &[&str]) -> ProbeInfo {
        ProbeInfo {
            id: ProbeId(7),
            name: "malloc".into(),
            module: "libc.so.6".into(),
            address: Some(Addr(0x7f00_1000)),
            offset: Some(LinkAddr(0x1000)),
            args: args.iter().map(|s| (*s).to_owned()).collect(),
            kind: ProbeKind::Entry,
        }
    }

    fn printed(f: impl FnOnce(&mut Json<&mut Vec<u8>>)) -> String {
        let mut bytes = Vec::new();
        let mut json = Json::new(&mut bytes);
        f(&mut json);
        json.flush().unwrap();
        drop(json);
        let text = String::from_utf8(bytes).unwrap();
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap_or_else(|e| panic!("{e}: {line}"));
        }
        text
    }

    fn hit(args: &[&str], time: Option<u64>, tid: Option<Tid>, values: &[ArgValue<'_>]) -> String {
        let probe = probe(args);
        printed(|json| {
            let hit = Hit {
                probe: &probe,
                time,
                pid: Pid(10),
                tid,
                comm: "ls",
                values,
                end: None,
                returns: false,
                stack: &[],
            };
            json.hit(&hit).unwrap();
        })
    }

    #[test]
    fn a_hit_has_the_keys_of_the_format() {
        let size = [ArgValue::Int(32, IntFormat::Hex(Width::W64))];
        assert_eq!(
            hit(
                &["size"],
                Some(1_700_000_000_123_456_789),
                Some(Tid(11)),
                &size
            ),
            concat!(
                r#"{"type":"hit","ts":"1700000000123456789","pid":10,"tid":11,"comm":"ls","#,
                r#""probe":"libc.so.6:malloc","kind":"entry","args":{"size":32}}"#,
                "\n"
            )
        );
        assert_eq!(
            hit(&[], None, None, &[]),
            "{\"type\":\"hit\",\"pid\":10,\"comm\":\"ls\",\"probe\":\"libc.so.6:malloc\",\"kind\":\"entry\"}\n"
        );
    }

    #[test]
    fn arguments_have_the_type_of_their_format() {
        use ArgValue::{Fault, Int, Str};
        let args = ["max", "big", "neg", "min", "c", "b", "s", "cut", "bad"];
        let values = [
            Int(1 << 53, IntFormat::Unsigned(Width::W64)),
            Int((1 << 53) + 1, IntFormat::Hex(Width::W64)),
            Int(0xffff, IntFormat::Signed(Width::W16)),
            Int(1 << 63, IntFormat::Signed(Width::W64)),
            Int(0xe9, IntFormat::Char),
            Int(1, IntFormat::Bool),
            Str(b"a\"\x1b\xff", false),
            Str(b"x", true),
            Fault(0xdead),
        ];
        let line = hit(&args, None, None, &values);
        let (_, args) = line.split_once("\"args\":").unwrap();
        assert_eq!(
            args,
            concat!(
                r#"{"max":9007199254740992,"big":"9007199254740993","neg":-1,"#,
                r#""min":"-9223372036854775808","c":"é","b":true,"s":"a\"\u001b"#,
                "\u{fffd}",
                r#"","cut":"x","bad":{"fault":"0xdead"}},"truncated":["cut"]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn counts_are_told_as_bpftrace_does() {
        let text = printed(|json| {
            json.armed(3).unwrap();
            json.lost(7).unwrap();
        });
        assert_eq!(
            text,
            "{\"type\":\"attached_probes\",\"data\":{\"probes\":3}}\n{\"type\":\"lost_events\",\"data\":{\"events\":7}}\n"
        );
    }

    #[test]
    fn the_summary_is_one_line() {
        let missed = Missed {
            ring_full: 2,
            ..Missed::default()
        };
        let summary = Summary {
            probes: vec![
                ProbeSummary {
                    info: probe(&[]).into(),
                    state: SiteState::Trap,
                    reason: Some("too short, no padding".into()),
                    hits: Some(5),
                    missed,
                    ends: Ends::default(),
                },
                ProbeSummary {
                    info: ProbeInfo {
                        address: None,
                        offset: None,
                        ..probe(&[])
                    }
                    .into(),
                    state: SiteState::Pending,
                    reason: None,
                    hits: None,
                    missed: Missed::default(),
                    ends: Ends::default(),
                },
            ],
            armed: 1,
            jump: 0,
            trap: 1,
            notes: vec!["a\nb".into()],
            processes: vec![ProcessSummary {
                pid: Pid(7),
                comm: "ls".into(),
                hits: Some(5),
                missed: 2,
            }],
            ..Summary::default()
        };
        assert_eq!(
            printed(|json| json.summary(&summary).unwrap()),
            concat!(
                r#"{"type":"summary","probes":[{"id":7,"name":"malloc","module":"libc.so.6","#,
                r#""kind":"entry","address":"0x7f001000","offset":"0x1000","state":"trap","#,
                r#""reason":"too short, no padding","hits":5,"#,
                r#""missed":{"ring_full":2,"abandoned":0,"trap":0}},"#,
                r#"{"id":7,"name":"malloc","module":"libc.so.6","kind":"entry","#,
                r#""state":"pending","reason":null,"hits":null,"#,
                r#""missed":{"ring_full":0,"abandoned":0,"trap":0}}],"#,
                r#""armed":1,"jump":0,"trap":1,"hits":5,"#,
                r#""cost":{"text_bytes":0,"pauses":0,"longest_pause":0},"#,
                r#""processes":[{"pid":7,"comm":"ls","hits":5,"missed":2}],"notes":["a\nb"]}"#,
                "\n"
            )
        );
    }
}
