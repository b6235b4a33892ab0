//! What `top` shows, apart from how: rates from two lists, the order, the filter, which probe is
//! selected, and what keys mean. Pure: knows no terminal, no socket and no clock.
//!
//! Invariant: the selection is of a probe, not of a line: whatever moves, a key that switches a probe
//! means the one that is marked.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::output::escaped;
use crate::spec::{NameText, Pattern};

/// What the tracer says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Listing {
    pub(super) pid: i32,
    pub(super) comm: String,
    pub(super) armed: u64,
    pub(super) jump: u64,
    pub(super) trap: u64,
    /// Whether anything is armed at all.
    pub(super) on: Option<bool>,
    pub(super) probes: Vec<Probe>,
}

/// What it says of a probe.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Probe {
    id: u32,
    address: Option<String>,
    kind: String,
    symbol: String,
    offset: u64,
    module: String,
    state: String,
    reason: Option<String>,
    hits: Option<u64>,
    missed: BTreeMap<String, u64>,
    calls: Option<u64>,
    total_ns: Option<u64>,
    p99_ns: Option<u64>,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    /// Hits a second; `None` until there are two lists.
    pub(super) rate: Option<f64>,
    pub(super) hits: Option<u64>,
    pub(super) missed: u64,
    /// What was missed, by cause.
    pub(super) causes: Vec<(String, u64)>,
    pub(super) total: Option<u64>,
    pub(super) average: Option<u64>,
    pub(super) p99: Option<u64>,
}

impl Row {
    fn new(probe: Probe, rate: Option<f64>) -> Row {
        let offset = match probe.offset {
            0 => String::new(),
            offset => format!("+{offset:#x}"),
        };
        let at = if probe.kind == "return" {
            "%return"
        } else {
            ""
        };
        let name = format!("{}:{}{offset}{at}", probe.module, probe.symbol);
        let average = probe.total_ns.zip(probe.calls);
        let causes = probe.missed.into_iter().filter(|(_, count)| *count > 0);
        let causes: Vec<(String, u64)> = causes.collect();
        Row {
            id: probe.id,
            name: escaped(&name),
            address: probe.address.as_deref().map(escaped).unwrap_or_default(),
            state: escaped(&probe.state),
            reason: probe.reason.as_deref().map(escaped),
            rate,
            hits: probe.hits,
            missed: causes
                .iter()
                .fold(0, |sum, (_, count)| sum.saturating_add(*count)),
            causes,
            total: probe.total_ns,
            average: average.and_then(|(total, calls)| total.checked_div(calls)),
            p99: probe.p99_ns,
        }
    }

    /// Whether it does not count now because somebody wants it so.
    pub(super) fn is_disabled(&self) -> bool {
        self.state == "disabled"
    }
}

/// What lines are put in order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Rate,
    Hits,
    Missed,
    Total,
    Average,
    P99,
    State,
    Name,
}

impl Column {
    /// Its head.
    pub(super) fn title(self) -> &'static str {
        match self {
            Column::Rate => "HITS/S",
            Column::Hits => "HITS",
            Column::Missed => "MISSED",
            Column::Total => "TOTAL",
            Column::Average => "AVG",
            Column::P99 => "P99",
            Column::State => "STATE",
            Column::Name => "PROBE",
        }
    }

    /// Whether it is about calls.
    pub(super) fn is_time(self) -> bool {
        matches!(self, Column::Total | Column::Average | Column::P99)
    }

    /// Most first; texts from a to z.
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        match self {
            Column::Rate => {
                let rate = |row: &Row| row.rate.unwrap_or(-1.0);
                rate(b).total_cmp(&rate(a)).then(b.hits.cmp(&a.hits))
            }
            Column::Hits => b.hits.cmp(&a.hits),
            Column::Missed => b.missed.cmp(&a.missed),
            Column::Total => b.total.cmp(&a.total),
            Column::Average => b.average.cmp(&a.average),
            Column::P99 => b.p99.cmp(&a.p99),
            Column::State => a.state.cmp(&b.state),
            Column::Name => Ordering::Equal,
        }
    }
}

const COLUMNS: [Column; 8] = [
    Column::Rate,
    Column::Hits,
    Column::Missed,
    Column::Total,
    Column::Average,
    Column::P99,
    Column::State,
    Column::Name,
];

/// What a key asks for that is not the table's own business.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    /// Nothing; the table may look different.
    Nothing,
    /// The end.
    Quit,
    /// To stop as other programs do at Ctrl-Z.
    Stop,
    /// To draw everything anew.
    Repaint,
    /// This request to the tracer.
    Ask(Value),
    /// To look at once.
    Look,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    head: Listing,
    rows: Vec<Row>,
    /// When the last list came, in ns.
    at: Option<u64>,
    column: Column,
    reversed: bool,
    filter: Filter,
    /// The filter while it is typed, and what it was before.
    typed: Option<(String, Filter)>,
    selected: Option<u32>,
    /// The first line that is shown.
    first: usize,
    /// How many lines there is room for.
    room: usize,
    paused: bool,
    help: bool,
    message: Option<String>,
}

/// Which probes are shown.
#[derive(Clone, Debug, Default)]
struct Filter {
    text: String,
    /// `None` for a text that is looked for anywhere in a name.
    pattern: Option<Pattern>,
}

impl Filter {
    fn new(text: &str) -> Result<Filter, String> {
        let regex = text.strip_prefix('/').filter(|rest| !rest.is_empty());
        let name = match regex {
            Some(regex) => {
                let regex = regex.strip_suffix('/').unwrap_or(regex);
                Some(NameText::Regex(regex.to_owned()))
            }
            None if text.contains(['*', '?']) => {
                Some(NameText::Glob(format!("*{}*", text.to_lowercase())))
            }
            None => None,
        };
        let pattern = name.map(|name| Pattern::new(&name)).transpose()?;
        Ok(Filter {
            text: text.to_owned(),
            pattern,
        })
    }

    fn shows(&self, name: &str) -> bool {
        match &self.pattern {
            Some(pattern @ Pattern::Regex(_)) => pattern.matches(name),
            Some(pattern) => pattern.matches(&name.to_lowercase()),
            None => name.to_lowercase().contains(&self.text.to_lowercase()),
        }
    }
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            head: Listing::default(),
            rows: Vec::new(),
            at: None,
            column: Column::Rate,
            reversed: false,
            filter: Filter::default(),
            typed: None,
            selected: None,
            first: 0,
            room: 1,
            paused: false,
            help: false,
            message: None,
        }
    }

    /// Takes in what the tracer says at `now`, in nanoseconds.
    pub(super) fn take(&mut self, mut listing: Listing, now: u64) {
        let seconds = self.at.map(|at| now.saturating_sub(at) as f64 / 1e9);
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let before: HashMap<u32, Option<u64>> =
            self.rows.iter().map(|row| (row.id, row.hits)).collect();
        let rate = |probe: &Probe| {
            let before = before.get(&probe.id).copied().flatten()?;
            // A number that is used again counts from the start.
            let more = probe.hits?.checked_sub(before).or(probe.hits)?;
            Some(more as f64 / seconds?)
        };
        let probes = std::mem::take(&mut listing.probes).into_iter();
        self.rows = probes
            .map(|probe| {
                let rate = rate(&probe);
                Row::new(probe, rate)
            })
            .collect();
        listing.comm = escaped(&listing.comm);
        self.head = listing;
        self.at = Some(now);
        self.sort();
    }

    fn sort(&mut self) {
        let (column, reversed) = (self.column, self.reversed);
        self.rows.sort_by(|a, b| {
            let order = column.compare(a, b);
            let name = a.name.cmp(&b.name);
            let order = match column {
                Column::Name => name,
                _ => order,
            };
            let order = if reversed { order.reverse() } else { order };
            order.then(name).then(a.id.cmp(&b.id))
        });
        self.clamp();
    }

    /// Lines that the filter lets through, in order.
    fn filtered(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| self.filter.shows(&row.name))
    }

    /// Lines that there is room for, and whether each is the selected one.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&Row, bool)> {
        let lines = self.filtered().skip(self.first).take(self.room);
        lines.map(|row| (row, self.selected == Some(row.id)))
    }

    /// The selected line, if it is among those that are shown.
    pub(super) fn selection(&self) -> Option<&Row> {
        self.filtered().find(|row| self.selected == Some(row.id))
    }

    /// How many lines there is room for.
    pub(super) fn fit(&mut self, room: usize) {
        let room = room.max(1);
        if room != std::mem::replace(&mut self.room, room) {
            self.follow();
        }
    }

    /// Keeps what is shown within what there is. What is selected may be elsewhere: the hottest are what
    /// one looks at.
    fn clamp(&mut self) {
        let last = self.filtered().count().saturating_sub(self.room);
        self.first = self.first.min(last);
    }

    /// Moves what is shown so that the selection is in it.
    fn follow(&mut self) {
        if let Some(place) = self.place() {
            self.first = self.first.min(place);
            self.first = self.first.max((place + 1).saturating_sub(self.room));
        }
        self.clamp();
    }

    /// Where the selection is.
    fn place(&self) -> Option<usize> {
        self.filtered()
            .position(|row| self.selected == Some(row.id))
    }

    fn select(&mut self, place: usize) {
        let last = self.filtered().count().saturating_sub(1);
        let row = self.filtered().nth(place.min(last));
        self.selected = row.map(|row| row.id);
        self.follow();
    }

    /// Moves the selection; without one, the first key selects the first line that is shown.
    fn step(&mut self, by: isize) {
        match self.place() {
            Some(place) => self.select(place.saturating_add_signed(by)),
            None => self.select(self.first),
        }
    }

    /// Columns that there is something for.
    pub(super) fn columns(&self) -> Vec<Column> {
        let times = self.rows.iter().any(|row| row.total.is_some());
        let shown = |column: &Column| times || !column.is_time();
        COLUMNS.into_iter().filter(shown).collect()
    }

    /// What lines are put in order by, and whether the other way round.
    pub(super) fn order(&self) -> (Column, bool) {
        (self.column, self.reversed)
    }

    fn order_by(&mut self, by: isize) {
        let columns = self.columns();
        let now = columns.iter().position(|column| *column == self.column);
        let now = isize::try_from(now.unwrap_or(0)).unwrap_or(0);
        let count = isize::try_from(columns.len()).unwrap_or(1);
        let next = usize::try_from((now + by).rem_euclid(count)).unwrap_or(0);
        self.column = columns.get(next).copied().unwrap_or(Column::Rate);
        self.reversed = false;
        self.first = 0;
        self.sort();
    }

    /// The process, and how many sites stand how.
    pub(super) fn head(&self) -> &Listing {
        &self.head
    }

    /// How many probes there are, and how many the filter lets through.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.rows.len(), self.filtered().count())
    }

    /// Hits of all probes a second.
    pub(super) fn rate(&self) -> f64 {
        self.rows.iter().filter_map(|row| row.rate).sum()
    }

    /// The filter, if there is one.
    pub(super) fn filter(&self) -> Option<&str> {
        Some(self.filter.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The filter while it is typed.
    pub(super) fn typed(&self) -> Option<&str> {
        self.typed.as_ref().map(|(text, _)| text.as_str())
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the keys are explained.
    pub(super) fn shows_help(&self) -> bool {
        self.help
    }

    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Says something, until a key is pressed.
    pub(super) fn say(&mut self, what: impl Into<String>) {
        self.message = Some(escaped(&what.into()));
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Quit,
                KeyCode::Char('z') => Wish::Stop,
                KeyCode::Char('l') => Wish::Repaint,
                KeyCode::Char('u') if self.typed.is_some() => {
                    self.type_filter(String::new());
                    Wish::Nothing
                }
                _ => Wish::Nothing,
            };
        }
        if self.typed.is_some() {
            self.key_of_filter(key.code);
            return Wish::Nothing;
        }
        if self.help {
            self.help = false;
            return match key.code {
                KeyCode::Char('q') => Wish::Quit,
                _ => Wish::Nothing,
            };
        }
        let page = isize::try_from(self.room).unwrap_or(1);
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown => self.step(page),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            KeyCode::Right | KeyCode::Char('>') => self.order_by(1),
            KeyCode::Left | KeyCode::Char('<') => self.order_by(-1),
            KeyCode::Char('r') => {
                self.reversed = !self.reversed;
                self.first = 0;
                self.sort();
            }
            KeyCode::Char('/') => self.typed = Some((String::new(), self.filter.clone())),
            // First what was chosen last.
            KeyCode::Esc if self.selected.is_some() => self.selected = None,
            KeyCode::Esc => {
                self.filter = Filter::default();
                self.follow();
            }
            KeyCode::Char('p') => {
                self.paused = !self.paused;
                if !self.paused {
                    return Wish::Look;
                }
            }
            KeyCode::Char('h' | '?') => self.help = true,
            KeyCode::Char('o') => {
                let what = if self.head.on == Some(false) {
                    "on"
                } else {
                    "off"
                };
                self.message = Some(format!("all {what}"));
                return Wish::Ask(json!({ "do": what }));
            }
            KeyCode::Char(' ') | KeyCode::Enter => return self.switch(),
            _ => {}
        }
        Wish::Nothing
    }

    /// Switches the selected probe on or off.
    fn switch(&mut self) -> Wish {
        let Some(row) = self.selection() else {
            self.say("no probe is selected: up and down select one");
            return Wish::Nothing;
        };
        let what = if row.is_disabled() {
            "enable"
        } else {
            "disable"
        };
        let request = json!({ "do": what, "probe": row.id.to_string() });
        self.message = Some(format!("{what} {}", row.name));
        Wish::Ask(request)
    }

    fn key_of_filter(&mut self, code: KeyCode) {
        let Some((mut text, before)) = self.typed.take() else {
            return;
        };
        match code {
            KeyCode::Enter => {}
            KeyCode::Esc => {
                self.filter = before;
                self.follow();
            }
            KeyCode::Backspace if text.is_empty() => {}
            KeyCode::Backspace => {
                text.pop();
                self.typed = Some((String::new(), before));
                self.type_filter(text);
            }
            KeyCode::Char(c) => {
                text.push(c);
                self.typed = Some((String::new(), before));
                self.type_filter(text);
            }
            _ => self.typed = Some((text, before)),
        }
    }

    /// What is typed holds at once, if it can be read.
    fn type_filter(&mut self, text: String) {
        match Filter::new(&text) {
            Ok(filter) => self.filter = filter,
            Err(why) => self.message = Some(escaped(&why)),
        }
        if let Some((typed, _)) = &mut self.typed {
            *typed = text;
        }
        self.first = 0;
        self.follow();
    }
}

#[cfg(test)]
pub(super) mod tests;
