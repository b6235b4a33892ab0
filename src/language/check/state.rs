//! What is known of maps and variables, and how two types become one. Invariant: what is learnt
//! only grows wider, so that the rounds come to an end.

use std::collections::HashMap;

use crate::language::source::Span;
use crate::language::typed::{Expr, ExprKind, Local, Map, MapId, MapValue, Type};
use crate::program::Width;

/// A type, and whether it is that of a literal, which takes the type of what it meets.
pub(super) type Seen = (Type, bool);

/// What is known of a map's values.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub kind: MapValue,
    pub literal: bool,
    /// Where it was first given one.
    pub span: Span,
}

/// What is known of a map.
#[derive(Clone, Debug)]
pub(super) struct MapFacts {
    pub name: String,
    /// The types of its key and where it was first seen.
    pub key: Option<(Vec<Seen>, Span)>,
    pub value: Option<Value>,
    pub read: bool,
    /// Whether the program gives it a value, be it a wrong one.
    pub given: bool,
    /// Where it was first seen.
    pub first: Span,
}

#[derive(Debug, Default)]
pub(super) struct Maps {
    pub all: Vec<MapFacts>,
    names: HashMap<String, MapId>,
}

impl Maps {
    /// The map of that name, made known where it is not.
    pub fn id(&mut self, name: &str, span: &Span) -> MapId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = MapId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.names.insert(name.to_owned(), id);
        self.all.push(MapFacts {
            name: name.to_owned(),
            key: None,
            value: None,
            read: false,
            given: false,
            first: span.clone(),
        });
        id
    }

    pub fn get(&self, id: MapId) -> Option<&MapFacts> {
        self.all.get(id.0 as usize)
    }

    pub fn get_mut(&mut self, id: MapId) -> Option<&mut MapFacts> {
        self.all.get_mut(id.0 as usize)
    }

    pub fn finish(self) -> Vec<Map> {
        let made = self.all.into_iter().map(|map| Map {
            name: map.name,
            key: match map.key {
                Some((key, _)) => key.into_iter().map(|(ty, _)| ty).collect(),
                None => Vec::new(),
            },
            value: map.value.map_or(MapValue::Plain(Type::Void), |v| v.kind),
            read: map.read,
        });
        made.collect()
    }
}

/// What is known of a scratch variable.
#[derive(Clone, Debug)]
pub(super) struct LocalFacts {
    pub name: String,
    pub seen: Seen,
    /// The type was written: it does not change.
    pub fixed: bool,
    pub span: Span,
}

/// The scratch variables of a block.
#[derive(Debug, Default)]
pub(super) struct Locals {
    group: usize,
    pub all: Vec<LocalFacts>,
    scopes: Vec<HashMap<String, Local>>,
    /// Those whose block has ended: name and place.
    pub gone: HashMap<String, Span>,
}

impl Locals {
    pub fn new(group: usize) -> Locals {
        Locals {
            group,
            ..Locals::default()
        }
    }

    pub fn push(&mut self) {
        self.scopes.push(HashMap::new());
    }

    pub fn pop(&mut self) {
        for (name, local) in self.scopes.pop().unwrap_or_default() {
            if let Some(facts) = self.all.get(local.0 as usize) {
                self.gone.insert(name, facts.span.clone());
            }
        }
    }

    pub fn find(&self, name: &str) -> Option<Local> {
        let scopes = self.scopes.iter().rev();
        scopes.filter_map(|scope| scope.get(name).copied()).next()
    }

    pub fn in_this_scope(&self, name: &str) -> Option<Local> {
        self.scopes.last()?.get(name).copied()
    }

    pub fn get(&self, local: Local) -> Option<&LocalFacts> {
        self.all.get(local.0 as usize)
    }

    pub fn get_mut(&mut self, local: Local) -> Option<&mut LocalFacts> {
        self.all.get_mut(local.0 as usize)
    }

    /// A new variable; in the scope when it has a name.
    pub fn add(&mut self, name: &str, seen: Seen, fixed: bool, span: &Span) -> Local {
        let local = Local(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(LocalFacts {
            name: name.to_owned(),
            seen,
            fixed,
            span: span.clone(),
        });
        if !name.is_empty()
            && let Some(scope) = self.scopes.last_mut()
        {
            scope.insert(name.to_owned(), local);
        }
        local
    }

    /// The key of a variable in what one round hands to the next.
    pub fn key(&self, name: &str, span: &Span) -> (usize, String, usize) {
        (self.group, name.to_owned(), span.start)
    }

    /// Names in sight.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.scopes
            .iter()
            .flat_map(|s| s.keys().map(String::as_str))
    }

    /// Types in order, and what the next round should know.
    #[expect(clippy::type_complexity, reason = "the key is used nowhere else")]
    pub fn finish(&mut self) -> (Vec<Type>, Vec<((usize, String, usize), Seen)>) {
        let all = std::mem::take(&mut self.all);
        let mut types = Vec::new();
        let mut hints = Vec::new();
        for facts in all {
            types.push(facts.seen.0.clone());
            if !facts.name.is_empty() {
                hints.push((self.key(&facts.name, &facts.span), facts.seen));
            }
        }
        (types, hints)
    }
}

/// Whether an expression is a literal that takes the type of what it meets: not a negative one.
pub(super) fn is_literal(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Int(n) if *n >= 0)
        && expr.ty
            == Type::Int {
                width: Width::W64,
                signed: true,
            }
}

/// The type that holds both; `None` where there is none.
pub(super) fn merge(old: &Seen, new: &Seen) -> Option<Seen> {
    let (old_type, old_literal) = old;
    let (new_type, new_literal) = new;
    let both = *old_literal && *new_literal;
    let wide = |signed| Type::Int {
        width: Width::W64,
        signed,
    };
    let merged = match (old_type, new_type) {
        (Type::Void, _) => return Some(new.clone()),
        (_, Type::Void) => return Some(old.clone()),
        (a, b) if a == b => a.clone(),
        (Type::Int { .. }, Type::Int { .. }) if *new_literal => return Some(old.clone()),
        (Type::Int { .. }, Type::Int { signed, .. }) if *old_literal => wide(*signed),
        (Type::Int { signed: a, .. }, Type::Int { signed: b, .. }) => wide(*a || *b),
        (Type::Pointer(_), Type::Int { .. }) if *new_literal => {
            return Some((old_type.clone(), false));
        }
        (Type::Int { .. }, Type::Pointer(_)) if *old_literal => {
            return Some((new_type.clone(), false));
        }
        (Type::Pointer(a), Type::Pointer(b)) if **a == Type::Void || **b == Type::Void => {
            Type::Pointer(Box::new(Type::Void))
        }
        (Type::Str { max: a }, Type::Str { max: b }) => Type::Str { max: *a.max(b) },
        (Type::Buf { max: a }, Type::Buf { max: b }) => Type::Buf { max: *a.max(b) },
        (
            Type::Ustack { frames: a, mode },
            Type::Ustack {
                frames: b,
                mode: other,
            },
        ) if mode == other => Type::Ustack {
            frames: *a.max(b),
            mode: *mode,
        },
        (Type::Tuple(a), Type::Tuple(b)) if a.len() == b.len() => {
            let parts = a.iter().zip(b);
            let parts: Option<Vec<Type>> = parts
                .map(|(a, b)| Some(merge(&(a.clone(), false), &(b.clone(), false))?.0))
                .collect();
            Type::Tuple(parts?)
        }
        _ => return None,
    };
    Some((merged, both))
}

/// A part of a key: integers are all alike.
pub(super) fn key_type(ty: &Type) -> Type {
    match ty {
        Type::Int { .. } => Type::Int {
            width: Width::W64,
            signed: true,
        },
        Type::Pointer(_) => Type::Pointer(Box::new(Type::Void)),
        Type::Tuple(parts) => Type::Tuple(parts.iter().map(key_type).collect()),
        other => other.clone(),
    }
}

/// Two parts of keys in one place: a pointer and an integer are an integer.
pub(super) fn merge_keys(old: &Seen, new: &Seen) -> Option<Seen> {
    match (&old.0, &new.0) {
        (Type::Pointer(_), Type::Int { .. }) | (Type::Int { .. }, Type::Pointer(_)) => Some((
            Type::Int {
                width: Width::W64,
                signed: true,
            },
            false,
        )),
        _ => merge(old, new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(width: Width, signed: bool) -> Type {
        Type::Int { width, signed }
    }

    #[test]
    fn literals_take_the_type_of_what_they_meet() {
        let unsigned = (int(Width::W64, false), false);
        let literal = (int(Width::W64, true), true);
        assert_eq!(merge(&unsigned, &literal), Some(unsigned.clone()));
        assert_eq!(merge(&literal, &unsigned), Some(unsigned.clone()));
        let signed = (int(Width::W32, true), false);
        let both = Some((int(Width::W64, true), false));
        assert_eq!(merge(&unsigned, &signed), both);
        let text = (Type::Str { max: 3 }, false);
        assert_eq!(merge(&unsigned, &text), None);
    }

    #[test]
    fn merging_never_narrows() {
        let a = (Type::Str { max: 3 }, false);
        let b = (Type::Str { max: 9 }, false);
        assert_eq!(merge(&b, &a), Some(b.clone()));
        assert_eq!(merge(&a, &b), Some(b));
    }
}
