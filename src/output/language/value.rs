//! One value as text. Knows nothing of maps. Invariant: in [`Form::Text`] nothing that comes from
//! the target acts on a terminal.

use std::borrow::Cow;

use super::super::{escape, number};
use crate::data::Datum;
use crate::language::typed::StackMode;

/// What the text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A terminal: what comes from the target is escaped.
    Text,
    /// To be escaped as a whole: a JSON string.
    Raw,
    /// The same for a key: parts of a tuple without spaces between them.
    Key,
}

impl Form {
    /// Appends bytes that are not the program's own.
    pub(super) fn foreign(self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self {
            Form::Text => escape::text(out, bytes),
            Form::Raw | Form::Key => out.extend_from_slice(bytes),
        }
    }

    fn separator(self) -> &'static [u8] {
        match self {
            Form::Text | Form::Raw => b", ",
            Form::Key => b",",
        }
    }
}

/// Appends a value as `print` and `%s` show it.
pub(super) fn datum(out: &mut Vec<u8>, value: &Datum, form: Form) {
    match value {
        Datum::Int(n) => number::signed(out, *n),
        Datum::Uint(n) => number::decimal(out, *n),
        Datum::Pointer(n) => number::hex(out, *n),
        Datum::Float(x) => out.extend_from_slice(float(*x).as_bytes()),
        Datum::Str(bytes) => form.foreign(out, bytes),
        Datum::Literal(bytes) => out.extend_from_slice(bytes),
        Datum::Buf(bytes) => buffer(out, bytes),
        Datum::Tuple(parts) => {
            out.push(b'(');
            listed(out, parts, form);
            out.push(b')');
        }
        Datum::Record(members) => {
            out.extend_from_slice(b"{ ");
            for (index, (name, value)) in members.iter().enumerate() {
                out.extend_from_slice(if index > 0 { b", ." } else { b"." });
                form.foreign(out, name.as_bytes());
                out.extend_from_slice(b" = ");
                datum(out, value, form);
            }
            out.extend_from_slice(b" }");
        }
        Datum::List(values) => {
            out.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                datum(out, value, form);
            }
            out.push(b']');
        }
        Datum::Text(text) => form.foreign(out, text.as_bytes()),
        Datum::Stack(mode, frames) => {
            let indentation: &[u8] = match mode {
                StackMode::Bpftrace => b"        ",
                StackMode::Perf => b"\t",
                StackMode::Raw => b"",
            };
            out.push(b'\n');
            for frame in frames {
                out.extend_from_slice(indentation);
                form.foreign(out, frame.as_bytes());
                out.push(b'\n');
            }
        }
        Datum::Fault(address) => fault(out, *address),
    }
}

/// Appends values one after another: parts of a tuple, or of a key.
pub(super) fn listed(out: &mut Vec<u8>, parts: &[Datum], form: Form) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(form.separator());
        }
        datum(out, part, form);
    }
}

/// Appends bytes as `%r` shows them: printable ones as they are, the others as `\x..`.
pub(super) fn buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    for b in bytes {
        if matches!(b, b' '..=b'~') {
            out.push(*b);
        } else {
            let b = u64::from(*b);
            out.extend_from_slice(&[b'\\', b'x', number::hex_digit(b >> 4), number::hex_digit(b)]);
        }
    }
}

/// Appends what stands where a value could not be read.
pub(super) fn fault(out: &mut Vec<u8>, address: u64) {
    out.extend_from_slice(b"<fault ");
    number::hex(out, address);
    out.push(b'>');
}

/// The shortest decimal that reads back as the same number.
pub(super) fn float(x: f64) -> String {
    let size = x.abs();
    if x.is_nan() {
        "nan".to_owned()
    } else if size.is_finite() && size != 0.0 && !(1e-5..1e17).contains(&size) {
        format!("{x:e}")
    } else {
        format!("{x}")
    }
}

/// An average, towards zero.
pub(super) fn average(total: &Datum, count: u64) -> Datum {
    divided(total, count).into_owned()
}

/// A value with its integers divided, towards zero; undivided for 0 and 1.
pub(super) fn divided(value: &Datum, by: u64) -> Cow<'_, Datum> {
    if by <= 1 {
        return Cow::Borrowed(value);
    }
    Cow::Owned(match value {
        Datum::Int(n) => match i64::try_from(by) {
            Ok(by) => Datum::Int(n / by),
            // Only the least of all is as large as 2^63.
            Err(_) => Datum::Int(if n.unsigned_abs() == by { -1 } else { 0 }),
        },
        Datum::Uint(n) => Datum::Uint(n / by),
        Datum::Tuple(parts) => Datum::Tuple(
            parts
                .iter()
                .map(|part| divided(part, by).into_owned())
                .collect(),
        ),
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &Datum, form: Form) -> String {
        let mut out = Vec::new();
        datum(&mut out, value, form);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_comes_from_the_target_is_escaped_in_text_only() {
        for value in [
            Datum::Str(b"a\x1b[2J\n".to_vec()),
            Datum::Text("a\x1b[2J\n".to_owned()),
        ] {
            assert_eq!(shown(&value, Form::Text), r"a\x1b[2J\n");
            assert_eq!(shown(&value, Form::Raw), "a\x1b[2J\n");
        }
        let stack = Datum::Stack(StackMode::Bpftrace, vec!["f\x07+0".to_owned()]);
        assert_eq!(shown(&stack, Form::Text), "\n        f\\x07+0\n");
    }

    #[test]
    fn tuples_within_tuples_keep_their_parentheses() {
        let inner = Datum::Tuple(vec![Datum::Int(-2), Datum::Str(b"b c".to_vec())]);
        let value = Datum::Tuple(vec![Datum::Uint(u64::MAX), inner]);
        assert_eq!(
            shown(&value, Form::Text),
            "(18446744073709551615, (-2, b c))"
        );
        assert_eq!(shown(&value, Form::Key), "(18446744073709551615,(-2,b c))");
    }

    #[test]
    fn stacks_are_indented_as_their_mode_has_it() {
        let shown = |mode| {
            let frames = vec!["f+1".to_owned(), "main+2".to_owned()];
            shown(&Datum::Stack(mode, frames), Form::Text)
        };
        assert_eq!(
            shown(StackMode::Bpftrace),
            "\n        f+1\n        main+2\n"
        );
        assert_eq!(shown(StackMode::Perf), "\n\tf+1\n\tmain+2\n");
        assert_eq!(shown(StackMode::Raw), "\nf+1\nmain+2\n");
    }

    #[test]
    fn division_goes_towards_zero_and_never_fails() {
        let int = |n, by| divided(&Datum::Int(n), by).into_owned();
        assert_eq!(int(-7, 2), Datum::Int(-3));
        assert_eq!(int(-7, 0), Datum::Int(-7));
        assert_eq!(int(i64::MIN, 1 << 63), Datum::Int(-1));
        assert_eq!(int(i64::MIN, u64::MAX), Datum::Int(0));
        assert_eq!(int(i64::MAX, 1 << 63), Datum::Int(0));
        let tuple = Datum::Tuple(vec![Datum::Uint(21), Datum::Pointer(21)]);
        let halves = Datum::Tuple(vec![Datum::Uint(10), Datum::Pointer(21)]);
        assert_eq!(divided(&tuple, 2).into_owned(), halves);
    }

    #[test]
    fn floats_are_short_and_read_back() {
        for (x, text) in [
            (1.5, "1.5"),
            (0.0, "0"),
            (-0.25, "-0.25"),
            (1e300, "1e300"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(x), text);
        }
    }
}
