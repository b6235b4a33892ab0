//! What lies in the target: members, elements, pointers, casts, sizes.

use super::expr::value_of;
use super::{BOOL, Checker, I64, U64, bad, number, texts};
use crate::base::suggest;
use crate::language::debug::Member;
use crate::language::source::Span;
use crate::language::structs::width;
use crate::language::tree::{self, TypeKind};
use crate::language::typed::{Binary, Expr, ExprKind, Type, Unary};

impl Checker<'_, '_> {
    /// A type as it was written.
    pub(super) fn written_type(&mut self, kind: &TypeKind, span: &Span) -> Option<Type> {
        Some(match kind {
            TypeKind::Int { bits, signed } => super::int(width(*bits), *signed),
            TypeKind::Bool => BOOL,
            TypeKind::Enum => super::int(width(32), false),
            TypeKind::Float { bits: 32 } => Type::Single,
            TypeKind::Float { .. } => Type::Float,
            TypeKind::Void => Type::Void,
            TypeKind::Str(size) => Type::Str {
                max: match size {
                    Some(size) => u32::try_from(*size).unwrap_or(self.max_strlen),
                    None => self.max_strlen,
                },
            },
            TypeKind::Named(name) => Type::Struct(name.clone()),
            TypeKind::Inline(_) => {
                self.reports.error_help(
                    span,
                    "a structure is not defined here",
                    "define it at the top: struct name { ... };",
                );
                return None;
            }
            TypeKind::Pointer(to) => Type::Pointer(Box::new(self.written_type(to, span)?)),
            TypeKind::Array(of, len) => Type::Array {
                of: Box::new(self.written_type(of, span)?),
                len: *len,
            },
            TypeKind::Of(expr) => {
                let (value, _) = self.captured(|c| c.expr(expr));
                value.ty
            }
        })
    }

    /// A char array where a value is needed is the string in it.
    pub(super) fn decayed(&mut self, value: Expr) -> Expr {
        let len = match &value.ty {
            Type::Array { of, len } if **of == super::int(width(8), true) => *len,
            _ => return value,
        };
        let max = u32::try_from(len).unwrap_or(u32::MAX).min(self.max_strlen);
        let span = value.span.clone();
        let length = number(i64::from(max), &span);
        Expr {
            kind: ExprKind::StrAt(Box::new(value), Some(Box::new(length))),
            ty: Type::Str { max },
            span,
        }
    }

    /// `*p`
    pub(super) fn deref(&mut self, inner: &tree::Expr, span: &Span) -> Expr {
        let pointer = self.expr(inner);
        self.load(pointer, span)
    }

    fn load(&mut self, pointer: Expr, span: &Span) -> Expr {
        let ty = match &pointer.ty {
            Type::Void => return bad(span),
            Type::Pointer(to) if **to == Type::Void => {
                return self.error_help(
                    span,
                    "a pointer to void points to nothing that can be read",
                    "cast it: *(uint64 *)arg0",
                );
            }
            Type::Pointer(to) => (**to).clone(),
            Type::Array { of, .. } => (**of).clone(),
            // As bpftrace does: a word.
            Type::Int { .. } => U64,
            ty => {
                let message = format!("{} points to nothing", texts::a(ty));
                return self.error_help(span, message, "`*` takes a pointer or an address");
            }
        };
        Self::load_at(pointer, 0, None, ty, span)
    }

    fn load_at(address: Expr, offset: i64, bits: Option<(u8, u8)>, ty: Type, span: &Span) -> Expr {
        // A structure's or array's load is its address: offsets add up.
        let (address, offset) = match address.kind {
            ExprKind::Load {
                address: inner,
                offset: own,
                bits: None,
            } if matches!(address.ty, Type::Struct(_) | Type::Array { .. }) => {
                (inner, own.wrapping_add(offset))
            }
            _ => (Box::new(address), offset),
        };
        Expr {
            kind: ExprKind::Load {
                address,
                offset,
                bits,
            },
            ty,
            span: span.clone(),
        }
    }

    /// `s.m`, `p->m`, `args.m`
    pub(super) fn member(&mut self, inner: &tree::Expr, name: &tree::Name, span: &Span) -> Expr {
        if matches!(&inner.kind, tree::ExprKind::Ident(word) if word == "args") {
            return self.named_argument(name, span);
        }
        let base = self.expr(inner);
        let structure = match &base.ty {
            Type::Void => return bad(span),
            Type::Struct(structure) => structure.clone(),
            Type::Pointer(to) => match &**to {
                Type::Struct(structure) => structure.clone(),
                to => {
                    let message = format!("{} has no members", texts::a(&base.ty));
                    let help = match to {
                        Type::Pointer(_) => "follow the first pointer: (*p).member",
                        _ => "cast it: ((struct name *)p)->member",
                    };
                    return self.error_help(span, message, help);
                }
            },
            Type::Int { .. } => {
                let text: String = self
                    .reports
                    .source
                    .get(&base.span)
                    .chars()
                    .take(40)
                    .collect();
                return self.error_help(
                    span,
                    "an integer has no members",
                    format!("cast it: ((struct name *){text})->{}", name.text),
                );
            }
            Type::Tuple(_) => {
                return self.error_help(span, "a tuple's parts have numbers", "as in: $t.0");
            }
            ty => {
                let message = format!("{} has no members", texts::a(ty));
                return self.error(span, message);
            }
        };
        let Some(member) = self.find_member(&structure, name) else {
            return bad(span);
        };
        let offset = member.offset as i64;
        Self::load_at(base, offset, member.bits, member.ty, span)
    }

    fn find_member(&mut self, structure: &str, name: &tree::Name) -> Option<Member> {
        let probes = self.probes();
        let Some(found) = self.structures.get(structure, &probes) else {
            let message = format!("`struct {structure}` is not known");
            let close = suggest::closest(structure, self.structures.names());
            let help = match close {
                Some(close) => format!("did you mean `struct {close}`?"),
                None => format!(
                    "debug information does not have it; write it at the top: struct {structure} {{ ... }};"
                ),
            };
            self.reports.error_help(&name.span, message, help);
            return None;
        };
        if let Some(member) = found.members.iter().find(|m| m.name == name.text) {
            return Some(member.clone());
        }
        let message = format!("`struct {structure}` has no member `{}`", name.text);
        let names = found.members.iter().map(|m| m.name.as_str());
        let help = match suggest::closest(&name.text, names.clone()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => {
                let first: Vec<&str> = names.take(8).collect();
                format!("it has {}", first.join(", "))
            }
        };
        self.reports.error_help(&name.span, message, help);
        None
    }

    /// `a[n]`
    pub(super) fn index(&mut self, inner: &tree::Expr, index: &tree::Expr, span: &Span) -> Expr {
        let mut list = self.list(&[inner, index]).into_iter();
        let (Some(base), Some(count)) = (list.next(), list.next()) else {
            return bad(span);
        };
        let count = self.integer(count, "an index");
        if base.ty == Type::Void || count.ty == Type::Void {
            return bad(span);
        }
        let constant = value_of(&count);
        let (of, len) = match &base.ty {
            Type::Array { of, len } => ((**of).clone(), Some(*len)),
            Type::Pointer(of) if **of != Type::Void => ((**of).clone(), None),
            Type::Tuple(_) => {
                let Some(n) = constant.and_then(|n| u32::try_from(n).ok()) else {
                    return self.error(span, "a part of a tuple is named by a constant");
                };
                return self.part(base, n, span);
            }
            Type::Int { .. } => {
                return self.error_help(
                    span,
                    "an integer has no elements",
                    "cast it: ((uint64 *)arg0)[1]",
                );
            }
            ty => {
                let message = format!("{} has no elements", texts::a(ty));
                return self.error(span, message);
            }
        };
        if let (Some(n), Some(len)) = (constant, len)
            && len > 0
            && u64::try_from(n).map_or(true, |n| n >= len)
        {
            let message = format!("the array has {len} elements, counted from 0");
            return self.error(&count.span, message);
        }
        let probes = self.probes();
        let Some((size, _)) = self.structures.size(&of, &probes) else {
            let message = format!("the size of {} is not known", texts::name(&of));
            return self.error(span, message);
        };
        let size = size as i64;
        if let Some(n) = constant {
            return Self::load_at(base, n.wrapping_mul(size), None, of, span);
        }
        let scaled = Expr {
            span: count.span.clone(),
            kind: match size {
                1 => count.kind,
                _ => {
                    let factor = number(size, &count.span);
                    ExprKind::Binary(Binary::Mul, Box::new(count), Box::new(factor))
                }
            },
            ty: I64,
        };
        let address = Expr {
            kind: ExprKind::Binary(Binary::Add, Box::new(base), Box::new(scaled)),
            ty: Type::Pointer(Box::new(of.clone())),
            span: span.clone(),
        };
        Self::load_at(address, 0, None, of, span)
    }

    pub(super) fn cast(&mut self, ty: &tree::TypeName, inner: &tree::Expr, span: &Span) -> Expr {
        let mut value = self.expr(inner);
        if matches!(ty.kind, TypeKind::Bool)
            && matches!(value.ty, Type::Int { .. } | Type::Pointer(_))
        {
            let zero = |value| Self::boolean(ExprKind::Unary(Unary::Not, Box::new(value)), span);
            value = zero(zero(value));
        }
        let Some(ty) = self.written_type(&ty.kind, &ty.span) else {
            return bad(span);
        };
        if value.ty == Type::Void {
            return bad(span);
        }
        let kind = match (&value.ty, &ty) {
            (Type::Int { .. } | Type::Pointer(_), Type::Int { .. } | Type::Pointer(_))
            | (Type::Float | Type::Single, Type::Int { .. })
            | (Type::Usym, Type::Int { .. }) => ExprKind::Cast(Box::new(value)),
            // The address of an array or structure.
            (Type::Array { .. } | Type::Struct(_), Type::Pointer(_)) => {
                ExprKind::Cast(Box::new(value))
            }
            (Type::Int { .. } | Type::Pointer(_), Type::Struct(name)) => {
                let message = format!("an address is no `struct {name}`");
                return self.error_help(
                    span,
                    message,
                    format!("cast to a pointer: (struct {name} *)"),
                );
            }
            (Type::Int { .. } | Type::Pointer(_), Type::Str { .. }) => {
                return self.error_help(span, "a cast makes no string", "str(pointer) reads one");
            }
            (Type::Str { .. }, Type::Str { .. }) => {
                return Expr {
                    span: span.clone(),
                    ..value
                };
            }
            (Type::Str { .. }, Type::Int { .. }) => {
                return self.error(span, "a string is not turned into an integer");
            }
            (_, Type::Array { .. }) => {
                return self.error_help(
                    span,
                    "a cast makes no array",
                    "cast to a pointer and index it: ((uint8 *)p)[0]",
                );
            }
            (from, to) => {
                let message = format!("{} cannot be cast to {}", texts::a(from), texts::name(to));
                return self.error(span, message);
            }
        };
        Expr {
            kind,
            ty,
            span: span.clone(),
        }
    }

    pub(super) fn sizeof_type(&mut self, ty: &tree::TypeName, span: &Span) -> Expr {
        match self.written_type(&ty.kind, &ty.span) {
            Some(written) => self.size_of(&written, span),
            None => bad(span),
        }
    }

    pub(super) fn sizeof(&mut self, inner: &tree::Expr, span: &Span) -> Expr {
        // `sizeof(name)` of a structure that is written without `struct`.
        if let tree::ExprKind::Ident(name) = &inner.kind
            && crate::language::builtins::word(name).is_none()
        {
            let probes = self.probes();
            if self.structures.get(name, &probes).is_some() {
                return self.size_of(&Type::Struct(name.clone()), span);
            }
        }
        let (value, _) = self.captured(|c| c.expr(inner));
        if value.ty == Type::Void {
            return bad(span);
        }
        self.size_of(&value.ty, span)
    }

    fn size_of(&mut self, ty: &Type, span: &Span) -> Expr {
        let probes = self.probes();
        match self.structures.size(ty, &probes) {
            Some((size, _)) => number(size as i64, span),
            None => {
                let message = format!("the size of {} is not known", texts::name(ty));
                self.error_help(
                    span,
                    message,
                    "debug information does not have it; write it at the top: struct NAME { ... };",
                )
            }
        }
    }

    pub(super) fn offsetof(
        &mut self,
        ty: &tree::TypeName,
        path: &[tree::Name],
        span: &Span,
    ) -> Expr {
        let Some(mut ty) = self.written_type(&ty.kind, &ty.span) else {
            return bad(span);
        };
        // A variable's structure: offsetof(typeof(*$p), m).
        let mut offset = 0_i64;
        for name in path {
            let Type::Struct(structure) = &ty else {
                let message = format!("{} has no members", texts::a(&ty));
                return self.error(&name.span, message);
            };
            let structure = structure.clone();
            let Some(member) = self.find_member(&structure, name) else {
                return bad(span);
            };
            offset = offset.wrapping_add(member.offset as i64);
            ty = member.ty;
        }
        number(offset, span)
    }
}
