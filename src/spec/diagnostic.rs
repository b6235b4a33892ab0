//! What is wrong with a spec, and where: `error: ...`, the text, carets under the place, one line
//! of help. Knows neither colour nor streams. Invariant: what it prints holds no control
//! character, whatever the spec held, and the carets stand under the place.

use std::fmt;
use std::ops::Range;

/// Most characters of the text shown around the place.
const SHOWN: usize = 110;
/// Characters shown before the place when the text is cut.
const BEFORE: usize = 40;

/// A line of a file of probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
}

/// An error in a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// The whole spec, one line.
    pub text: String,
    /// Bytes of `text` that are to blame. An end beyond the text is cut.
    pub span: Range<usize>,
    /// Where the text stands, when it was read from a file.
    pub place: Option<Place>,
    /// What to do instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at `span` of `text`.
    pub fn new(text: &str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            message: message.into(),
            text: text.to_owned(),
            span,
            place: None,
            help: None,
        }
    }

    /// The same with a line of help.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// The same in a file.
    pub fn at(mut self, place: Option<Place>) -> Diagnostic {
        self.place = place;
        self
    }

    /// Column of the place in characters, from 1.
    pub fn column(&self) -> usize {
        chars_before(&self.text, self.span.start) + 1
    }
}

fn chars_before(text: &str, byte: usize) -> usize {
    text.char_indices().take_while(|(at, _)| *at < byte).count()
}

/// One character for one, so that columns stay: the text may come from somebody else's file.
fn shown(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{ad}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => '\u{fffd}',
        c => c,
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.chars().map(shown).collect::<String>();
        if let Some(place) = &self.place {
            write!(
                f,
                "{}:{}:{}: ",
                line(&place.file),
                place.line,
                self.column()
            )?;
        }
        writeln!(f, "error: {}", line(&self.message))?;
        let chars: Vec<char> = self.text.chars().map(shown).collect();
        let start = chars_before(&self.text, self.span.start).min(chars.len());
        let end = chars_before(&self.text, self.span.end).clamp(start, chars.len());
        let from = if chars.len() > SHOWN {
            start.saturating_sub(BEFORE)
        } else {
            0
        };
        let to = from.saturating_add(SHOWN).min(chars.len());
        let head = if from > 0 { "..." } else { "" };
        let tail = if to < chars.len() { "..." } else { "" };
        let part: String = chars.get(from..to).unwrap_or_default().iter().collect();
        writeln!(f, "  {head}{part}{tail}")?;
        let indent = head.len() + start.saturating_sub(from);
        let carets = end.min(to).saturating_sub(start).max(1);
        write!(f, "  {}{}", " ".repeat(indent), "^".repeat(carets))?;
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {}", line(help))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_under_the_place() {
        let error = Diagnostic::new("malloc size=%foo", 12..16, "no register `%foo`")
            .help("registers are %ax, %di, ...");
        assert_eq!(
            error.to_string(),
            "error: no register `%foo`\n  malloc size=%foo\n              ^^^^\nhelp: registers are %ax, %di, ..."
        );
    }

    #[test]
    fn in_a_file_the_place_leads() {
        let place = Place {
            file: "a.probes".into(),
            line: 3,
        };
        let error = Diagnostic::new("é %x", 3..5, "bad").at(Some(place));
        assert_eq!(
            error.to_string(),
            "a.probes:3:3: error: bad\n  é %x\n    ^^"
        );
    }

    #[test]
    fn escape_sequences_of_a_spec_never_reach_the_terminal() {
        let error = Diagnostic::new("a\x1b[31m\u{202e}b", 0..900, "bad \x07 \u{9b}");
        assert!(
            error
                .to_string()
                .chars()
                .all(|c| c == '\n' || shown(c) == c)
        );
    }

    #[test]
    fn a_long_text_is_cut_around_the_place() {
        let text = "x".repeat(5000);
        let shown = Diagnostic::new(&text, 2500..2510, "bad").to_string();
        assert!(shown.lines().all(|line| line.len() < 130), "{shown}");
        assert!(shown.contains("...xxx") && shown.contains("^^^^^^^^^^"));
    }

    #[test]
    fn the_end_of_the_text_can_be_the_place() {
        let shown = Diagnostic::new("libc:", 5..5, "no symbol").to_string();
        assert_eq!(shown, "error: no symbol\n  libc:\n       ^");
    }
}
