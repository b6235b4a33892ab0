//! Order of evaluation: what an expression needs done before it (a macro's statements, a deletion
//! whose result is used) is put before its statement, and what was written earlier is computed
//! earlier.

use super::Checker;
use crate::language::source::Span;
use crate::language::tree;
use crate::language::typed::{Expr, ExprKind, Stmt, StmtKind, Type};

impl Checker<'_, '_> {
    /// What `inner` puts before the statement is handed out instead.
    pub(super) fn captured<T>(&mut self, inner: impl FnOnce(&mut Self) -> T) -> (T, Vec<Stmt>) {
        let saved = std::mem::take(&mut self.pre);
        let made = inner(self);
        (made, std::mem::replace(&mut self.pre, saved))
    }

    /// `if (a) { b } else { c }` as a value: what each needs before it is computed only then.
    pub(super) fn branched(
        &mut self,
        condition: Expr,
        then: (Expr, Vec<Stmt>),
        otherwise: (Expr, Vec<Stmt>),
        ty: &Type,
        span: &Span,
    ) -> Expr {
        let local = self.temporary(ty.clone(), span);
        let branch = |(value, mut before): (Expr, Vec<Stmt>)| {
            before.push(Stmt {
                span: value.span.clone(),
                kind: StmtKind::SetLocal(local, value),
            });
            before
        };
        let kind = StmtKind::If(condition, branch(then), branch(otherwise));
        let span = span.clone();
        self.pre.push(Stmt {
            kind,
            span: span.clone(),
        });
        Expr {
            kind: ExprKind::Local(local),
            ty: ty.clone(),
            span,
        }
    }

    /// Several expressions, evaluated in order also where later ones need statements before.
    pub(super) fn list(&mut self, exprs: &[&tree::Expr]) -> Vec<Expr> {
        let mut done: Vec<Expr> = Vec::new();
        for expr in exprs {
            let mark = self.pre.len();
            let made = self.expr(expr);
            if self.pre.len() > mark {
                self.keep(&mut done, mark);
            }
            done.push(made);
        }
        done
    }

    /// Computes these before the statements from `mark` on.
    pub(super) fn keep(&mut self, exprs: &mut [Expr], mark: usize) {
        let mut at = mark;
        for expr in exprs {
            let fixed = matches!(expr.kind, ExprKind::Int(_) | ExprKind::Str(_));
            let kept = match expr.kind {
                ExprKind::Local(local) => self.locals.get(local).is_some_and(|l| l.name.is_empty()),
                _ => false,
            };
            if fixed || kept || expr.ty == Type::Void {
                continue;
            }
            let span = expr.span.clone();
            let local = self.temporary(expr.ty.clone(), &span);
            let kept = Expr {
                kind: ExprKind::Local(local),
                ty: expr.ty.clone(),
                span: span.clone(),
            };
            let value = std::mem::replace(expr, kept);
            let kind = StmtKind::SetLocal(local, value);
            self.pre.insert(at, Stmt { kind, span });
            at += 1;
        }
    }
}
