//! What each statement of a program prints, as text. The format of a `printf` and the separator of
//! a `join` are the program's own and stand as they are. Invariant: nothing else acts on a terminal,
//! except newlines and tabs of a file or a command that the program asks to be shown.

use super::super::escape;
use super::value::{Form, average, datum, divided, listed};
use super::{format, histogram, order};
use crate::data::{Cell, Datum, MapData};
use crate::language::typed::Piece;

/// Appends what `printf` prints.
pub(in crate::output) fn printf(out: &mut Vec<u8>, format: &[Piece], args: &[Datum]) {
    format::printf(out, format, args, Form::Text);
}

/// Appends a map: an entry a line, `@m[1, two]: 3`; histograms over several, with an empty line
/// after each.
pub(in crate::output) fn map(out: &mut Vec<u8>, map: &MapData, top: u64, div: u64) {
    for (key, cell) in order::entries(map, top) {
        escape::text(out, map.name.as_bytes());
        if !key.is_empty() {
            out.push(b'[');
            listed(out, key, Form::Text);
            out.push(b']');
        }
        out.push(b':');
        out.push(match cell {
            Cell::Hist { .. } | Cell::Lhist { .. } => b'\n',
            _ => b' ',
        });
        self::cell(out, cell, div);
        out.push(b'\n');
    }
}

/// Appends a single value, `print(value)`.
pub(in crate::output) fn value(out: &mut Vec<u8>, value: &Cell) {
    cell(out, value, 1);
    out.push(b'\n');
}

/// Appends what a map holds under one key. `stats` are not divided.
fn cell(out: &mut Vec<u8>, cell: &Cell, div: u64) {
    match cell {
        Cell::Value(value) | Cell::Number(value) => datum(out, &divided(value, div), Form::Text),
        Cell::Avg { count, total } => {
            let average = average(total, *count);
            datum(out, &divided(&average, div), Form::Text);
        }
        Cell::Stats { count, total } => {
            out.extend_from_slice(b"{ .count = ");
            datum(out, &Datum::Uint(*count), Form::Text);
            out.extend_from_slice(b", .average = ");
            datum(out, &average(total, *count), Form::Text);
            out.extend_from_slice(b", .total = ");
            datum(out, total, Form::Text);
            out.extend_from_slice(b" }");
        }
        Cell::Hist { .. } | Cell::Lhist { .. } => {
            histogram::text(out, &histogram::rows(cell, div));
        }
    }
}

/// Appends what `time` formatted.
pub(in crate::output) fn time(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends the parts of a `join` on one line.
pub(in crate::output) fn join(out: &mut Vec<u8>, parts: &[Vec<u8>], separator: &str) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(separator.as_bytes());
        }
        escape::text(out, part);
    }
    out.push(b'\n');
}

/// Appends what a file holds. Its newlines and tabs stay.
pub(in crate::output) fn cat(out: &mut Vec<u8>, bytes: &[u8]) {
    for part in bytes.split_inclusive(|b| matches!(b, b'\n' | b'\t')) {
        match part {
            [before @ .., end @ (b'\n' | b'\t')] => {
                escape::text(out, before);
                out.push(*end);
            }
            all => escape::text(out, all),
        }
    }
}

/// Appends what a command wrote, and a newline, as bpftrace does.
pub(in crate::output) fn system(out: &mut Vec<u8>, bytes: &[u8]) {
    cat(out, bytes);
    out.push(b'\n');
}

/// What stands before the maps at the end, also where there are none: bpftrace parts with it what was
/// printed while it ran (and the terminal's `^C`) from the maps.
pub(in crate::output) const GAP: &[u8] = b"\n\n";

/// Appends all maps by name.
pub(in crate::output) fn maps_at_end(out: &mut Vec<u8>, maps: &[MapData]) {
    let mut maps: Vec<&MapData> = maps.iter().collect();
    maps.sort_by(|a, b| a.name.cmp(&b.name));
    for map in maps {
        self::map(out, map, 0, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_keys_and_values_of_a_map_do_nothing_to_a_terminal() {
        let hostile = Datum::Str(b"\x1b[2J\n".to_vec());
        let data = MapData {
            name: "@\x07".to_owned(),
            entries: vec![(vec![hostile.clone(), Datum::Int(1)], Cell::Value(hostile))],
        };
        let shown = made(|out| map(out, &data, 0, 0));
        assert_eq!(shown, "@\\x07[\\x1b[2J\\n, 1]: \\x1b[2J\\n\n");
    }

    #[test]
    fn a_stack_as_key_takes_lines_of_its_own() {
        let frames = vec!["f+4".to_owned(), "main+20".to_owned()];
        let stack = Datum::Stack(Default::default(), frames);
        let data = MapData {
            name: "@".to_owned(),
            entries: vec![(vec![stack, Datum::Int(1)], Cell::Number(Datum::Uint(3)))],
        };
        assert_eq!(
            made(|out| map(out, &data, 0, 0)),
            "@[\n        f+4\n        main+20\n, 1]: 3\n"
        );
    }

    #[test]
    fn an_average_of_nothing_is_0() {
        let (count, total) = (0, Datum::Int(0));
        let stats = Cell::Stats { count, total };
        let shown = made(|out| value(out, &stats));
        assert_eq!(shown, "{ .count = 0, .average = 0, .total = 0 }\n");
    }

    #[test]
    fn what_is_joined_is_escaped_and_the_separator_is_not() {
        let parts = [b"a\tb".to_vec(), b"c".to_vec()];
        assert_eq!(made(|out| join(out, &parts, "\t")), "a\\tb\tc\n");
        assert_eq!(made(|out| join(out, &[], " ")), "\n");
    }

    #[test]
    fn files_keep_their_lines_only() {
        let file = b"a\tb\n\n\x1b[2J\r\nend";
        assert_eq!(made(|out| cat(out, file)), "a\tb\n\n\\x1b[2J\\r\nend");
        assert_eq!(made(|out| system(out, b"ok\n")), "ok\n\n");
    }

    #[test]
    fn the_end_parts_maps_from_the_rest_and_has_them_by_name() {
        let map = |name: &str, n| MapData {
            name: name.to_owned(),
            entries: vec![(Vec::new(), Cell::Value(Datum::Int(n)))],
        };
        let maps = [map("@b", 1), map("@", 2), map("@a", 3)];
        assert_eq!(made(|out| maps_at_end(out, &maps)), "@: 2\n@a: 3\n@b: 1\n");
    }
}
