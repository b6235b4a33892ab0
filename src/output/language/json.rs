//! What each statement of a program prints, as JSON: an object `{"type":..,"data":..}` a line, with
//! bpftrace's types and keys.
//!
//! * Integers that a double does not hold exactly are strings; so are the edges of buckets.
//! * A pointer is a number, a symbol its text, a tuple an array, a float that is no number `null`.
//! * Keys of a map are strings, their parts joined by `,`.

use super::super::json::list;
use super::super::{escape, number};
use super::histogram::{Edge, Row, rows};
use super::value::{self, Form, average, divided, listed};
use super::{format, order};
use crate::data::{Cell, Datum, MapData};
use crate::language::typed::Piece;

/// Appends what `printf` prints.
pub(in crate::output) fn printf(out: &mut Vec<u8>, format: &[Piece], args: &[Datum]) {
    let mut printed = Vec::new();
    format::printf(&mut printed, format, args, Form::Raw);
    string(out, "printf", &printed);
}

/// Appends a map; nothing when it holds nothing.
pub(in crate::output) fn map(out: &mut Vec<u8>, map: &MapData, top: u64, div: u64) {
    let entries = order::entries(map, top);
    let Some((first_key, first)) = entries.first() else {
        return;
    };
    begin(
        out,
        match first {
            Cell::Hist { .. } | Cell::Lhist { .. } => "hist",
            Cell::Avg { .. } | Cell::Stats { .. } => "stats",
            Cell::Value(_) | Cell::Number(_) => "map",
        },
    );
    out.push(b'{');
    escape::json(out, map.name.as_bytes());
    out.push(b':');
    if first_key.is_empty() {
        cell(out, first, div);
    } else {
        for (index, (key, held)) in entries.into_iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            let mut text = Vec::new();
            listed(&mut text, key, Form::Key);
            escape::json(out, &text);
            out.push(b':');
            cell(out, held, div);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"}}\n");
}

/// Appends a single value, `print(value)`.
pub(in crate::output) fn value(out: &mut Vec<u8>, value: &Cell) {
    begin(out, "value");
    cell(out, value, 1);
    out.extend_from_slice(b"}\n");
}

/// Appends a formatted time.
pub(in crate::output) fn time(out: &mut Vec<u8>, text: &str) {
    string(out, "time", text.as_bytes());
}

/// Appends the parts of a `join`.
pub(in crate::output) fn join(out: &mut Vec<u8>, parts: &[Vec<u8>], separator: &str) {
    string(out, "join", &parts.join(separator.as_bytes()));
}

/// Appends what a file holds.
pub(in crate::output) fn cat(out: &mut Vec<u8>, bytes: &[u8]) {
    string(out, "cat", bytes);
}

/// Appends what a command wrote.
pub(in crate::output) fn system(out: &mut Vec<u8>, bytes: &[u8]) {
    string(out, "syscall", bytes);
}

/// Appends all maps by name.
pub(in crate::output) fn maps_at_end(out: &mut Vec<u8>, maps: &[MapData]) {
    let mut maps: Vec<&MapData> = maps.iter().collect();
    maps.sort_by(|a, b| a.name.cmp(&b.name));
    for map in maps {
        self::map(out, map, 0, 1);
    }
}

fn begin(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(br#"","data":"#);
}

fn string(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    begin(out, name);
    escape::json(out, bytes);
    out.extend_from_slice(b"}\n");
}

/// Appends what a map holds under one key. `stats` are not divided.
fn cell(out: &mut Vec<u8>, cell: &Cell, div: u64) {
    match cell {
        Cell::Value(value) | Cell::Number(value) => datum(out, &divided(value, div)),
        Cell::Avg { count, total } => datum(out, &divided(&average(total, *count), div)),
        Cell::Stats { count, total } => {
            out.extend_from_slice(br#"{"count":"#);
            integer(out, i128::from(*count));
            out.extend_from_slice(br#","average":"#);
            datum(out, &average(total, *count));
            out.extend_from_slice(br#","total":"#);
            datum(out, total);
            out.push(b'}');
        }
        Cell::Hist { .. } | Cell::Lhist { .. } => {
            list(out, &rows(cell, div), row);
        }
    }
}

/// `{"min":4,"max":7,"count":2}`: both ends belong to the bucket.
fn row(out: &mut Vec<u8>, row: &Row) {
    out.push(b'{');
    let edges = [("min", row.from, 0), ("max", row.to, 1)];
    for (name, edge, less) in edges {
        if let Some(Edge { at, .. }) = edge {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            integer(out, at - less);
            out.push(b',');
        }
    }
    out.extend_from_slice(br#""count":"#);
    integer(out, i128::from(row.count));
    out.push(b'}');
}

fn datum(out: &mut Vec<u8>, value: &Datum) {
    match value {
        Datum::Int(n) => integer(out, i128::from(*n)),
        Datum::Uint(n) | Datum::Pointer(n) => integer(out, i128::from(*n)),
        Datum::Float(x) if x.is_finite() => out.extend_from_slice(value::float(*x).as_bytes()),
        Datum::Float(_) => out.extend_from_slice(b"null"),
        Datum::Tuple(parts) | Datum::List(parts) => list(out, parts, datum),
        Datum::Record(members) => {
            out.push(b'{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                escape::json(out, name.as_bytes());
                out.push(b':');
                datum(out, value);
            }
            out.push(b'}');
        }
        Datum::Fault(address) => {
            out.extend_from_slice(br#"{"fault":""#);
            number::hex(out, *address);
            out.extend_from_slice(br#""}"#);
        }
        Datum::Str(_) | Datum::Literal(_) | Datum::Buf(_) | Datum::Text(_) | Datum::Stack(..) => {
            let mut text = Vec::new();
            value::datum(&mut text, value, Form::Raw);
            escape::json(out, &text);
        }
    }
}

fn integer(out: &mut Vec<u8>, n: i128) {
    let exact = n as f64 as i128 == n;
    if !exact {
        out.push(b'"');
    }
    out.extend_from_slice(n.to_string().as_bytes());
    if !exact {
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int, keyed, one, pieces, plain, text, uint};
    use super::*;
    use proptest::prelude::*;

    fn made(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn shown(value: &Datum) -> String {
        made(|out| datum(out, value))
    }

    #[test]
    fn integers_are_strings_where_a_double_would_change_them() {
        for (n, json) in [
            (1 << 53, "9007199254740992"),
            ((1 << 53) + 1, "\"9007199254740993\""),
            ((1 << 53) + 2, "9007199254740994"),
            (1 << 63, "9223372036854775808"),
            (u64::MAX, "\"18446744073709551615\""),
        ] {
            assert_eq!(shown(&uint(n)), json);
        }
        assert_eq!(shown(&int(-(1 << 53) - 1)), "\"-9007199254740993\"");
        assert_eq!(shown(&int(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn what_is_no_number_or_string_has_a_form_of_its_own() {
        for (value, json) in [
            (Datum::Pointer(16), "16"),
            (Datum::Float(1.5), "1.5"),
            (Datum::Float(1e300), "1e300"),
            (Datum::Float(f64::NAN), "null"),
            (Datum::Fault(16), r#"{"fault":"0x10"}"#),
            (Datum::Tuple(vec![int(1), text("a")]), r#"[1,"a"]"#),
            (Datum::Tuple(Vec::new()), "[]"),
            (Datum::Buf(b"\"\xff".to_vec()), r#""\"\\xff""#),
        ] {
            assert_eq!(shown(&value), json);
        }
    }

    #[test]
    fn keys_are_strings_whatever_they_are_made_of() {
        let key = Datum::Tuple(vec![
            int(1),
            text("a \"b\""),
            Datum::Tuple(vec![int(2), int(3)]),
        ]);
        let data = keyed("@", [(key, plain(int(4)))]);
        assert_eq!(
            made(|out| map(out, &data, 0, 0)),
            "{\"type\":\"map\",\"data\":{\"@\":{\"(1,a \\\"b\\\",(2,3))\":4}}}\n"
        );
    }

    #[test]
    fn an_empty_map_prints_nothing_and_an_empty_histogram_no_bucket() {
        assert_eq!(made(|out| map(out, &keyed("@", []), 0, 0)), "");
        let buckets = vec![0; 65];
        let data = one("@h", Cell::Hist { bits: 0, buckets });
        assert_eq!(
            made(|out| map(out, &data, 0, 0)),
            "{\"type\":\"hist\",\"data\":{\"@h\":[]}}\n"
        );
    }

    #[test]
    fn files_and_commands_have_types_of_their_own() {
        assert_eq!(
            made(|out| cat(out, b"a\n\x1b")),
            "{\"type\":\"cat\",\"data\":\"a\\n\\u001b\"}\n"
        );
        assert_eq!(
            made(|out| system(out, b"ok\n")),
            "{\"type\":\"syscall\",\"data\":\"ok\\n\"}\n"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_line_that_reads_back(bytes in any::<Vec<u8>>()) {
            let value = Datum::Str(bytes.clone());
            let data = keyed("@", [(value.clone(), plain(value.clone()))]);
            let string = String::from_utf8_lossy(&bytes).into_owned();
            let line = made(|out| map(out, &data, 0, 0));
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["data"]["@"][&string].as_str(), Some(string.as_str()));
            let line = made(|out| printf(out, &pieces("%s"), &[value]));
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["data"].as_str(), Some(string.as_str()));
        }
    }
}
