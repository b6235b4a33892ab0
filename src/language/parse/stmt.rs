//! Statements and blocks.

use super::Parser;
use crate::language::source::Span;
use crate::language::token::Kind;
use crate::language::tree::{Expr, ExprKind, Name, Stmt, StmtKind};

/// Operators that assign.
const ASSIGN: &[(&str, Option<&str>)] = &[
    ("=", None),
    ("+=", Some("+")),
    ("-=", Some("-")),
    ("*=", Some("*")),
    ("/=", Some("/")),
    ("%=", Some("%")),
    ("&=", Some("&")),
    ("|=", Some("|")),
    ("^=", Some("^")),
    ("<<=", Some("<<")),
    (">>=", Some(">>")),
];

impl Parser<'_, '_> {
    pub(super) fn unclosed(&mut self, open: &Span) {
        if self.cut && self.is_end() {
            return;
        }
        let help = match self.is_end() {
            true => "a `}` is missing".to_owned(),
            false => {
                let line = self.reports.source.line(self.span().start);
                format!("a `}}` is missing before the probe in line {line}")
            }
        };
        self.reports
            .error_help(open, "this `{` is never closed", help);
    }

    /// `{ ... }`; the next token is the `{`.
    pub(super) fn block(&mut self) -> Vec<Stmt> {
        self.deeper(Self::block_inside).unwrap_or_default()
    }

    fn block_inside(&mut self) -> Vec<Stmt> {
        let open = self.span();
        if !self.expect("{", "before a block") {
            return Vec::new();
        }
        let mut body = Vec::new();
        loop {
            match self.kind() {
                Kind::Punct("}") => {
                    self.bump();
                    return body;
                }
                Kind::Punct(";") => {
                    self.bump();
                }
                Kind::End | Kind::Attach(_) => {
                    self.unclosed(&open);
                    return body;
                }
                _ => {
                    let before = self.at;
                    if let Some(stmt) = self.stmt() {
                        body.push(stmt);
                    }
                    if self.at == before {
                        self.bump();
                    }
                }
            }
        }
    }

    fn stmt(&mut self) -> Option<Stmt> {
        let start = self.span().start;
        let word = match self.kind() {
            Kind::Ident(word) => word.clone(),
            _ => String::new(),
        };
        let made = match word.as_str() {
            "if" => self.if_stmt(),
            "unroll" => self.unroll(),
            "for" => self.for_stmt(),
            "while" => self.while_stmt(),
            "break" | "continue" | "return" => {
                self.bump();
                let kind = match word.as_str() {
                    "break" => StmtKind::Break,
                    "continue" => StmtKind::Continue,
                    _ => StmtKind::Return,
                };
                return Some(self.finish(kind, start));
            }
            "let" => {
                let kind = self.let_stmt()?;
                return Some(self.finish(kind, start));
            }
            "else" => {
                let span = self.bump().span;
                self.reports.error_help(
                    &span,
                    "this `else` belongs to no `if`",
                    "it follows the `}` of one: if (a) { ... } else { ... }",
                );
                if self.is("{") {
                    self.block();
                }
                return None;
            }
            _ if self.is("{") => Some(StmtKind::Block(self.block())),
            _ => {
                let kind = self.simple()?;
                return Some(self.finish(kind, start));
            }
        };
        let closed = self.eat(";");
        Some(Stmt {
            kind: made?,
            span: self.since(start),
            closed,
        })
    }

    /// A statement that ends with `;`, or before the `}`.
    fn finish(&mut self, kind: StmtKind, start: usize) -> Stmt {
        let span = self.since(start);
        let closed = self.eat(";");
        if !closed && !matches!(self.kind(), Kind::Punct("}") | Kind::End | Kind::Attach(_)) {
            self.no_semicolon();
        }
        Stmt { kind, span, closed }
    }

    fn no_semicolon(&mut self) {
        let end = self.before();
        let found = self.found();
        let next = self.span();
        let source = self.reports.source;
        if source.line(end) != source.line(next.start) {
            self.reports.error_help(
                &(end..end),
                "`;` is missing here",
                "statements are separated by `;`",
            );
            return;
        }
        let message = format!("{found} does not fit here");
        self.reports.error_help(
            &next,
            message,
            "the statement before it is complete; statements are separated by `;`",
        );
        // What follows may be a statement; if not, nothing more is said of this one.
        let starts = matches!(
            self.kind(),
            Kind::Ident(_) | Kind::Var(_) | Kind::Map(_) | Kind::Punct("{")
        );
        if !starts {
            self.recover();
        }
    }

    fn simple(&mut self) -> Option<StmtKind> {
        let errors = self.reports.mark();
        let target = self.expr();
        let operator = ASSIGN.iter().find(|(name, _)| self.is(name));
        let Some((_, operator)) = operator else {
            let failed = self.reports.mark() != errors;
            if failed && matches!(target.kind, ExprKind::Bad) {
                self.recover();
                return None;
            }
            return Some(StmtKind::Expr(target));
        };
        let span = self.bump().span;
        let value = self.expr();
        if self.is("=") {
            let span = self.bump().span;
            self.reports.error_help(
                &span,
                "an assignment has no value",
                "assign one after the other: $a = 1; $b = $a;",
            );
            self.expr();
        }
        match &target.kind {
            ExprKind::Var(_) | ExprKind::Map(..) => {
                Some(StmtKind::Assign(target, *operator, value))
            }
            ExprKind::Bad => None,
            _ => {
                let is_memory = matches!(
                    target.kind,
                    ExprKind::Member(..) | ExprKind::Deref(_) | ExprKind::Index(..)
                );
                let (message, help) = match is_memory {
                    true => (
                        "the target's memory cannot be changed",
                        "only variables ($x) and maps (@x) can be assigned",
                    ),
                    false => (
                        "this cannot be assigned",
                        "only variables ($x) and maps (@x) can; a comparison is ==",
                    ),
                };
                let whole = target.span.start..span.end;
                self.reports.error_help(&whole, message, help);
                None
            }
        }
    }

    fn let_stmt(&mut self) -> Option<StmtKind> {
        self.bump();
        let Kind::Var(text) = self.kind().clone() else {
            let found = self.found();
            let span = self.span();
            self.reports.error_help(
                &span,
                format!("a variable should follow `let`, not {found}"),
                "as in: let $x = 1;",
            );
            self.recover();
            return None;
        };
        let name = Name {
            text,
            span: self.bump().span,
        };
        let ty = match self.eat(":") {
            true => self.type_name(),
            false => None,
        };
        let value = match self.eat("=") {
            true => Some(self.expr()),
            false => None,
        };
        Some(StmtKind::Let(name, ty, value))
    }

    fn condition(&mut self, word: &str) -> Expr {
        let bare = !self.is("(");
        let condition = self.expr();
        if bare && !self.is("{") {
            self.expect("{", &format!("after the condition of `{word}`"));
        }
        condition
    }

    fn if_stmt(&mut self) -> Option<StmtKind> {
        self.bump();
        let condition = self.condition("if");
        let then = self.body("if");
        let otherwise = if self.eat_word("else") {
            if self.is_word("if") {
                let start = self.span().start;
                let nested = self.deeper(Self::if_stmt).flatten();
                nested.map_or_else(Vec::new, |kind| {
                    vec![Stmt {
                        kind,
                        span: self.since(start),
                        closed: true,
                    }]
                })
            } else {
                self.body("else")
            }
        } else {
            Vec::new()
        };
        Some(StmtKind::If(condition, then, otherwise))
    }

    /// The block of a compound statement; braces may not be left out.
    fn body(&mut self, word: &str) -> Vec<Stmt> {
        if self.is("{") {
            return self.block();
        }
        let help = format!("braces cannot be left out: {word} ... {{ ... }}");
        let span = self.span();
        self.reports
            .error_help(&span, format!("`{{` is missing after `{word}`"), help);
        match self.kind() {
            Kind::End | Kind::Attach(_) | Kind::Punct("}") => Vec::new(),
            _ => self.deeper(Self::stmt).flatten().into_iter().collect(),
        }
    }

    fn unroll(&mut self) -> Option<StmtKind> {
        self.bump();
        let count = self.condition("unroll");
        Some(StmtKind::Unroll(count, self.body("unroll")))
    }

    fn while_stmt(&mut self) -> Option<StmtKind> {
        self.bump();
        let condition = self.condition("while");
        Some(StmtKind::While(condition, self.body("while")))
    }

    /// `for ($kv : @map) {}`, `for ($i : 0..10) {}`; the parentheses may be left out.
    fn for_stmt(&mut self) -> Option<StmtKind> {
        const FORMS: &str = "as in: for ($kv : @map) { ... }, for ($i : 0..10) { ... }";
        self.bump();
        let open = self.eat("(");
        let Kind::Var(text) = self.kind().clone() else {
            let message = format!("a variable should follow `for (`, not {}", self.found());
            let span = self.span();
            self.reports.error_help(&span, message, FORMS);
            while !matches!(
                self.kind(),
                Kind::End | Kind::Attach(_) | Kind::Punct("{" | "}")
            ) {
                self.bump();
            }
            if self.is("{") {
                self.block();
            }
            return None;
        };
        let name = Name {
            text,
            span: self.bump().span,
        };
        if !self.eat(":") {
            let span = self.span();
            let message = match self.is("=") {
                true => "there is no `for (start; condition; step)`".to_owned(),
                false => "`:` is missing after the loop's variable".to_owned(),
            };
            self.reports.error_help(&span, message, FORMS);
            while !matches!(
                self.kind(),
                Kind::End | Kind::Attach(_) | Kind::Punct("{" | "}")
            ) {
                self.bump();
            }
            let body = match self.is("{") {
                true => self.block(),
                false => Vec::new(),
            };
            let bad = Expr::bad(span);
            return Some(StmtKind::Range(name, bad.clone(), bad, body));
        }
        let from = self.unary();
        if self.eat("..") {
            let to = self.unary();
            if open {
                self.expect(")", "after the range");
            }
            return Some(StmtKind::Range(name, from, to, self.body("for")));
        }
        if open {
            self.expect(")", "after what is looped over");
        }
        let body = self.body("for");
        match from.kind {
            ExprKind::Map(text, None) => {
                let span = from.span;
                Some(StmtKind::Each(name, Name { text, span }, body))
            }
            ExprKind::Bad => None,
            _ => {
                self.reports
                    .error_help(&from.span, "this cannot be looped over", FORMS);
                None
            }
        }
    }
}
