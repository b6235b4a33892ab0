//! A tree as text again. Invariant: what is printed parses to the same tree.

use std::fmt;

use super::tree::{ArgExpr, ArgSpec, Format, Kind, Location, ModuleName, NameText, ProbeSpec};
use crate::program::{IntFormat, Width};

impl fmt::Display for ProbeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Location::Usdt { .. } = self.location {
            f.write_str("usdt:")?;
        }
        if let Some(module) = &self.module {
            write!(f, "{module}:")?;
        }
        match &self.location {
            Location::Symbol {
                name,
                version,
                offset,
            } => {
                write!(f, "{name}")?;
                if let Some(version) = version {
                    write!(f, "@@{version}")?;
                }
                if *offset != 0 {
                    write!(f, "+{offset:#x}")?;
                }
            }
            Location::ModuleOffset(address) | Location::Address(address) => {
                write!(f, "{address:#x}")?;
            }
            Location::Usdt { provider, name, .. } => {
                if let Some(provider) = provider {
                    write!(f, "{provider}:")?;
                }
                write!(f, "{name}")?;
            }
            Location::Line { file, line } => {
                name_or_quoted(f, file, |c| matches!(c, '/' | '-'))?;
                write!(f, ":{line}")?;
            }
        }
        match self.kind {
            Kind::Entry => {}
            Kind::Return => f.write_str("%return")?,
            Kind::Call => f.write_str("%call")?,
            Kind::Stop => f.write_str("%stop")?,
        }
        for arg in &self.args {
            write!(f, " {arg}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NameText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameText::Exact(name) => name_or_quoted(f, name, |_| false),
            NameText::Glob(glob) => f.write_str(glob),
            NameText::Regex(regex) => write!(f, "/{regex}/"),
        }
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModuleName::Name(name) | ModuleName::Path(name) => {
                name_or_quoted(f, name, |c| matches!(c, '/' | '-' | '+'))
            }
            ModuleName::Glob(glob) => f.write_str(glob),
        }
    }
}

/// Quotes all but the names that cannot be taken for anything else.
fn name_or_quoted(f: &mut fmt::Formatter<'_>, name: &str, also: fn(char) -> bool) -> fmt::Result {
    if is_unmistakable(name, also) {
        return f.write_str(name);
    }
    f.write_str("\"")?;
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            f.write_str("\\")?;
        }
        write!(f, "{c}")?;
    }
    f.write_str("\"")
}

fn is_unmistakable(name: &str, also: fn(char) -> bool) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$') || also(c);
    let letters = name.replace("::", "");
    if letters.is_empty() || !letters.chars().all(allowed) || name.contains(":::") {
        return false;
    }
    // A number, a separator of its own, or the first half of `operator new`.
    if name.starts_with(|c: char| c.is_ascii_digit() || c == ':')
        || name.ends_with(':')
        || name.ends_with("operator")
    {
        return false;
    }
    // Modules and files have no `::` and look like no regex; symbols do not look like files.
    if also('/') {
        let regex = |rest: &str| !rest.contains('/') || rest.contains("/+") || rest.ends_with('/');
        !name.contains(':') && !name.strip_prefix('/').is_some_and(regex)
    } else {
        !name.starts_with('.') && !name.contains(".so")
    }
}

impl fmt::Display for ArgSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value == ArgExpr::AllArgs {
            return f.write_str("$args");
        }
        write!(f, "{}={}", self.name, self.value)?;
        match self.format {
            Format::Default => Ok(()),
            other => write!(f, ":{other}"),
        }
    }
}

impl fmt::Display for ArgExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgExpr::Reg(name) => write!(f, "%{name}"),
            ArgExpr::Arg(n) => write!(f, "$arg{n}"),
            ArgExpr::StackPointer => f.write_str("$stack"),
            ArgExpr::RetVal => f.write_str("$retval"),
            ArgExpr::Stack(n) => write!(f, "$stack{n}"),
            ArgExpr::Const(n) => write!(f, "{n:#x}"),
            ArgExpr::Deref { offset, inner } => {
                let sign = if *offset < 0 { '-' } else { '+' };
                write!(f, "{sign}{}({inner})", offset.unsigned_abs())
            }
            ArgExpr::Named(name) => f.write_str(name),
            ArgExpr::AllArgs => f.write_str("$args"),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Default => f.write_str("x64"),
            Format::Str => f.write_str("string"),
            Format::Bits {
                width,
                offset,
                container,
            } => write!(f, "b{width}@{offset}/{container}"),
            Format::Int(format) => {
                let numbered = |f: &mut fmt::Formatter<'_>, letter, width: Width| {
                    write!(f, "{letter}{}", width.bits())
                };
                match *format {
                    IntFormat::Hex(width) => numbered(f, 'x', width),
                    IntFormat::Unsigned(width) => numbered(f, 'u', width),
                    IntFormat::Signed(width) => numbered(f, 's', width),
                    IntFormat::Char => f.write_str("char"),
                    IntFormat::Bool => f.write_str("bool"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::parse_probe;

    #[test]
    fn a_probe_is_printed_in_one_spelling() {
        for (text, printed) in [
            ("malloc@libc", "libc:malloc"),
            ("libc!f+31 %di", "libc:f+0x1f di=%di"),
            ("memcpy@GLIBC_2.2.5", "memcpy@@GLIBC_2.2.5"),
            (
                "'f(int, char)'%stop x=-8(%bp):s32",
                "\"f(int, char)\"%stop x=-8(%bp):s32",
            ),
            ("/lib/x.so+0x10", "/lib/x.so:0x10"),
            ("f \\42 b=%ax:b4@3/8 $args", "f imm=0x2a b=%ax:b4@3/8 $args"),
        ] {
            assert_eq!(
                parse_probe(text).map(|p| p.to_string()),
                Ok(printed.to_owned())
            );
        }
    }
}
