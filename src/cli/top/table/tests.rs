//! Tests of the table: rates, order, filter, selection, keys. Knows no terminal.

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Symbol, state, hits, and total and p99 of calls.
type Told<'a> = (&'a str, &'a str, u64, Option<(u64, u64)>);

/// A list of probes.
pub(in super::super) fn listing(probes: &[Told<'_>]) -> Listing {
    let probes = probes.iter().enumerate();
    let probes: Vec<Value> = probes
        .map(|(id, (symbol, state, hits, times))| {
            let mut probe = json!({
                "id": id, "address": "0x1000", "kind": "entry", "symbol": symbol, "offset": 0,
                "module": "prog", "state": state, "reason": null, "hits": hits,
                "missed": {"ring_full": 0, "trap": 0},
            });
            if let Some((total, p99)) = times {
                probe["calls"] = (*hits).into();
                probe["total_ns"] = (*total).into();
                probe["p99_ns"] = (*p99).into();
            }
            probe
        })
        .collect();
    let all = json!({
        "ok": true, "pid": 42, "comm": "prog", "armed": 3, "jump": 2, "trap": 1, "probes": probes,
    });
    serde_json::from_value(all).unwrap()
}

fn simple(hits: [u64; 3]) -> Listing {
    let [a, b, c] = hits;
    listing(&[
        ("alpha", "jump", a, None),
        ("beta", "trap", b, None),
        ("gamma", "jump", c, None),
    ])
}

fn table() -> Table {
    let mut table = Table::new();
    table.fit(10);
    table.take(simple([0, 0, 100]), SECOND);
    table.take(simple([500, 20, 100]), 3 * SECOND);
    table
}

fn names(table: &Table) -> Vec<&str> {
    table
        .shown()
        .map(|(row, _)| row.name.strip_prefix("prog:").unwrap())
        .collect()
}

pub(in super::super) fn press(table: &mut Table, code: KeyCode) -> Wish {
    table.key(KeyEvent::new(code, KeyModifiers::NONE))
}

pub(in super::super) fn write(table: &mut Table, text: &str) {
    for c in text.chars() {
        assert_eq!(press(table, KeyCode::Char(c)), Wish::Nothing);
    }
}

#[test]
fn rates_are_hits_by_the_time_between_two_lists() {
    let mut table = Table::new();
    table.fit(10);
    table.take(simple([7, 0, 100]), SECOND);
    assert!(table.shown().all(|(row, _)| row.rate.is_none()));
    table.take(simple([507, 20, 100]), 3 * SECOND);
    let rates: Vec<Option<f64>> = table.shown().map(|(row, _)| row.rate).collect();
    assert_eq!(rates, [Some(250.0), Some(10.0), Some(0.0)]);
    assert!((table.rate() - 260.0).abs() < 1e-9);
}

#[test]
fn two_lists_at_one_moment_make_no_rate() {
    let mut table = table();
    table.take(simple([900, 20, 100]), 3 * SECOND);
    assert!(table.shown().all(|(row, _)| row.rate.is_none()));
}

#[test]
fn a_count_that_begins_anew_is_counted_from_there() {
    let mut table = table();
    table.take(simple([40, 20, 100]), 4 * SECOND);
    let first = table.shown().next().unwrap();
    assert_eq!(
        (first.0.name.as_str(), first.0.rate),
        ("prog:alpha", Some(40.0))
    );
}

#[test]
fn the_hottest_comes_first() {
    assert_eq!(names(&table()), ["alpha", "beta", "gamma"]);
}

#[test]
fn arrows_choose_the_column_and_r_turns_it_round() {
    let mut table = table();
    press(&mut table, KeyCode::Right);
    assert_eq!(table.order(), (Column::Hits, false));
    assert_eq!(names(&table), ["alpha", "gamma", "beta"]);
    press(&mut table, KeyCode::Char('r'));
    assert_eq!(names(&table), ["beta", "gamma", "alpha"]);
    press(&mut table, KeyCode::Left);
    press(&mut table, KeyCode::Left);
    assert_eq!(table.order(), (Column::Name, false));
    press(&mut table, KeyCode::Char('r'));
    assert_eq!(names(&table), ["gamma", "beta", "alpha"]);
    press(&mut table, KeyCode::Left);
    assert_eq!(table.order(), (Column::State, false));
    assert_eq!(names(&table), ["alpha", "gamma", "beta"]);
}

#[test]
fn columns_of_times_are_there_where_calls_are_paired() {
    assert!(!table().columns().iter().any(|column| column.is_time()));
    let mut table = Table::new();
    table.fit(10);
    let probes = [
        ("slow", "jump", 4, Some((4_000, 1_900))),
        ("often", "jump", 100, Some((5_000, 60))),
        ("plain", "jump", 7, None),
    ];
    table.take(listing(&probes), SECOND);
    assert!(table.columns().contains(&Column::P99));
    let average =
        |table: &Table| -> Vec<Option<u64>> { table.shown().map(|(row, _)| row.average).collect() };
    for _ in 0..3 {
        press(&mut table, KeyCode::Right);
    }
    assert_eq!(table.order().0, Column::Total);
    assert_eq!(names(&table), ["often", "slow", "plain"]);
    press(&mut table, KeyCode::Right);
    assert_eq!(average(&table), [Some(1_000), Some(50), None]);
    press(&mut table, KeyCode::Right);
    assert_eq!(names(&table), ["slow", "often", "plain"]);
}

#[test]
fn the_selection_stays_with_its_probe() {
    let mut table = table();
    press(&mut table, KeyCode::Down);
    press(&mut table, KeyCode::Down);
    assert_eq!(table.selection().unwrap().name, "prog:beta");
    table.take(simple([500, 9_000, 100]), 4 * SECOND);
    assert_eq!(names(&table), ["beta", "alpha", "gamma"]);
    assert_eq!(table.selection().unwrap().name, "prog:beta");
    press(&mut table, KeyCode::Char('G'));
    assert_eq!(table.selection().unwrap().name, "prog:gamma");
    press(&mut table, KeyCode::Down);
    assert_eq!(table.selection().unwrap().name, "prog:gamma");
    press(&mut table, KeyCode::Home);
    assert_eq!(table.selection().unwrap().name, "prog:beta");
    press(&mut table, KeyCode::Esc);
    assert!(table.selection().is_none());
}

#[test]
fn what_is_shown_moves_with_the_selection() {
    let mut table = table();
    table.fit(2);
    assert_eq!(names(&table), ["alpha", "beta"]);
    press(&mut table, KeyCode::End);
    assert_eq!(names(&table), ["beta", "gamma"]);
    press(&mut table, KeyCode::PageUp);
    assert_eq!(names(&table), ["alpha", "beta"]);
    table.fit(0);
    assert_eq!(names(&table), ["alpha"]);
    press(&mut table, KeyCode::PageDown);
    table.fit(50);
    assert_eq!(names(&table), ["alpha", "beta", "gamma"]);
}

#[test]
fn a_selected_probe_that_cools_down_stays_selected_and_the_hottest_are_shown() {
    let mut table = table();
    table.fit(2);
    press(&mut table, KeyCode::Down);
    table.take(simple([500, 9_000, 9_000]), 4 * SECOND);
    table.fit(2);
    assert_eq!(names(&table), ["beta", "gamma"]);
    assert_eq!(table.selection().unwrap().name, "prog:alpha");
    press(&mut table, KeyCode::Up);
    assert_eq!(table.selection().unwrap().name, "prog:gamma");
    press(&mut table, KeyCode::End);
    press(&mut table, KeyCode::Char('r'));
    assert_eq!(names(&table), ["alpha", "gamma"]);
}

#[test]
fn space_switches_the_selected_probe() {
    let mut table = table();
    assert_eq!(press(&mut table, KeyCode::Char(' ')), Wish::Nothing);
    assert!(table.message().unwrap().contains("no probe is selected"));
    press(&mut table, KeyCode::Down);
    press(&mut table, KeyCode::Down);
    let asked = json!({ "do": "disable", "probe": "1" });
    assert_eq!(press(&mut table, KeyCode::Char(' ')), Wish::Ask(asked));
    let probes = [
        ("alpha", "jump", 500, None),
        ("beta", "disabled", 20, None),
        ("gamma", "jump", 100, None),
    ];
    table.take(listing(&probes), 4 * SECOND);
    let asked = json!({ "do": "enable", "probe": "1" });
    assert_eq!(press(&mut table, KeyCode::Enter), Wish::Ask(asked));
}

#[test]
fn o_switches_all_of_them() {
    let mut table = table();
    let asked = Wish::Ask(json!({ "do": "off" }));
    assert_eq!(press(&mut table, KeyCode::Char('o')), asked);
    let off = Listing {
        on: Some(false),
        ..simple([500, 20, 100])
    };
    table.take(off, 4 * SECOND);
    let asked = Wish::Ask(json!({ "do": "on" }));
    assert_eq!(press(&mut table, KeyCode::Char('o')), asked);
}

#[test]
fn a_probe_that_is_filtered_out_is_not_switched() {
    let mut table = table();
    press(&mut table, KeyCode::Down);
    write(&mut table, "/gam");
    press(&mut table, KeyCode::Enter);
    assert_eq!(press(&mut table, KeyCode::Char(' ')), Wish::Nothing);
}

#[test]
fn a_filter_holds_as_it_is_typed() {
    let mut table = table();
    write(&mut table, "/AL");
    assert_eq!((names(&table), table.typed()), (vec!["alpha"], Some("AL")));
    press(&mut table, KeyCode::Backspace);
    write(&mut table, "*a");
    assert_eq!(names(&table), ["alpha", "gamma"]);
    press(&mut table, KeyCode::Enter);
    assert_eq!((table.typed(), table.filter()), (None, Some("A*a")));
    assert_eq!(table.counts(), (3, 2));
    press(&mut table, KeyCode::Esc);
    assert_eq!(names(&table).len(), 3);
}

#[test]
fn escape_takes_back_what_was_typed() {
    let mut table = table();
    write(&mut table, "/beta");
    press(&mut table, KeyCode::Enter);
    write(&mut table, "/alpha");
    assert_eq!(names(&table), ["alpha"]);
    press(&mut table, KeyCode::Esc);
    assert_eq!(names(&table), ["beta"]);
}

#[test]
fn a_regular_expression_that_is_not_complete_changes_nothing() {
    let mut table = table();
    write(&mut table, "//^prog:(al");
    assert!(table.message().is_some());
    assert_eq!(names(&table).len(), 3);
    write(&mut table, "|be)");
    assert_eq!(names(&table), ["alpha", "beta"]);
    write(&mut table, "/");
    assert_eq!(names(&table), ["alpha", "beta"]);
}

#[test]
fn letters_are_text_while_a_filter_is_typed() {
    let mut table = table();
    write(&mut table, "/q r");
    assert_eq!((table.typed(), table.order().1), (Some("q r"), false));
    let clear = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
    table.key(clear);
    assert_eq!(table.typed(), Some(""));
}

#[test]
fn q_and_control_c_quit_and_others_do_what_they_do_elsewhere() {
    let mut table = table();
    assert_eq!(press(&mut table, KeyCode::Char('q')), Wish::Quit);
    let control =
        |table: &mut Table, c| table.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
    assert_eq!(control(&mut table, 'c'), Wish::Quit);
    assert_eq!(control(&mut table, 'z'), Wish::Stop);
    assert_eq!(control(&mut table, 'l'), Wish::Repaint);
    write(&mut table, "/x");
    assert_eq!(control(&mut table, 'c'), Wish::Quit);
}

#[test]
fn pausing_keeps_what_is_shown_and_going_on_looks_at_once() {
    let mut table = table();
    assert_eq!(press(&mut table, KeyCode::Char('p')), Wish::Nothing);
    assert!(table.is_paused());
    assert_eq!(press(&mut table, KeyCode::Char('p')), Wish::Look);
    assert!(!table.is_paused());
}

#[test]
fn names_are_of_the_place_and_hold_no_control_characters() {
    let list = json!({ "probes": [
        {"id": 1, "symbol": "f\u{1b}[2J", "offset": 16, "module": "m", "kind": "return",
         "state": "jump", "hits": null, "missed": {"ring_full": 3, "trap": 2}},
    ]});
    let mut table = Table::new();
    table.fit(5);
    table.take(serde_json::from_value(list).unwrap(), SECOND);
    let (row, _) = table.shown().next().unwrap();
    assert_eq!(row.name, "m:f\\x1b[2J+0x10%return");
    assert_eq!((row.hits, row.missed), (None, 5));
}
