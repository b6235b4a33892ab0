//! Maps: their keys, what they hold, reading and changing them.

use super::state::{MapFacts, Seen, Value, is_literal, key_type, merge, merge_keys};
use super::{Checker, I64, bad, number, texts};
use crate::base::suggest;
use crate::language::source::Span;
use crate::language::tree::{self, ExprKind as Ast};
use crate::language::typed::{Expr, ExprKind, MapId, MapValue, Step, StmtKind, Type};

impl Checker<'_, '_> {
    /// The map of that name.
    pub(super) fn map_id(&mut self, name: &str, span: &Span) -> MapId {
        self.maps.id(name, span)
    }

    /// Notes that the block reads it.
    pub(super) fn mark_read(&mut self, id: MapId) {
        let reads = self.group.as_ref().is_some_and(|group| group.in_target());
        if let Some(facts) = self.maps.get_mut(id)
            && reads
        {
            facts.read = true;
        }
    }

    /// The parts of a key, which are noted; `None` where it does not fit.
    pub(super) fn key(
        &mut self,
        id: MapId,
        key: Option<&[tree::Expr]>,
        span: &Span,
    ) -> Option<Vec<Expr>> {
        let refs: Vec<&tree::Expr> = match key {
            Some([only]) => match &only.kind {
                Ast::Tuple(parts) => parts.iter().collect(),
                _ => vec![only],
            },
            Some(parts) => parts.iter().collect(),
            None => Vec::new(),
        };
        let mut parts = Vec::new();
        for part in self.list(&refs) {
            parts.push(self.storable(part, "a key"));
        }
        // A tuple as key is its parts.
        if let [only] = parts.as_slice()
            && let Type::Tuple(types) = &only.ty
        {
            let (only, types) = (only.clone(), types.clone());
            parts = (0_u32..)
                .zip(types)
                .map(|(n, ty)| Expr {
                    kind: ExprKind::Part(Box::new(only.clone()), n),
                    ty,
                    span: only.span.clone(),
                })
                .collect();
        }
        self.note_key(id, parts, span)
    }

    fn note_key(&mut self, id: MapId, parts: Vec<Expr>, span: &Span) -> Option<Vec<Expr>> {
        for part in &parts {
            let what = match &part.ty {
                Type::Inet | Type::Float | Type::Single | Type::Buf { .. } => continue,
                Type::Time(_) => "a formatted time",
                _ => continue,
            };
            let message = format!("{what} is no key");
            self.error_help(&part.span, message, "the time itself is one: nsecs");
            return None;
        }
        let seen: Vec<Seen> = parts
            .iter()
            .map(|part| (key_type(&part.ty), is_literal(part)))
            .collect();
        let facts = self.maps.get_mut(id)?;
        let Some((known, first)) = &mut facts.key else {
            facts.key = Some((seen, span.clone()));
            self.changed = true;
            return Some(parts);
        };
        let merged: Option<Vec<Seen>> = match known.len() == seen.len() {
            true => known
                .iter()
                .zip(&seen)
                .map(|(a, b)| merge_keys(a, b))
                .collect(),
            false => None,
        };
        if let Some(merged) = merged {
            if merged != *known {
                *known = merged;
                self.changed = true;
            }
            return Some(parts);
        }
        let (name, known, first) = (facts.name.clone(), known.clone(), first.clone());
        self.other_key(&name, &known, &seen, &first, span);
        None
    }

    fn other_key(&mut self, name: &str, known: &[Seen], seen: &[Seen], first: &Span, span: &Span) {
        let line = self.reports.source.line(first.start);
        let words = |key: &[Seen]| {
            let parts: Vec<String> = key.iter().map(|(ty, _)| texts::a(ty)).collect();
            match parts.as_slice() {
                [] => "no key".to_owned(),
                [one] => format!("{one} as key"),
                parts => format!("{} as key", parts.join(" and ")),
            }
        };
        let message = format!(
            "`{name}` has {} here, and {} in line {line}",
            words(seen),
            words(known)
        );
        let help = match (known.is_empty(), seen.is_empty()) {
            (true, _) | (_, true) => "a map has a key everywhere or nowhere; take another name",
            _ => "all keys of a map are of one type; take another name",
        };
        self.error_help(span, message, help);
    }

    /// Notes what a map is given; false where it does not fit.
    pub(super) fn note_value(
        &mut self,
        id: MapId,
        kind: MapValue,
        literal: bool,
        span: &Span,
    ) -> bool {
        let Some(facts) = self.maps.get_mut(id) else {
            return false;
        };
        let Some(value) = &mut facts.value else {
            if kind == MapValue::Plain(Type::Void) {
                return true;
            }
            facts.value = Some(Value {
                kind,
                literal,
                span: span.clone(),
            });
            self.changed = true;
            return true;
        };
        let merged = match (&value.kind, &kind) {
            (MapValue::Plain(old), MapValue::Plain(new)) => {
                merge(&(old.clone(), value.literal), &(new.clone(), literal))
                    .map(|(ty, literal)| (MapValue::Plain(ty), literal))
            }
            (old, new) => signed_too(old, new).map(|kind| (kind, false)),
        };
        if let Some((kind, literal)) = merged {
            if kind != value.kind || literal != value.literal {
                value.kind = kind;
                value.literal = literal;
                self.changed = true;
            }
            return true;
        }
        let (name, value) = (facts.name.clone(), value.clone());
        self.other_value(&name, &value, &kind, span);
        false
    }

    fn other_value(&mut self, name: &str, known: &Value, kind: &MapValue, span: &Span) {
        let line = self.reports.source.line(known.span.start);
        let message = format!(
            "`{name}` is given {} here, and {} in line {line}",
            texts::value(kind),
            texts::value(&known.kind)
        );
        let help = match (&known.kind, kind) {
            (MapValue::Plain(_), MapValue::Plain(_)) => "all values of a map are of one type",
            (MapValue::Plain(_), _) | (_, MapValue::Plain(_)) => {
                "a map holds plain values or one aggregation; take another name for one of them"
            }
            _ => "a map holds one aggregation, with the same arguments; take another name",
        };
        self.error_help(span, message, help);
    }

    /// The type that reading a map gives; `None` where it has no single value.
    pub(super) fn value_type(&mut self, id: MapId, span: &Span) -> Option<Type> {
        let value = self.maps.get(id).and_then(|facts| facts.value.clone());
        let signed_int = |signed| super::int(crate::program::Width::W64, signed);
        Some(match value.map(|v| v.kind) {
            None => Type::Void,
            Some(MapValue::Plain(ty)) => ty,
            Some(MapValue::Count) => I64,
            Some(
                MapValue::Sum { signed }
                | MapValue::Avg { signed }
                | MapValue::Min { signed }
                | MapValue::Max { signed },
            ) => signed_int(signed),
            Some(kind) => {
                let message = format!("{} has no single value", texts::value(&kind));
                self.error_help(span, message, "print(@x) shows all of it");
                return None;
            }
        })
    }

    /// `@x`, `@x[key]` as a value.
    pub(super) fn map(&mut self, name: &str, key: Option<&[tree::Expr]>, span: &Span) -> Expr {
        let id = self.map_id(name, span);
        self.mark_read(id);
        let Some(key) = self.key(id, key, span) else {
            return bad(span);
        };
        let Some(ty) = self.value_type(id, span) else {
            return bad(span);
        };
        Expr {
            kind: ExprKind::Map(id, key),
            ty,
            span: span.clone(),
        }
    }

    pub(super) fn step_map(
        &mut self,
        name: &str,
        key: Option<&[tree::Expr]>,
        step: Step,
        target: &Span,
        span: &Span,
    ) -> Expr {
        let id = self.map_id(name, target);
        let Some(key) = self.key(id, key, target) else {
            return bad(span);
        };
        if !self.note_value(id, MapValue::Plain(I64), true, span) {
            return bad(span);
        }
        let ty = match self.value_type(id, span) {
            Some(ty @ Type::Int { .. }) => ty,
            Some(Type::Pointer(_)) => {
                return self.error(span, "a pointer in a map is not stepped");
            }
            _ => return bad(span),
        };
        Expr {
            kind: ExprKind::StepMap(id, key, step),
            ty,
            span: span.clone(),
        }
    }

    /// `@x[key] = value`, `@x[key] += value`, `@x[key] = count()`
    pub(super) fn set_map(
        &mut self,
        name: &str,
        key: Option<&[tree::Expr]>,
        target: &tree::Expr,
        operator: Option<&'static str>,
        value: &tree::Expr,
        span: &Span,
    ) -> Option<StmtKind> {
        let id = self.map_id(name, &target.span);
        if let Some(facts) = self.maps.get_mut(id) {
            facts.given = true;
        }
        if operator.is_none()
            && let Ast::Call(function, args) = &value.kind
            && super::functions::is_aggregate(&function.text)
        {
            let key = self.key(id, key, &target.span);
            let (kind, value) = self.aggregate(function, args, &value.span)?;
            let fits = self.note_value(id, kind, false, span);
            return key
                .filter(|_| fits)
                .map(|key| StmtKind::Aggregate(id, key, value));
        }
        if operator.is_some()
            && let Some(Value {
                kind, span: first, ..
            }) = self.maps.get(id).and_then(|facts| facts.value.clone())
            && !Self::is_plain(&kind)
        {
            let line = self.reports.source.line(first.start);
            let message = format!("`{name}` holds {} since line {line}", texts::value(&kind));
            let help = format!("as in: {name} = sum(...); take another name for a plain value");
            self.error_help(span, message, help);
            return None;
        }
        let mark = self.pre.len();
        let mut key = self.key(id, key, &target.span)?;
        let after_key = self.pre.len();
        let value = match operator {
            None => self.expr(value),
            Some(operator) => {
                // The key is evaluated once.
                self.keep(&mut key, after_key);
                self.mark_read(id);
                let ty = self.value_type(id, span)?;
                let mut old = vec![Expr {
                    kind: ExprKind::Map(id, key.clone()),
                    ty,
                    span: target.span.clone(),
                }];
                let before = self.pre.len();
                let value = self.expr(value);
                if self.pre.len() > before {
                    self.keep(&mut old, before);
                }
                let old = old.pop().unwrap_or_else(|| bad(span));
                if old.ty == Type::Void && matches!(value.ty, Type::Int { .. }) {
                    // The first thing it is given: it counts from 0.
                    self.note_value(id, MapValue::Plain(I64), true, span);
                    bad(span)
                } else {
                    self.binary(operator, old, value, span)
                }
            }
        };
        if operator.is_none() && self.pre.len() > after_key.max(mark) {
            self.keep(&mut key, after_key);
        }
        let value = self.storable(value, "a map");
        if matches!(value.ty, Type::Time(_)) {
            let at = value.span.clone();
            self.error_help(
                &at,
                "a formatted time cannot be put into a map",
                "put in nsecs, and format it when it is shown",
            );
            return None;
        }
        let literal = is_literal(&value);
        if !self.note_value(id, MapValue::Plain(value.ty.clone()), literal, span) {
            return None;
        }
        Some(StmtKind::SetMap(id, key, value))
    }

    /// Says which maps are read but never given a value.
    pub(super) fn unset_maps(&mut self) {
        let facts: Vec<MapFacts> = self.maps.all.clone();
        let given = |f: &&MapFacts| f.value.is_some();
        let failed = self.reports.has_errors();
        let unset = |f: &&MapFacts| f.value.is_none() && !(f.given && failed);
        for map in facts.iter().filter(unset) {
            let close = suggest::closest(
                &map.name,
                facts.iter().filter(given).map(|f| f.name.as_str()),
            );
            let message = format!("`{}` is never given a value", map.name);
            let help = match close {
                Some(close) => format!("did you mean `{close}`?"),
                None => format!("as in: {}[tid] = nsecs, {} = count()", map.name, map.name),
            };
            if !self.reports.has_errors_in(&map.first) {
                self.reports.error_help(&map.first, message, help);
            }
        }
    }

    /// A constant 0 or 1.
    pub(super) fn flag(value: bool, span: &Span) -> Expr {
        number(i64::from(value), span)
    }
}

/// Two aggregations in one map: the same, signed if one is.
fn signed_too(old: &MapValue, new: &MapValue) -> Option<MapValue> {
    use MapValue::{Avg, Max, Min, Stats, Sum};
    Some(match (old, new) {
        (old, new) if old == new => old.clone(),
        (Sum { .. }, Sum { .. }) => Sum { signed: true },
        (Avg { .. }, Avg { .. }) => Avg { signed: true },
        (Min { .. }, Min { .. }) => Min { signed: true },
        (Max { .. }, Max { .. }) => Max { signed: true },
        (Stats { .. }, Stats { .. }) => Stats { signed: true },
        _ => return None,
    })
}
