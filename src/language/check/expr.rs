//! Expressions: literals, names, variables, and where each other form is dealt with.

use super::state::is_literal;
use super::stmt::plain;
use super::{BOOL, Checker, I64, U64, bad, number};
use crate::base::suggest;
use crate::language::builtins::{self, Word};
use crate::language::source::Span;
use crate::language::tree::{self, ExprKind as Ast};
use crate::language::typed::{Expr, ExprKind, Step, Stmt, StmtKind, Type};

impl Checker<'_, '_> {
    pub(super) fn expr(&mut self, expr: &tree::Expr) -> Expr {
        let span = &expr.span;
        match &expr.kind {
            Ast::Bad => bad(span),
            Ast::Int(n) => literal(*n, span),
            Ast::Str(text) => string(text, span),
            Ast::Ident(name) => self.ident(name, span),
            Ast::Parameter(n) => self.parameter(*n, span),
            Ast::ParameterCount => number(
                i64::try_from(self.given.parameters.len()).unwrap_or(i64::MAX),
                span,
            ),
            Ast::Var(name) => self.variable(name, span),
            Ast::Map(name, key) => self.map(name, key.as_deref(), span),
            Ast::Call(name, args) => self.call(name, args, span),
            Ast::Unary(operator, inner) => self.unary(operator, inner, span),
            Ast::Deref(inner) => self.deref(inner, span),
            Ast::Step(target, by, new) => {
                let step = Step { by: *by, new: *new };
                self.step(target, step, span)
            }
            Ast::Binary(operator @ ("&&" | "||"), left, right) => {
                self.logical(operator, left, right, span)
            }
            Ast::Binary(operator, left, right) => {
                if let Some(made) = self.with_parameter(operator, left, right, span) {
                    return made;
                }
                let list = self.list(&[left, right]);
                let mut list = list.into_iter();
                match (list.next(), list.next()) {
                    (Some(left), Some(right)) => self.binary(operator, left, right, span),
                    _ => bad(span),
                }
            }
            Ast::Ternary(condition, then, otherwise) => {
                self.ternary(condition, then, otherwise, span)
            }
            Ast::Cast(ty, inner) => self.cast(ty, inner, span),
            Ast::Tuple(parts) => self.tuple(parts, span),
            Ast::Member(inner, name) => self.member(inner, name, span),
            Ast::Part(inner, n) => {
                let inner = self.expr(inner);
                self.part(inner, *n, span)
            }
            Ast::Index(inner, index) => self.index(inner, index, span),
            Ast::SizeofType(ty) => self.sizeof_type(ty, span),
            Ast::Sizeof(inner) => self.sizeof(inner, span),
            Ast::Offsetof(ty, path) => self.offsetof(ty, path, span),
            Ast::Block(body) => self.block_value(body, span),
        }
    }

    /// A name that is no call.
    fn ident(&mut self, name: &str, span: &Span) -> Expr {
        if let Some(value) = self.constants.get(name) {
            return number(*value, span);
        }
        if let Some(word) = builtins::word(name) {
            return self.word(name, word, span);
        }
        let named = tree::Name {
            text: name.to_owned(),
            span: span.clone(),
        };
        // Functions without arguments may be written without parentheses.
        if super::functions::takes_nothing(name) {
            return self.call(&named, &[], span);
        }
        if super::functions::is_function(name) {
            let help = super::functions::usage(name);
            return self.error_help(span, format!("`{name}` is a function"), help);
        }
        let own: Vec<String> = self.constants.keys().cloned().collect();
        let words = builtins::names().chain(super::functions::function_names());
        let names = words
            .map(|n| n as &str)
            .chain(own.iter().map(String::as_str));
        let close = suggest::closest(name, names);
        let message = format!("there is no `{name}`");
        let help = match close {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!(
                "a variable is ${name}, a map @{name}, a string \"{name}\"; a parameter of the \
                 function is args.{name}"
            ),
        };
        self.error_help(span, message, help)
    }

    pub(super) fn word(&mut self, name: &str, word: Word, span: &Span) -> Expr {
        match word {
            Word::Value(builtin, shape) => Expr {
                kind: ExprKind::Builtin(builtin),
                ty: shape.ty(),
                span: span.clone(),
            },
            Word::AtProbe(builtin, shape) => {
                if !self.at_probe(name, span) {
                    return bad(span);
                }
                Expr {
                    kind: ExprKind::Builtin(builtin),
                    ty: shape.ty(),
                    span: span.clone(),
                }
            }
            Word::Retval => self.retval(span),
            Word::Arg(n) => self.argument(n, span),
            Word::FloatArg(n) => {
                if !self.at_entry(name, span) {
                    return bad(span);
                }
                if n > 7 {
                    return self.error(span, "floating-point arguments are farg0 to farg7");
                }
                Expr {
                    kind: ExprKind::FloatArg(n),
                    ty: Type::Float,
                    span: span.clone(),
                }
            }
            Word::StackArg(n) => {
                if !self.at_entry(name, span) {
                    return bad(span);
                }
                Expr {
                    kind: ExprKind::StackArg(n),
                    ty: U64,
                    span: span.clone(),
                }
            }
            Word::Args => self.error_help(
                span,
                "`args` as a whole has no value",
                "its members have: args.NAME, one for each parameter",
            ),
            Word::Ustack => self.ustack(&[], span),
            Word::ProbeType => self.probe_type(span),
            Word::Kernel(help) => {
                let message = format!("`{name}` is of the kernel, not available in user space");
                self.error_help(span, message, help)
            }
        }
    }

    /// `$1`: a number where it is one, else a string.
    fn parameter(&mut self, n: u32, span: &Span) -> Expr {
        let Some(text) = self.parameter_text(n) else {
            return number(0, span);
        };
        let text = text.to_owned();
        let (digits, negative) = match text.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (text.as_str(), false),
        };
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit());
        match crate::language::token::number(digits) {
            Ok(n) if numeric && negative && n <= 1 << 63 => number((n as i64).wrapping_neg(), span),
            Ok(n) if numeric && !negative => literal(n, span),
            _ => string(&text, span),
        }
    }

    pub(super) fn parameter_text(&self, n: u32) -> Option<&str> {
        let index = (n as usize).checked_sub(1)?;
        self.given.parameters.get(index).map(String::as_str)
    }

    /// A comparison with `$1` where the other side is a string: `$1` is one then.
    fn with_parameter(
        &mut self,
        operator: &'static str,
        left: &tree::Expr,
        right: &tree::Expr,
        span: &Span,
    ) -> Option<Expr> {
        if !matches!(operator, "==" | "!=") {
            return None;
        }
        let (n, other, first) = match (&left.kind, &right.kind) {
            (Ast::Parameter(n), _) => (*n, right, true),
            (_, Ast::Parameter(n)) => (*n, left, false),
            _ => return None,
        };
        let other = self.expr(other);
        let other = self.decayed(other);
        let at = if first { &left.span } else { &right.span };
        let given = match other.ty {
            Type::Str { .. } => string(self.parameter_text(n).unwrap_or_default(), at),
            _ => self.parameter(n, at),
        };
        let (left, right) = if first {
            (given, other)
        } else {
            (other, given)
        };
        Some(self.binary(operator, left, right, span))
    }

    fn variable(&mut self, name: &str, span: &Span) -> Expr {
        if let Some(local) = self.locals.find(name)
            && let Some(facts) = self.locals.get(local)
        {
            return Expr {
                kind: ExprKind::Local(local),
                ty: facts.seen.0.clone(),
                span: span.clone(),
            };
        }
        let shown = plain(name);
        let message = format!("there is no variable `{shown}` here");
        if let Some(gone) = self.locals.gone.get(name) {
            let line = self.reports.source.line(gone.start);
            let help = format!(
                "`{shown}` of line {line} ends with its block; write `let {shown};` before that block"
            );
            return self.error_help(span, message, help);
        }
        let close = suggest::closest(name, self.locals.names().filter(|n| !n.contains('#')));
        let help = match close {
            Some(close) => format!("did you mean `{close}`?"),
            None => {
                let map = shown.replace('$', "@");
                format!(
                    "it has to be assigned before; what is kept from one hit to another is a map, as in {map}[tid]"
                )
            }
        };
        self.error_help(span, message, help)
    }

    fn tuple(&mut self, parts: &[tree::Expr], span: &Span) -> Expr {
        let refs: Vec<&tree::Expr> = parts.iter().collect();
        let parts = self.list(&refs);
        let mut all = Vec::new();
        for part in parts {
            all.push(self.storable(part, "a tuple"));
        }
        if all.iter().any(|part| part.ty == Type::Void) {
            return bad(span);
        }
        Expr {
            ty: Type::Tuple(all.iter().map(|part| part.ty.clone()).collect()),
            kind: ExprKind::Tuple(all),
            span: span.clone(),
        }
    }

    pub(super) fn part(&mut self, inner: Expr, n: u32, span: &Span) -> Expr {
        let parts = match &inner.ty {
            Type::Tuple(parts) => parts,
            Type::Void => return bad(span),
            ty => {
                let message = format!("{} has no parts", super::texts::a(ty));
                return self.error_help(span, message, "x.0 is the first part of a tuple");
            }
        };
        let Some(ty) = parts.get(n as usize).cloned() else {
            let message = format!("there is no part {n} in a tuple of {}", parts.len());
            return self.error_help(span, message, "parts are counted from 0");
        };
        Expr {
            kind: ExprKind::Part(Box::new(inner), n),
            ty,
            span: span.clone(),
        }
    }

    /// `x++` and the like.
    fn step(&mut self, target: &tree::Expr, step: Step, span: &Span) -> Expr {
        match &target.kind {
            Ast::Var(name) => {
                let variable = self.variable(name, &target.span);
                let ExprKind::Local(local) = variable.kind else {
                    return bad(span);
                };
                // It counts as an assignment of an integer.
                if let Some(facts) = self.locals.get_mut(local)
                    && facts.seen.0 == Type::Void
                {
                    facts.seen = (I64, true);
                    self.changed = true;
                }
                match variable.ty {
                    Type::Int { .. } => Expr {
                        kind: ExprKind::StepLocal(local, step),
                        ty: variable.ty,
                        span: span.clone(),
                    },
                    Type::Void => bad(span),
                    ty => {
                        let message = format!("{} cannot be counted", super::texts::a(&ty));
                        self.error(span, message)
                    }
                }
            }
            Ast::Map(name, key) => self.step_map(name, key.as_deref(), step, &target.span, span),
            Ast::Bad => bad(span),
            _ => self.error_help(
                span,
                "this cannot be changed",
                "only variables ($x) and maps (@x) can",
            ),
        }
    }

    /// `{ ...; value }`
    fn block_value(&mut self, body: &[tree::Stmt], span: &Span) -> Expr {
        let Some((last, rest)) = body.split_last() else {
            return self.no_value(span);
        };
        self.locals.push();
        let before = self.stmts(rest);
        self.pre.extend(before);
        let value = match &last.kind {
            tree::StmtKind::Expr(value) if !last.closed => self.expr(value),
            _ => {
                let before = self.stmts(std::slice::from_ref(last));
                self.pre.extend(before);
                self.no_value(span)
            }
        };
        self.close_scope();
        value
    }

    fn no_value(&mut self, span: &Span) -> Expr {
        self.error_help(
            span,
            "this block has no value",
            "its value is its last expression, written without a `;`",
        )
    }

    /// The value of a constant expression.
    pub(super) fn constant(&mut self, expr: &tree::Expr) -> Option<i64> {
        let mark = self.reports.mark();
        let (value, before) = self.captured(|c| c.expr(expr));
        let value = value_of(&value).filter(|_| before.is_empty());
        self.reports.reset(mark);
        value
    }

    /// A constant that a function takes.
    pub(super) fn constant_between(
        &mut self,
        expr: &tree::Expr,
        least: i64,
        most: i64,
        what: &str,
    ) -> Option<i64> {
        let value = self.constant(expr);
        match value {
            Some(value) if (least..=most).contains(&value) => Some(value),
            Some(value) => {
                let message = format!("{what} cannot be {value}");
                let help = match most {
                    i64::MAX => format!("at least {least}"),
                    most => format!("from {least} to {most}"),
                };
                self.error_help(&expr.span, message, help);
                None
            }
            None => {
                let message = format!("{what} has to be a constant");
                self.error_help(&expr.span, message, "a number, or a parameter such as $1");
                None
            }
        }
    }

    /// A string that is written there: a literal or a parameter.
    pub(super) fn literal_text(&mut self, expr: &tree::Expr, what: &str) -> Option<String> {
        match &expr.kind {
            Ast::Str(text) => Some(text.clone()),
            Ast::Parameter(n) => Some(self.parameter_text(*n).unwrap_or_default().to_owned()),
            Ast::Call(name, args) if name.text == "str" => match args.as_slice() {
                [only] => match &only.kind {
                    Ast::Parameter(n) => {
                        Some(self.parameter_text(*n).unwrap_or_default().to_owned())
                    }
                    _ => self.no_literal(&expr.span, what),
                },
                _ => self.no_literal(&expr.span, what),
            },
            Ast::Bad => None,
            _ => self.no_literal(&expr.span, what),
        }
    }

    fn no_literal(&mut self, span: &Span, what: &str) -> Option<String> {
        let message = format!("{what} has to be written as a string");
        self.error_help(span, message, "it has to be known before the program runs");
        None
    }

    /// An integer, or an error.
    pub(super) fn integer(&mut self, value: Expr, what: &str) -> Expr {
        match &value.ty {
            Type::Int { .. } | Type::Void => value,
            Type::Pointer(_) => Expr {
                span: value.span.clone(),
                ty: U64,
                kind: ExprKind::Cast(Box::new(value)),
            },
            ty => {
                let message = format!("{what} is an integer, not {}", super::texts::a(ty));
                let span = value.span.clone();
                self.error(&span, message)
            }
        }
    }

    /// A statement in front of the one that is being checked.
    pub(super) fn before(&mut self, kind: StmtKind, span: &Span) {
        let span = span.clone();
        self.pre.push(Stmt { kind, span });
    }

    /// A value as 0 or 1.
    pub(super) fn boolean(kind: ExprKind, span: &Span) -> Expr {
        Expr {
            kind,
            ty: BOOL,
            span: span.clone(),
        }
    }
}

/// A number as it is written: unsigned where it needs the last bit.
pub(super) fn literal(n: u64, span: &Span) -> Expr {
    let ty = match i64::try_from(n) {
        Ok(_) => I64,
        Err(_) => U64,
    };
    Expr {
        kind: ExprKind::Int(n as i64),
        ty,
        span: span.clone(),
    }
}

pub(super) fn string(text: &str, span: &Span) -> Expr {
    Expr {
        kind: ExprKind::Str(text.to_owned()),
        ty: Type::Str {
            max: u32::try_from(text.len()).unwrap_or(u32::MAX),
        },
        span: span.clone(),
    }
}

/// The value of an expression of constants.
pub(super) fn value_of(expr: &Expr) -> Option<i64> {
    use crate::language::typed::{Binary, Unary};
    if !matches!(expr.ty, Type::Int { .. }) {
        return None;
    }
    Some(match &expr.kind {
        ExprKind::Int(n) => *n,
        ExprKind::Unary(Unary::Negate, inner) => value_of(inner)?.wrapping_neg(),
        ExprKind::Unary(Unary::Invert, inner) => !value_of(inner)?,
        ExprKind::Cast(inner) if expr.ty == I64 || expr.ty == U64 => value_of(inner)?,
        ExprKind::Binary(operator, left, right) => {
            let (a, b) = (value_of(left)?, value_of(right)?);
            let amount = u32::try_from(b & 63).ok()?;
            match operator {
                Binary::Add => a.wrapping_add(b),
                Binary::Sub => a.wrapping_sub(b),
                Binary::Mul => a.wrapping_mul(b),
                Binary::Div { signed: true } => a.checked_div(b)?,
                Binary::Rem { signed: true } => a.checked_rem(b)?,
                Binary::And => a & b,
                Binary::Or => a | b,
                Binary::Xor => a ^ b,
                Binary::Shl => a.wrapping_shl(amount),
                Binary::Shr { signed: true } => a.wrapping_shr(amount),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// Whether it is a negative constant.
pub(super) fn is_negative(expr: &Expr) -> bool {
    !is_literal(expr) && value_of(expr).is_some_and(|n| n < 0)
}
