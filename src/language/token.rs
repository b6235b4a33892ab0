//! Text to tokens. Knows comments, numbers, strings, and where a probe's name stands: there paths
//! and globs are read as they are, `/usr/lib/*` is no comment. Invariant: any text gives tokens,
//! the last of them [`Kind::End`]; nothing is allocated beyond a few times the text.

mod literal;
mod point;

pub(super) use literal::number;
use std::collections::HashMap;

use super::source::{Reports, Span};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ident(String),
    Int(u64),
    Str(String),
    /// `@name`, with the `@`.
    Map(String),
    /// `$name`, with the `$`.
    Var(String),
    /// `$1`
    Parameter(u32),
    /// `$#`
    ParameterCount,
    /// An operator or a bracket.
    Punct(&'static str),
    /// A probe's name, as it stands.
    Attach(String),
    /// The `/` that begins a predicate.
    PredicateStart,
    /// The `/` that ends it.
    PredicateEnd,
    /// The end of the text.
    End,
}

/// Longest first.
const PUNCTUATION: &[&str] = &[
    "<<=", ">>=", "...", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "++", "--", "+=", "-=",
    "*=", "/=", "%=", "&=", "|=", "^=", "->", "..", "::", "+", "-", "*", "/", "%", "&", "|", "^",
    "~", "!", "<", ">", "=", "?", ":", ";", ",", ".", "(", ")", "[", "]", "{", "}",
];

/// Words that begin something else than a probe at the top of a program.
const ITEMS: &[&str] = &[
    "config",
    "macro",
    "struct",
    "union",
    "enum",
    "typedef",
    "let",
    "import",
    "fn",
    "subprog",
    "__attribute__",
];

/// Words that begin a probe at the start of a line, when an earlier block was never closed.
const PROVIDERS: &[&str] = &[
    "uprobe",
    "uretprobe",
    "usdt",
    "interval",
    "u",
    "ur",
    "U",
    "i",
    "kprobe",
    "kretprobe",
    "tracepoint",
    "profile",
];

/// Where the lexer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A probe's name, or a word of [`ITEMS`], comes next.
    Top,
    /// After a probe's name.
    Named,
    /// In a predicate.
    Predicate,
    /// In an item or a block.
    Inside,
}

/// Cuts the text of `reports.source` into tokens; and whether the end of it is in a comment that
/// was never closed.
pub(super) fn tokens(reports: &mut Reports<'_>) -> (Vec<Token>, bool) {
    let source = reports.source;
    let mut lexer = Lexer {
        text: source.text(),
        at: 0,
        reports,
        state: State::Top,
        depth: 0,
        tokens: Vec::new(),
        defines: HashMap::new(),
        cut: false,
        replaced: 0,
    };
    while lexer.next() {}
    let end = lexer.text.len();
    lexer.push(Kind::End, end..end);
    (lexer.tokens, lexer.cut)
}

struct Lexer<'a, 's> {
    text: &'s str,
    at: usize,
    reports: &'a mut Reports<'s>,
    state: State,
    /// Open braces.
    depth: usize,
    tokens: Vec<Token>,
    /// `#define NAME tokens`
    defines: HashMap<String, Vec<Kind>>,
    /// Whether a comment was never closed.
    cut: bool,
    /// Tokens that came out of definitions.
    replaced: usize,
}

impl<'s> Lexer<'_, 's> {
    fn rest(&self) -> &'s str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, kind: Kind, span: Span) {
        self.tokens.push(Token { kind, span });
    }

    /// Whether nothing but spaces stands before `at` on its line.
    fn starts_line(&self, at: usize) -> bool {
        let before = self.text.get(..at).unwrap_or_default();
        let mut before = before.chars().rev();
        let last = before.find(|c| *c == '\n' || !c.is_whitespace());
        last.is_none_or(|c| c == '\n')
    }

    /// Reads one token; false at the end.
    fn next(&mut self) -> bool {
        self.skip_space();
        let Some(c) = self.peek() else {
            return false;
        };
        let start = self.at;
        if c == '#' && self.starts_line(start) {
            self.directive();
            return true;
        }
        if self.state == State::Top && self.top() {
            return true;
        }
        if self.state == State::Named && self.next_probe_starts() {
            self.state = State::Top;
            return true;
        }
        match self.state {
            State::Named if c == '/' => {
                self.at += 1;
                self.push(Kind::PredicateStart, start..self.at);
                self.state = State::Predicate;
                return true;
            }
            State::Predicate if c == '/' && self.ends_predicate() => {
                self.at += 1;
                self.push(Kind::PredicateEnd, start..self.at);
                self.state = State::Named;
                return true;
            }
            State::Inside if self.depth > 0 && self.next_probe_starts() => {
                self.depth = 0;
                self.state = State::Top;
                return true;
            }
            _ => {}
        }
        match c {
            'A'..='Z' | 'a'..='z' | '_' => self.word(),
            '0'..='9' => self.number(),
            '"' => self.string(),
            '@' => {
                self.at += 1;
                let name = self.identifier();
                self.push(Kind::Map(format!("@{name}")), start..self.at);
            }
            '$' => self.dollar(),
            _ => self.punctuation(c),
        }
        true
    }

    /// Spaces and comments.
    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start().len();
            let rest = rest.get(spaces..).unwrap_or_default();
            let start = self.at + spaces;
            let skip = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                match rest.get(2..).and_then(|inside| inside.find("*/")) {
                    Some(end) => end + 4,
                    None => {
                        let len = rest.len();
                        self.cut = true;
                        self.reports.error_help(
                            &(start..start + 2),
                            "this comment is never closed",
                            "a comment ends with */",
                        );
                        len
                    }
                }
            } else {
                0
            };
            self.at = start + skip;
            if skip == 0 {
                return;
            }
        }
    }

    /// At the top: an item's first word, or a probe's name. False where neither stands.
    fn top(&mut self) -> bool {
        let start = self.at;
        let rest = self.rest();
        let word_len = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_len);
        if ITEMS.contains(&word) && !after.starts_with(':') {
            self.state = State::Inside;
            let word = word.to_owned();
            self.at += word_len;
            self.push(Kind::Ident(word), start..self.at);
            return true;
        }
        if rest.starts_with('@') {
            // A statement outside of any probe.
            self.state = State::Inside;
            return false;
        }
        if word_len == 0 && !rest.starts_with(['$', '*', '/', '.']) {
            return false;
        }
        let len = point::length(rest);
        let name = rest.get(..len).unwrap_or_default().to_owned();
        self.at += len;
        self.push(Kind::Attach(name), start..self.at);
        self.state = State::Named;
        true
    }

    /// Whether the `/` here is followed by a block.
    fn ends_predicate(&self) -> bool {
        let mut rest = self.rest().get(1..).unwrap_or_default().trim_start();
        loop {
            let comment = match () {
                () if rest.starts_with("//") => rest.find('\n'),
                () if rest.starts_with("/*") => rest.find("*/").map(|at| at + 2),
                () => None,
            };
            let Some(len) = comment else {
                return rest.starts_with('{');
            };
            rest = rest.get(len..).unwrap_or_default().trim_start();
        }
    }

    /// Whether a probe's name stands here at the start of a line: a block before it was not closed.
    fn next_probe_starts(&self) -> bool {
        if !self.text.get(..self.at).unwrap_or_default().ends_with('\n') {
            return false;
        }
        let rest = self.rest();
        let word_len = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_len);
        match word {
            "BEGIN" | "END" | "begin" | "end" => after.trim_start().starts_with('{'),
            _ => PROVIDERS.contains(&word) && after.starts_with(':') && !after.starts_with("::"),
        }
    }

    fn identifier(&mut self) -> String {
        let rest = self.rest();
        let len = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let name = rest.get(..len).unwrap_or_default().to_owned();
        self.at += len;
        name
    }

    fn word(&mut self) {
        let start = self.at;
        let word = self.identifier();
        let span = start..self.at;
        match self.defines.get(&word) {
            Some(kinds) if self.replaced < 10_000 => {
                self.replaced += kinds.len();
                let kinds = kinds.clone();
                for kind in kinds {
                    self.push(kind, span.clone());
                }
            }
            _ => self.push(Kind::Ident(word), span),
        }
    }

    fn dollar(&mut self) {
        let start = self.at;
        self.at += 1;
        if self.rest().starts_with('#') {
            self.at += 1;
            self.push(Kind::ParameterCount, start..self.at);
            return;
        }
        let name = self.identifier();
        let span = start..self.at;
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            match name.parse() {
                Ok(n) if n > 0 => self.push(Kind::Parameter(n), span),
                _ => {
                    self.reports.error_help(
                        &span,
                        format!("`${name}` is neither a parameter nor a variable"),
                        "parameters are $1, $2, ...; a variable's name starts with a letter",
                    );
                    self.push(Kind::Parameter(1), span);
                }
            }
            return;
        }
        if name.is_empty() {
            self.reports.error_help(
                &span,
                "a name should follow the `$`",
                "a variable is $name, a parameter $1, their number $#",
            );
        }
        self.push(Kind::Var(format!("${name}")), span);
    }

    fn punctuation(&mut self, c: char) {
        let start = self.at;
        let rest = self.rest();
        let Some(found) = PUNCTUATION.iter().find(|p| rest.starts_with(**p)) else {
            self.at += c.len_utf8();
            let span = start..self.at;
            match c {
                '\'' => {
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    let line = rest.split('\n').next().unwrap_or_default();
                    let end = line.find('\'').map_or(line.len(), |end| end + 1);
                    self.at += end;
                    self.reports.error_help(
                        &(start..self.at),
                        "there are no literals in single quotes",
                        "a string stands in double quotes; a character is written as its number, 'A' as 65",
                    );
                    self.push(Kind::Str(String::new()), start..self.at);
                }
                _ => self
                    .reports
                    .error(&span, format!("`{c}` has no meaning here")),
            }
            return;
        };
        self.at += found.len();
        let span = start..self.at;
        match *found {
            "{" => {
                self.depth += 1;
                self.state = State::Inside;
            }
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.state = State::Top;
                }
            }
            ";" if self.depth == 0 => self.state = State::Top,
            "," if self.state == State::Named => self.state = State::Top,
            _ => {}
        }
        self.push(Kind::Punct(found), span);
    }

    /// A line that starts with `#`.
    fn directive(&mut self) {
        let start = self.at;
        let rest = self.rest();
        let mut len = 0;
        for line in rest.split_inclusive('\n') {
            len += line.len();
            if !line.trim_end().ends_with('\\') {
                break;
            }
        }
        let line = rest.get(..len).unwrap_or_default().trim_end().to_owned();
        self.at += len;
        let span = start..start + line.len();
        let shebang = line.starts_with("#!");
        if shebang && self.reports.source.starts_piece(start) {
            return;
        }
        let words = line.get(1..).unwrap_or_default().trim_start();
        if words.starts_with("include") {
            self.reports.warn(
                &span,
                "header files are not read",
                "structures come from the target's debug information, or are written here",
            );
        } else if let Some(rest) = words.strip_prefix("define") {
            self.define(rest, &span);
        } else if shebang {
            self.reports
                .error(&span, "`#!` stands on the first line only");
        } else if words.starts_with("ifndef") || words.starts_with("endif") {
            // `#ifndef BPFTRACE_HAVE_BTF` guards kernel headers, which are not read anyway.
            self.reports.warn(
                &span,
                "conditions of the preprocessor are not evaluated",
                "",
            );
        } else {
            self.reports.error_help(
                &span,
                "only #define NAME VALUE is understood of the preprocessor",
                "a comment starts with //",
            );
        }
    }

    fn define(&mut self, rest: &str, span: &Span) {
        let rest = rest.trim_start();
        let len = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (name, value) = rest.split_at(len);
        if name.is_empty() || value.starts_with('(') {
            self.reports.error_help(
                span,
                "a definition with parameters is not understood",
                "write a macro: macro name(a, b) { a + b }",
            );
            return;
        }
        let name = name.to_owned();
        let end = span.end;
        let from = end - value.len();
        // The value's tokens are read in place, as if they stood in a block.
        let (at, text, tokens) = (self.at, self.text, std::mem::take(&mut self.tokens));
        let (state, depth) = (self.state, self.depth);
        self.text = self.text.get(..end).unwrap_or_default();
        self.at = from;
        self.state = State::Inside;
        self.depth = 0;
        while self.next() {}
        let value = std::mem::replace(&mut self.tokens, tokens);
        (self.at, self.text, self.state, self.depth) = (at, text, state, depth);
        let kinds = value.into_iter().map(|t| t.kind).take(100).collect();
        self.defines.insert(name, kinds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::source::Source;

    fn kinds(text: &str) -> Vec<Kind> {
        let source = Source::new("t", text);
        let mut reports = Reports::new(&source);
        let kinds = tokens(&mut reports).0.into_iter().map(|t| t.kind).collect();
        let (errors, _) = reports.finish();
        assert!(errors.is_empty(), "{}", errors[0]);
        kinds
    }

    fn inside(text: &str) -> Vec<Kind> {
        let all = kinds(&format!("BEGIN {{ {text} }}"));
        all.get(2..all.len() - 2).unwrap().to_vec()
    }

    fn attach(text: &str) -> Kind {
        Kind::Attach(text.to_owned())
    }

    #[test]
    fn probes_are_read_as_they_stand() {
        use Kind::*;
        let all = kinds(
            "#!/usr/bin/env bpftrace\n// c\nuprobe:/usr/lib/*/x.so:f*,\nu:\"/a b\":\"f(int, char)\"\n/ 1 / 2 / { }",
        );
        let wanted = [
            attach("uprobe:/usr/lib/*/x.so:f*"),
            Punct(","),
            attach("u:\"/a b\":\"f(int, char)\""),
            PredicateStart,
            Int(1),
            Punct("/"),
            Int(2),
            PredicateEnd,
            Punct("{"),
            Punct("}"),
            End,
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_predicate_may_follow_without_a_space() {
        for text in ["u:libc:f/1/{}", "u:libc:f/ 1 /{}", "u:libc:f /1/ // c\n {}"] {
            let all = kinds(text);
            assert_eq!(
                all[..3],
                [attach("u:libc:f"), Kind::PredicateStart, Kind::Int(1)]
            );
            assert_eq!(all[3], Kind::PredicateEnd, "{text}");
        }
        let go = kinds("u:./x:github.com/a/b.F {}");
        assert_eq!(go[0], attach("u:./x:github.com/a/b.F"));
        let path = kinds("u:/bin/x {}");
        assert_eq!(path[0], attach("u:/bin/x"));
    }

    #[test]
    fn words_and_operators_of_a_block_are_told_apart() {
        use Kind::*;
        let all = inside("@ @a_1 $x $1 $# a->b 1..5 x<<=2 $kv.0.1");
        let wanted = [
            Map("@".into()),
            Map("@a_1".into()),
            Var("$x".into()),
            Parameter(1),
            ParameterCount,
            Ident("a".into()),
            Punct("->"),
            Ident("b".into()),
            Int(1),
            Punct(".."),
            Int(5),
            Ident("x".into()),
            Punct("<<="),
            Int(2),
            Var("$kv".into()),
            Punct("."),
            Int(0),
            Punct("."),
            Int(1),
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_block_that_is_not_closed_ends_before_the_next_probe() {
        let all = kinds("BEGIN { if (1) {\nuprobe:libc:f { }");
        assert!(all.contains(&attach("uprobe:libc:f")));
    }

    #[test]
    fn definitions_are_replaced() {
        let all = kinds("#define N (3 + 4)\nBEGIN { N }");
        let kinds: Vec<_> = all[2..7].to_vec();
        assert_eq!(kinds[1], Kind::Int(3));
        assert_eq!(kinds[4], Kind::Punct(")"));
    }
}
