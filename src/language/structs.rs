//! Structures: those of the text are laid out as C lays them out on x86-64; the others are asked
//! of debug information. Invariant: a structure that is found has a size of 64 bits.

use std::collections::{HashMap, HashSet};

use super::debug::{Debug, Member, Structure};
use super::source::{Reports, Span};
use super::tree::{Field, Record, TypeKind};
use super::typed::Type;
use crate::program::Width;
use crate::spec::ProbeSpec;

/// Largest structure of a text.
const LARGEST: u64 = 1 << 30;

/// The structures of a program.
pub(super) struct Structures<'d> {
    debug: &'d dyn Debug,
    known: HashMap<String, Structure>,
    /// Those of the text that may lie anywhere.
    packed: HashSet<String>,
    /// By module and name.
    asked: HashMap<(String, String), Option<Structure>>,
}

impl<'d> Structures<'d> {
    /// Lays out those of the text.
    pub fn new(records: &[Record], debug: &'d dyn Debug, reports: &mut Reports<'_>) -> Self {
        let mut structures = Structures {
            debug,
            known: HashMap::new(),
            packed: HashSet::new(),
            asked: HashMap::new(),
        };
        for record in records {
            let Some(name) = &record.name else { continue };
            if structures.known.contains_key(&name.text) {
                let message = format!("`struct {}` is defined twice", name.text);
                reports.error(&name.span, message);
                continue;
            }
            structures.define(&name.text, record, reports);
        }
        structures
    }

    fn define(&mut self, name: &str, record: &Record, reports: &mut Reports<'_>) {
        let mut layout = Layout {
            union: record.union,
            packed: record.packed,
            structure: Structure::default(),
            bits: 0,
            align: 1,
        };
        for field in &record.fields {
            if layout.field(self, name, field, reports).is_none() {
                break;
            }
        }
        let structure = layout.finish();
        if record.packed {
            self.packed.insert(name.to_owned());
        }
        self.known.insert(name.to_owned(), structure);
    }

    /// The structure of that name, as the module of one of the probes knows it.
    pub fn get(&mut self, name: &str, probes: &[ProbeSpec]) -> Option<Structure> {
        if let Some(known) = self.known.get(name) {
            return Some(known.clone());
        }
        for probe in probes {
            let debug = self.debug;
            let key = (probe.text.clone(), name.to_owned());
            let asked = self.asked.entry(key);
            let found = asked.or_insert_with(|| debug.structure(probe, name));
            if let Some(found) = found {
                return Some(found.clone());
            }
        }
        None
    }

    /// Names of those of the text, for suggestions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Size and alignment of a type.
    pub fn size(&mut self, ty: &Type, probes: &[ProbeSpec]) -> Option<(u64, u64)> {
        Some(match ty {
            Type::Int { width, .. } => {
                let bytes = u64::from(width.bytes());
                (bytes, bytes)
            }
            Type::Single => (4, 4),
            Type::Array { of, len } => {
                let (size, align) = self.size(of, probes)?;
                (size.checked_mul(*len)?, align)
            }
            Type::Struct(name) => {
                let structure = self.get(name, probes)?;
                let mut align = 1;
                if self.packed.contains(name) {
                    return Some((structure.size, align));
                }
                for member in structure.members.iter().take(1000) {
                    // A structure cannot hold itself, but what debug information says may.
                    let inner = match &member.ty {
                        Type::Struct(inner) if inner == name => continue,
                        Type::Struct(_) => 8,
                        Type::Array { of, .. } if matches!(**of, Type::Struct(_)) => 8,
                        ty => self.size(ty, probes).map_or(1, |(_, align)| align),
                    };
                    align = align.max(inner);
                }
                (structure.size, align)
            }
            Type::Str { max } => (u64::from(*max) + 1, 1),
            Type::Buf { max } => (u64::from(*max), 1),
            Type::Tuple(parts) => {
                let mut total = 0_u64;
                for part in parts {
                    total = total.checked_add(self.size(part, probes)?.0)?;
                }
                (total, 8)
            }
            Type::Void => return None,
            _ => (8, 8),
        })
    }
}

/// A structure in the making.
struct Layout {
    union: bool,
    /// Whether members follow each other without gaps.
    packed: bool,
    structure: Structure,
    /// Bits that are taken.
    bits: u64,
    align: u64,
}

impl Layout {
    /// Adds a member; `None` where the rest cannot be placed.
    fn field(
        &mut self,
        structures: &mut Structures<'_>,
        owner: &str,
        field: &Field,
        reports: &mut Reports<'_>,
    ) -> Option<()> {
        let index = self.structure.members.len();
        if let TypeKind::Inline(record) = &field.ty.kind {
            let named = record.name.as_ref().map(|n| n.text.clone());
            let name = named.unwrap_or_else(|| format!("{owner}::{index}"));
            structures.define(&name, record, reports);
            let ty = Type::Struct(name.clone());
            let (size, align) = structures.size(&ty, &[])?;
            let at = self.place(size, align)?;
            match &field.name {
                Some(name) => self.add(name.text.clone(), ty, at, None),
                None => {
                    let inner = structures.get(&name, &[])?;
                    for member in inner.members {
                        let offset = at.checked_add(member.offset)?;
                        self.add(member.name, member.ty, offset, member.bits);
                    }
                }
            }
            return Some(());
        }
        let ty = plain(&field.ty.kind);
        let measured = match &ty {
            Some(ty) => structures.size(ty, &[]),
            None => None,
        };
        let Some((ty, (size, align))) = ty.zip(measured).filter(|(_, (s, _))| *s <= LARGEST) else {
            unknown_size(&field.ty.kind, &field.ty.span, reports);
            return None;
        };
        if let Some(wanted) = field.bits {
            let unit = size * 8;
            let Some(wanted) = u8::try_from(wanted).ok().filter(|n| u64::from(*n) <= unit) else {
                reports.error(&field.ty.span, "these bits do not fit the type");
                return None;
            };
            let bits = u64::from(wanted);
            if self.union {
                self.bits = 0;
            } else if bits == 0 || self.bits % unit + bits > unit {
                self.bits = self.bits.next_multiple_of(unit);
            }
            let first = u8::try_from(self.bits % unit).ok()?;
            let at = self.bits / unit * size;
            self.align = self.align.max(if self.packed { 1 } else { align });
            self.bits += bits;
            self.structure.size = self.structure.size.max(at + size);
            if let Some(name) = &field.name {
                self.add(name.text.clone(), ty, at, Some((first, wanted)));
            }
            return Some(());
        }
        let at = self.place(size, align)?;
        if let Some(name) = &field.name {
            let twice = self.structure.members.iter().any(|m| m.name == name.text);
            if twice {
                let message = format!("the member `{}` is there twice", name.text);
                reports.error(&name.span, message);
            }
            self.add(name.text.clone(), ty, at, None);
        }
        Some(())
    }

    fn add(&mut self, name: String, ty: Type, offset: u64, bits: Option<(u8, u8)>) {
        self.structure.members.push(Member {
            name,
            ty,
            offset,
            bits,
        });
    }

    /// The offset of the next member.
    fn place(&mut self, size: u64, align: u64) -> Option<u64> {
        let align = if self.packed { 1 } else { align };
        let bytes = self.bits.div_ceil(8);
        let at = match self.union {
            true => 0,
            false => bytes.next_multiple_of(align.max(1)),
        };
        let end = at.checked_add(size).filter(|end| *end <= LARGEST)?;
        if !self.union {
            self.bits = end * 8;
        }
        self.align = self.align.max(align);
        self.structure.size = self.structure.size.max(end);
        Some(at)
    }

    fn finish(mut self) -> Structure {
        let taken = match self.union {
            true => self.structure.size,
            false => self.bits.div_ceil(8),
        };
        self.structure.size = taken.next_multiple_of(self.align);
        self.structure
    }
}

fn unknown_size(kind: &TypeKind, span: &Span, reports: &mut Reports<'_>) {
    match kind {
        TypeKind::Named(name) => reports.error_help(
            span,
            format!("`{name}` is not known here, so the member has no size"),
            "define it before, or make the member a pointer",
        ),
        _ => reports.error(span, "this member has no size that can be laid out"),
    }
}

/// The type of a member that is no structure in place.
fn plain(kind: &TypeKind) -> Option<Type> {
    Some(match kind {
        TypeKind::Int { bits, signed } => Type::Int {
            width: width(*bits),
            signed: *signed,
        },
        TypeKind::Float { bits: 32 } => Type::Single,
        TypeKind::Float { .. } => Type::Float,
        TypeKind::Bool => Type::Int {
            width: Width::W8,
            signed: false,
        },
        TypeKind::Enum => Type::Int {
            width: Width::W32,
            signed: false,
        },
        TypeKind::Void => Type::Void,
        TypeKind::Named(name) => Type::Struct(name.clone()),
        TypeKind::Pointer(to) => Type::Pointer(Box::new(match &**to {
            TypeKind::Inline(_) => Type::Void,
            to => plain(to)?,
        })),
        TypeKind::Array(of, len) => Type::Array {
            of: Box::new(plain(of)?),
            len: *len,
        },
        TypeKind::Str(_) | TypeKind::Inline(_) | TypeKind::Of(_) => return None,
    })
}

/// The width of that many bits.
pub(super) fn width(bits: u32) -> Width {
    match bits {
        8 => Width::W8,
        16 => Width::W16,
        32 => Width::W32,
        _ => Width::W64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::debug::Nothing;
    use crate::language::parse::parse;
    use crate::language::source::Source;

    fn layout(text: &str) -> Structure {
        let source = Source::new("t", &format!("{text} BEGIN {{}}"));
        let mut reports = Reports::new(&source);
        let tree = parse(&mut reports);
        let mut all = Structures::new(&tree.records, &Nothing, &mut reports);
        let (errors, _) = reports.finish();
        assert!(errors.is_empty(), "{}", errors[0]);
        all.get("s", &[]).expect("defined")
    }

    fn offsets(text: &str) -> (Vec<(String, u64)>, u64) {
        let s = layout(text);
        let members = s.members.into_iter().map(|m| (m.name, m.offset));
        (members.collect(), s.size)
    }

    #[test]
    fn members_lie_where_c_puts_them() {
        let (members, size) = offsets(
            "struct in { char c; short s; }; struct s { char a; int b; char *p, q[3]; struct in n; \
             struct { int x; union { long y; char z; }; } m; void (*f)(int); int e[2][3]; };",
        );
        let wanted = [
            ("a", 0),
            ("b", 4),
            ("p", 8),
            ("q", 16),
            ("n", 20),
            ("m", 24),
            ("f", 40),
            ("e", 48),
        ];
        let wanted: Vec<_> = wanted.map(|(n, o)| (n.to_owned(), o)).into();
        assert_eq!((members, size), (wanted, 72));
    }

    #[test]
    fn anonymous_members_and_bits_are_placed() {
        let s = layout("struct s { union { int a; char b[8]; }; unsigned c : 3, d : 30; char e; }");
        let found = s.members.iter();
        let found: Vec<_> = found.map(|m| (m.name.as_str(), m.offset, m.bits)).collect();
        assert_eq!(
            found,
            [
                ("a", 0, None),
                ("b", 0, None),
                ("c", 8, Some((0, 3))),
                ("d", 12, Some((0, 30))),
                ("e", 16, None)
            ]
        );
        assert_eq!(s.size, 20);
    }
}
