//! Untrusted bytes as safe text. Invariant: what is appended is valid UTF-8 without control
//! characters, direction marks or invisible characters.

use super::number::hex_digit;

/// Characters that act on a terminal or hide what stands there: controls (C0, DEL, C1), line and
/// paragraph separators, bidirectional marks, zero-width characters, tags.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Bytes that every text shows as they are.
fn is_plain(b: u8) -> bool {
    matches!(b, b' '..=b'~') & (b != b'"') & (b != b'\\')
}

/// Whether all are plain. Looks at every byte, so that the compiler can take many at a time.
fn all_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, b| plain & is_plain(*b))
}

/// Appends bytes for text: what is unsafe or no UTF-8 becomes `\n`, `\t`, `\x1b`, one `\x..` a
/// byte. A backslash becomes two, so that nothing looks escaped that is not.
pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, false);
}

/// The same between quotes.
pub(super) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    escape(out, bytes, true);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, bytes: &[u8], in_quotes: bool) {
    if all_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.extend_from_slice(b"\\n"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\\' => out.extend_from_slice(b"\\\\"),
                '"' if in_quotes => out.extend_from_slice(b"\\\""),
                c => {
                    let mut utf8 = [0; 4];
                    let utf8 = c.encode_utf8(&mut utf8).as_bytes();
                    if is_unsafe(c) {
                        utf8.iter().for_each(|b| byte(out, *b));
                    } else {
                        out.extend_from_slice(utf8);
                    }
                }
            }
        }
        chunk.invalid().iter().for_each(|b| byte(out, *b));
    }
}

fn byte(out: &mut Vec<u8>, b: u8) {
    let b = u64::from(b);
    out.extend_from_slice(&[b'\\', b'x', hex_digit(b >> 4), hex_digit(b)]);
}

/// Appends a character in single quotes.
pub(super) fn character(out: &mut Vec<u8>, b: u8) {
    out.push(b'\'');
    match b {
        b'\'' => out.extend_from_slice(b"\\'"),
        // One byte is one character here: those above 0x7f are no UTF-8.
        _ => text(out, &[b]),
    }
    out.push(b'\'');
}

/// Untrusted text, safe for a terminal.
pub fn escaped(untrusted: &str) -> String {
    let mut out = Vec::with_capacity(untrusted.len());
    text(&mut out, untrusted.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

/// An object as one line. What serde leaves as it is (C1 controls, direction marks) can stand in
/// strings only, and is escaped there.
pub fn json_line(object: &serde_json::Value) -> String {
    let mut out = Vec::new();
    for c in object.to_string().chars() {
        if is_unsafe(c) {
            json_char(&mut out, c);
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends bytes as a JSON string. What is unsafe becomes `\u....`; what is no UTF-8 becomes
/// U+FFFD, as every JSON reader can hold it.
pub(super) fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    json_part(out, bytes);
    out.push(b'"');
}

/// The same without quotes, to be put together with other parts.
pub(super) fn json_part(out: &mut Vec<u8>, bytes: &[u8]) {
    if all_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            json_char(out, c);
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn json_char(out: &mut Vec<u8>, c: char) {
    match c {
        '\n' => out.extend_from_slice(b"\\n"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\\' => out.extend_from_slice(b"\\\\"),
        '"' => out.extend_from_slice(b"\\\""),
        c if is_unsafe(c) => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let n = u64::from(*unit);
                let digits = [n >> 12, n >> 8, n >> 4, n].map(hex_digit);
                out.extend_from_slice(b"\\u");
                out.extend_from_slice(&digits);
            }
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_object_is_one_harmless_line_that_reads_back() {
        let object = serde_json::json!({"a\u{9b}31m": ["\u{202e}\n\u{1b}", "\u{e0041}\"\\é"]});
        let line = json_line(&object);
        assert!(!line.chars().any(is_unsafe), "{line:?}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&line).unwrap(),
            object
        );
    }

    fn made(f: fn(&mut Vec<u8>, &[u8]), bytes: &[u8]) -> String {
        let mut out = Vec::new();
        f(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_acts_on_a_terminal_is_spelled_out() {
        assert_eq!(made(text, b"a\x1b[31m\n"), r"a\x1b[31m\n");
        assert_eq!(made(text, b"\xff\x80a"), r"\xff\x80a");
        assert_eq!(
            made(text, "\u{9b}\u{202e}é\u{200b}".as_bytes()),
            r"\xc2\x9b\xe2\x80\xaeé\xe2\x80\x8b"
        );
        assert_eq!(made(text, br#"\x1b ""#), r#"\\x1b ""#);
        assert_eq!(made(quoted, br#"a"b\"#), r#""a\"b\\""#);
    }

    #[test]
    fn characters_are_shown_as_c_writes_them() {
        let shown = |b| {
            let mut out = Vec::new();
            character(&mut out, b);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            [shown(b'a'), shown(b'\''), shown(0), shown(0xe9)],
            ["'a'", r"'\''", r"'\x00'", r"'\xe9'"]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_get_a_control_character_through(bytes in any::<Vec<u8>>()) {
            for f in [text, quoted, json] {
                prop_assert!(!made(f, &bytes).chars().any(is_unsafe));
            }
        }

        #[test]
        fn json_of_any_bytes_reads_back(bytes in any::<Vec<u8>>(), s in "\\PC*|[\u{0}-\u{20}\u{e0001}\"\\\\]*") {
            let read: String = serde_json::from_str(&made(json, &bytes)).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
            let read: String = serde_json::from_str(&made(json, s.as_bytes())).unwrap();
            prop_assert_eq!(read, s);
        }
    }
}
