//! Types in DWARF: what a parameter is and points to, and the members of structures.
//!
//! Invariant: nothing is followed or listed without a bound; what is broken is left out.

use std::cell::RefCell;
use std::collections::HashMap;

use gimli::{AttributeValue, DebugInfoOffset, UnitOffset};

use super::dwarf::{
    DEPTH_CAP, DebugInfo, Die, Dwarf, Param, Place, Unit, each_param, find, function, name_of,
    param, reference,
};
use crate::base::LinkAddr;

/// Most members of a structure, those of anonymous ones and bases included.
const MEMBERS: usize = 4096;
/// Most entries that are looked at for one structure.
const STEPS: usize = 1 << 16;
/// Longest name with its namespaces.
const NAME: usize = 1024;
/// Most bytes of names of one unit.
const NAMES: usize = 64 << 20;
/// What names of structures without a name begin with; where they are described follows.
const UNNAMED: &str = "(unnamed ";

/// A type, as far as values of it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing, or nothing that is known.
    Void,
    /// A number, character, boolean or enumeration.
    Int {
        /// Bytes: 1, 2, 4 or 8.
        width: u8,
        /// Two's complement.
        signed: bool,
    },
    /// A floating-point number of 8 bytes.
    Double,
    /// A floating-point number of 4 bytes.
    Single,
    /// Any other value of so many bytes.
    Bytes(u64),
    /// A pointer or reference.
    Pointer(Box<Shape>),
    /// A structure, class or union; [`DebugInfo::record`] knows the name.
    Struct(String),
    /// An array; a length of 0 is not known.
    Array(Box<Shape>, u64),
}

/// A member of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub shape: Shape,
    /// Offset in bytes from the structure's start.
    pub offset: u64,
    /// First bit above the lowest of the bytes at `offset`, and how many, for a bit field.
    pub bits: Option<(u8, u8)>,
}

/// A structure, class or union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Size in bytes.
    pub size: u64,
    /// Members in order; those of anonymous members and of bases stand among them.
    pub fields: Vec<Field>,
}

impl DebugInfo<'_> {
    /// [`DebugInfo::params`] with the type of each.
    pub fn typed_params(&self, at: LinkAddr) -> Option<Vec<(Param, Shape)>> {
        let dwarf = self.dwarf();
        let (unit, offset) = function(&dwarf, at)?;
        let names = Names::default();
        each_param(&dwarf, &unit, offset, &|dwarf, unit, die| {
            let shape = find(dwarf, unit, die, 0, &|dwarf, unit, die| {
                let place = reference(dwarf, unit, die, gimli::DW_AT_type)?;
                Some(shape_at(dwarf, unit, &place, &names, None, 0))
            });
            (param(dwarf, unit, die), shape.unwrap_or(Shape::Void))
        })
    }

    /// The structure, union, class or `typedef` of one of that name, with its namespaces or
    /// without; the one that the function at `near` sees goes before others.
    pub fn record(&self, near: Option<LinkAddr>, name: &str) -> Option<Record> {
        let dwarf = self.dwarf();
        if let Some(rest) = name.strip_prefix(UNNAMED) {
            let digits = rest.strip_prefix("0x")?.strip_suffix(')')?;
            let at = DebugInfoOffset(usize::from_str_radix(digits, 16).ok()?);
            let mut headers = dwarf.units();
            while let Some(header) = headers.next().ok()? {
                if let Some(offset) = at.to_unit_offset(&header) {
                    return whole(&dwarf, &dwarf.unit(header).ok()?, offset);
                }
            }
            return None;
        }
        if let Some((unit, _)) = near.and_then(|at| function(&dwarf, at))
            && let Some((offset, _)) = named(&dwarf, &unit, name)
            && let Some(record) = whole(&dwarf, &unit, offset)
        {
            return Some(record);
        }
        let mut second = None;
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let Ok(unit) = dwarf.unit(header) else {
                continue;
            };
            match named(&dwarf, &unit, name) {
                Some((offset, true)) => return whole(&dwarf, &unit, offset),
                Some((offset, false)) if second.is_none() => {
                    second = whole(&dwarf, &unit, offset);
                }
                _ => {}
            }
        }
        second
    }
}

/// Names of structures with their namespaces, by unit.
#[derive(Default)]
struct Names {
    units: RefCell<HashMap<usize, HashMap<UnitOffset, String>>>,
}

impl Names {
    fn of(&self, dwarf: &Dwarf, unit: &Unit, offset: UnitOffset) -> Option<String> {
        let key = unit.header.debug_info_offset()?.0;
        let mut units = self.units.borrow_mut();
        let names = units.entry(key).or_insert_with(|| {
            let mut names = HashMap::new();
            let mut bytes = 0;
            walk(dwarf, unit, |die, name| {
                bytes += name.len();
                if is_structure(die) && bytes <= NAMES {
                    names.insert(die.offset(), name.to_owned());
                }
                bytes <= NAMES
            });
            names
        });
        names.get(&offset).cloned()
    }
}

fn is_structure(die: &Die) -> bool {
    matches!(
        die.tag(),
        gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type | gimli::DW_TAG_union_type
    )
}

fn flag(die: &Die, attribute: gimli::DwAt) -> bool {
    matches!(die.attr_value(attribute), Some(AttributeValue::Flag(true)))
}

/// Shows the named namespaces, structures and type names of a unit, with their namespaces, while
/// `show` wants more.
fn walk<'a>(dwarf: &Dwarf<'a>, unit: &Unit<'a>, mut show: impl FnMut(&Die<'a>, &str) -> bool) {
    let mut around: Vec<(isize, String)> = Vec::new();
    let mut entries = unit.entries();
    while let Ok(Some(die)) = entries.next_dfs() {
        let depth = die.depth();
        while around.last().is_some_and(|(outer, _)| *outer >= depth) {
            around.pop();
        }
        let space = die.tag() == gimli::DW_TAG_namespace;
        if !(space || is_structure(die) || die.tag() == gimli::DW_TAG_typedef) {
            continue;
        }
        let Some(own) = name_of(dwarf, unit, die) else {
            continue;
        };
        let full = match around.last() {
            Some((_, outer)) => format!("{outer}::{own}"),
            None => own,
        };
        if full.len() > NAME {
            continue;
        }
        if !show(die, &full) {
            return;
        }
        if die.has_children() {
            around.push((depth, full));
        }
    }
}

/// The structure of a unit that a name means, and whether that is its whole name.
fn named(dwarf: &Dwarf, unit: &Unit, name: &str) -> Option<(UnitOffset, bool)> {
    let (mut exact, mut alias, mut plain) = (None, None, None);
    walk(dwarf, unit, |die, full| {
        let whole = full == name;
        let same = whole
            || full
                .strip_suffix(name)
                .is_some_and(|rest| rest.ends_with("::"));
        if !same {
            return true;
        }
        if is_structure(die) && !flag(die, gimli::DW_AT_declaration) {
            let slot = if whole { &mut exact } else { &mut plain };
            slot.get_or_insert(die.offset());
        } else if die.tag() == gimli::DW_TAG_typedef && alias.is_none() {
            alias = behind(dwarf, unit, die.offset());
        }
        exact.is_none()
    });
    let exact = exact.or(alias).map(|offset| (offset, true));
    exact.or(plain.map(|offset| (offset, false)))
}

/// The structure that a `typedef` of the same unit names in the end.
fn behind(dwarf: &Dwarf, unit: &Unit, mut offset: UnitOffset) -> Option<UnitOffset> {
    for _ in 0..DEPTH_CAP {
        let die = unit.entry(offset).ok()?;
        if is_structure(&die) {
            return (!flag(&die, gimli::DW_AT_declaration)).then_some(offset);
        }
        match reference(dwarf, unit, &die, gimli::DW_AT_type)? {
            Place::Here(next) => offset = next,
            Place::There(..) => return None,
        }
    }
    None
}

fn shape_at<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    place: &Place<'a>,
    names: &Names,
    alias: Option<&str>,
    depth: usize,
) -> Shape {
    let shape = match place {
        Place::Here(offset) => shape(dwarf, unit, *offset, names, alias, depth),
        Place::There(other, offset) => shape(dwarf, other, *offset, names, alias, depth),
    };
    shape.unwrap_or(Shape::Void)
}

/// `alias` is the `typedef` that led here.
fn shape<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    offset: UnitOffset,
    names: &Names,
    alias: Option<&str>,
    depth: usize,
) -> Option<Shape> {
    if depth >= DEPTH_CAP {
        return None;
    }
    let die = unit.entry(offset).ok()?;
    let size = die.attr_value(gimli::DW_AT_byte_size);
    let size = size.and_then(|size| size.udata_value());
    let target = || reference(dwarf, unit, &die, gimli::DW_AT_type);
    let below = |alias: Option<&str>| match target() {
        Some(place) => shape_at(dwarf, unit, &place, names, alias, depth + 1),
        None => Shape::Void,
    };
    Some(match die.tag() {
        gimli::DW_TAG_typedef => {
            let own = name_of(dwarf, unit, &die);
            below(own.as_deref().filter(|own| own.len() <= NAME))
        }
        gimli::DW_TAG_const_type
        | gimli::DW_TAG_volatile_type
        | gimli::DW_TAG_restrict_type
        | gimli::DW_TAG_atomic_type => below(alias),
        gimli::DW_TAG_pointer_type
        | gimli::DW_TAG_reference_type
        | gimli::DW_TAG_rvalue_reference_type => Shape::Pointer(Box::new(below(None))),
        gimli::DW_TAG_enumeration_type => {
            let signed = matches!(below(None), Shape::Int { signed: true, .. });
            number(size?, signed)
        }
        gimli::DW_TAG_base_type => {
            let AttributeValue::Encoding(encoding) = die.attr_value(gimli::DW_AT_encoding)? else {
                return None;
            };
            match encoding {
                gimli::DW_ATE_float if size == Some(8) => Shape::Double,
                gimli::DW_ATE_float if size == Some(4) => Shape::Single,
                gimli::DW_ATE_signed | gimli::DW_ATE_signed_char => number(size?, true),
                gimli::DW_ATE_unsigned
                | gimli::DW_ATE_unsigned_char
                | gimli::DW_ATE_boolean
                | gimli::DW_ATE_address
                | gimli::DW_ATE_UTF => number(size?, false),
                _ => Shape::Bytes(size?),
            }
        }
        gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type | gimli::DW_TAG_union_type => {
            let own = names.of(dwarf, unit, offset);
            let own = own.or_else(|| alias.map(str::to_owned));
            Shape::Struct(match own {
                Some(own) => own,
                None => format!(
                    "{UNNAMED}{:#x})",
                    offset.to_debug_info_offset(&unit.header)?.0
                ),
            })
        }
        gimli::DW_TAG_array_type => {
            let mut lengths = lengths(unit, offset)?;
            let mut of = below(None);
            while let Some(len) = lengths.pop() {
                of = Shape::Array(Box::new(of), len);
            }
            of
        }
        gimli::DW_TAG_unspecified_type => Shape::Void,
        _ => Shape::Bytes(size?),
    })
}

fn number(size: u64, signed: bool) -> Shape {
    match u8::try_from(size) {
        Ok(width @ (1 | 2 | 4 | 8)) => Shape::Int { width, signed },
        _ => Shape::Bytes(size),
    }
}

/// The lengths of an array, the outermost first.
fn lengths(unit: &Unit, array: UnitOffset) -> Option<Vec<u64>> {
    let mut tree = unit.entries_tree(Some(array)).ok()?;
    let mut below = tree.root().ok()?.children();
    let mut lengths = Vec::new();
    while let Some(child) = below.next().ok()? {
        let die = child.entry();
        if die.tag() == gimli::DW_TAG_subrange_type && lengths.len() < DEPTH_CAP {
            let value = |attribute| die.attr_value(attribute).and_then(|v| v.udata_value());
            let last = value(gimli::DW_AT_upper_bound).and_then(|last| last.checked_add(1));
            lengths.push(value(gimli::DW_AT_count).or(last).unwrap_or(0));
        }
    }
    Some(lengths)
}

/// A structure with its members; `None` where it is only declared.
fn whole<'a>(dwarf: &Dwarf<'a>, unit: &Unit<'a>, offset: UnitOffset) -> Option<Record> {
    let die = unit.entry(offset).ok()?;
    let size = die.attr_value(gimli::DW_AT_byte_size)?.udata_value()?;
    if !is_structure(&die) || flag(&die, gimli::DW_AT_declaration) {
        return None;
    }
    let mut members = Members {
        names: Names::default(),
        fields: Vec::new(),
        steps: STEPS,
    };
    let _ = members.of(dwarf, unit, offset, 0, 0);
    Some(Record {
        size,
        fields: members.fields,
    })
}

/// Members that are being collected.
struct Members {
    names: Names,
    fields: Vec<Field>,
    steps: usize,
}

impl Members {
    fn of<'a>(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        structure: UnitOffset,
        base: u64,
        depth: usize,
    ) -> Option<()> {
        if depth >= DEPTH_CAP {
            return None;
        }
        let mut tree = unit.entries_tree(Some(structure)).ok()?;
        let mut below = tree.root().ok()?.children();
        while let Some(child) = below.next().ok()? {
            self.steps = self.steps.checked_sub(1)?;
            if self.fields.len() >= MEMBERS {
                return None;
            }
            let die = child.entry();
            let is_base = die.tag() == gimli::DW_TAG_inheritance;
            if !is_base && die.tag() != gimli::DW_TAG_member
                || flag(die, gimli::DW_AT_external)
                || flag(die, gimli::DW_AT_declaration)
            {
                continue;
            }
            let Some(place) = reference(dwarf, unit, die, gimli::DW_AT_type) else {
                continue;
            };
            let name = name_of(dwarf, unit, die).filter(|_| !is_base);
            match name {
                Some(name) if name.len() <= NAME => {
                    let shape = shape_at(dwarf, unit, &place, &self.names, None, 0);
                    self.fields.extend(field(unit, die, name, shape, base));
                }
                Some(_) => {}
                None => {
                    let Some(at) = location(unit, die).and_then(|at| base.checked_add(at)) else {
                        continue;
                    };
                    let (other, offset) = match &place {
                        Place::Here(offset) => (unit, *offset),
                        Place::There(other, offset) => (&**other, *offset),
                    };
                    let Some(inner) = behind(dwarf, other, offset) else {
                        continue;
                    };
                    self.of(dwarf, other, inner, at, depth + 1)?;
                }
            }
        }
        Some(())
    }
}

/// Where a member lies; 0 where nothing is said, as in a union.
fn location(unit: &Unit, die: &Die) -> Option<u64> {
    match die.attr_value(gimli::DW_AT_data_member_location) {
        None => Some(0),
        // Old compilers write an operation.
        Some(AttributeValue::Exprloc(expression)) => {
            let mut operations = expression.operations(unit.encoding());
            match (operations.next().ok()??, operations.next()) {
                (gimli::Operation::PlusConstant { value }, Ok(None)) => Some(value),
                _ => None,
            }
        }
        Some(value) => value.udata_value(),
    }
}

fn field(unit: &Unit, die: &Die, name: String, shape: Shape, base: u64) -> Option<Field> {
    if shape == Shape::Void {
        return None;
    }
    let value = |attribute| die.attr_value(attribute).and_then(|v| v.udata_value());
    let at = base.checked_add(location(unit, die)?)?;
    let Some(count) = value(gimli::DW_AT_bit_size) else {
        return Some(Field {
            name,
            shape,
            offset: at,
            bits: None,
        });
    };
    let Shape::Int { width, signed } = shape else {
        return None;
    };
    let count = u8::try_from(count).ok().filter(|n| (1..=64).contains(n))?;
    let bit = match (
        value(gimli::DW_AT_data_bit_offset),
        value(gimli::DW_AT_bit_offset),
    ) {
        (Some(bit), _) => at.checked_mul(8)?.checked_add(bit)?,
        // Before DWARF 4 they were counted from the highest bit of the unit that holds them.
        (None, Some(above)) => {
            let unit = value(gimli::DW_AT_byte_size).unwrap_or(width.into());
            let below = unit
                .checked_mul(8)?
                .checked_sub(above)?
                .checked_sub(count.into())?;
            at.checked_mul(8)?.checked_add(below)?
        }
        (None, None) => at.checked_mul(8)?,
    };
    // In words of the type where it fits one, else in the widest from its first byte.
    let unit = u64::from(width) * 8;
    let (offset, first, width) = match bit % unit + u64::from(count) <= unit {
        true => (bit / unit * u64::from(width), bit % unit, width),
        false => (bit / 8, bit % 8, 8),
    };
    if first + u64::from(count) > u64::from(width) * 8 {
        return None;
    }
    Some(Field {
        name,
        shape: Shape::Int { width, signed },
        offset,
        bits: Some((u8::try_from(first).ok()?, count)),
    })
}
