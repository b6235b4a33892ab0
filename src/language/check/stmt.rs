//! Statements.

use super::expr::value_of;
use super::state::{is_literal, merge};
use super::{BOOL, Checker, I64, bad, number, texts};
use crate::language::source::Span;
use crate::language::tree::{self, ExprKind as Ast};
use crate::language::typed::{Binary, Expr, ExprKind, Local, MapValue, Stmt, StmtKind, Type};
use crate::program::Width;

/// Most rounds of `unroll`.
const MAX_UNROLL: i64 = 10_000;

impl Checker<'_, '_> {
    /// A list of statements, in the scope that is open.
    pub(super) fn stmts(&mut self, body: &[tree::Stmt]) -> Vec<Stmt> {
        let mut out = Vec::new();
        let mut ended: Option<&str> = None;
        for stmt in body {
            if let Some(word) = ended.take() {
                let help = format!("it stands after `{word}`");
                self.reports.warn(&stmt.span, "this is never reached", help);
            }
            self.stmt(stmt, &mut out);
            ended = match stmt.kind {
                tree::StmtKind::Break => Some("break"),
                tree::StmtKind::Continue => Some("continue"),
                tree::StmtKind::Return => Some("return"),
                _ => None,
            };
        }
        out
    }

    /// A block with a scope of its own.
    fn inner(&mut self, body: &[tree::Stmt]) -> Vec<Stmt> {
        self.locals.push();
        let out = self.stmts(body);
        self.close_scope();
        out
    }

    pub(super) fn close_scope(&mut self) {
        self.locals.pop();
    }

    fn stmt(&mut self, stmt: &tree::Stmt, out: &mut Vec<Stmt>) {
        let (kind, before) = self.captured(|c| c.stmt_kind(stmt));
        out.extend(before);
        if let Some(kind) = kind {
            let span = stmt.span.clone();
            out.push(Stmt { kind, span });
        }
    }

    /// A statement. `None` where nothing is left of it, or it is among those that come before.
    fn stmt_kind(&mut self, stmt: &tree::Stmt) -> Option<StmtKind> {
        match &stmt.kind {
            tree::StmtKind::Expr(expr) => self.expr_stmt(expr),
            tree::StmtKind::Assign(target, operator, value) => {
                self.assign(target, *operator, value, &stmt.span)
            }
            tree::StmtKind::Let(name, ty, value) => {
                self.let_stmt(name, ty.as_ref(), value.as_ref())
            }
            tree::StmtKind::If(condition, then, otherwise) => {
                let condition = self.condition(condition);
                let then = self.inner(then);
                let otherwise = self.inner(otherwise);
                Some(StmtKind::If(condition, then, otherwise))
            }
            tree::StmtKind::Unroll(count, body) => self.unroll(count, body),
            tree::StmtKind::Range(name, from, to, body) => {
                let list = self.list(&[from, to]);
                let mut bounds = list
                    .into_iter()
                    .map(|e| self.integer(e, "a bound of a range"));
                let (from, to) = (bounds.next()?, bounds.next()?);
                self.locals.push();
                let local = self.declare(name, (I64, false));
                let body = self.looped(body);
                self.close_scope();
                Some(StmtKind::Range(local, from, to, body))
            }
            tree::StmtKind::Each(name, map, body) => self.each(name, map, body),
            tree::StmtKind::While(condition, body) => self.while_stmt(condition, body),
            tree::StmtKind::Break | tree::StmtKind::Continue => {
                let is_break = matches!(stmt.kind, tree::StmtKind::Break);
                if self.loops == 0 {
                    let word = if is_break { "break" } else { "continue" };
                    self.error_help(
                        &stmt.span,
                        format!("`{word}` stands in no loop"),
                        "a block is left with `return`",
                    );
                }
                Some(match is_break {
                    true => StmtKind::Break,
                    false => StmtKind::Continue,
                })
            }
            tree::StmtKind::Return => Some(StmtKind::Return),
            tree::StmtKind::Block(body) => {
                let body = self.inner(body);
                self.pre.extend(body);
                None
            }
        }
    }

    fn looped(&mut self, body: &[tree::Stmt]) -> Vec<Stmt> {
        self.loops += 1;
        let body = self.inner(body);
        self.loops -= 1;
        body
    }

    fn expr_stmt(&mut self, expr: &tree::Expr) -> Option<StmtKind> {
        match &expr.kind {
            Ast::Block(body) => {
                let body = self.inner(body);
                self.pre.extend(body);
                return None;
            }
            Ast::Call(name, args) => {
                if let Some(made) = self.effect(name, args, &expr.span) {
                    return made;
                }
            }
            // `exit` and `print(...)` as values of `?`.
            Ast::Ternary(condition, then, otherwise)
                if self.is_effect(then) || self.is_effect(otherwise) =>
            {
                let condition = self.condition(condition);
                let branch = |c: &mut Self, e: &tree::Expr| {
                    let stmt = tree::Stmt {
                        kind: tree::StmtKind::Expr(e.clone()),
                        span: e.span.clone(),
                        closed: true,
                    };
                    c.inner(&[stmt])
                };
                let then = branch(self, then);
                let otherwise = branch(self, otherwise);
                return Some(StmtKind::If(condition, then, otherwise));
            }
            _ => {}
        }
        let made = self.expr(expr);
        let changes = matches!(made.kind, ExprKind::StepLocal(..) | ExprKind::StepMap(..));
        if !changes && made.ty != Type::Void && !matches!(expr.kind, Ast::Call(..)) {
            let help = match &expr.kind {
                Ast::Binary("==", ..) => "an assignment is written with one `=`",
                _ => "its value is not used",
            };
            self.reports.warn(&expr.span, "this does nothing", help);
        }
        Some(StmtKind::Expr(made))
    }

    fn unroll(&mut self, count: &tree::Expr, body: &[tree::Stmt]) -> Option<StmtKind> {
        let rounds = self.constant(count);
        let rounds = rounds.filter(|n| (1..=MAX_UNROLL).contains(n));
        let Some(rounds) = rounds else {
            self.error_help(
                &count.span,
                format!("`unroll` takes a constant from 1 to {MAX_UNROLL}"),
                "a loop over a range that is known at the hit is for ($i : 0..$n) { ... }",
            );
            self.looped(body);
            return None;
        };
        let span = count.span.clone();
        let local = self.locals.add("", (I64, false), true, &span);
        let body = self.looped(body);
        Some(StmtKind::Range(
            local,
            number(0, &span),
            number(rounds, &span),
            body,
        ))
    }

    fn each(
        &mut self,
        name: &tree::Name,
        map: &tree::Name,
        body: &[tree::Stmt],
    ) -> Option<StmtKind> {
        let id = self.map_id(&map.text, &map.span);
        self.mark_read(id);
        let key = self.maps.get(id).and_then(|facts| facts.key.clone());
        let key = match key.as_ref().map(|(parts, _)| parts.as_slice()) {
            None => Type::Void,
            Some([]) => {
                let message = format!("`{}` has no keys to go through", map.text);
                self.error_help(&map.span, message, "its value is just its name");
                Type::Void
            }
            Some([(one, _)]) => one.clone(),
            Some(parts) => Type::Tuple(parts.iter().map(|(ty, _)| ty.clone()).collect()),
        };
        let value = self.value_type(id, &map.span).unwrap_or(Type::Void);
        let ty = match (&key, &value) {
            (Type::Void, _) | (_, Type::Void) => Type::Void,
            _ => Type::Tuple(vec![key, value]),
        };
        self.locals.push();
        let local = self.declare(name, (ty, false));
        let body = self.looped(body);
        self.close_scope();
        Some(StmtKind::Each(local, id, body))
    }

    fn while_stmt(&mut self, condition: &tree::Expr, body: &[tree::Stmt]) -> Option<StmtKind> {
        let (condition, before) = self.captured(|c| c.condition(condition));
        let mut body = self.looped(body);
        if before.is_empty() {
            return Some(StmtKind::While(condition, body));
        }
        // What the condition needs is computed in each round.
        let span = condition.span.clone();
        let leave = Stmt {
            kind: StmtKind::Break,
            span: span.clone(),
        };
        let test = StmtKind::If(condition, Vec::new(), vec![leave]);
        let mut all = before;
        all.push(Stmt {
            kind: test,
            span: span.clone(),
        });
        all.append(&mut body);
        Some(StmtKind::While(number(1, &span), all))
    }

    /// A new variable in the scope that is open.
    pub(super) fn declare(&mut self, name: &tree::Name, seen: (Type, bool)) -> Local {
        self.locals.add(&name.text, seen, false, &name.span)
    }

    /// A variable without a name.
    pub(super) fn temporary(&mut self, ty: Type, span: &Span) -> Local {
        self.locals.add("", (ty, false), true, span)
    }

    fn let_stmt(
        &mut self,
        name: &tree::Name,
        ty: Option<&tree::TypeName>,
        value: Option<&tree::Expr>,
    ) -> Option<StmtKind> {
        if let Some(known) = self.locals.in_this_scope(&name.text) {
            let facts = self.locals.get(known)?;
            let line = self.reports.source.line(facts.span.start);
            let message = format!("`{}` is declared twice", plain(&name.text));
            self.error_help(
                &name.span,
                message,
                format!("it is there since line {line}"),
            );
        }
        let written = match ty {
            Some(ty) => Some(self.written_type(&ty.kind, &ty.span)?),
            None => None,
        };
        // The value may name a variable of the same name outside.
        let value = value.map(|value| {
            let value = self.expr(value);
            self.storable(value, "a variable")
        });
        if let Some(ty) = written {
            if !matches!(ty, Type::Int { .. } | Type::Pointer(_) | Type::Str { .. }) {
                let span = name.span.clone();
                let message = format!("a variable cannot be declared as {}", texts::a(&ty));
                self.error_help(
                    &span,
                    message,
                    "leave the type out: it comes from the value",
                );
                return None;
            }
            let local = self
                .locals
                .add(&name.text, (ty.clone(), false), true, &name.span);
            let value = match value {
                Some(value) => self.fitted(value, &ty, &name.text),
                None => self.zero_of(&ty, &name.span)?,
            };
            return Some(StmtKind::SetLocal(local, value));
        }
        let hint = self.hint(name);
        match value {
            Some(value) => {
                let seen = (value.ty.clone(), is_literal(&value));
                let seen = merge(&hint, &seen).unwrap_or(seen);
                let local = self.locals.add(&name.text, seen, false, &name.span);
                Some(StmtKind::SetLocal(local, value))
            }
            None => {
                let ty = hint.0.clone();
                let local = self.locals.add(&name.text, hint, false, &name.span);
                let zero = self.zero_of(&ty, &name.span)?;
                Some(StmtKind::SetLocal(local, zero))
            }
        }
    }

    /// What the round before knew of a variable.
    fn hint(&self, name: &tree::Name) -> (Type, bool) {
        let key = self.locals.key(&name.text, &name.span);
        self.hints.get(&key).cloned().unwrap_or((Type::Void, true))
    }

    /// The value of a variable that was given none.
    fn zero_of(&self, ty: &Type, span: &Span) -> Option<Expr> {
        let kind = match ty {
            Type::Int { .. } | Type::Pointer(_) => ExprKind::Int(0),
            Type::Str { .. } => ExprKind::Str(String::new()),
            _ => return None,
        };
        Some(Expr {
            kind,
            ty: ty.clone(),
            span: span.clone(),
        })
    }

    /// A value in a type that was written.
    fn fitted(&mut self, value: Expr, ty: &Type, name: &str) -> Expr {
        let fits = match (&value.ty, ty) {
            (Type::Void, _) => return value,
            (a, b) if a == b => return value,
            (Type::Int { .. }, Type::Int { .. }) => true,
            (Type::Int { .. }, Type::Pointer(_)) => true,
            (Type::Pointer(_), Type::Pointer(_)) => true,
            (Type::Str { max }, Type::Str { max: most }) => {
                if max <= most {
                    return value;
                }
                false
            }
            _ => false,
        };
        let span = value.span.clone();
        if let (Type::Int { width, signed }, Some(n)) = (ty, value_of(&value))
            && !holds(*width, *signed, n)
        {
            let message = format!("{n} does not fit {}", texts::name(ty));
            let help = format!("cut it off by a cast: ({}){n}", texts::name(ty));
            return self.error_help(&span, message, help);
        }
        if !fits {
            let message = format!(
                "`{}` is {}, not {}",
                plain(name),
                texts::name(ty),
                texts::name(&value.ty)
            );
            return self.error(&span, message);
        }
        Expr {
            kind: ExprKind::Cast(Box::new(value)),
            ty: ty.clone(),
            span,
        }
    }

    fn assign(
        &mut self,
        target: &tree::Expr,
        operator: Option<&'static str>,
        value: &tree::Expr,
        span: &Span,
    ) -> Option<StmtKind> {
        match &target.kind {
            Ast::Var(name) => {
                let named = tree::Name {
                    text: name.clone(),
                    span: target.span.clone(),
                };
                let value = match operator {
                    None => self.expr(value),
                    Some(operator) => self.operated(operator, target, value, span),
                };
                let value = self.storable(value, "a variable");
                Some(self.set_local(&named, value))
            }
            Ast::Map(name, key) => {
                let key = key.as_deref();
                self.set_map(name, key, target, operator, value, span)
            }
            _ => None,
        }
    }

    /// `$x = value`
    pub(super) fn set_local(&mut self, name: &tree::Name, value: Expr) -> StmtKind {
        let seen = (value.ty.clone(), is_literal(&value));
        let Some(local) = self.locals.find(&name.text) else {
            let hint = self.hint(name);
            let merged = merge(&hint, &seen).unwrap_or(seen);
            if merged != hint {
                self.changed = true;
            }
            let local = self.declare(name, merged);
            return StmtKind::SetLocal(local, value);
        };
        let Some(facts) = self.locals.get(local).cloned() else {
            return StmtKind::SetLocal(local, value);
        };
        if facts.fixed {
            let value = self.fitted(value, &facts.seen.0, &name.text);
            return StmtKind::SetLocal(local, value);
        }
        match merge(&facts.seen, &seen) {
            Some(merged) => {
                if merged != facts.seen {
                    self.changed = true;
                    if let Some(facts) = self.locals.get_mut(local) {
                        facts.seen = merged;
                    }
                }
            }
            None => {
                let line = self.reports.source.line(facts.span.start);
                let message = format!(
                    "`{}` holds {}, not {}",
                    plain(&name.text),
                    texts::a(&facts.seen.0),
                    texts::a(&value.ty)
                );
                let help = format!("it was given its type in line {line}; take another name");
                self.error_help(&value.span, message, help);
            }
        }
        StmtKind::SetLocal(local, value)
    }

    /// Reads `target operator value`, as `+=` needs it.
    fn operated(
        &mut self,
        operator: &'static str,
        target: &tree::Expr,
        value: &tree::Expr,
        span: &Span,
    ) -> Expr {
        let list = self.list(&[target, value]);
        let mut list = list.into_iter();
        match (list.next(), list.next()) {
            (Some(left), Some(right)) => self.binary(operator, left, right, span),
            _ => bad(span),
        }
    }

    /// What may stand in a variable or a map.
    pub(super) fn storable(&mut self, value: Expr, place: &str) -> Expr {
        let value = self.decayed(value);
        let span = value.span.clone();
        if let (Type::Struct(_) | Type::Array { .. }, "a map" | "a tuple") = (&value.ty, place)
            && let Some(whole) = self.whole(&value)
        {
            return whole;
        }
        match &value.ty {
            Type::Struct(name) if place != "a variable" => {
                let message = format!("a whole `struct {name}` cannot be put into {place}");
                self.error_help(&span, message, "put in a member, or the pointer")
            }
            Type::Array { .. } if place != "a variable" => {
                let message = format!("an array cannot be put into {place}");
                self.error_help(&span, message, "put in an element, or buf(...)")
            }
            Type::Tuple(parts) if place != "a variable" && parts.is_empty() => {
                self.error(&span, "an empty tuple holds nothing")
            }
            _ => value,
        }
    }

    /// Whether `@x = value` is to be counted as a plain value.
    pub(super) fn is_plain(kind: &MapValue) -> bool {
        matches!(kind, MapValue::Plain(_))
    }

    /// An expression as a condition.
    pub(super) fn condition(&mut self, expr: &tree::Expr) -> Expr {
        let made = self.expr(expr);
        self.truth(made)
    }

    /// A value as a condition.
    pub(super) fn truth(&mut self, value: Expr) -> Expr {
        let span = value.span.clone();
        match &value.ty {
            Type::Void | Type::Int { .. } | Type::Pointer(_) => value,
            Type::Usym | Type::Username => Expr {
                ty: BOOL,
                span: span.clone(),
                kind: ExprKind::Binary(
                    Binary::NotEqual,
                    Box::new(value),
                    Box::new(number(0, &span)),
                ),
            },
            Type::Str { .. } => self.error_help(
                &span,
                "a string is no condition",
                "compare it: == \"\", != \"\"; whether a map has a key is has_key(@map, key)",
            ),
            ty => {
                let message = format!("{} is no condition", texts::a(ty));
                self.error_help(
                    &span,
                    message,
                    "whether a map has a key is has_key(@map, key)",
                )
            }
        }
    }
}

/// Whether an integer of that type can be this number.
fn holds(width: Width, signed: bool, n: i64) -> bool {
    let bits = width.bits();
    match signed {
        true => n >> (bits - 1) == 0 || n >> (bits - 1) == -1,
        false => bits == 64 || n >> bits == 0,
    }
}

/// A variable's name without what macros add to it.
pub(super) fn plain(name: &str) -> &str {
    name.split('#').next().unwrap_or(name)
}
