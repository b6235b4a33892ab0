//! DWARF of one file: sections, and the parameters of a function. Knows no line tables.
//!
//! Invariant: references are followed to a bounded depth and lists to a bounded length; what is
//! broken gives `None`, never a guess.

use std::borrow::Cow;

use gimli::{AttributeValue, DwarfSections, EndianSlice, LittleEndian, SectionId, UnitOffset};
use object::read::{CompressedData, CompressionFormat};

use super::bytes::{u32_at, u64_at};
use super::elf::Image;
use crate::base::LinkAddr;

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;
pub(super) type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;
pub(super) type Unit<'a> = gimli::Unit<Slice<'a>>;
pub(super) type Die<'a> = gimli::DebuggingInformationEntry<Slice<'a>>;

/// How many references are followed for one type or name.
pub(super) const DEPTH_CAP: usize = 32;
/// How many parameters a function may have.
const PARAM_CAP: usize = 255;
/// Largest section after decompression.
const SECTION_CAP: u64 = 2 << 30;

/// How a parameter is passed and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamClass {
    /// In an integer register: numbers, characters, booleans, enumerations, pointers, references.
    Int {
        /// Bytes: 1, 2, 4, 8 or 16.
        width: u8,
        /// Two's complement.
        signed: bool,
        /// A character type of one byte.
        is_char: bool,
        /// A boolean.
        is_bool: bool,
        /// A pointer or reference.
        is_pointer: bool,
        /// A pointer to a character type of one byte: perhaps a string.
        pointee_is_char: bool,
    },
    /// In a vector register or on the stack.
    Float {
        /// Bytes: 4, 8, 16.
        width: u8,
    },
    /// A structure, class, union or array by value.
    Struct {
        /// Bytes.
        size: u64,
    },
    /// A type that is missing, broken, or none of these.
    Unknown,
}

/// One parameter, in declared order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name; empty when it has none.
    pub name: String,
    /// Its type.
    pub class: ParamClass,
}

/// The debug sections of a file, decompressed.
pub struct DebugInfo<'a> {
    sections: DwarfSections<Cow<'a, [u8]>>,
}

impl<'a> DebugInfo<'a> {
    /// The debug information of the debug file when it has some, else of the image; `None` when
    /// neither has.
    pub fn load(image: &'a Image, debug: Option<&'a Image>) -> Option<DebugInfo<'a>> {
        let holder = debug_holder(image, debug)?;
        let load = |id: SectionId| -> Result<Cow<'a, [u8]>, std::convert::Infallible> {
            Ok(section_bytes(holder, id.name()).unwrap_or_default())
        };
        let Ok(sections) = DwarfSections::load(load);
        Some(DebugInfo { sections })
    }

    pub(super) fn dwarf(&self) -> Dwarf<'_> {
        self.sections
            .borrow(|bytes| EndianSlice::new(bytes, LittleEndian))
    }

    /// The parameters of the function whose code starts at `at`; `None` when it is not described,
    /// or does not take them where the ABI says (`DW_CC_nocall`).
    pub fn params(&self, at: LinkAddr) -> Option<Vec<Param>> {
        let dwarf = self.dwarf();
        let (unit, offset) = function(&dwarf, at)?;
        each_param(&dwarf, &unit, offset, &param)
    }
}

/// [`DebugInfo::params`] for one question.
pub fn params(image: &Image, debug: Option<&Image>, at: LinkAddr) -> Option<Vec<Param>> {
    DebugInfo::load(image, debug)?.params(at)
}

/// Which of the two has debug information, the debug file first.
pub(super) fn debug_holder<'a>(image: &'a Image, debug: Option<&'a Image>) -> Option<&'a Image> {
    [debug, Some(image)]
        .into_iter()
        .flatten()
        .find(|i| i.section(".debug_info").is_some_and(|s| !s.file.is_empty()))
}

pub(super) fn section_bytes<'a>(image: &'a Image, name: &str) -> Option<Cow<'a, [u8]>> {
    let section = image.section(name)?;
    let bytes = image.section_bytes(section);
    if !section.is_compressed() {
        return Some(Cow::Borrowed(bytes));
    }
    // Elf64_Chdr: type, reserved, size, alignment.
    let format = match u32_at(bytes, 0)? {
        1 => CompressionFormat::Zlib,
        2 => CompressionFormat::Zstandard,
        _ => return None,
    };
    let uncompressed_size = u64_at(bytes, 8).filter(|&size| size <= SECTION_CAP)?;
    let data = bytes.get(24..)?;
    let packed = CompressedData {
        format,
        data,
        uncompressed_size,
    };
    packed.decompress().ok()
}

/// Whether the unit's ranges allow for `at`; true when it has none or they do not parse.
fn unit_may_hold(dwarf: &Dwarf, unit: &Unit, at: LinkAddr) -> bool {
    let Ok(mut ranges) = dwarf.unit_ranges(unit) else {
        return true;
    };
    let mut any = false;
    loop {
        match ranges.next() {
            Ok(Some(range)) if range.begin <= at.0 && at.0 < range.end => return true,
            Ok(Some(_)) => any = true,
            Ok(None) => return !any,
            Err(_) => return true,
        }
    }
}

/// The subprogram whose code starts at `at`, and its unit.
pub(super) fn function<'a>(dwarf: &Dwarf<'a>, at: LinkAddr) -> Option<(Unit<'a>, UnitOffset)> {
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let Ok(unit) = dwarf.unit(header) else {
            continue;
        };
        if unit_may_hold(dwarf, &unit, at)
            && let Some(offset) = function_at(dwarf, &unit, at)
        {
            return Some((unit, offset));
        }
    }
    None
}

/// The subprogram of a unit whose code starts at `at`.
fn function_at(dwarf: &Dwarf, unit: &Unit, at: LinkAddr) -> Option<UnitOffset> {
    let mut entries = unit.entries();
    while let Ok(Some(die)) = entries.next_dfs() {
        if die.tag() != gimli::DW_TAG_subprogram {
            continue;
        }
        let low = die
            .attr_value(gimli::DW_AT_low_pc)
            .and_then(|v| dwarf.attr_address(unit, v).ok().flatten());
        let starts = match low {
            Some(low) => low == at.0,
            None => dwarf
                .die_ranges(unit, die)
                .is_ok_and(|mut r| matches!(r.next(), Ok(Some(first)) if first.begin == at.0)),
        };
        if starts {
            return Some(die.offset());
        }
    }
    None
}

/// What `ask` says of each parameter of a function.
pub(super) fn each_param<'a, T>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    function: UnitOffset,
    ask: &dyn Fn(&Dwarf<'a>, &Unit<'a>, &Die<'a>) -> T,
) -> Option<Vec<T>> {
    let die = unit.entry(function).ok()?;
    if let Some(AttributeValue::CallingConvention(gimli::DW_CC_nocall)) =
        die.attr_value(gimli::DW_AT_calling_convention)
    {
        return None;
    }
    // An out-of-line copy may have lost parameters; its origin has all, in declared order.
    let mut list = children(dwarf, unit, function, ask)?;
    if let Some(place) = reference(dwarf, unit, &die, gimli::DW_AT_abstract_origin) {
        let whole = match &place {
            Place::Here(offset) => children(dwarf, unit, *offset, ask),
            Place::There(other, offset) => children(dwarf, other, *offset, ask),
        };
        if let Some(whole) = whole.filter(|w| w.len() >= list.len()) {
            list = whole;
        }
    }
    Some(list)
}

/// The formal parameters right below a subprogram.
fn children<'a, T>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    function: UnitOffset,
    ask: &dyn Fn(&Dwarf<'a>, &Unit<'a>, &Die<'a>) -> T,
) -> Option<Vec<T>> {
    let mut tree = unit.entries_tree(Some(function)).ok()?;
    let mut below = tree.root().ok()?.children();
    let mut params = Vec::new();
    while let Some(child) = below.next().ok()? {
        let die = child.entry();
        if die.tag() == gimli::DW_TAG_formal_parameter && params.len() < PARAM_CAP {
            params.push(ask(dwarf, unit, die));
        }
    }
    Some(params)
}

pub(super) fn param<'a>(dwarf: &Dwarf<'a>, unit: &Unit<'a>, die: &Die<'a>) -> Param {
    Param {
        name: find(dwarf, unit, die, 0, &name_of).unwrap_or_default(),
        class: find(dwarf, unit, die, 0, &|dwarf, unit, die| {
            let place = reference(dwarf, unit, die, gimli::DW_AT_type)?;
            Some(class_at(dwarf, unit, place))
        })
        .unwrap_or(ParamClass::Unknown),
    }
}

/// A DIE in this unit or another.
pub(super) enum Place<'a> {
    Here(UnitOffset),
    There(Box<Unit<'a>>, UnitOffset),
}

/// What a reference attribute points to.
pub(super) fn reference<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    die: &Die<'a>,
    attribute: gimli::DwAt,
) -> Option<Place<'a>> {
    match die.attr_value(attribute)? {
        AttributeValue::UnitRef(offset) => Some(Place::Here(offset)),
        AttributeValue::DebugInfoRef(offset) => {
            if let Some(here) = offset.to_unit_offset(&unit.header) {
                return Some(Place::Here(here));
            }
            // Link-time optimisation refers from one unit to another.
            let mut headers = dwarf.units();
            while let Some(header) = headers.next().ok()? {
                if let Some(there) = offset.to_unit_offset(&header) {
                    return Some(Place::There(Box::new(dwarf.unit(header).ok()?), there));
                }
            }
            None
        }
        _ => None,
    }
}

/// Asks a DIE, then what it is an instance of, then what that specifies.
pub(super) fn find<'a, T>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    die: &Die<'a>,
    depth: usize,
    ask: &dyn Fn(&Dwarf<'a>, &Unit<'a>, &Die<'a>) -> Option<T>,
) -> Option<T> {
    if let Some(answer) = ask(dwarf, unit, die) {
        return Some(answer);
    }
    if depth >= DEPTH_CAP {
        return None;
    }
    let place = reference(dwarf, unit, die, gimli::DW_AT_abstract_origin)
        .or_else(|| reference(dwarf, unit, die, gimli::DW_AT_specification))?;
    match place {
        Place::Here(offset) => find(dwarf, unit, &unit.entry(offset).ok()?, depth + 1, ask),
        Place::There(other, offset) => {
            find(dwarf, &other, &other.entry(offset).ok()?, depth + 1, ask)
        }
    }
}

pub(super) fn name_of<'a>(dwarf: &Dwarf<'a>, unit: &Unit<'a>, die: &Die<'a>) -> Option<String> {
    let value = die.attr_value(gimli::DW_AT_name)?;
    let text = dwarf.attr_string(unit, value).ok()?;
    Some(text.to_string_lossy().into_owned())
}

fn class_at<'a>(dwarf: &Dwarf<'a>, unit: &Unit<'a>, place: Place<'a>) -> ParamClass {
    let class = match place {
        Place::Here(offset) => class_of(dwarf, unit, offset, 0),
        Place::There(other, offset) => class_of(dwarf, &other, offset, 0),
    };
    class.unwrap_or(ParamClass::Unknown)
}

/// The class of a type, through typedefs and qualifiers.
fn class_of<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    offset: UnitOffset,
    depth: usize,
) -> Option<ParamClass> {
    if depth >= DEPTH_CAP {
        return None;
    }
    let die = unit.entry(offset).ok()?;
    let size = die
        .attr_value(gimli::DW_AT_byte_size)
        .and_then(|v| v.udata_value());
    let below = || match reference(dwarf, unit, &die, gimli::DW_AT_type)? {
        Place::Here(offset) => class_of(dwarf, unit, offset, depth + 1),
        Place::There(other, offset) => class_of(dwarf, &other, offset, depth + 1),
    };
    let int = |width: u64, signed| -> Option<ParamClass> {
        Some(ParamClass::Int {
            width: u8::try_from(width)
                .ok()
                .filter(|w| w.is_power_of_two() && *w <= 16)?,
            signed,
            is_char: false,
            is_bool: false,
            is_pointer: false,
            pointee_is_char: false,
        })
    };
    match die.tag() {
        gimli::DW_TAG_typedef
        | gimli::DW_TAG_const_type
        | gimli::DW_TAG_volatile_type
        | gimli::DW_TAG_restrict_type
        | gimli::DW_TAG_atomic_type => below(),
        gimli::DW_TAG_pointer_type
        | gimli::DW_TAG_reference_type
        | gimli::DW_TAG_rvalue_reference_type => Some(ParamClass::Int {
            width: 8,
            signed: false,
            is_char: false,
            is_bool: false,
            is_pointer: true,
            pointee_is_char: matches!(below(), Some(ParamClass::Int { is_char: true, .. })),
        }),
        gimli::DW_TAG_enumeration_type => {
            let signed = match below() {
                Some(ParamClass::Int { signed, .. }) => signed,
                _ => false,
            };
            int(size?, signed)
        }
        gimli::DW_TAG_base_type => {
            base_type(&die, size?, name_of(dwarf, unit, &die).as_deref())
        }
        gimli::DW_TAG_structure_type
        | gimli::DW_TAG_class_type
        | gimli::DW_TAG_union_type
        // A pointer to a member function has two words.
        | gimli::DW_TAG_array_type => Some(ParamClass::Struct { size: size? }),
        gimli::DW_TAG_ptr_to_member_type => match below() {
            Some(ParamClass::Unknown) | None => Some(ParamClass::Struct { size: 16 }),
            Some(_) => int(8, true),
        },
        // `decltype(nullptr)`.
        gimli::DW_TAG_unspecified_type => int(8, false),
        _ => None,
    }
}

/// `name` tells text from numbers: C has the same encoding for `char` and `int8_t`.
fn base_type(die: &Die, size: u64, name: Option<&str>) -> Option<ParamClass> {
    let width = u8::try_from(size)
        .ok()
        .filter(|w| w.is_power_of_two() && *w <= 16)?;
    let AttributeValue::Encoding(encoding) = die.attr_value(gimli::DW_AT_encoding)? else {
        return None;
    };
    let character = encoding == gimli::DW_ATE_UTF || name == Some("char");
    match encoding {
        gimli::DW_ATE_float => Some(ParamClass::Float { width }),
        gimli::DW_ATE_boolean
        | gimli::DW_ATE_signed
        | gimli::DW_ATE_signed_char
        | gimli::DW_ATE_unsigned
        | gimli::DW_ATE_unsigned_char
        | gimli::DW_ATE_address
        | gimli::DW_ATE_UTF => Some(ParamClass::Int {
            width,
            signed: matches!(encoding, gimli::DW_ATE_signed | gimli::DW_ATE_signed_char),
            is_char: character && width == 1,
            is_bool: encoding == gimli::DW_ATE_boolean,
            is_pointer: false,
            pointee_is_char: false,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::NamePattern;
    use super::super::testing::{Built, cc, compile};
    use super::super::{Symbols, line_addresses};
    use super::*;

    fn of(built: &Built, name: &str) -> Option<Vec<Param>> {
        let image = built.image();
        let symbols = Symbols::load(&image, None).unwrap();
        let index = symbols.matching(&NamePattern::exact(name))[0];
        params(&image, None, symbols.entries()[index].at)
    }

    const TYPES: &str = r#"
        typedef unsigned int word; typedef const word cword; typedef char text; typedef signed char int8;
        enum color { RED, GREEN }; struct pair { long a, b, c; };
        __attribute__((noinline)) long f(cword w, const text *s, _Bool b, char c, double d, float e,
            struct pair p, enum color k, short n, void *v, int8 i, unsigned char u) { return i + u + w + s[0] + b + c + (long)d + (long)e + p.a + k + n + (long)v; }
        static inline long g(int first, long second) { return first * second + __LINE__; }
        long (*keep)(int, long) = g;
        int main(int argc, char **argv) {
            struct pair p = { 1, 2, 3 };
            return f(1, argv[0], 1, 'c', 1.0, 2.0f, p, RED, 3, 0, 1, 2) + g(argc, 2);
        }
    "#;

    fn int(width: u8, signed: bool) -> ParamClass {
        ParamClass::Int {
            width,
            signed,
            is_char: false,
            is_bool: false,
            is_pointer: false,
            pointee_is_char: false,
        }
    }

    fn types_are_seen_through(flags: &[&str]) {
        let Some(built) = cc(TYPES, flags) else {
            return;
        };
        let params = of(&built, "f").unwrap();
        let names: Vec<_> = params.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            ["w", "s", "b", "c", "d", "e", "p", "k", "n", "v", "i", "u"]
        );
        let class = |name: &str| {
            params
                .iter()
                .find(|p| p.name == name)
                .unwrap()
                .class
                .clone()
        };
        assert_eq!(class("w"), int(4, false));
        assert_eq!([class("i"), class("u")], [int(1, true), int(1, false)]);
        assert!(matches!(
            class("s"),
            ParamClass::Int {
                is_pointer: true,
                pointee_is_char: true,
                ..
            }
        ));
        assert!(matches!(
            class("b"),
            ParamClass::Int {
                is_bool: true,
                width: 1,
                ..
            }
        ));
        assert!(matches!(
            class("c"),
            ParamClass::Int {
                is_char: true,
                signed: true,
                ..
            }
        ));
        assert_eq!(class("d"), ParamClass::Float { width: 8 });
        assert_eq!(class("e"), ParamClass::Float { width: 4 });
        assert_eq!(class("p"), ParamClass::Struct { size: 24 });
        assert_eq!(class("k"), int(4, false));
        assert_eq!(class("n"), int(2, true));
        assert!(matches!(
            class("v"),
            ParamClass::Int {
                is_pointer: true,
                pointee_is_char: false,
                ..
            }
        ));
    }

    #[test]
    fn types_are_seen_through_in_every_format() {
        types_are_seen_through(&["-g", "-O0"]);
        types_are_seen_through(&["-gdwarf-4", "-O0"]);
        types_are_seen_through(&["-g", "-O0", "-gz=zlib"]);
    }

    #[test]
    fn an_out_of_line_copy_has_the_parameters_of_its_origin() {
        let Some(built) = cc(TYPES, &["-g", "-O2"]) else {
            return;
        };
        let params = of(&built, "g").unwrap();
        let expected = [("first", int(4, true)), ("second", int(8, true))];
        let own: Vec<_> = params
            .iter()
            .map(|p| (p.name.as_str(), p.class.clone()))
            .collect();
        assert_eq!(own, expected);
    }

    #[test]
    fn a_member_function_has_this_first() {
        let source = "struct A { int n; int f(const char &x); }; int A::f(const char &x) { return n + x; } int main() { A a{1}; return a.f('x'); }";
        let Some(built) = compile("c++", "t.cc", source, &["-g"]) else {
            return;
        };
        let params = of(&built, "A::f").unwrap();
        assert_eq!(
            params.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["this", "x"]
        );
        assert!(matches!(
            params[1].class,
            ParamClass::Int {
                is_pointer: true,
                pointee_is_char: true,
                ..
            }
        ));
    }

    #[test]
    fn without_debug_information_there_are_no_parameters_or_lines() {
        let Some(built) = cc(TYPES, &["-O1"]) else {
            return;
        };
        assert_eq!(of(&built, "f"), None);
        let error = line_addresses(&built.image(), None, "t.c", 4).unwrap_err();
        assert!(
            error.to_string().contains("no debug information"),
            "{error}"
        );
    }
}
