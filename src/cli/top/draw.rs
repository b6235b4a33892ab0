//! The table as cells of a screen. Knows no terminal: what it draws on may be a test's.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::table::{Column, Row, Table};
use crate::output::{counted, duration};

/// Lines around those of the probes: what is traced, the heads; the selected probe, the keys.
const AROUND: u16 = 4;
/// Between columns.
const GAP: &str = "  ";

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colours: bool,
}

impl Look {
    fn state(self, state: &str) -> Style {
        use ratatui::style::Color;
        let style = Style::default();
        match state {
            _ if !self.colours => style,
            "jump" => style.fg(Color::Green),
            "disabled" => style.add_modifier(Modifier::DIM),
            _ => style.fg(Color::Yellow),
        }
    }
}

/// Draws the table on the whole of a screen.
pub(super) fn draw(frame: &mut Frame<'_>, table: &mut Table, look: Look) {
    let area = frame.area();
    table.fit(usize::from(area.height.saturating_sub(AROUND)));
    let mut lines = vec![head(table), heads(table, &widths(table))];
    if table.shows_help() {
        lines.extend(HELP.iter().map(|line| Line::raw(*line)));
    } else {
        lines.extend(rows(table, look));
    }
    lines.truncate(usize::from(area.height.saturating_sub(2)));
    frame.render_widget(Paragraph::new(lines), area);
    let below = [detail(table), foot(table)];
    let from = area.height.saturating_sub(2);
    for (line, y) in below.into_iter().zip(from..area.height) {
        frame.render_widget(line, Rect::new(0, y, area.width, 1));
    }
}

const HELP: [&str; 12] = [
    "",
    "  up, down, j, k, PgUp, PgDn, Home, End   select a probe",
    "  space, enter                            switch the selected probe off, and on again",
    "  o                                       switch all off, and on again",
    "  left, right                             the column that the probes are put in order by",
    "  r                                       the other way round",
    "  /                                       show probes with this text in their name, or those that",
    "                                          a glob or a /regex/ means; Esc takes it back",
    "  p                                       pause, and go on",
    "  q, Ctrl-C                               quit; the trace goes on",
    "",
    "  any key goes back to the probes",
];

fn head(table: &Table) -> Line<'static> {
    let head = table.head();
    let (all, shown) = table.counts();
    let mut text = format!("{} ({})", head.comm, head.pid);
    text.push_str(&format!(", {}: ", counted(all, "probe")));
    text.push_str(&format!("{} jump, {} trap", head.jump, head.trap));
    text.push_str(&format!(", {} hits/s", rate(table.rate())));
    if let Some(filter) = table.filter() {
        text.push_str(&format!(", {shown} shown: {filter}"));
    }
    if head.on == Some(false) {
        text.push_str(", switched off");
    }
    if table.is_paused() {
        text.push_str(", paused");
    }
    let strong = Style::default().add_modifier(Modifier::BOLD);
    Line::from(vec![
        Span::styled("kptrace top", strong),
        Span::raw("  "),
        Span::raw(text),
    ])
}

fn heads(table: &Table, widths: &[(Column, usize)]) -> Line<'static> {
    let (ordered, reversed) = table.order();
    let plain = Style::default().add_modifier(Modifier::REVERSED);
    let strong = plain.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    let mut spans = Vec::new();
    for &(column, width) in widths {
        let title = match (column == ordered, reversed) {
            (true, false) => format!("{}↓", column.title()),
            (true, true) => format!("{}↑", column.title()),
            (false, _) => column.title().to_owned(),
        };
        let style = if column == ordered { strong } else { plain };
        let padding = " ".repeat(width.saturating_sub(title.chars().count()));
        match is_text(column) {
            true => {
                spans.push(Span::styled(title, style));
                spans.push(Span::styled(padding, plain));
            }
            false => {
                spans.push(Span::styled(padding, plain));
                spans.push(Span::styled(title, style));
            }
        }
        spans.push(Span::styled(GAP, plain));
    }
    spans.push(Span::styled(" ".repeat(usize::from(u8::MAX)), plain));
    Line::from(spans)
}

fn is_text(column: Column) -> bool {
    matches!(column, Column::State | Column::Name)
}

fn rows(table: &Table, look: Look) -> Vec<Line<'static>> {
    let widths = widths(table);
    let line = |(row, selected): (&Row, bool)| {
        let mut spans = Vec::new();
        for &(column, width) in &widths {
            let cell = cell(row, column);
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let style = match column {
                Column::State => look.state(&row.state),
                _ => Style::default(),
            };
            match is_text(column) {
                true => spans.extend([Span::styled(cell, style), Span::raw(padding)]),
                false => spans.extend([Span::raw(padding), Span::styled(cell, style)]),
            }
            spans.push(Span::raw(GAP));
        }
        let line = Line::from(spans);
        match selected {
            true => line.style(Style::default().add_modifier(Modifier::REVERSED)),
            false => line,
        }
    };
    table.shown().map(line).collect()
}

/// Columns, and how wide each is: as what is shown needs, and its head with the mark of the order.
fn widths(table: &Table) -> Vec<(Column, usize)> {
    let columns = table.columns().into_iter();
    let width = |column: Column| {
        let cells = table
            .shown()
            .map(|(row, _)| cell(row, column).chars().count());
        // So that nothing moves when numbers grow a little.
        let least = if is_text(column) { 0 } else { 7 };
        cells.fold(least.max(column.title().len() + 1), usize::max)
    };
    columns.map(|column| (column, width(column))).collect()
}

fn cell(row: &Row, column: Column) -> String {
    let count = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let time = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), duration);
    match column {
        Column::Rate => row.rate.map_or_else(|| "-".to_owned(), rate),
        Column::Hits => count(row.hits),
        Column::Missed => row.missed.to_string(),
        Column::Total => time(row.total),
        Column::Average => time(row.average),
        Column::P99 => time(row.p99),
        Column::State => row.state.clone(),
        Column::Name => row.name.clone(),
    }
}

/// Whole numbers, unless they are small.
fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        small if small < 9.95 => format!("{small:.1}"),
        rate => format!("{rate:.0}"),
    }
}

/// What there is to know of the selected probe.
fn detail(table: &Table) -> Line<'static> {
    let Some(row) = table.selection() else {
        return Line::default();
    };
    let mut text = format!("{} {}: {}", row.address, row.name, row.state);
    if let Some(reason) = row.reason.as_ref().filter(|_| row.state != "jump") {
        text.push_str(&format!(" ({reason})"));
    }
    for (cause, count) in &row.causes {
        text.push_str(&format!(", missed {cause} {count}"));
    }
    Line::raw(text)
}

fn foot(table: &Table) -> Line<'static> {
    if let Some(message) = table.message() {
        return Line::raw(message.to_owned());
    }
    if let Some(typed) = table.typed() {
        return Line::raw(format!("show: {typed}_"));
    }
    let dim = Style::default().add_modifier(Modifier::DIM);
    Line::styled(
        "q quit  h help  ↑↓ select  space on/off  ←→ order  r reverse  / filter  p pause",
        dim,
    )
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::super::table::tests::{listing, press, write};
    use super::*;

    fn screen(table: &mut Table, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let look = Look { colours: false };
        terminal.draw(|frame| draw(frame, table, look)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| -> String {
            let cells = (0..width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        (0..height).map(line).collect()
    }

    fn table() -> Table {
        let mut table = Table::new();
        let at = |a, b| {
            listing(&[
                ("getCommand", "jump", a, Some((a * 1_500, 4_000))),
                ("lookupKey", "trap", b, None),
                ("setCommand", "disabled", 7, Some((7_700, 1_200))),
            ])
        };
        table.take(at(100, 200), 1_000_000_000);
        table.take(at(25_100, 201), 2_000_000_000);
        table
    }

    #[test]
    fn the_table_is_on_the_screen() {
        assert_eq!(
            screen(&mut table(), 90, 9),
            "\
kptrace top  prog (42), 3 probes: 2 jump, 1 trap, 25001 hits/s
HITS/S↓     HITS   MISSED    TOTAL      AVG      P99  STATE     PROBE
  25000    25100        0   37.6ms    1.5us    4.0us  jump      prog:getCommand
    1.0      201        0        -        -        -  trap      prog:lookupKey
      0        7        0    7.7us    1.1us    1.2us  disabled  prog:setCommand



q quit  h help  ↑↓ select  space on/off  ←→ order  r reverse  / filter  p pause
"
        );
    }

    #[test]
    fn the_selected_probe_is_told_of_below() {
        let mut table = table();
        press(&mut table, KeyCode::Down);
        press(&mut table, KeyCode::Down);
        let text = screen(&mut table, 80, 8);
        assert_eq!(text.lines().nth(6), Some("0x1000 prog:lookupKey: trap"));
    }

    #[test]
    fn the_filter_is_shown_while_it_is_typed_and_afterwards() {
        let mut table = table();
        write(&mut table, "/get");
        let text = screen(&mut table, 80, 8);
        assert_eq!(text.lines().last(), Some("show: get_"), "{text}");
        press(&mut table, KeyCode::Enter);
        let text = screen(&mut table, 80, 8);
        assert!(text.contains("hits/s, 1 shown: get\n"), "{text}");
        assert!(!text.contains("setCommand"), "{text}");
    }

    #[test]
    fn help_stands_in_place_of_the_probes() {
        let mut table = table();
        press(&mut table, KeyCode::Char('h'));
        let text = screen(&mut table, 100, 16);
        assert!(text.contains("switch the selected probe off"), "{text}");
        assert!(!text.contains("getCommand"), "{text}");
        press(&mut table, KeyCode::Down);
        assert!(screen(&mut table, 80, 16).contains("getCommand"));
    }

    #[test]
    fn screens_of_any_size_are_drawn() {
        let mut table = table();
        for (width, height) in [(0, 0), (1, 1), (3, 2), (20, 3), (80, 4), (300, 100)] {
            screen(&mut table, width, height);
        }
        screen(&mut Table::new(), 80, 24);
    }
}
