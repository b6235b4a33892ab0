//! Functions that do something: printing, and what is done to whole maps.

use super::functions::Call;
use super::{BOOL, Checker, I64, bad, texts};
use crate::language::source::Span;
use crate::language::tree::{self, ExprKind as Ast};
use crate::language::typed::{Expr, ExprKind, MapId, MapValue, Stmt, StmtKind, Type};

impl Checker<'_, '_> {
    pub(super) fn printf(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        let (pieces, values) = self.format(&call.name.text, call.args, call.span)?;
        Some(StmtKind::Printf(pieces, values))
    }

    pub(super) fn cat(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        let (pieces, values) = self.format(&call.name.text, call.args, call.span)?;
        Some(StmtKind::Cat(pieces, values))
    }

    pub(super) fn system(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        let (pieces, values) = self.format(&call.name.text, call.args, call.span)?;
        Some(StmtKind::System(pieces, values))
    }

    pub(super) fn print(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        let (first, rest) = call.args.split_first()?;
        match &first.kind {
            Ast::Map(name, None) => {
                let id = self.map_id(name, &first.span);
                let most = i64::MAX;
                let mut numbers = [0_u64; 2];
                let names = ["how many are printed", "what is divided by"];
                for ((number, expr), what) in numbers.iter_mut().zip(rest).zip(names) {
                    let value = self.constant_between(expr, 0, most, what)?;
                    *number = u64::try_from(value).unwrap_or(0);
                }
                let [top, div] = numbers;
                self.warn_top(id, rest);
                Some(StmtKind::PrintMap { map: id, top, div })
            }
            Ast::Map(name, Some(key)) => {
                if let Some(extra) = rest.first() {
                    self.error_help(
                        &extra.span,
                        "one entry is printed whole",
                        "print(@map, top, div) is for a whole map",
                    );
                }
                let id = self.map_id(name, &first.span);
                let key = self.key(id, Some(key), &first.span)?;
                Some(StmtKind::PrintEntry(id, key))
            }
            _ => {
                if let Some(extra) = rest.first() {
                    self.error_help(
                        &extra.span,
                        "`print` takes one value",
                        "several are a tuple, print((a, b)), or printf(...); print(@map, top, div) is for a map",
                    );
                    return None;
                }
                if self.is_effect(first) {
                    self.expr(first);
                    return None;
                }
                let value = self.expr(first);
                let mut value = self.decayed(value);
                if let Type::Struct(_) | Type::Array { .. } = value.ty
                    && let Some(whole) = self.whole(&value)
                {
                    value = whole;
                }
                match &value.ty {
                    Type::Void => None,
                    Type::Struct(name) => {
                        let message = format!("a whole `struct {name}` is not printed");
                        self.error_help(&first.span, message, "print its members");
                        None
                    }
                    Type::Array { .. } => {
                        self.error_help(
                            &first.span,
                            "a whole array is not printed",
                            "print its elements, or printf(\"%r\", buf(...))",
                        );
                        None
                    }
                    _ => Some(StmtKind::Print(value)),
                }
            }
        }
    }

    fn warn_top(&mut self, id: MapId, rest: &[tree::Expr]) {
        let value = self.maps.get(id).and_then(|facts| facts.value.as_ref());
        let stats =
            value.is_some_and(|v| matches!(v.kind, MapValue::Avg { .. } | MapValue::Stats { .. }));
        if let (true, Some(first)) = (stats, rest.first()) {
            let span = first.span.clone();
            self.reports
                .warn(&span, "averages are printed whole: this has no meaning", "");
        }
    }

    /// The map that is an argument, without its key.
    fn whole_map(&mut self, call: &Call<'_>) -> Option<MapId> {
        let first = call.args.first()?;
        match &first.kind {
            Ast::Map(name, None) => Some(self.map_id(name, &first.span)),
            Ast::Map(name, Some(_)) => {
                let message = format!("`{}` takes a whole map", call.name.text);
                let help = format!(
                    "{}({name}); one entry goes with delete({name}, key)",
                    call.name.text
                );
                self.error_help(&first.span, message, help);
                None
            }
            Ast::Bad => None,
            _ => {
                let message = format!("`{}` takes a map", call.name.text);
                let help = format!("as in: {}(@x)", call.name.text);
                self.error_help(&first.span, message, help);
                None
            }
        }
    }

    pub(super) fn clear(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        self.whole_map(call).map(StmtKind::Clear)
    }

    pub(super) fn zero(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        self.whole_map(call).map(StmtKind::Zero)
    }

    /// The map and key of `f(@m, key)`, and of `f(@m[key])` where that is allowed.
    fn map_and_key(&mut self, call: &Call<'_>) -> Option<(MapId, Vec<Expr>)> {
        let (first, rest) = call.args.split_first()?;
        let function = &call.name.text;
        match &first.kind {
            Ast::Map(name, Some(key)) if rest.is_empty() => {
                let id = self.map_id(name, &first.span);
                Some((id, self.key(id, Some(key), &first.span)?))
            }
            Ast::Map(name, None) => {
                let id = self.map_id(name, &first.span);
                if rest.is_empty() && self.has_keys(id) {
                    let message = format!("which key of `{name}`?");
                    let help =
                        format!("{function}({name}, key); all of them go with clear({name})");
                    self.error_help(&first.span, message, help);
                    return None;
                }
                let key = match rest {
                    [] => None,
                    rest => Some(rest),
                };
                Some((id, self.key(id, key, call.span)?))
            }
            Ast::Bad => None,
            _ => {
                let message = format!("`{function}` takes a map and a key");
                let help = format!("as in: {function}(@x, tid)");
                self.error_help(&first.span, message, help);
                None
            }
        }
    }

    fn has_keys(&self, id: MapId) -> bool {
        let facts = self.maps.get(id);
        let key = facts.and_then(|facts| facts.key.as_ref());
        key.is_some_and(|(key, _)| !key.is_empty())
    }

    pub(super) fn delete(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        // The old form takes several: delete(@a[1], @b[2]).
        let old = |arg: &tree::Expr| matches!(arg.kind, Ast::Map(_, Some(_)));
        if call.args.len() > 1 && call.args.iter().all(old) {
            for arg in call.args {
                let args = std::slice::from_ref(arg);
                let one = Call { args, ..*call };
                if let Some((id, key)) = self.map_and_key(&one) {
                    self.before(StmtKind::Delete(id, key), call.span);
                }
            }
            return None;
        }
        let (id, key) = self.map_and_key(call)?;
        Some(StmtKind::Delete(id, key))
    }

    /// `delete(@m, key)` as a value: whether there was such a key.
    pub(super) fn delete_value(&mut self, call: &Call<'_>) -> Expr {
        if call.args.is_empty() {
            return self.error_help(
                call.span,
                "`delete` takes a map and a key",
                "delete(@x, tid)",
            );
        }
        let Some((id, mut key)) = self.map_and_key(call) else {
            return bad(call.span);
        };
        self.mark_read(id);
        let mark = self.pre.len();
        self.keep(&mut key, mark);
        let there = Expr {
            kind: ExprKind::HasKey(id, key.clone()),
            ty: BOOL,
            span: call.span.clone(),
        };
        let local = self.temporary(BOOL, call.span);
        self.before(StmtKind::SetLocal(local, there), call.span);
        self.before(StmtKind::Delete(id, key), call.span);
        Self::boolean(ExprKind::Local(local), call.span)
    }

    pub(super) fn has_key(&mut self, call: &Call<'_>) -> Expr {
        let Some((id, key)) = self.map_and_key(call) else {
            return bad(call.span);
        };
        self.mark_read(id);
        Self::boolean(ExprKind::HasKey(id, key), call.span)
    }

    /// `find(@m, key, $v)`: sets the variable when there is such a key.
    pub(super) fn find(&mut self, call: &Call<'_>) -> Expr {
        let [map, key, target] = call.args else {
            return bad(call.span);
        };
        let Ast::Var(name) = &target.kind else {
            return self.error_help(
                &target.span,
                "`find` puts the value into a variable",
                "as in: let $v; if (find(@x, tid, $v)) { ... }",
            );
        };
        let (Ast::Map(..), args) = (&map.kind, [map.clone(), key.clone()]) else {
            return self.error_help(&map.span, "`find` takes a map first", "find(@x, tid, $v)");
        };
        let two = Call {
            args: &args,
            ..*call
        };
        let Some((id, mut key)) = self.map_and_key(&two) else {
            return bad(call.span);
        };
        self.mark_read(id);
        let mark = self.pre.len();
        self.keep(&mut key, mark);
        let span = call.span;
        let there = Self::boolean(ExprKind::HasKey(id, key.clone()), span);
        let local = self.temporary(BOOL, span);
        self.before(StmtKind::SetLocal(local, there), span);
        let Some(ty) = self.value_type(id, &map.span) else {
            return bad(span);
        };
        let value = Expr {
            kind: ExprKind::Map(id, key),
            ty,
            span: span.clone(),
        };
        let found = Self::boolean(ExprKind::Local(local), span);
        let named = tree::Name {
            text: name.clone(),
            span: target.span.clone(),
        };
        if self.locals.find(name).is_none() {
            // Known where the value is used, not only where it was found.
            self.locals
                .add(name, (value.ty.clone(), false), false, &target.span);
        }
        let set = self.set_local(&named, value);
        let body = vec![Stmt {
            kind: set,
            span: span.clone(),
        }];
        self.before(StmtKind::If(found.clone(), body, Vec::new()), span);
        found
    }

    pub(super) fn len(&mut self, call: &Call<'_>) -> Expr {
        let Some(first) = call.args.first() else {
            return bad(call.span);
        };
        match &first.kind {
            Ast::Map(name, None) => {
                let id = self.map_id(name, &first.span);
                self.mark_read(id);
                if self
                    .maps
                    .get(id)
                    .is_some_and(|f| matches!(&f.key, Some((k, _)) if k.is_empty()))
                {
                    let message = format!("`{name}` has no keys to count");
                    return self.error_help(&first.span, message, "its value is just its name");
                }
                Expr {
                    kind: ExprKind::Len(id),
                    ty: I64,
                    span: call.span.clone(),
                }
            }
            _ => self.error_help(&first.span, "`len` takes a map", "as in: len(@x)"),
        }
    }

    pub(super) fn exit(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        let code = match call.args.first() {
            None => None,
            Some(code) => {
                let code = self.expr(code);
                Some(self.integer(code, "an exit status"))
            }
        };
        Some(StmtKind::Exit(code))
    }

    pub(super) fn time(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        let format = match call.args.first() {
            None => "%H:%M:%S\n".to_owned(),
            Some(format) => self.literal_text(format, "the format")?,
        };
        Some(StmtKind::Time(format))
    }

    pub(super) fn join(&mut self, call: &Call<'_>) -> Option<StmtKind> {
        let (first, rest) = call.args.split_first()?;
        let value = self.expr(first);
        let separator = match rest {
            [] => " ".to_owned(),
            [separator, ..] => self.literal_text(separator, "the separator")?,
        };
        match &value.ty {
            Type::Int { .. } | Type::Pointer(_) | Type::Array { .. } => {
                Some(StmtKind::Join(value, separator))
            }
            Type::Void => None,
            ty => {
                let message = format!("`join` takes an array of strings, not {}", texts::a(ty));
                let span: Span = first.span.clone();
                self.error_help(&span, message, "as in: join(arg1), join(args.argv)");
                None
            }
        }
    }
}
