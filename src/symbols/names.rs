//! Patterns for names: exact, glob, regex. Knows no symbols.
//!
//! Invariant: matching takes time linear in the regex case and at most pattern times name in the
//! glob case, whatever the pattern.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// A pattern that does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Where in the pattern, in bytes.
    pub position: usize,
    /// What is wrong there, and what to write instead.
    pub message: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.message, self.position + 1)
    }
}

impl std::error::Error for PatternError {}

/// What names are asked for.
#[derive(Clone, Debug)]
pub enum NamePattern {
    /// This name: mangled, demangled with or without parameters, with `@VERSION` or without.
    Exact(String),
    /// `*`, `?`, `[a-z]`, `[!a-z]`, `\x`.
    Glob(Glob),
    /// A regular expression, found anywhere in the name.
    Regex(Regex),
}

impl NamePattern {
    /// A name as it stands.
    pub fn exact(name: &str) -> NamePattern {
        NamePattern::Exact(name.to_owned())
    }

    /// A glob over the whole name; `*` also crosses `::`. Fails on an open `[` or a last `\`.
    pub fn glob(text: &str) -> Result<NamePattern, PatternError> {
        Glob::parse(text).map(NamePattern::Glob)
    }

    /// A regular expression, without its slashes. Fails where the expression does not parse.
    pub fn regex(text: &str) -> Result<NamePattern, PatternError> {
        RegexBuilder::new(text)
            .size_limit(4 << 20)
            .dfa_size_limit(4 << 20)
            .build()
            .map(NamePattern::Regex)
            .map_err(|error| regex_error(text, &error))
    }

    /// Whether every name matches, so that none needs to be looked at.
    pub fn is_everything(&self) -> bool {
        match self {
            NamePattern::Exact(_) => false,
            NamePattern::Glob(glob) => glob.is_everything(),
            NamePattern::Regex(regex) => matches!(regex.as_str(), "" | ".*" | "^" | "^.*" | "^.*$"),
        }
    }
}

/// The regex crate tells the place only by a caret below the pattern, four columns in.
fn regex_error(text: &str, error: &regex::Error) -> PatternError {
    let shown = error.to_string();
    let caret = shown.lines().find_map(|line| {
        let marks = line.trim_end();
        let at = marks.find('^')?;
        (marks.get(..at)?.trim().is_empty()
            && marks.len() == marks.trim_end_matches('^').len() + marks.matches('^').count())
        .then(|| at.saturating_sub(4))
    });
    let message = match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
        _ => shown
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("error: "))
            .unwrap_or("the regular expression does not parse")
            .to_owned(),
    };
    PatternError {
        position: caret.unwrap_or(0).min(text.len()),
        message,
    }
}

/// A parsed glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Star,
    Any,
    One(char),
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Star | Part::Any => true,
            Part::One(own) => *own == c,
            Part::Set { negated, ranges } => {
                ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
        }
    }
}

impl Glob {
    fn parse(text: &str) -> Result<Glob, PatternError> {
        let mut parts = Vec::new();
        let mut chars = text.char_indices().peekable();
        let error = |position, message: &str| PatternError {
            position,
            message: message.to_owned(),
        };
        while let Some((at, c)) = chars.next() {
            let part = match c {
                '*' if parts.last() == Some(&Part::Star) => continue,
                '*' => Part::Star,
                '?' => Part::Any,
                '\\' => match chars.next() {
                    Some((_, c)) => Part::One(c),
                    None => return Err(error(at, "`\\` needs a character after it")),
                },
                '[' => {
                    let negated = chars.next_if(|&(_, c)| c == '!' || c == '^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let Some((low_at, low)) = chars.next() else {
                            return Err(error(
                                at,
                                "`[` without `]`; write `\\[` for the character",
                            ));
                        };
                        if low == ']' && !ranges.is_empty() {
                            break;
                        }
                        let mut ahead = chars.clone();
                        let high = match (ahead.next(), ahead.next()) {
                            (Some((_, '-')), Some((_, high))) if high != ']' => {
                                chars.next();
                                chars.next();
                                high
                            }
                            _ => low,
                        };
                        if high < low {
                            return Err(error(low_at, "a range that ends before it begins"));
                        }
                        ranges.push((low, high));
                    }
                    Part::Set { negated, ranges }
                }
                c => Part::One(c),
            };
            parts.push(part);
        }
        Ok(Glob { parts })
    }

    fn is_everything(&self) -> bool {
        self.parts == [Part::Star]
    }

    /// The literal runs every matching name contains.
    pub(super) fn literals(&self) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::One(c) => *c,
                _ => ' ',
            })
            .collect()
    }

    /// Whether the whole name matches. Only the last star is ever retried, so the work is at most
    /// pattern times name.
    pub fn matches(&self, name: &str) -> bool {
        let (mut part, mut rest) = (0, name);
        let mut retry: Option<(usize, &str)> = None;
        loop {
            let mut chars = rest.chars();
            match (self.parts.get(part), chars.next()) {
                (Some(Part::Star), _) => {
                    part += 1;
                    retry = Some((part, rest));
                    continue;
                }
                (Some(own), Some(c)) if own.takes(c) => {
                    part += 1;
                    rest = chars.as_str();
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            let Some((after_star, from)) = retry else {
                return false;
            };
            let mut chars = from.chars();
            if chars.next().is_none() {
                return false;
            }
            rest = chars.as_str();
            part = after_star;
            retry = Some((after_star, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).unwrap()
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, matches) in [
            ("*", "", true),
            ("mal*", "malloc", true),
            ("mal*", "xmalloc", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("?alloc", "malloc", true),
            ("[a-m]alloc", "malloc", true),
            ("[!a-l]alloc", "malloc", true),
            ("[]x]", "]", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("ns::*(int)", "ns::f(int)", true),
            ("", "x", false),
        ] {
            assert_eq!(glob(pattern).matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_glob_of_many_stars_stays_quick() {
        let pattern = glob(&"a*".repeat(50));
        assert!(!pattern.matches(&"b".repeat(10_000)));
        assert!(!glob(&format!("{}b", "a*".repeat(50))).matches(&"a".repeat(10_000)));
    }

    #[test]
    fn errors_tell_the_place() {
        assert_eq!(NamePattern::glob("ab[c").unwrap_err().position, 2);
        assert_eq!(NamePattern::glob("ab\\").unwrap_err().position, 2);
        assert_eq!(NamePattern::glob("[z-a]").unwrap_err().position, 1);
        let error = NamePattern::regex("ab(c").unwrap_err();
        assert_eq!(
            (error.position, error.message.as_str()),
            (2, "unclosed group")
        );
        assert_eq!(
            NamePattern::regex("a**(").unwrap_err().message,
            "unclosed group"
        );
        assert!(NamePattern::regex(&"(a{1000}){1000}".repeat(3)).is_err());
    }
}
