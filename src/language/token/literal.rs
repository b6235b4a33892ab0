//! Numbers and strings.

use super::{Kind, Lexer};
use crate::language::source::Span;

/// Suffixes of a number: C's, which mean nothing, and durations in nanoseconds.
const SUFFIXES: &[(&str, u64)] = &[
    ("", 1),
    ("u", 1),
    ("ul", 1),
    ("ull", 1),
    ("l", 1),
    ("ll", 1),
    ("lu", 1),
    ("llu", 1),
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// A number as programs write it; an error in words.
pub(in crate::language) fn number(text: &str) -> Result<u64, &'static str> {
    const TOO_BIG: &str = "this number does not fit 64 bits";
    let clean: String = text.chars().filter(|c| *c != '_').collect();
    let hex = clean
        .strip_prefix("0x")
        .or_else(|| clean.strip_prefix("0X"));
    if let Some(hex) = hex {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit());
        let (digits, suffix) = hex.split_at(end.unwrap_or(hex.len()));
        let suffix = suffix.to_ascii_lowercase();
        if digits.is_empty() || !is_c_suffix(&suffix) {
            return Err("this is no hexadecimal number");
        }
        return u64::from_str_radix(digits, 16).map_err(|_| TOO_BIG);
    }
    let end = clean.find(|c: char| !c.is_ascii_digit());
    let (digits, suffix) = clean.split_at(end.unwrap_or(clean.len()));
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']) {
        let base: u64 = digits.parse().map_err(|_| TOO_BIG)?;
        let exponent: u32 = exponent
            .parse()
            .map_err(|_| "the exponent of this number is no number")?;
        let power = 10_u64.checked_pow(exponent);
        let value = power.and_then(|power| base.checked_mul(power));
        return match base {
            0 => Ok(0),
            _ => value.ok_or(TOO_BIG),
        };
    }
    let octal = digits.len() > 1 && digits.starts_with('0') && is_c_suffix(&suffix.to_lowercase());
    let value = if octal {
        if digits.contains(['8', '9']) {
            return Err("a number that starts with 0 is octal: its digits are 0 to 7");
        }
        u64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    let value = value.map_err(|_| TOO_BIG)?;
    let known = |(name, _): &&(&str, u64)| *name == suffix;
    let scale = match SUFFIXES.iter().find(known) {
        Some((_, scale)) => *scale,
        None if is_c_suffix(&suffix.to_ascii_lowercase()) => 1,
        None => return Err("there is no such number"),
    };
    value.checked_mul(scale).ok_or(TOO_BIG)
}

fn is_c_suffix(text: &str) -> bool {
    matches!(text, "" | "u" | "ul" | "ull" | "l" | "ll" | "lu" | "llu")
}

impl Lexer<'_, '_> {
    pub(super) fn number(&mut self) {
        let start = self.at;
        let text = self.identifier();
        let mut span = start..self.at;
        let value = match number(&text) {
            Ok(value) => value,
            Err(message) => {
                self.number_error(&span, message);
                0
            }
        };
        let fraction = self.rest().strip_prefix('.').is_some_and(|rest| {
            let part_of = self.tokens.last().map(|token| &token.kind);
            rest.starts_with(|c: char| c.is_ascii_digit())
                && part_of != Some(&Kind::Punct("."))
                && part_of != Some(&Kind::Punct(".."))
        });
        if fraction {
            self.at += 1;
            self.identifier();
            span.end = self.at;
            self.reports.error_help(
                &span,
                "numbers are integers",
                "1e6 and 1_000 can be written, fractions cannot",
            );
        }
        self.push(Kind::Int(value), span);
    }

    fn number_error(&mut self, span: &Span, message: &str) {
        let help = match message {
            "there is no such number" => {
                "numbers are 42, 0x2a, 052, 1e6, 1_000; durations 1s 5ms 100us 30ns"
            }
            _ => "",
        };
        if help.is_empty() {
            self.reports.error(span, message);
        } else {
            self.reports.error_help(span, message, help);
        }
    }

    pub(super) fn string(&mut self) {
        let start = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(c) = self.peek() else {
                self.unclosed(start);
                break;
            };
            let at = self.at;
            self.at += c.len_utf8();
            match c {
                '"' => break,
                '\n' => {
                    // What closes the statement is no part of the string.
                    let line = self.text.get(start + 1..at).unwrap_or_default();
                    let rest = line.trim_end_matches([')', ';', '}', ' ', '\t', '\r']);
                    self.at = start + 1 + rest.len();
                    self.unclosed(start);
                    break;
                }
                '\\' => self.escape(at, &mut bytes),
                _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.push(Kind::Str(text), start..self.at);
    }

    fn unclosed(&mut self, start: usize) {
        self.reports.error_help(
            &(start..self.at),
            "this string is never closed",
            "a string ends with \" on the same line; a line break in it is \\n",
        );
    }

    fn escape(&mut self, start: usize, bytes: &mut Vec<u8>) {
        let Some(c) = self.peek() else { return };
        if c == '\n' {
            // A string goes on in the next line.
            self.at += 1;
            return;
        }
        self.at += c.len_utf8();
        let simple = match c {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            'a' => 7,
            'b' => 8,
            'e' => 0x1b,
            'f' => 0xc,
            'v' => 0xb,
            '\\' | '"' | '\'' | '?' | '/' => u8::try_from(c).unwrap_or(b'?'),
            '0'..='7' => {
                self.at -= 1;
                return self.digits(start, 8, 3, bytes);
            }
            'x' => return self.digits(start, 16, 2, bytes),
            _ => {
                self.reports.error_help(
                    &(start..self.at),
                    format!("`\\{c}` is no escape"),
                    "escapes are \\n \\t \\r \\\\ \\\" \\0nn (octal) \\xnn (hex)",
                );
                return;
            }
        };
        bytes.push(simple);
    }

    fn digits(&mut self, start: usize, radix: u32, most: usize, bytes: &mut Vec<u8>) {
        let rest = self.rest();
        let len = rest.chars().take(most).take_while(|c| c.is_digit(radix));
        let len = len.count();
        let digits = rest.get(..len).unwrap_or_default();
        let value = u32::from_str_radix(digits, radix).ok();
        self.at += len;
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(value) => bytes.push(value),
            None => self.reports.error(
                &(start..self.at.max(start + 2)),
                "an escape is one byte: at most two hexadecimal digits, or 377 in octal",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::source::{Reports, Source};
    use crate::language::token::tokens;

    #[test]
    fn numbers_are_written_in_many_ways() {
        for (text, value) in [
            ("0", 0),
            ("42", 42),
            ("0x2A", 42),
            ("052", 42),
            ("1e6", 1_000_000),
            ("1_000_123", 1_000_123),
            ("10UL", 10),
            ("0xffULL", 255),
            ("5ms", 5_000_000),
            ("1s", 1_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        for text in [
            "18446744073709551616",
            "0x",
            "0xg",
            "08",
            "1e",
            "1e99",
            "12abc",
            "999999999999999999d",
        ] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn strings_have_cs_escapes() {
        let source = Source::new("t", r#"BEGIN { "a\n\t\\\"\x41\101\e[31m\xc3\xa9é" }"#);
        let mut reports = Reports::new(&source);
        let (all, _) = tokens(&mut reports);
        let wanted = Kind::Str("a\n\t\\\"AA\u{1b}[31méé".to_owned());
        assert_eq!(all[2].kind, wanted);
        assert!(!reports.has_errors());
    }
}
