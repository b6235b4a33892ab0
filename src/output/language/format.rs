//! `printf`: a parsed format and values to bytes, as C does it. Knows nothing of where they go. A
//! value that is not of its conversion's kind is shown as `%s` shows it, one that could not be read
//! as `<fault 0x..>`, both in the given width. Invariant: a conversion adds no more than the value
//! is long and [`MOST`].

use super::value::{self, Form};
use crate::data::Datum;
use crate::language::typed::{Conversion, Piece};

/// Widest that a conversion pads to, and most digits it gives.
const MOST: u32 = 4096;

/// Appends what `printf` prints. Conversions without a value print nothing.
pub(super) fn printf(out: &mut Vec<u8>, format: &[Piece], args: &[Datum], form: Form) {
    let mut args = args.iter();
    for piece in format {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Arg(conversion) => {
                if let Some(arg) = args.next() {
                    convert(conversion, arg, form).write(out, conversion);
                }
            }
        }
    }
}

/// What a conversion made, not padded yet.
#[derive(Default)]
struct Made {
    /// Sign or base: zeros that fill the width stand after it.
    prefix: &'static [u8],
    body: Vec<u8>,
    /// Whether zeros may fill the width.
    zeros: bool,
}

impl Made {
    fn write(self, out: &mut Vec<u8>, conversion: &Conversion) {
        let width = conversion.width.unwrap_or(0).min(MOST) as usize;
        let fill = width.saturating_sub(self.prefix.len() + self.body.len());
        let zeros = self.zeros && conversion.zeros && !conversion.left;
        if !zeros && !conversion.left {
            out.resize(out.len() + fill, b' ');
        }
        out.extend_from_slice(self.prefix);
        if zeros {
            out.resize(out.len() + fill, b'0');
        }
        out.extend_from_slice(&self.body);
        if conversion.left {
            out.resize(out.len() + fill, b' ');
        }
    }
}

fn convert(conversion: &Conversion, arg: &Datum, form: Form) -> Made {
    match (conversion.kind, bits(arg), float(arg)) {
        ('d' | 'u' | 'x' | 'X' | 'o' | 'p', Some(bits), _) => integer(conversion, bits),
        ('c', Some(bits), _) => {
            let mut body = Vec::new();
            form.foreign(&mut body, &[(bits & 0xff) as u8]);
            text(body)
        }
        ('f', _, Some(x)) => decimal(conversion, x),
        _ => string(conversion, arg, form),
    }
}

fn text(body: Vec<u8>) -> Made {
    Made {
        body,
        ..Made::default()
    }
}

/// `%s`, `%r`, and what does not fit. The precision counts bytes of the value, before anything of
/// them is escaped.
fn string(conversion: &Conversion, arg: &Datum, form: Form) -> Made {
    let precision = conversion.precision.map_or(usize::MAX, |n| n as usize);
    let cut = |bytes: &[u8]| bytes.get(..precision).unwrap_or(bytes).to_vec();
    let mut body = Vec::new();
    match arg {
        Datum::Str(bytes) => form.foreign(&mut body, &cut(bytes)),
        Datum::Literal(bytes) => body = cut(bytes),
        Datum::Text(known) => form.foreign(&mut body, &cut(known.as_bytes())),
        other => value::datum(&mut body, other, form),
    }
    text(body)
}

/// The bits of a number.
fn bits(arg: &Datum) -> Option<u64> {
    match arg {
        Datum::Int(n) => Some(n.cast_unsigned()),
        Datum::Uint(n) | Datum::Pointer(n) => Some(*n),
        // Casts of floats saturate.
        Datum::Float(x) => Some((*x as i64).cast_unsigned()),
        _ => None,
    }
}

fn float(arg: &Datum) -> Option<f64> {
    match arg {
        Datum::Int(n) => Some(*n as f64),
        Datum::Uint(n) => Some(*n as f64),
        Datum::Float(x) => Some(*x),
        _ => None,
    }
}

/// `+1` and ` 1` of signed conversions.
fn sign(conversion: &Conversion, negative: bool) -> &'static [u8] {
    match negative {
        true => b"-",
        false if conversion.plus => b"+",
        false if conversion.space => b" ",
        false => b"",
    }
}

fn integer(conversion: &Conversion, bits: u64) -> Made {
    let unused = 64 - conversion.size.bits();
    let unsigned = bits << unused >> unused;
    let signed = (bits << unused).cast_signed() >> unused;
    let (prefix, digits): (&[u8], String) = match conversion.kind {
        'd' => (
            sign(conversion, signed < 0),
            signed.unsigned_abs().to_string(),
        ),
        'x' if conversion.alternate && unsigned != 0 => (b"0x", format!("{unsigned:x}")),
        'X' if conversion.alternate && unsigned != 0 => (b"0X", format!("{unsigned:X}")),
        'p' if bits != 0 => (b"0x", format!("{bits:x}")),
        'x' => (b"", format!("{unsigned:x}")),
        'X' => (b"", format!("{unsigned:X}")),
        'o' => (b"", format!("{unsigned:o}")),
        'p' => (b"", "0".to_owned()),
        _ => (b"", unsigned.to_string()),
    };
    let least = conversion.precision.map(|n| n.min(MOST) as usize);
    let mut body = digits.into_bytes();
    if least == Some(0) && body == b"0" {
        body.clear();
    }
    if let Some(missing) = least.and_then(|least| least.checked_sub(body.len())) {
        body.splice(0..0, std::iter::repeat_n(b'0', missing));
    }
    if conversion.kind == 'o' && conversion.alternate && body.first() != Some(&b'0') {
        body.insert(0, b'0');
    }
    Made {
        prefix,
        body,
        zeros: least.is_none(),
    }
}

fn decimal(conversion: &Conversion, x: f64) -> Made {
    let places = conversion.precision.unwrap_or(6).min(MOST) as usize;
    let size = x.abs();
    let mut body = if size.is_finite() {
        format!("{size:.places$}")
    } else {
        value::float(size)
    };
    if conversion.alternate && places == 0 && size.is_finite() {
        body.push('.');
    }
    Made {
        prefix: sign(conversion, x.is_sign_negative() && !x.is_nan()),
        body: body.into_bytes(),
        zeros: size.is_finite(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::parsed;
    use super::*;
    use crate::language::typed::StackMode;
    use crate::program::Width;
    use proptest::prelude::*;

    fn printed_as(form: Form, conversion: &str, arg: &Datum) -> String {
        let mut out = Vec::new();
        let format = [Piece::Arg(parsed(conversion))];
        printf(&mut out, &format, std::slice::from_ref(arg), form);
        String::from_utf8(out).unwrap()
    }

    fn printed(conversion: &str, arg: &Datum) -> String {
        printed_as(Form::Text, conversion, arg)
    }

    fn int(conversion: &str, n: i64) -> String {
        printed(conversion, &Datum::Int(n))
    }

    #[test]
    fn integers_are_as_c_prints_them() {
        for (conversion, n, expected) in [
            ("%d", -42, "-42"),
            ("%5d", -42, "  -42"),
            ("%-5d", -42, "-42  "),
            ("%05d", -42, "-0042"),
            ("%-05d", -42, "-42  "),
            ("%+d", 42, "+42"),
            ("% d", 42, " 42"),
            ("%+ d", 42, "+42"),
            ("% d", -42, "-42"),
            ("%.4d", -42, "-0042"),
            ("%07.4d", -42, "  -0042"),
            ("%.0d", 0, ""),
            ("%3.0d", 0, "   "),
            ("%u", -1, "18446744073709551615"),
            ("%x", -1, "ffffffffffffffff"),
            ("%X", 0xbeef, "BEEF"),
            ("%#x", 0xbeef, "0xbeef"),
            ("%#X", 0xbeef, "0XBEEF"),
            ("%#x", 0, "0"),
            ("%08x", 0xbeef, "0000beef"),
            ("%#08x", 0xbeef, "0x00beef"),
            ("%o", 8, "10"),
            ("%#o", 8, "010"),
            ("%#o", 0, "0"),
            ("%#.4o", 8, "0010"),
            ("%#.0o", 0, "0"),
            ("%c", 65, "A"),
            ("%3c", 65, "  A"),
            ("%-3c", 65, "A  "),
            ("%p", 0xbeef, "0xbeef"),
            ("%8p", 0xbeef, "  0xbeef"),
            ("%p", 0, "0"),
            ("%s", -42, "-42"),
            ("%5s", -42, "  -42"),
            ("%f", -42, "-42.000000"),
        ] {
            assert_eq!(int(conversion, n), expected, "{conversion} of {n}");
        }
    }

    #[test]
    fn sizes_cut_and_extend() {
        for (conversion, n, expected) in [
            ("%hhd", 200, "-56"),
            ("%hhu", -1, "255"),
            ("%hhx", 0x1234_5678, "78"),
            ("%hd", 40_000, "-25536"),
            ("%hu", -1, "65535"),
            ("%hx", 0x1234_5678, "5678"),
            ("%ld", 1 << 40, "1099511627776"),
            ("%llx", -1, "ffffffffffffffff"),
            ("%d", i64::MIN, "-9223372036854775808"),
        ] {
            assert_eq!(int(conversion, n), expected, "{conversion} of {n}");
        }
        assert_eq!(printed("%d", &Datum::Uint(u64::MAX)), "-1");
        assert_eq!(printed("%lu", &Datum::Uint(u64::MAX)), u64::MAX.to_string());
        assert_eq!(printed("%x", &Datum::Pointer(0xbeef)), "beef");
        assert_eq!(printed("%s", &Datum::Pointer(0xbeef)), "0xbeef");
    }

    #[test]
    fn floats_are_as_c_prints_them() {
        for (conversion, x, expected) in [
            ("%f", 1.5, "1.500000"),
            ("%.2f", -0.125, "-0.12"),
            ("%8.2f", 2.34567, "    2.35"),
            ("%08.2f", -2.34567, "-0002.35"),
            ("%+.1f", 2.25, "+2.2"),
            ("%.0f", 2.5, "2"),
            ("%#.0f", 2.5, "2."),
            ("%f", f64::INFINITY, "inf"),
            ("%05f", f64::NEG_INFINITY, " -inf"),
            ("%f", f64::NAN, "nan"),
            ("%d", -7.9, "-7"),
            ("%s", 0.1, "0.1"),
        ] {
            assert_eq!(printed(conversion, &Datum::Float(x)), expected);
        }
    }

    #[test]
    fn strings_are_cut_by_bytes_and_padded_as_shown() {
        let text = |s: &str| Datum::Str(s.as_bytes().to_vec());
        assert_eq!(printed("%5s|", &text("ab")), "   ab");
        assert_eq!(printed("%-5s", &text("ab")), "ab   ");
        assert_eq!(printed("%05s", &text("ab")), "   ab");
        assert_eq!(printed("%.2s", &text("abc")), "ab");
        assert_eq!(printed("%8.3s", &text("abcdef")), "     abc");
        assert_eq!(printed("%.9s", &text("abc")), "abc");
        assert_eq!(printed("%4.1s", &text("\n\n")), r"  \n");
        assert_eq!(printed("%.1s", &text("é")), r"\xc3");
        assert_eq!(printed("%d", &text("abc")), "abc");
        assert_eq!(printed("%.1s", &Datum::Text("main".to_owned())), "m");
    }

    #[test]
    fn what_comes_from_the_target_is_escaped_and_the_format_is_not() {
        let format = [
            Piece::Text("\t\x1b[1m".to_owned()),
            Piece::Arg(parsed("%s")),
            Piece::Arg(parsed("%c")),
            Piece::Text("\n".to_owned()),
        ];
        let args = [Datum::Str(b"a\x1b\\".to_vec()), Datum::Int(7)];
        let printed = |form| {
            let mut out = Vec::new();
            printf(&mut out, &format, &args, form);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(Form::Text), "\t\x1b[1ma\\x1b\\\\\\x07\n");
        assert_eq!(printed(Form::Raw), "\t\x1b[1ma\x1b\\\x07\n");
    }

    #[test]
    fn buffers_keep_what_can_be_printed() {
        let buffer = Datum::Buf(b"a\"\\ ~\x7f\x00\xff".to_vec());
        for form in [Form::Text, Form::Raw] {
            let shown = printed_as(form, "%r", &buffer);
            assert_eq!(shown, r#"a"\ ~\x7f\x00\xff"#);
        }
        assert_eq!(printed("%6r", &Datum::Buf(b"\x01".to_vec())), r"  \x01");
    }

    #[test]
    fn a_fault_is_shown_by_every_conversion() {
        for kind in "duxXocpsrf".chars() {
            let conversion = format!("%-14{kind}");
            let shown = printed(&conversion, &Datum::Fault(0x10));
            assert_eq!(shown, "<fault 0x10>  ");
        }
        assert_eq!(printed("%014d", &Datum::Fault(0x10)), "  <fault 0x10>");
        assert_eq!(printed("%.3s", &Datum::Fault(0x10)), "<fault 0x10>");
    }

    #[test]
    fn a_stack_begins_on_a_line_of_its_own() {
        let frames = vec!["f+4".to_owned(), "main+20".to_owned()];
        let stack = Datum::Stack(StackMode::Bpftrace, frames);
        assert_eq!(printed("%s", &stack), "\n        f+4\n        main+20\n");
    }

    #[test]
    fn values_that_are_missing_print_nothing() {
        let mut out = Vec::new();
        let format = [Piece::Arg(parsed("%d")), Piece::Text("!".to_owned())];
        printf(&mut out, &format, &[], Form::Text);
        assert_eq!(out, b"!");
    }

    fn any_datum() -> impl Strategy<Value = Datum> {
        prop_oneof![
            any::<i64>().prop_map(Datum::Int),
            any::<u64>().prop_map(Datum::Uint),
            any::<u64>().prop_map(Datum::Pointer),
            any::<f64>().prop_map(Datum::Float),
            any::<Vec<u8>>().prop_map(Datum::Str),
            any::<Vec<u8>>().prop_map(Datum::Buf),
            any::<String>().prop_map(Datum::Text),
            any::<u64>().prop_map(Datum::Fault),
        ]
    }

    proptest! {
        #[test]
        fn any_conversion_of_any_value_is_bounded_and_harmless(
            flags in any::<[bool; 5]>(),
            width in any::<Option<u32>>(),
            precision in any::<Option<u32>>(),
            kind in "[duxXocpsrf]",
            arg in any_datum(),
        ) {
            let [left, zeros, plus, space, alternate] = flags;
            let kind = kind.chars().next().unwrap_or('d');
            let size = Width::W16;
            let conversion = Conversion {
                left, zeros, plus, space, alternate, width, precision, size, kind,
            };
            let mut out = Vec::new();
            printf(&mut out, &[Piece::Arg(conversion)], &[arg], Form::Text);
            prop_assert!(out.len() < 3 * MOST as usize);
            let out = String::from_utf8(out).unwrap();
            prop_assert!(!out.chars().any(char::is_control));
        }
    }
}
