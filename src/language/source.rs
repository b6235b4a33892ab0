//! The text of a program: files and command-line pieces behind one another, read as one. Knows
//! where each byte stands in which of them, and collects what is wrong. Invariant: no more than
//! [`MOST`] errors are kept, whatever the text.

use std::fmt;
use std::ops::Range;

use crate::spec::{Diagnostic, Place};

/// Most errors that are reported of one program.
const MOST: usize = 50;

/// Most bytes of a program.
pub const MAX_TEXT: usize = 1 << 20;

/// A range of bytes of the whole text.
pub type Span = Range<usize>;

/// A program's text. Several pieces (`-e`, `-f`) are one program.
#[derive(Clone, Debug, Default)]
pub struct Source {
    text: String,
    /// Where each piece starts, and its name.
    pieces: Vec<(usize, String)>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Source {
    /// A program of one piece; the name is that of its file.
    pub fn new(name: impl Into<String>, text: &str) -> Source {
        let mut source = Source::default();
        source.add(name, text);
        source
    }

    /// Adds a piece.
    pub fn add(&mut self, name: impl Into<String>, text: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.pieces.push((self.text.len(), name.into()));
        self.text
            .push_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        let from = self.ends.last().map_or(0, |end| end + 1);
        let added = self.text.get(from..).unwrap_or_default();
        let ends = added.match_indices('\n').map(|(at, _)| from + at);
        self.ends.extend(ends);
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span; empty where it is none.
    pub fn get(&self, span: &Span) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Whether a piece starts at this byte.
    pub(super) fn starts_piece(&self, at: usize) -> bool {
        self.pieces.iter().any(|(start, _)| *start == at)
    }

    /// The file and the line, from 1, of a byte.
    pub fn place(&self, at: usize) -> Place {
        let index = self.pieces.partition_point(|(start, _)| *start <= at);
        let (start, name) = match self.pieces.get(index.saturating_sub(1)) {
            Some((start, name)) => (*start, name.clone()),
            None => (0, String::new()),
        };
        let before = |at: usize| self.ends.partition_point(|end| *end < at);
        Place {
            file: name,
            line: before(at).saturating_sub(before(start)) + 1,
        }
    }

    /// The line, from 1, of a byte, within its piece.
    pub fn line(&self, at: usize) -> usize {
        self.place(at).line
    }

    /// The line that a byte is in, without its end.
    fn line_span(&self, at: usize) -> Span {
        let at = self.floor(at.min(self.text.len()));
        let before = self.text.get(..at).unwrap_or_default();
        let after = self.text.get(at..).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = at + after.find('\n').unwrap_or(after.len());
        start..end
    }

    fn floor(&self, mut at: usize) -> usize {
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// What is wrong at `span`. Of a span of several lines the first is shown.
    pub fn diagnostic(&self, span: &Span, message: impl Into<String>) -> Diagnostic {
        let line = self.line_span(span.start);
        let text = self.get(&line).trim_end_matches('\r');
        let start = span.start.min(line.end) - line.start;
        let end = span.end.clamp(span.start.min(line.end), line.end) - line.start;
        Diagnostic::new(text, start..end.min(text.len()).max(start), message)
            .at(Some(self.place(span.start)))
    }
}

/// Shows a diagnostic as a warning.
#[derive(Clone, Copy, Debug)]
pub struct Warning<'a>(pub &'a Diagnostic);

impl fmt::Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Diagnostic {
            place: None,
            ..self.0.clone()
        };
        let text = text.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        if let Some(place) = &self.0.place {
            let placed = Diagnostic {
                message: String::new(),
                ..self.0.clone()
            };
            let placed = placed.to_string();
            let column = self.0.column();
            let file_end = placed.find(&format!(":{}:{column}: error: ", place.line));
            let file = file_end.and_then(|end| placed.get(..end)).unwrap_or("?");
            write!(f, "{file}:{}:{column}: ", place.line)?;
        }
        write!(f, "warning: {text}")
    }
}

/// What is wrong and what is odd, as it is found.
#[derive(Debug)]
pub(super) struct Reports<'s> {
    pub source: &'s Source,
    errors: Vec<(usize, Diagnostic)>,
    warnings: Vec<(usize, Diagnostic)>,
}

impl<'s> Reports<'s> {
    pub fn new(source: &'s Source) -> Reports<'s> {
        Reports {
            source,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub fn error(&mut self, span: &Span, message: impl Into<String>) {
        let diagnostic = self.source.diagnostic(span, message);
        self.add(span.start, diagnostic);
    }

    pub fn error_help(&mut self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = self.source.diagnostic(span, message).help(help);
        self.add(span.start, diagnostic);
    }

    fn add(&mut self, at: usize, diagnostic: Diagnostic) {
        if self.errors.len() < MOST && !self.errors.iter().any(|(_, old)| *old == diagnostic) {
            self.errors.push((at, diagnostic));
        }
    }

    pub fn warn(&mut self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), help.into());
        let mut diagnostic = self.source.diagnostic(span, message);
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        let known = self.warnings.iter().any(|(_, old)| *old == diagnostic);
        if self.warnings.len() < MOST && !known {
            self.warnings.push((span.start, diagnostic));
        }
    }

    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether an error was reported at this place.
    pub fn has_errors_in(&self, span: &Span) -> bool {
        self.errors.iter().any(|(at, _)| *at == span.start)
    }

    /// How many there are, to go back to with [`Reports::reset`].
    pub fn mark(&self) -> (usize, usize) {
        (self.errors.len(), self.warnings.len())
    }

    /// Forgets what was reported since the mark.
    pub fn reset(&mut self, (errors, warnings): (usize, usize)) {
        self.errors.truncate(errors);
        self.warnings.truncate(warnings);
    }

    /// Errors and warnings, each in the order of the text.
    pub fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let sorted = |mut list: Vec<(usize, Diagnostic)>| {
            list.sort_by_key(|(at, _)| *at);
            list.into_iter().map(|(_, d)| d).collect()
        };
        (sorted(self.errors), sorted(self.warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_names_file_line_and_column() {
        let mut source = Source::new("a.bt", "BEGIN\n{ é foo }\n");
        source.add("-e", "x\r\ny");
        let at = source.text().find("foo").unwrap_or(0);
        let shown = source.diagnostic(&(at..at + 3), "bad").to_string();
        assert_eq!(shown, "a.bt:2:5: error: bad\n  { é foo }\n      ^^^");
        let at = source.text().find("x\r").unwrap_or(0);
        let shown = source.diagnostic(&(at..at + 4), "bad").to_string();
        assert_eq!(shown, "-e:1:1: error: bad\n  x\n  ^");
        let warning = source.diagnostic(&(at..at + 1), "odd");
        assert_eq!(
            Warning(&warning).to_string(),
            "-e:1:1: warning: odd\n  x\n  ^"
        );
    }

    #[test]
    fn errors_come_in_source_order_and_once() {
        let source = Source::new("t", "abc");
        let mut reports = Reports::new(&source);
        for at in [2, 0, 2] {
            reports.error(&(at..at + 1), "bad");
        }
        let (errors, _) = reports.finish();
        assert_eq!(
            errors.iter().map(|e| e.column()).collect::<Vec<_>>(),
            [1, 3]
        );
    }

    #[test]
    fn any_span_has_a_diagnostic() {
        let source = Source::new("t", "é\n");
        for start in 0..6 {
            for end in start..7 {
                assert!(
                    !source
                        .diagnostic(&(start..end), "bad")
                        .to_string()
                        .is_empty()
                );
            }
        }
    }
}
