//! Cuts the text of a probe into its location's components and the words of its arguments.
//! Knows quotes and regexes, which may hold spaces and separators; not what anything means.

use std::ops::Range;

use super::diagnostic::Diagnostic;

/// How the body of a component was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes.
    Plain,
    /// In quotes, which are taken off: exact.
    Quoted,
    /// Between slashes, which are taken off.
    Regex,
}

/// What stands between two separators of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub style: Style,
    /// The name, without quotes or slashes.
    pub body: String,
    /// What follows closing quotes or slashes: `@LIB`, `+OFFSET`, `%KIND`.
    pub suffix: String,
    pub span: Range<usize>,
}

/// Cuts a location off the front of `text` (from `start`, not a space). Returns its components and
/// where it ends.
pub(super) fn location(text: &str, start: usize) -> Result<(Vec<Component>, usize), Diagnostic> {
    let mut components = Vec::new();
    let mut at = start;
    loop {
        let component = component(text, at, components.is_empty())?;
        at = component.span.end;
        components.push(component);
        match text.get(at..).and_then(|rest| rest.chars().next()) {
            Some(':' | '!') => at += 1,
            _ => return Ok((components, at)),
        }
    }
}

fn component(text: &str, start: usize, first: bool) -> Result<Component, Diagnostic> {
    let rest = text.get(start..).unwrap_or_default();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        let Some((body, len)) = unquote(rest, quote) else {
            return Err(
                Diagnostic::new(text, start..text.len(), "this quote is never closed")
                    .help(format!("a name in quotes ends with {quote}")),
            );
        };
        let end = plain_end(text, start + len, false);
        return Ok(Component {
            style: Style::Quoted,
            body,
            suffix: text.get(start + len..end).unwrap_or_default().to_owned(),
            span: start..end,
        });
    }
    if let Some(len) = regex_len(rest) {
        let end = plain_end(text, start + len, false);
        return Ok(Component {
            style: Style::Regex,
            body: rest.get(1..len - 1).unwrap_or_default().to_owned(),
            suffix: text.get(start + len..end).unwrap_or_default().to_owned(),
            span: start..end,
        });
    }
    let end = plain_end(text, start, first);
    Ok(Component {
        style: Style::Plain,
        body: text.get(start..end).unwrap_or_default().to_owned(),
        suffix: String::new(),
        span: start..end,
    })
}

/// Where plain text ends: at a space, at a separator, or with the text. A single colon separates;
/// of three the first does. A `!` separates a module when what is before it can be one.
fn plain_end(text: &str, start: usize, bang: bool) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let mut skip_to = 0;
    for (at, c) in rest.char_indices() {
        if at < skip_to {
            continue;
        }
        if c.is_whitespace() {
            return start + at;
        }
        if c == ':' {
            let run = rest.get(at..).unwrap_or_default();
            let colons = run.bytes().take_while(|b| *b == b':').count();
            if colons % 2 == 1 {
                return start + at;
            }
            skip_to = at + colons;
        }
        if c == '!' && bang {
            let before = rest.get(..at).unwrap_or_default();
            let module = !before.is_empty()
                && !before.ends_with("operator")
                && !before.contains(['<', '(', '@'])
                && !before.contains("::");
            if module {
                return start + at;
            }
        }
    }
    text.len()
}

/// The text in the quotes that `text` starts with, and the length with both quotes. A backslash
/// takes the meaning from a quote or a backslash.
fn unquote(text: &str, quote: char) -> Option<(String, usize)> {
    let mut body = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Some((body, at + c.len_utf8()));
        }
        match (c, chars.peek()) {
            ('\\', Some((_, next @ ('\\' | '"' | '\'')))) => {
                body.push(*next);
                chars.next();
            }
            _ => body.push(c),
        }
    }
    None
}

/// Length of the regex that `text` starts with, both slashes included. It ends at its first slash
/// without a backslash; the start of a path is no regex, for text follows its second slash.
fn regex_len(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.strip_prefix('/')?.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '/' => {
                let len = at + 2;
                let next = text.get(len..)?.chars().next();
                let ends = next.is_none_or(|c| c.is_whitespace() || matches!(c, '%' | '@' | '+'));
                return (ends && len > 2).then_some(len);
            }
            _ => {}
        }
    }
    None
}

/// The words of `text` from `start` on.
pub(super) fn words(text: &str, start: usize) -> Vec<(Range<usize>, &str)> {
    let mut found = Vec::new();
    let mut begin = None;
    for (at, c) in text.char_indices().filter(|(at, _)| *at >= start) {
        if !c.is_whitespace() {
            begin.get_or_insert(at);
        } else if let Some(from) = begin.take() {
            found.push((from..at, text.get(from..at).unwrap_or_default()));
        }
    }
    if let Some(from) = begin {
        found.push((from..text.len(), text.get(from..).unwrap_or_default()));
    }
    found
}

/// A number as users write it: decimal, or hex with `0x`. `None` when it is no number or too big.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// Whether `text` is written as a number, be it too big.
pub(super) fn is_numeric(text: &str) -> bool {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hex {
        Some(hex) => !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
    }
}
