//! What each statement of a program prints, as JSON: an object `{"type":..,"data":..}` a line, with
//! bpftrace's types and keys.
//!
//! * Integers that a double does not hold exactly are strings; so are the edges of buckets.
//! * A pointer is a number, a symbol its text, a tuple an array, a float that is no number `null`.
//! * Keys of a map are strings, their parts joined by `,`.

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
        Datum::Tuple(parts) => list(out, parts, datum),
        Datum::Fault(address) => {
            out.extend_from_slice(br#"{"fault":""#);
            number::hex(out, *address);
            out.extend_from_slice(br#""}"#);
        }
        Datum::Str(_) | Datum::Buf(_) | Datum::Text(_) | Datum::Stack(..) => {
            let mut text = Vec::new();
            value::datum(&mut text, value, Form::Raw);
            escape::json(out, &text);
        }
    }
}

fn list<T>(out: &mut Vec<u8>, items: &[T], print: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        print(out, item);
    }
    out.push(b']');
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
