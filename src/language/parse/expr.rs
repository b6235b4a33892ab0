//! Expressions, by precedence climbing; precedence is C's.

use super::Parser;
use crate::language::source::Span;
use crate::language::token::Kind;
use crate::language::tree::{self, DEEPEST, Expr, ExprKind, Name, Stmt, StmtKind};

/// Binary operators, the loosest first.
const LEVELS: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<", "<=", ">", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Parser<'_, '_> {
    pub(super) fn expr(&mut self) -> Expr {
        let start = self.span();
        self.deeper(Self::ternary)
            .unwrap_or_else(|| Expr::bad(start))
    }

    /// A node over others, unless it is nested too deep.
    fn node(&mut self, kind: ExprKind, span: Span, children: &[u16]) -> Expr {
        let deepest = children.iter().max().copied().unwrap_or(0);
        if deepest >= DEEPEST {
            self.say_too_deep(&span);
            return Expr::bad(span);
        }
        Expr {
            kind,
            span,
            depth: deepest + 1,
        }
    }

    fn ternary(&mut self) -> Expr {
        let condition = self.binary(0);
        if !self.eat("?") {
            return condition;
        }
        if self.eat(":") {
            return self.or_else(condition);
        }
        let then = self.expr();
        if !self.expect(":", "between the two values of `?`") {
            return Expr::bad(self.since(condition.span.start));
        }
        let otherwise = self.expr();
        let span = condition.span.start..otherwise.span.end;
        let depths = [condition.depth, then.depth, otherwise.depth];
        let kind = ExprKind::Ternary(Box::new(condition), Box::new(then), Box::new(otherwise));
        self.node(kind, span, &depths)
    }

    /// `a ?: b`: a where it is not 0. It is evaluated once.
    fn or_else(&mut self, condition: Expr) -> Expr {
        let otherwise = self.expr();
        let at = condition.span.clone();
        let span = at.start..otherwise.span.end.max(at.end);
        let depths = [condition.depth, otherwise.depth];
        let kept = || Box::new(Expr::leaf(ExprKind::Var("$?".to_owned()), at.clone()));
        let choice = ExprKind::Ternary(kept(), kept(), Box::new(otherwise));
        let choice = self.node(choice, span.clone(), &depths);
        let stmt = |kind, closed| Stmt {
            kind,
            span: span.clone(),
            closed,
        };
        let name = Name {
            text: "$?".to_owned(),
            span: at.clone(),
        };
        let body = vec![
            stmt(StmtKind::Let(name, None, Some(condition)), true),
            stmt(StmtKind::Expr(choice), false),
        ];
        let depth = tree::depth_of(&body);
        self.node(ExprKind::Block(body), span.clone(), &[depth])
    }

    fn binary(&mut self, level: usize) -> Expr {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1);
        while let Kind::Punct(found) = self.kind()
            && let Some(operator) = operators.iter().copied().find(|op| op == found)
        {
            self.bump();
            let right = self.binary(level + 1);
            let span = left.span.start..right.span.end.max(left.span.end);
            let depths = [left.depth, right.depth];
            let kind = ExprKind::Binary(operator, Box::new(left), Box::new(right));
            left = self.node(kind, span, &depths);
        }
        left
    }

    pub(super) fn unary(&mut self) -> Expr {
        let start = self.span();
        self.deeper(Self::unary_inside)
            .unwrap_or_else(|| Expr::bad(start))
    }

    fn unary_inside(&mut self) -> Expr {
        let start = self.span().start;
        let operator = match self.kind() {
            Kind::Punct(op @ ("-" | "~" | "!" | "*" | "++" | "--" | "+" | "&")) => *op,
            _ => return self.postfix(),
        };
        let operator_span = self.bump().span;
        let inner = self.unary();
        let span = start..inner.span.end.max(start);
        let depth = [inner.depth];
        let kind = match operator {
            "+" => return inner,
            "&" => {
                self.reports.error_help(
                    &operator_span,
                    "a variable has no address",
                    "pointers point into the target; a member's address is $p + offsetof(...)",
                );
                return Expr::bad(span);
            }
            "*" => ExprKind::Deref(Box::new(inner)),
            "++" | "--" => {
                let by = if operator == "++" { 1 } else { -1 };
                ExprKind::Step(Box::new(inner), by, true)
            }
            _ => ExprKind::Unary(operator, Box::new(inner)),
        };
        self.node(kind, span, &depth)
    }

    fn postfix(&mut self) -> Expr {
        let mut left = self.primary();
        loop {
            let start = left.span.start;
            let depth = left.depth;
            match self.kind() {
                Kind::Punct(op @ ("++" | "--")) => {
                    let by = if *op == "++" { 1 } else { -1 };
                    self.bump();
                    let kind = ExprKind::Step(Box::new(left), by, false);
                    left = self.node(kind, self.since(start), &[depth]);
                }
                Kind::Punct("." | "->") => {
                    self.bump();
                    left = self.member(left);
                }
                Kind::Punct("[") => {
                    self.bump();
                    let index = self.expr();
                    self.expect("]", "after the index");
                    let depths = [depth, index.depth];
                    let kind = ExprKind::Index(Box::new(left), Box::new(index));
                    left = self.node(kind, self.since(start), &depths);
                }
                _ => return left,
            }
        }
    }

    fn member(&mut self, left: Expr) -> Expr {
        let (start, depth) = (left.span.start, left.depth);
        match self.kind().clone() {
            Kind::Int(n) => {
                let span = self.bump().span;
                let part = u32::try_from(n).unwrap_or(u32::MAX);
                let kind = ExprKind::Part(Box::new(left), part);
                self.node(kind, start..span.end, &[depth])
            }
            Kind::Ident(text) => {
                let span = self.bump().span;
                let whole = start..span.end;
                let kind = ExprKind::Member(Box::new(left), Name { text, span });
                self.node(kind, whole, &[depth])
            }
            _ => {
                let help = format!("here stands {}", self.found());
                let span = self.span();
                self.reports
                    .error_help(&span, "the member's name is missing", help);
                Expr::bad(self.since(start))
            }
        }
    }

    fn primary(&mut self) -> Expr {
        let span = self.span();
        let kind = match self.kind().clone() {
            Kind::Int(n) => ExprKind::Int(n),
            Kind::Str(text) => {
                self.bump();
                return self.adjacent(text, span);
            }
            Kind::Var(name) => ExprKind::Var(name),
            Kind::Parameter(n) => ExprKind::Parameter(n),
            Kind::ParameterCount => ExprKind::ParameterCount,
            Kind::Map(name) => return self.map(name),
            Kind::Ident(name) => return self.ident(name),
            Kind::Punct("(") => return self.parenthesis(),
            Kind::Punct("{") => {
                let body = self.block();
                let depth = tree::depth_of(&body);
                let kind = ExprKind::Block(body);
                return self.node(kind, self.since(span.start), &[depth]);
            }
            _ => {
                let message = format!("a value should stand here, not {}", self.found());
                if !self.reports.has_errors_in(&span) {
                    self.reports.error(&span, message);
                }
                return Expr::bad(span);
            }
        };
        self.bump();
        Expr::leaf(kind, span)
    }

    /// Strings behind one another are one, as in C.
    fn adjacent(&mut self, mut text: String, mut span: Span) -> Expr {
        while let Kind::Str(more) = self.kind().clone() {
            text.push_str(&more);
            span.end = self.bump().span.end;
        }
        Expr::leaf(ExprKind::Str(text), span)
    }

    fn map(&mut self, name: String) -> Expr {
        let start = self.bump().span.start;
        let mut depths = vec![0];
        let key = self.eat("[").then(|| {
            let key = self.list("]", "the key");
            depths.extend(key.iter().map(|k| k.depth));
            key
        });
        if let Some(key) = &key
            && key.is_empty()
        {
            let span = self.since(start);
            self.reports.error_help(
                &span,
                "the key is missing",
                format!("{name}[tid], or {name} without brackets"),
            );
        }
        self.node(ExprKind::Map(name, key), self.since(start), &depths)
    }

    /// Expressions up to the closing bracket.
    fn list(&mut self, close: &str, what: &str) -> Vec<Expr> {
        let mut list = Vec::new();
        while !self.is(close) {
            if matches!(self.kind(), Kind::End | Kind::Attach(_)) {
                break;
            }
            list.push(self.expr());
            if !self.eat(",") {
                break;
            }
        }
        if !self.expect(close, &format!("after {what}")) {
            // What belongs to the list is skipped, so that no more is said of it.
            while !matches!(
                self.kind(),
                Kind::End | Kind::Attach(_) | Kind::Punct(";" | "{" | "}")
            ) {
                let ends = self.is(close);
                self.bump();
                if ends {
                    break;
                }
            }
        }
        list
    }

    fn ident(&mut self, name: String) -> Expr {
        let span = self.bump().span;
        let start = span.start;
        match name.as_str() {
            "sizeof" => return self.sizeof(start),
            "offsetof" => return self.offsetof(start),
            "true" => return Expr::leaf(ExprKind::Int(1), span),
            "false" => return Expr::leaf(ExprKind::Int(0), span),
            "comptime" if !self.is("(") => return self.unary(),
            _ => {}
        }
        // A macro may be called as name!().
        if self.is("!") && self.is_at(1, "(") {
            self.bump();
        }
        if !self.eat("(") {
            return Expr::leaf(ExprKind::Ident(name), span);
        }
        let what = format!("the arguments of {name}");
        let args = self.list(")", &what);
        let depths: Vec<u16> = args.iter().map(|a| a.depth).collect();
        let kind = ExprKind::Call(Name { text: name, span }, args);
        self.node(kind, self.since(start), &depths)
    }

    /// A cast, a tuple, or an expression in parentheses.
    fn parenthesis(&mut self) -> Expr {
        let start = self.bump().span.start;
        if self.is_cast() {
            let ty = self.type_name();
            let closed = self.expect(")", "after the type");
            let inner = self.unary();
            let (span, depth) = (self.since(start), inner.depth);
            let Some(ty) = ty.filter(|_| closed) else {
                return Expr::bad(span);
            };
            return self.node(ExprKind::Cast(ty, Box::new(inner)), span, &[depth]);
        }
        if self.eat(")") {
            return Expr::leaf(ExprKind::Tuple(Vec::new()), self.since(start));
        }
        let first = self.expr();
        if !self.is(",") {
            self.expect(")", "after the expression");
            // The parentheses belong to it, so that carets stand under the whole.
            return Expr {
                span: self.since(start),
                ..first
            };
        }
        let mut parts = vec![first];
        while self.eat(",") {
            if self.is(")") {
                break;
            }
            parts.push(self.expr());
        }
        self.expect(")", "after the tuple");
        let depths: Vec<u16> = parts.iter().map(|p| p.depth).collect();
        self.node(ExprKind::Tuple(parts), self.since(start), &depths)
    }

    fn sizeof(&mut self, start: usize) -> Expr {
        if !self.expect("(", "after `sizeof`") {
            return Expr::bad(self.since(start));
        }
        let (kind, depth) = if self.is_type() {
            match self.type_name() {
                Some(ty) => (ExprKind::SizeofType(ty), 0),
                None => (ExprKind::Bad, 0),
            }
        } else {
            let inner = self.expr();
            let depth = inner.depth;
            (ExprKind::Sizeof(Box::new(inner)), depth)
        };
        self.expect(")", "after what `sizeof` measures");
        self.node(kind, self.since(start), &[depth])
    }

    fn offsetof(&mut self, start: usize) -> Expr {
        if !self.expect("(", "after `offsetof`") {
            return Expr::bad(self.since(start));
        }
        let ty = self.type_name();
        let mut path = Vec::new();
        if self.expect(",", "after the type") {
            while let Some(name) = self.name("the member's name") {
                path.push(name);
                if !self.eat(".") {
                    break;
                }
            }
        }
        let closed = self.expect(")", "after the member");
        match ty.filter(|_| closed && !path.is_empty()) {
            Some(ty) => Expr::leaf(ExprKind::Offsetof(ty, path), self.since(start)),
            None => Expr::bad(self.since(start)),
        }
    }
}
