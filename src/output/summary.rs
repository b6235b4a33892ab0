//! The `summary` format: a table of hits at the end, most first. Probes that were never hit are
//! counted in the last line, and listed only when asked for. Where returns are probed and recorded,
//! a table of their functions' times stands before it. Hits themselves are not shown; what programs
//! print is, as text. `-` stands for hits that a program does not count.

use std::cmp::Reverse;
use std::io::{self, Write};

use super::calls::{CallFilter, Calls};
use super::escape::escaped;
use super::style::Style;
use super::times::Times;
use super::{label, language};
use crate::data::{Feed, Hit, MapData, ProbeSummary, ProcessSummary, Sink, SiteState, Summary};

/// The `summary` format.
pub struct SummaryTable<W: Write + Send> {
    out: io::BufWriter<W>,
    style: Style,
    all: bool,
    calls: Calls,
    times: Times,
}

impl<W: Write + Send> SummaryTable<W> {
    /// Writes to `out`; `all`: lists probes that were never hit, too. The filter says which calls the
    /// times are of, where returns are probed and recorded.
    pub fn new(out: W, style: Style, all: bool, filter: CallFilter) -> SummaryTable<W> {
        SummaryTable {
            out: io::BufWriter::new(out),
            style,
            all,
            calls: Calls::new(filter),
            times: Times::default(),
        }
    }

    fn print(&mut self, make: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut text = Vec::new();
        make(&mut text);
        self.out.write_all(&text)
    }
}

impl<W: Write + Send> Sink for SummaryTable<W> {
    fn armed(&mut self, _probes: usize) -> io::Result<()> {
        Ok(())
    }

    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        self.calls.hit(hit, &mut self.times);
        Ok(())
    }

    language::prints!(text);

    fn maps_at_end(&mut self, maps: &[MapData]) -> io::Result<()> {
        self.print(|out| {
            out.extend_from_slice(language::text::GAP);
            language::text::maps_at_end(out, maps);
        })
    }

    fn lost(&mut self, _events: u64) -> io::Result<()> {
        Ok(())
    }

    fn closed(&mut self, feed: &Feed) -> io::Result<()> {
        self.calls.finish(Some(feed.pid), &mut self.times);
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.calls.finish(None, &mut self.times);
        self.times
            .print(self.calls.functions(), &mut self.out, self.style)?;
        // What is not counted may have been hit.
        let shown =
            |probe: &&ProbeSummary| self.all || probe.hits != Some(0) || probe.missed.total() > 0;
        let mut rows: Vec<Row> = summary.probes.iter().filter(shown).map(row).collect();
        let unhit = summary.probes.len() - rows.len();
        rows.sort_by(|a, b| {
            (Reverse(a.hits), &a.probe, a.id).cmp(&(Reverse(b.hits), &b.probe, b.id))
        });
        table(&mut self.out, self.style, &rows)?;
        let (strong, end) = (self.style.dim(), self.style.end());
        match (unhit, rows.is_empty()) {
            (0, true) => writeln!(self.out, "{strong}no probes{end}")?,
            (0, false) => {}
            (1, _) => writeln!(self.out, "{strong}1 probe was not hit (-v lists it){end}")?,
            (n, _) => writeln!(
                self.out,
                "{strong}{n} probes were not hit (-v lists them){end}"
            )?,
        }
        if let [_, _, ..] = summary.processes.as_slice() {
            processes(&mut self.out, self.style, summary)?;
        }
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Who hit them, most first: every program of every process.
fn processes(out: &mut impl Write, style: Style, summary: &Summary) -> io::Result<()> {
    let digits = |n: u64| n.to_string().len();
    let hits_of = |process: &ProcessSummary| shown_count(process.hits);
    let mut rows: Vec<&ProcessSummary> = summary.processes.iter().collect();
    rows.sort_by_key(|process| (Reverse(process.hits), process.pid));
    let hits = rows.iter().map(|p| hits_of(p).len()).fold(4, usize::max);
    let missed = rows.iter().map(|p| digits(p.missed)).fold(6, usize::max);
    let pid = rows.iter().map(|p| p.pid.to_string().len());
    let pid = pid.fold(3, usize::max);
    let (strong, end) = (style.strong(), style.end());
    writeln!(
        out,
        "{strong}{:>hits$}  {:>missed$}  {:>pid$}  COMM{end}",
        "HITS", "MISSED", "PID"
    )?;
    for process in rows {
        writeln!(
            out,
            "{:>hits$}  {:>missed$}  {:>pid$}  {}",
            hits_of(process),
            process.missed,
            process.pid.0,
            escaped(&process.comm)
        )?;
    }
    Ok(())
}

struct Row {
    id: u32,
    hits: Option<u64>,
    missed: u64,
    state: SiteState,
    probe: String,
    reason: String,
}

/// A count, or `-` where there is none.
fn shown_count(n: Option<u64>) -> String {
    n.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

fn row(probe: &ProbeSummary) -> Row {
    let label = label(&probe.info);
    let reason = match (&probe.reason, probe.state) {
        (_, SiteState::Jump) | (None, _) => String::new(),
        (Some(reason), _) => escaped(reason),
    };
    Row {
        id: probe.info.id.0,
        hits: probe.hits,
        missed: probe.missed.total(),
        state: probe.state,
        probe: label,
        reason,
    }
}

/// Widest probe that others are aligned to; longer ones push their own reason aside only.
const MAX_PROBE_WIDTH: usize = 60;

fn table(out: &mut impl Write, style: Style, rows: &[Row]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let digits = |n: u64| n.to_string().len();
    let hits = rows.iter().map(|r| shown_count(r.hits).len());
    let hits = hits.fold(4, usize::max);
    let missed = rows.iter().map(|r| digits(r.missed)).fold(6, usize::max);
    let state = rows
        .iter()
        .map(|r| r.state.name().len())
        .fold(5, usize::max);
    let with_reason = rows.iter().filter(|r| !r.reason.is_empty());
    let width = |r: &Row| r.probe.chars().count().min(MAX_PROBE_WIDTH);
    let probe = with_reason.map(width).fold(5, usize::max);
    let (strong, warn, end) = (style.strong(), style.warn(), style.end());
    let reasons = rows.iter().any(|r| !r.reason.is_empty());
    let head = if reasons {
        format!("{:<probe$}  REASON", "PROBE")
    } else {
        "PROBE".to_owned()
    };
    writeln!(
        out,
        "{strong}{:>hits$}  {:>missed$}  {:<state$}  {head}{end}",
        "HITS", "MISSED", "STATE"
    )?;
    for r in rows {
        let (colour, reset) = if r.state == SiteState::Jump {
            ("", "")
        } else {
            (warn, end)
        };
        write!(
            out,
            "{:>hits$}  {:>missed$}  {colour}{:<state$}{reset}  ",
            shown_count(r.hits),
            r.missed,
            r.state.name()
        )?;
        if r.reason.is_empty() {
            writeln!(out, "{}", r.probe)?;
        } else {
            writeln!(out, "{:<probe$}  {}", r.probe, r.reason)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ProbeId;
    use crate::data::{Cell, Datum, Ends, Missed, ProbeInfo, ProbeKind};

    fn probe(id: u32, name: &str, state: SiteState, reason: &str, hits: u64) -> ProbeSummary {
        ProbeSummary {
            info: ProbeInfo {
                id: ProbeId(id),
                name: name.into(),
                module: "libc.so.6".into(),
                address: None,
                offset: None,
                args: Vec::new(),
                kind: ProbeKind::Entry,
            }
            .into(),
            state,
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            hits: Some(hits),
            missed: Missed::default(),
            ends: Ends::default(),
        }
    }

    fn printed(probes: Vec<ProbeSummary>, all: bool) -> String {
        let summary = Summary {
            probes,
            ..Summary::default()
        };
        let mut bytes = Vec::new();
        let mut table = SummaryTable::new(&mut bytes, Style::PLAIN, all, CallFilter::default());
        table.summary(&summary).unwrap();
        drop(table);
        String::from_utf8(bytes).unwrap()
    }

    fn three() -> Vec<ProbeSummary> {
        vec![
            probe(0, "free", SiteState::Jump, "", 12),
            probe(
                1,
                "evil\x1b[2J",
                SiteState::Trap,
                "too short, no padding",
                12_345,
            ),
            probe(2, "abort", SiteState::Jump, "", 0),
        ]
    }

    #[test]
    fn the_most_hit_comes_first_and_the_unhit_are_counted() {
        assert_eq!(
            printed(three(), false),
            " HITS  MISSED  STATE  PROBE                  REASON\n\
             12345       0  trap   libc.so.6:evil\\x1b[2J  too short, no padding\n\
             \x20  12       0  jump   libc.so.6:free\n\
             1 probe was not hit (-v lists it)\n"
        );
    }

    #[test]
    fn the_unhit_are_listed_when_asked_for() {
        let text = printed(three(), true);
        assert!(
            text.ends_with("    0       0  jump   libc.so.6:abort\n"),
            "{text}"
        );
    }

    #[test]
    fn equal_counts_are_in_the_order_of_names() {
        let probes = vec![
            probe(0, "b", SiteState::Jump, "", 1),
            probe(1, "a", SiteState::Jump, "", 1),
        ];
        assert_eq!(
            printed(probes, false),
            "HITS  MISSED  STATE  PROBE\n   1       0  jump   libc.so.6:a\n   1       0  jump   libc.so.6:b\n"
        );
    }

    #[test]
    fn what_programs_print_comes_before_the_table() {
        let mut bytes = Vec::new();
        let mut table = SummaryTable::new(&mut bytes, Style::PLAIN, false, CallFilter::default());
        table.value(&Cell::Value(Datum::Int(4))).unwrap();
        table.maps_at_end(&[]).unwrap();
        let probes = vec![probe(0, "a", SiteState::Jump, "", 0)];
        table
            .summary(&Summary {
                probes,
                ..Summary::default()
            })
            .unwrap();
        drop(table);
        let printed = String::from_utf8(bytes).unwrap();
        assert_eq!(printed, "4\n\n\n1 probe was not hit (-v lists it)\n");
    }

    #[test]
    fn what_is_not_counted_is_listed_without_a_number() {
        let mut probes = three();
        probes[2].hits = None;
        probes[1].state = SiteState::Jump;
        assert_eq!(
            printed(probes, false),
            " HITS  MISSED  STATE  PROBE\n\
             12345       0  jump   libc.so.6:evil\\x1b[2J\n\
             \x20  12       0  jump   libc.so.6:free\n\
             \x20   -       0  jump   libc.so.6:abort\n"
        );
    }

    #[test]
    fn returns_are_told_from_entries() {
        let mut probes = vec![
            probe(0, "f", SiteState::Jump, "", 2),
            probe(1, "f", SiteState::Jump, "", 1),
        ];
        let mut info = (*probes[1].info).clone();
        info.kind = ProbeKind::Return;
        probes[1].info = info.into();
        assert_eq!(
            printed(probes, false),
            "HITS  MISSED  STATE  PROBE\n   2       0  jump   libc.so.6:f\n   1       0  jump   libc.so.6:f%return\n"
        );
    }

    #[test]
    fn times_of_functions_come_first() {
        let mut events = super::super::calls::testing::Events::default();
        for n in 0..100 {
            let start = 10_000 * n;
            events.enter(10, "outer", start, &[]);
            events.enter(10, "inner", start + 10, &[]);
            events.leave(10, "inner", start + 11 + n, n, &[]);
            events.leave(10, "outer", start + 2_000, 1_995, &[]);
        }
        let mut bytes = Vec::new();
        let mut table = SummaryTable::new(&mut bytes, Style::PLAIN, false, CallFilter::default());
        events.play(&mut table);
        table.summary(&Summary::default()).unwrap();
        drop(table);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "\
CALLS    TOTAL     SELF    AVG    MIN    MAX    P50    P95    P99  FUNCTION
  100  199.5us  194.5us  1.9us  1.9us  1.9us  1.9us  1.9us  1.9us  prog:outer
  100    4.9us    4.9us   49ns    0ns   99ns   49ns   94ns   98ns  prog:inner
no probes
"
        );
    }

    #[test]
    fn without_a_hit_the_table_is_a_sentence() {
        let probes = vec![probe(0, "a", SiteState::Jump, "", 0); 2];
        assert_eq!(
            printed(probes, false),
            "2 probes were not hit (-v lists them)\n"
        );
    }
}
