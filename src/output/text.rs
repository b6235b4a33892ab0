//! Hits as text, one a line: `12:00:01.123456 ls-4242 libc.so.6:malloc size=0x20`. Allocates
//! nothing per hit. The number after the command is the thread's, or the process's where the
//! thread could not be told; without a recorded time the line starts with the command. What
//! programs print stands between them as [`super::language`] has it.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::number::{self, Shown};
use super::style::Style;
use super::{BUFFER, escape, frames, language};
use crate::data::{ArgValue, Cell, Datum, End, Hit, MapData, Return, Sink, Summary};
use crate::language::typed::Piece;

const NANOS: u64 = 1_000_000_000;

/// The `text` format.
pub struct Text<W: Write + Send> {
    out: W,
    buffer: Vec<u8>,
    style: Style,
    clock: Clock,
    /// Whether two empty lines stand before the maps at the end.
    gap: bool,
}

impl<W: Write + Send> Text<W> {
    /// Writes to `out`, with times of this zone (`TimeZone::system()` is the user's).
    pub fn new(out: W, style: Style, zone: TimeZone) -> Text<W> {
        Text {
            out,
            buffer: Vec::with_capacity(BUFFER + 4096),
            style,
            clock: Clock::new(zone),
            gap: true,
        }
    }

    /// The same without the two empty lines before the maps at the end.
    pub fn without_gap(mut self) -> Text<W> {
        self.gap = false;
        self
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

impl<W: Write + Send> Sink for Text<W> {
    fn armed(&mut self, _probes: usize) -> io::Result<()> {
        Ok(())
    }

    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        let out = &mut self.buffer;
        if let Some(time) = hit.time {
            out.extend_from_slice(self.style.dim().as_bytes());
            self.clock.write(out, time);
            out.extend_from_slice(self.style.end().as_bytes());
            out.push(b' ');
        }
        escape::text(out, hit.comm.as_bytes());
        out.push(b'-');
        let thread = hit.tid.map_or(hit.pid.0, |tid| tid.0);
        number::signed(out, i64::from(thread));
        out.push(b' ');
        out.extend_from_slice(self.style.strong().as_bytes());
        if hit.end.is_some() {
            out.extend_from_slice(b"<- ");
        }
        if !hit.probe.module.is_empty() {
            escape::text(out, hit.probe.module.as_bytes());
            out.push(b':');
        }
        escape::text(out, hit.probe.name.as_bytes());
        out.extend_from_slice(self.style.end().as_bytes());
        for (name, value) in hit.probe.args.iter().zip(hit.values) {
            out.push(b' ');
            escape::text(out, name.as_bytes());
            out.push(b'=');
            value_text(out, *value);
        }
        if let Some(end) = hit.end {
            returned(out, end);
        }
        out.push(b'\n');
        for frame in hit.stack.iter().flat_map(|frames| frames.iter()) {
            frames::text(out, frame);
        }
        self.write_when_full()
    }

    fn printed(&mut self, format: &[Piece], args: &[Datum]) -> io::Result<()> {
        language::text::printf(&mut self.buffer, format, args);
        self.write_when_full()
    }

    fn map(&mut self, map: &MapData, top: u64, div: u64) -> io::Result<()> {
        language::text::map(&mut self.buffer, map, top, div);
        self.write_when_full()
    }

    fn value(&mut self, value: &Cell) -> io::Result<()> {
        language::text::value(&mut self.buffer, value);
        self.write_when_full()
    }

    fn time(&mut self, text: &str) -> io::Result<()> {
        self.buffer.extend_from_slice(text.as_bytes());
        self.write_when_full()
    }

    fn join(&mut self, parts: &[Vec<u8>], separator: &str) -> io::Result<()> {
        language::text::join(&mut self.buffer, parts, separator);
        self.write_when_full()
    }

    fn cat(&mut self, bytes: &[u8]) -> io::Result<()> {
        language::text::cat(&mut self.buffer, bytes);
        self.write_when_full()
    }

    fn system(&mut self, bytes: &[u8]) -> io::Result<()> {
        language::text::system(&mut self.buffer, bytes);
        self.write_when_full()
    }

    fn maps_at_end(&mut self, maps: &[MapData]) -> io::Result<()> {
        if self.gap {
            self.buffer.extend_from_slice(language::text::GAP);
        }
        language::text::maps_at_end(&mut self.buffer, maps);
        self.write_when_full()
    }

    fn lost(&mut self, events: u64) -> io::Result<()> {
        let plural = if events == 1 { "" } else { "s" };
        writeln!(self.buffer, "lost {events} event{plural}")
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        self.write_out()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.out.flush()
    }
}

/// How a call ended, and how long it took.
fn returned(out: &mut Vec<u8>, Return { end, duration }: Return) {
    match end {
        End::Returned(value) => {
            out.extend_from_slice(b" ret=");
            number::hex(out, value);
        }
        End::Tail => out.extend_from_slice(b" /* tail */"),
        End::Unwound => out.extend_from_slice(b" /* unwound */"),
    }
    if let Some(nanoseconds) = duration {
        out.push(b' ');
        number::duration(out, nanoseconds);
    }
}

/// An argument's value.
pub(super) fn value_text(out: &mut Vec<u8>, value: ArgValue<'_>) {
    match value {
        ArgValue::Int(value, format) => match number::shown(value, format) {
            Shown::Hex(n) => number::hex(out, n),
            Shown::Unsigned(n) => number::decimal(out, n),
            Shown::Signed(n) => number::signed(out, n),
            Shown::Char(b) => escape::character(out, b),
            Shown::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        },
        ArgValue::Str(bytes, cut) => {
            escape::quoted(out, bytes);
            if cut {
                out.extend_from_slice(b"...");
            }
        }
        ArgValue::Fault(address) => {
            out.extend_from_slice(b"<fault ");
            number::hex(out, address);
            out.push(b'>');
        }
    }
}

/// Local times; asks for the zone's offset once a second.
struct Clock {
    zone: TimeZone,
    /// The second that `text` is for.
    second: Option<u64>,
    /// `HH:MM:SS.`
    text: [u8; 9],
}

impl Clock {
    fn new(zone: TimeZone) -> Clock {
        Clock {
            zone,
            second: None,
            text: *b"00:00:00.",
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, nanos: u64) {
        let second = nanos / NANOS;
        if self.second != Some(second) {
            let stamp = i64::try_from(second).ok();
            let stamp = stamp.and_then(|s| Timestamp::from_second(s).ok());
            let offset = stamp.map_or(0, |s| self.zone.to_offset(s).seconds());
            let local = second.saturating_add_signed(i64::from(offset)) % 86_400;
            let digits = |n: u64| [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
            let ([h, i], [m, j], [s, k]) = (
                digits(local / 3600),
                digits(local / 60 % 60),
                digits(local % 60),
            );
            self.text = [h, i, b':', m, j, b':', s, k, b'.'];
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
        number::padded(out, (nanos % NANOS / 1000) as u32, 6);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Pid, ProbeId, Tid};
    use crate::data::{Frame, ProbeInfo, ProbeKind};
    use crate::program::{IntFormat, Width};

    fn probe(name: &str, args: &[&str]) -> ProbeInfo {
        ProbeInfo {
            id: ProbeId(0),
            name: name.into(),
            module: "libc.so.6".into(),
            address: None,
            offset: None,
            args: args.iter().map(|s| (*s).to_owned()).collect(),
            kind: ProbeKind::Entry,
        }
    }

    fn printed(
        probe: &ProbeInfo,
        time: Option<u64>,
        comm: &str,
        values: &[ArgValue<'_>],
    ) -> String {
        let mut bytes = Vec::new();
        let mut text = Text::new(&mut bytes, Style::PLAIN, TimeZone::UTC);
        let hit = Hit {
            probe,
            time,
            pid: Pid(4242),
            tid: Some(Tid(4243)),
            comm,
            values,
            end: None,
            returns: false,
            stack: &[],
        };
        text.hit(&hit).unwrap();
        text.flush().unwrap();
        drop(text);
        String::from_utf8(bytes).unwrap()
    }

    const NOON: u64 = (20_000 * 86_400 + 12 * 3600 + 1) * NANOS + 123_456_789;

    #[test]
    fn a_hit_is_one_line() {
        let value = [ArgValue::Int(0x20, IntFormat::Hex(Width::W64))];
        assert_eq!(
            printed(&probe("malloc", &["size"]), Some(NOON), "ls", &value),
            "12:00:01.123456 ls-4243 libc.so.6:malloc size=0x20\n"
        );
        assert_eq!(
            printed(&probe("f+0x4", &[]), None, "ls", &[]),
            "ls-4243 libc.so.6:f+0x4\n"
        );
    }

    #[test]
    fn values_are_shown_by_their_format() {
        use ArgValue::{Fault, Int, Str};
        let args = ["u", "s", "c", "b", "p", "q", "r"];
        let values = [
            Int(0x1_ffff_ffff, IntFormat::Unsigned(Width::W32)),
            Int(0xff, IntFormat::Signed(Width::W8)),
            Int(0x1041, IntFormat::Char),
            Int(0x100, IntFormat::Bool),
            Str(b"/etc/\x1b\"", false),
            Str(b"long", true),
            Fault(0xdead),
        ];
        assert_eq!(
            printed(&probe("f", &args), None, "a\nb", &values),
            "a\\nb-4243 libc.so.6:f u=4294967295 s=-1 c='A' b=false p=\"/etc/\\x1b\\\"\" q=\"long\"... r=<fault 0xdead>\n"
        );
    }

    #[test]
    fn a_stack_stands_below_its_hit() {
        let frame = |function: Option<&str>, file: Option<&str>, inlined: bool| Frame {
            address: 0x1234,
            function: function.map(str::to_owned),
            offset: (!inlined && function.is_some()).then_some(0x1c),
            module: Some("a\nb".to_owned()),
            file: file.map(str::to_owned),
            line: file.map(|_| 7),
            inlined,
        };
        let stack: [Arc<[Frame]>; 2] = [
            vec![
                frame(Some("in"), Some("in.h"), true),
                frame(Some("out"), Some("o.c"), false),
            ]
            .into(),
            vec![frame(None, None, false)].into(),
        ];
        let probe = probe("f", &[]);
        let mut bytes = Vec::new();
        let mut text = Text::new(&mut bytes, Style::PLAIN, TimeZone::UTC);
        let hit = Hit {
            probe: &probe,
            time: None,
            pid: Pid(1),
            tid: None,
            comm: "ls",
            values: &[],
            end: None,
            returns: false,
            stack: &stack,
        };
        text.hit(&hit).unwrap();
        text.flush().unwrap();
        drop(text);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "ls-1 libc.so.6:f\n    a\\nb:in in.h:7 (inlined)\n    a\\nb:out+0x1c o.c:7\n    a\\nb:0x1234\n"
        );
    }

    #[test]
    fn the_clock_follows_the_zone_and_the_second() {
        let mut clock = Clock::new(TimeZone::fixed(jiff::tz::offset(-5)));
        let mut out = Vec::new();
        clock.write(&mut out, NOON);
        clock.write(&mut out, NOON + NANOS);
        clock.write(&mut out, NOON);
        assert_eq!(out, b"07:00:01.12345607:00:02.12345607:00:01.123456");
        let mut out = Vec::new();
        clock.write(&mut out, u64::MAX);
        assert_eq!(out.len(), 15);
    }

    #[test]
    fn a_full_disk_is_reported_and_nothing_is_written_twice() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut text = Text::new(Full, Style::PLAIN, TimeZone::UTC);
        text.lost(1).unwrap();
        assert_eq!(text.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(text.buffer.is_empty());
    }

    /// Not a benchmark to fail by: prints the cost of a hit (`cargo test --release -- --ignored
    /// --nocapture ns_per_hit`).
    #[test]
    #[ignore = "prints a time"]
    fn ns_per_hit() {
        let probe = probe("malloc", &["size", "path"]);
        let values = [
            ArgValue::Int(0x20, IntFormat::Hex(Width::W64)),
            ArgValue::Str(b"/usr/include/stdio.h", false),
        ];
        for with in [1, 2] {
            let mut text = Text::new(io::sink(), Style::PLAIN, TimeZone::system());
            let start = std::time::Instant::now();
            let count = 2_000_000_u32;
            for n in 0..count {
                let hit = Hit {
                    probe: &probe,
                    time: Some(NOON + u64::from(n) * 1000),
                    pid: Pid(4242),
                    tid: Some(Tid(4243)),
                    comm: "ls",
                    values: &values[..with],
                    end: None,
                    returns: false,
                    stack: &[],
                };
                text.hit(&hit).unwrap();
            }
            println!(
                "{with} arguments: {} ns a hit",
                start.elapsed().as_nanos() / u128::from(count)
            );
        }
    }
}
