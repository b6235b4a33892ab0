//! Tokens to the tree, by recursive descent. Knows the grammar, not what names mean. It never stops
//! at the first error: it goes on at the next `;`, `}` or probe. Invariant: it always comes to an
//! end, and what it builds is nested no deeper than [`tree::DEEPEST`].

mod expr;
mod stmt;
mod top;
mod types;

use super::source::{Reports, Span};
use super::token::{Kind, Token, tokens};
use super::tree::{self, Tree};

/// Reads the program.
pub(super) fn parse(reports: &mut Reports<'_>) -> Tree {
    let (tokens, cut) = tokens(reports);
    let mut parser = Parser {
        reports,
        tokens,
        at: 0,
        depth: 0,
        cut,
        too_deep: None,
        parameters: Vec::new(),
    };
    let tree = parser.program();
    if let Some(mark) = parser.too_deep {
        parser.reports.reset(mark);
    }
    tree
}

struct Parser<'a, 's> {
    reports: &'a mut Reports<'s>,
    /// Never empty; the last is [`Kind::End`].
    tokens: Vec<Token>,
    at: usize,
    /// How deep the descent is.
    depth: u16,
    /// Whether the text ends in a comment.
    cut: bool,
    /// Set where it was said that the text is nested too deep: the rest is not looked at.
    too_deep: Option<(usize, usize)>,
    /// Parameters of the macro that is being read.
    parameters: Vec<String>,
}

const END: &Kind = &Kind::End;

impl Parser<'_, '_> {
    fn kind_at(&self, ahead: usize) -> &Kind {
        self.tokens.get(self.at + ahead).map_or(END, |t| &t.kind)
    }

    fn kind(&self) -> &Kind {
        self.kind_at(0)
    }

    /// The place of the next token.
    fn span(&self) -> Span {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(0..0, |t| t.span.clone())
    }

    /// Where the token before ended.
    fn before(&self) -> usize {
        let token = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        token.map_or(0, |t| t.span.end)
    }

    fn since(&self, start: usize) -> Span {
        start..self.before().max(start)
    }

    fn is_end(&self) -> bool {
        *self.kind() == Kind::End
    }

    fn bump(&mut self) -> Token {
        let span = self.span();
        let token = self.tokens.get(self.at).cloned();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token.unwrap_or(Token {
            kind: Kind::End,
            span,
        })
    }

    fn is(&self, punct: &str) -> bool {
        matches!(self.kind(), Kind::Punct(p) if *p == punct)
    }

    fn is_at(&self, ahead: usize, punct: &str) -> bool {
        matches!(self.kind_at(ahead), Kind::Punct(p) if *p == punct)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.kind(), Kind::Ident(name) if name == word)
    }

    /// Takes the token if it is this one.
    fn eat(&mut self, punct: &str) -> bool {
        let found = self.is(punct);
        if found {
            self.bump();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.bump();
        }
        found
    }

    /// Takes the token or says that it is missing, behind the token before.
    fn expect(&mut self, punct: &str, context: &str) -> bool {
        if self.eat(punct) {
            return true;
        }
        let found = self.found();
        let message = format!("`{punct}` is missing {context}");
        let help = format!("here stands {found}");
        let span = self.span();
        if !self.reports.has_errors_in(&span) {
            self.reports.error_help(&span, message, help);
        }
        false
    }

    /// The next token in words.
    fn found(&self) -> String {
        match self.kind() {
            Kind::End => "the end of the text".to_owned(),
            Kind::Attach(_) => "the next probe".to_owned(),
            Kind::PredicateStart | Kind::PredicateEnd => "`/`".to_owned(),
            _ => {
                let text = self.reports.source.get(&self.span());
                let short: String = text.chars().take(30).collect();
                format!("`{short}`")
            }
        }
    }

    fn name(&mut self, what: &str) -> Option<tree::Name> {
        if let Kind::Ident(text) = self.kind().clone() {
            let span = self.bump().span;
            return Some(tree::Name { text, span });
        }
        let message = format!("{what} is missing");
        let help = format!("here stands {}", self.found());
        let span = self.span();
        self.reports.error_help(&span, message, help);
        None
    }

    /// Runs `inner` one level deeper; `None` where that is too deep, which is reported once. The
    /// next token is then skipped, so that there is progress.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth >= tree::DEEPEST {
            let span = self.span();
            self.say_too_deep(&span);
            self.bump();
            return None;
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        Some(result)
    }

    fn say_too_deep(&mut self, span: &Span) {
        if self.too_deep.is_none() {
            self.reports.error_help(
                span,
                "this is nested too deep",
                format!(
                    "at most {} levels; give a part a name: $x = ...",
                    tree::DEEPEST
                ),
            );
            self.too_deep = Some(self.reports.mark());
            self.at = self.tokens.len().saturating_sub(1);
        }
    }

    /// Goes on behind the next `;` at this level, or before the `}` that ends it, or before the
    /// next probe.
    fn recover(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.kind() {
                Kind::End | Kind::Attach(_) => return,
                Kind::Punct("{") => depth += 1,
                Kind::Punct("}") if depth == 0 => return,
                Kind::Punct("}") => {
                    depth -= 1;
                    if depth == 0 {
                        self.bump();
                        return;
                    }
                }
                Kind::Punct(";") if depth == 0 => {
                    self.bump();
                    return;
                }
                _ => {}
            }
            self.bump();
        }
    }
}
