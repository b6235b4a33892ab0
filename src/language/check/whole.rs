//! Structures and arrays as values: copied, with what their bytes mean. Invariant: what is made here has
//! at most [`LARGEST`] bytes and [`MEMBERS`] members, those of members counted too.

use super::{Checker, number};
use crate::language::typed::{Expr, ExprKind, Part, Type, Whole};
use crate::program::Width;
use crate::spec::ProbeSpec;

/// Largest value: what is copied at once.
const LARGEST: u64 = 4096;
/// Most members.
const MEMBERS: usize = 1024;

impl Checker<'_, '_> {
    /// A structure or an array of the target as a value; `None` where its layout is not known, or it is
    /// too large.
    pub(super) fn whole(&mut self, value: &Expr) -> Option<Expr> {
        let probes = self.probes();
        let (size, _) = self.structures.size(&value.ty, &probes)?;
        let mut left = MEMBERS;
        if !(1..=LARGEST).contains(&size) {
            return None;
        }
        let ty = self.image(&value.ty, &probes, &mut left)?;
        let span = value.span.clone();
        let length = number(size.cast_signed(), &span);
        Some(Expr {
            kind: ExprKind::BufAt(Box::new(value.clone()), Some(Box::new(length))),
            ty,
            span,
        })
    }

    fn image(&mut self, ty: &Type, probes: &[ProbeSpec], left: &mut usize) -> Option<Type> {
        let (size, _) = self.structures.size(ty, probes)?;
        let size = u32::try_from(size).ok()?;
        let members = match ty {
            Type::Struct(name) => {
                let mut members = Vec::new();
                for member in self.structures.get(name, probes)?.members {
                    *left = left.checked_sub(1)?;
                    members.push(Part {
                        name: Some(member.name),
                        ty: self.image(&member.ty, probes, left)?,
                        offset: u32::try_from(member.offset).ok()?,
                        bits: member.bits,
                    });
                }
                members
            }
            Type::Array { of, len } => {
                let max = u32::try_from(*len).ok()?;
                if **of == super::int(Width::W8, true) {
                    return Some(Type::Str { max });
                }
                let (step, _) = self.structures.size(of, probes)?;
                let step = u32::try_from(step).ok()?;
                let mut members = Vec::new();
                for index in 0..max {
                    *left = left.checked_sub(1)?;
                    members.push(Part {
                        name: None,
                        ty: self.image(of, probes, left)?,
                        offset: index.checked_mul(step)?,
                        bits: None,
                    });
                }
                members
            }
            Type::Int { .. } | Type::Pointer(_) | Type::Float | Type::Single => {
                return Some(ty.clone());
            }
            _ => return None,
        };
        Some(Type::Whole(Box::new(Whole {
            list: matches!(ty, Type::Array { .. }),
            size,
            members,
        })))
    }
}
