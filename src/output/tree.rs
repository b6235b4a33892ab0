//! The `tree` format: calls as uftrace and ftrace's function graph show them. A call that holds no
//! other that is shown is one line; of others the first line is printed when there is something in
//! them to print. Calls of several threads stand between each other by the time they ended, or
//! something in them began.

use std::io::{self, Write};

use super::calls::{Call, CallFilter, Calls, Ended, Fate, Functions, Reader, Thread, named};
use super::style::Style;
use super::{BUFFER, escape, language, text};
use crate::data::{End, Feed, Hit, MapData, Sink, Summary};

/// Deeper calls are not indented further.
const DEEPEST: u32 = 200;

/// The `tree` format.
pub struct Tree<W: Write + Send> {
    calls: Calls,
    lines: Lines<W>,
}

impl<W: Write + Send> Tree<W> {
    /// Writes to `out` the calls that the filter shows.
    pub fn new(out: W, style: Style, filter: CallFilter) -> Tree<W> {
        Tree {
            lines: Lines {
                out,
                buffer: Vec::new(),
                style,
                eager: filter.at_least == 0,
            },
            calls: Calls::new(filter),
        }
    }

    fn print(&mut self, make: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        make(&mut self.lines.buffer);
        self.lines.write_when_full()
    }
}

impl<W: Write + Send> Sink for Tree<W> {
    fn armed(&mut self, _probes: usize) -> io::Result<()> {
        let (dim, end) = (self.lines.style.dim(), self.lines.style.end());
        writeln!(
            self.lines.buffer,
            "{dim}# DURATION     TID     FUNCTION{end}"
        )
    }

    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        self.calls.hit(hit, &mut self.lines);
        self.lines.write_when_full()
    }

    language::prints!(text);

    fn maps_at_end(&mut self, maps: &[MapData]) -> io::Result<()> {
        self.print(|out| {
            out.extend_from_slice(language::text::GAP);
            language::text::maps_at_end(out, maps);
        })
    }

    fn lost(&mut self, events: u64) -> io::Result<()> {
        let plural = if events == 1 { "" } else { "s" };
        writeln!(
            self.lines.buffer,
            "{:21}| /* lost {events} event{plural} */",
            ""
        )
    }

    fn closed(&mut self, feed: &Feed) -> io::Result<()> {
        self.calls.finish(Some(feed.pid), &mut self.lines);
        self.lines.write_when_full()
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        self.calls.finish(None, &mut self.lines);
        self.lines.write_out()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.write_out()?;
        self.lines.out.flush()
    }
}

struct Lines<W> {
    out: W,
    buffer: Vec<u8>,
    style: Style,
    /// Whether all that is shown will be: a call may be opened before it is known how long it lasts.
    eager: bool,
}

impl<W: Write> Lines<W> {
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

    /// What stands before a call.
    fn margin(&mut self, duration: Option<u64>, thread: Thread, level: Option<u32>) {
        let out = &mut self.buffer;
        match duration {
            Some(duration) => {
                let (whole, part, unit) = parts(duration);
                let _ = write!(out, " {whole:>3}.{part:03} {unit:>2} ");
            }
            None => out.extend_from_slice(&[b' '; 12]),
        }
        let (dim, end) = (self.style.dim(), self.style.end());
        let _ = write!(out, "{dim}[{:>6}]{end} | ", thread.number());
        let level = level.unwrap_or(0).min(DEEPEST);
        out.extend(std::iter::repeat_n(b' ', 2 * level as usize));
    }

    /// The first lines of calls that have none yet.
    fn open(&mut self, functions: &Functions, thread: Thread, stack: &mut [Call]) {
        let closed = |call: &Call| call.mark == 0 && call.level.is_some();
        let first = stack.iter().rposition(|call| !closed(call));
        let first = first.map_or(0, |last| last + 1);
        for call in stack.iter_mut().skip(first) {
            call.mark = 1;
            self.margin(None, thread, call.level);
            self.name(functions, call);
            self.buffer.extend_from_slice(b" {\n");
        }
    }

    /// `f(x=1)`
    fn name(&mut self, functions: &Functions, call: &Call) {
        let out = &mut self.buffer;
        out.extend_from_slice(self.style.strong().as_bytes());
        escape::text(out, functions.get(call.function).name.as_bytes());
        out.extend_from_slice(self.style.end().as_bytes());
        out.push(b'(');
        out.extend_from_slice(&call.values);
        out.push(b')');
    }
}

impl<W: Write> Reader for Lines<W> {
    fn values(&self, out: &mut Vec<u8>, hit: &Hit<'_>) {
        let single = hit.end.is_some() && hit.values.len() == 1;
        for (index, (name, value)) in named(hit).enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            if !single {
                escape::text(out, name.as_bytes());
                out.push(b'=');
            }
            text::value_text(out, value);
        }
    }

    fn entered(&mut self, functions: &Functions, thread: Thread, stack: &mut [Call]) {
        if self.eager
            && let Some((_, around)) = stack.split_last_mut()
        {
            self.open(functions, thread, around);
        }
    }

    fn ended(&mut self, functions: &Functions, stack: &mut [Call], ended: &Ended<'_>) {
        let call = ended.call;
        let closes = call.mark > 0 || ended.late;
        if !closes {
            self.open(functions, ended.thread, stack);
        }
        self.margin(ended.duration, ended.thread, call.level);
        if closes {
            self.buffer.push(b'}');
        } else {
            self.name(functions, call);
        }
        if !ended.returned.is_empty() {
            self.buffer.extend_from_slice(b" = ");
            self.buffer.extend_from_slice(ended.returned);
        }
        if closes {
            let out = &mut self.buffer;
            out.extend_from_slice(if ended.returned.is_empty() {
                b" /* "
            } else {
                b"; /* "
            });
            escape::text(out, functions.get(call.function).name.as_bytes());
            out.extend_from_slice(b" */");
        } else {
            self.buffer.push(b';');
        }
        self.buffer.extend_from_slice(match ended.fate {
            Fate::Ended(End::Returned(_)) => b"\n".as_slice(),
            Fate::Ended(End::Tail) => b" /* tail */\n",
            Fate::Ended(End::Unwound) => b" /* unwound */\n",
            Fate::Inside => b" /* still inside */\n",
            Fate::Missed => b" /* end missed */\n",
        });
    }

    fn passed(&mut self, functions: &Functions, stack: &mut [Call], passed: &Ended<'_>) {
        self.open(functions, passed.thread, stack);
        self.margin(None, passed.thread, passed.call.level);
        self.name(functions, passed.call);
        self.buffer.extend_from_slice(b"; /* entry */\n");
    }
}

/// Nanoseconds in the unit that suits them: whole, thousandths, unit.
fn parts(nanoseconds: u64) -> (u64, u64, &'static str) {
    let (unit, name) = match nanoseconds {
        0..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let part = nanoseconds % unit / (unit / 1_000);
    (nanoseconds / unit, part, name)
}

#[cfg(test)]
mod tests {
    use super::super::calls::testing::Events;
    use super::*;

    fn printed(events: &Events, filter: CallFilter) -> String {
        let mut bytes = Vec::new();
        let mut tree = Tree::new(&mut bytes, Style::PLAIN, filter);
        tree.armed(1).unwrap();
        events.play(&mut tree);
        tree.summary(&Summary::default()).unwrap();
        drop(tree);
        String::from_utf8(bytes).unwrap()
    }

    fn two_threads() -> Events {
        let mut events = Events::default();
        events.enter(10, "main", 1_000, &[("argc", 1)]);
        events.enter(11, "worker", 1_500, &[]);
        events.enter(10, "fib", 2_000, &[("n", 2)]);
        events.enter(10, "fib", 2_100, &[("n", 1)]);
        events.leave(10, "fib", 2_400, 204, &[("ret", 1)]);
        events.leave(11, "worker", 2_704_500, 2_703_000, &[]);
        events.enter(10, "fib", 2_704_600, &[("n", 0)]);
        events.leave(10, "fib", 2_704_700, 80, &[("ret", 0)]);
        events.leave(10, "fib", 2_705_000, 2_702_900, &[("ret", 1)]);
        events.leave(10, "main", 3_000_002_000, 3_000_000_900, &[]);
        events
    }

    #[test]
    fn calls_nest_by_thread_and_leaves_are_one_line() {
        assert_eq!(
            printed(&two_threads(), CallFilter::default()),
            "\
# DURATION     TID     FUNCTION
            [    10] | main(argc=0x1) {
            [    10] |   fib(n=0x2) {
   0.204 us [    10] |     fib(n=0x1) = 0x1;
   2.703 ms [    11] | worker();
   0.080 us [    10] |     fib(n=0x0) = 0x0;
   2.702 ms [    10] |   } = 0x1; /* fib */
   3.000  s [    10] | } /* main */
"
        );
    }

    #[test]
    fn filters_leave_calls_out() {
        let depth = CallFilter {
            depth: Some(1),
            ..CallFilter::default()
        };
        assert_eq!(
            printed(&two_threads(), depth),
            "\
# DURATION     TID     FUNCTION
   2.703 ms [    11] | worker();
   3.000  s [    10] | main(argc=0x1);
"
        );
        let long = CallFilter {
            at_least: 1_000_000,
            within: Some(Box::new(|name, _| name == "fib")),
            ..CallFilter::default()
        };
        assert_eq!(
            printed(&two_threads(), long),
            "\
# DURATION     TID     FUNCTION
   2.702 ms [    10] | fib(n=0x2) = 0x1;
"
        );
    }

    #[test]
    fn a_tail_call_stands_beside_the_call_that_ended_in_it() {
        let mut events = Events::default();
        events.enter(10, "main", 1_000, &[]);
        events.enter(10, "first", 2_000, &[]);
        events.enter(10, "second", 3_000, &[]);
        events.end(10, "first", 3_010, 1_000, End::Tail);
        events.leave(10, "second", 4_000, 980, &[]);
        events.enter(10, "thrower", 5_000, &[]);
        events.enter(10, "thrown", 6_000, &[]);
        events.end(10, "thrown", 6_500, 490, End::Unwound);
        events.end(10, "thrower", 6_600, 1_590, End::Unwound);
        events.leave(10, "main", 9_000, 7_990, &[]);
        assert_eq!(
            printed(&events, CallFilter::default()),
            "\
# DURATION     TID     FUNCTION
            [    10] | main() {
   1.000 us [    10] |   first(); /* tail */
   0.980 us [    10] |   second();
            [    10] |   thrower() {
   0.490 us [    10] |     thrown(); /* unwound */
   1.590 us [    10] |   } /* thrower */ /* unwound */
   7.990 us [    10] | } /* main */
"
        );
    }

    #[test]
    fn what_is_missing_is_said_and_braces_are_even() {
        let mut events = Events::default();
        // Attached in the middle of `outer`; the end of `lost` has no record.
        events.enter(10, "inner", 100_000_000, &[]);
        events.leave(10, "inner", 100_002_000, 1_900, &[]);
        events.leave(10, "outer", 100_003_000, 90_000_000, &[]);
        events.enter(10, "main", 200_000_000, &[]);
        events.enter(10, "f", 200_100_000, &[]);
        events.enter(10, "lost", 200_200_000, &[]);
        events.leave(10, "f", 200_300_000, 199_000, &[]);
        events.leave(10, "no_entry", 200_400_000, 50_000, &[]);
        events.pass(10, "_start", 200_500_000);
        events.enter(10, "sleep", 200_600_000, &[]);
        assert_eq!(
            printed(&events, CallFilter::default()),
            "\
# DURATION     TID     FUNCTION
   1.900 us [    10] | inner();
  90.000 ms [    10] | } /* outer */
            [    10] | main() {
            [    10] |   f() {
            [    10] |     lost(); /* end missed */
 199.000 us [    10] |   } /* f */
  50.000 us [    10] |   no_entry();
            [    10] |   _start(); /* entry */
            [    10] |   sleep(); /* still inside */
            [    10] | } /* main */ /* still inside */
"
        );
    }
}
