//! Types in words, for messages.

use std::fmt::Write as _;

use crate::language::typed::{MapValue, Type};

/// `an unsigned 64-bit integer`
pub(super) fn a(ty: &Type) -> String {
    match ty {
        Type::Void => "nothing".to_owned(),
        Type::Int { .. } => "an integer".to_owned(),
        Type::Float | Type::Single => "a floating-point number".to_owned(),
        Type::Pointer(to) => match &**to {
            Type::Void => "a pointer".to_owned(),
            to => format!("a pointer to {}", name(to)),
        },
        Type::Struct(name) => format!("a `struct {name}`"),
        Type::Array { .. } => "an array".to_owned(),
        Type::Str { .. } => "a string".to_owned(),
        Type::Buf { .. } => "a buffer".to_owned(),
        Type::Tuple(parts) => format!("a tuple of {}", parts.len()),
        Type::Usym => "a symbol".to_owned(),
        Type::Ustack { .. } => "a stack".to_owned(),
        Type::Whole(whole) if whole.list => "an array".to_owned(),
        Type::Whole(_) => "a structure".to_owned(),
        Type::Inet => "a network address".to_owned(),
        Type::Time(_) => "a formatted time".to_owned(),
        Type::Username => "a user's name".to_owned(),
        Type::Func => "a function's name".to_owned(),
        Type::ProbeName => "a probe's name".to_owned(),
    }
}

/// `uint64`, `struct x *`
pub(in crate::language) fn name(ty: &Type) -> String {
    let mut stars = 0;
    let mut inner = ty;
    while let Type::Pointer(to) = inner {
        stars += 1;
        inner = to;
    }
    let mut text = match inner {
        Type::Void => "void".to_owned(),
        Type::Int { width, signed } => {
            format!("{}int{}", if *signed { "" } else { "u" }, width.bits())
        }
        Type::Float => "double".to_owned(),
        Type::Single => "float".to_owned(),
        Type::Struct(name) => format!("struct {name}"),
        Type::Array { of, len } => format!("{}[{len}]", name(of)),
        Type::Str { max } => format!("string[{max}]"),
        Type::Buf { max } => format!("buffer[{max}]"),
        Type::Tuple(parts) => {
            let parts: Vec<String> = parts.iter().map(name).collect();
            format!("({})", parts.join(", "))
        }
        Type::Usym => "usym".to_owned(),
        Type::Ustack { frames, .. } => format!("ustack[{frames}]"),
        Type::Whole(whole) if whole.list => format!("array[{}]", whole.members.len()),
        Type::Whole(whole) => format!("struct[{}]", whole.size),
        Type::Inet => "inet".to_owned(),
        Type::Time(format) => format!("time({format:?})"),
        Type::Username => "username".to_owned(),
        Type::Func => "func".to_owned(),
        Type::ProbeName => "probe".to_owned(),
        Type::Pointer(_) => String::new(),
    };
    if stars > 0 {
        text.push(' ');
        text.push_str(&"*".repeat(stars));
    }
    text
}

/// `count()`, `an integer`
pub(super) fn value(kind: &MapValue) -> String {
    match kind {
        MapValue::Plain(ty) => a(ty),
        other => format!("`{}`", aggregate(other)),
    }
}

/// `hist(bits 2)`
pub(in crate::language) fn aggregate(kind: &MapValue) -> String {
    let mut text = String::new();
    let _ = match kind {
        MapValue::Plain(ty) => write!(text, "{}", name(ty)),
        MapValue::Count => write!(text, "count()"),
        MapValue::Sum { .. } => write!(text, "sum()"),
        MapValue::Avg { .. } => write!(text, "avg()"),
        MapValue::Min { .. } => write!(text, "min()"),
        MapValue::Max { .. } => write!(text, "max()"),
        MapValue::Stats { .. } => write!(text, "stats()"),
        MapValue::Hist { bits: 0 } => write!(text, "hist()"),
        MapValue::Hist { bits } => write!(text, "hist(.., {bits})"),
        MapValue::Lhist { min, max, step } => write!(text, "lhist(.., {min}, {max}, {step})"),
    };
    text
}
