//! One word of arguments to its tree, in perf-probe's way. Knows no registers: whether `%foo`
//! exists is said when it is lowered for a machine.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::tree::{ArgExpr, ArgSpec, Format};
use super::words::{is_numeric, number};
use crate::program::{IntFormat, Width};

/// Deepest nesting of `+0(...)`.
const MAX_DEPTH: usize = 16;
const TYPES: &str = "types are u8 to u64, s8 to s64, x8 to x64, char, bool, string and b4@3/8";

/// Reads the word at `span` of `text`.
pub(super) fn read(text: &str, span: Range<usize>) -> Result<ArgSpec, Diagnostic> {
    let word = text.get(span.clone()).unwrap_or_default();
    let reader = Reader {
        text,
        start: span.start,
        word,
    };
    if word == "$args" {
        return Ok(ArgSpec {
            name: String::new(),
            value: ArgExpr::AllArgs,
            format: Format::Default,
            span,
        });
    }
    let (name, body_at) = match word.split_once('=') {
        Some((name, _)) if is_identifier(name) => (Some(name), name.len() + 1),
        Some((name, _)) if !name.is_empty() && name.bytes().all(is_word_byte) => {
            return Err(reader
                .error(
                    0..name.len(),
                    format!("`{name}` is no name for an argument"),
                )
                .help("names are letters, digits and `_`, and start with no digit"));
        }
        _ => (None, 0),
    };
    let body_end = body_end(word, body_at);
    let value = reader.expr(body_at..body_end, 0)?;
    let format = match word.get(body_end..).unwrap_or_default().strip_prefix(':') {
        Some(_) => reader.format(body_end + 1..word.len())?,
        None => Format::Default,
    };
    Ok(ArgSpec {
        name: name.map_or_else(|| default_name(&value), str::to_owned),
        value,
        format,
        span,
    })
}

/// The type follows the last single colon.
fn body_end(word: &str, from: usize) -> usize {
    match word.rfind(':') {
        Some(at) if at >= from && !word.get(..at).is_some_and(|w| w.ends_with(':')) => at,
        _ => word.len(),
    }
}

/// `di` of `%di`, `arg1` of `$arg1`, `di` of `+8(%di)`.
fn default_name(value: &ArgExpr) -> String {
    match value {
        ArgExpr::Reg(name) | ArgExpr::Named(name) => name.clone(),
        ArgExpr::Arg(n) => format!("arg{n}"),
        ArgExpr::StackPointer => "stack".to_owned(),
        ArgExpr::RetVal => "retval".to_owned(),
        ArgExpr::Stack(n) => format!("stack{n}"),
        ArgExpr::Const(_) => "imm".to_owned(),
        ArgExpr::Deref { inner, .. } => default_name(inner),
        ArgExpr::AllArgs => String::new(),
    }
}

/// Gives equal names numbers: `di`, `di_2`, `di_3`.
pub(super) fn number_duplicates(args: &mut [ArgSpec]) {
    let mut taken = std::collections::HashSet::new();
    for arg in args {
        if arg.value == ArgExpr::AllArgs {
            continue;
        }
        let mut n = 2;
        let mut name = arg.name.clone();
        while !taken.insert(name.clone()) {
            name = format!("{}_{n}", arg.name);
            n += 1;
        }
        arg.name = name;
    }
}

fn is_word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

pub(super) fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(is_word_byte)
}

struct Reader<'a> {
    text: &'a str,
    start: usize,
    word: &'a str,
}

impl Reader<'_> {
    /// An error at bytes of the word.
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let span = self.start + span.start..self.start + span.end;
        Diagnostic::new(self.text, span, message)
    }

    fn expr(&self, span: Range<usize>, depth: usize) -> Result<ArgExpr, Diagnostic> {
        let text = self.word.get(span.clone()).unwrap_or_default();
        let error = |message: String| self.error(span.clone(), message);
        let Some(first) = text.chars().next() else {
            return Err(error("a value is missing here".to_owned())
                .help("as in size=%di, or path=+0(%di):string"));
        };
        let rest = text.get(first.len_utf8()..).unwrap_or_default();
        match first {
            '%' if is_identifier(rest) => Ok(ArgExpr::Reg(rest.to_owned())),
            '%' => Err(error(format!("`{text}` is no register")).help("as in %di, %si, %ax")),
            '$' => self.dollar(span.clone(), rest),
            '@' => Err(
                error("a global variable's value comes in a later release".to_owned())
                    .help("use an address: +0(0x4040)"),
            ),
            '\\' => self.constant(span.clone(), rest),
            '+' | '-' if text.contains('(') => self.deref(span.clone(), depth),
            '0'..='9' | '-' | '+' => self.constant(span.clone(), text),
            _ if is_identifier(text) => Ok(ArgExpr::Named(text.to_owned())),
            _ => {
                let base: usize = text.bytes().take_while(|b| is_word_byte(*b)).count();
                let tail = text.get(base..).unwrap_or_default();
                let member = tail.starts_with("->") || tail.starts_with(['.', '[']) || first == '*';
                Err(if member {
                    error("members of variables come in a later release".to_owned())
                        .help("use the register and the member's offset: +8(%di):u32")
                } else {
                    error(format!("`{text}` is no argument"))
                        .help("as in size=%di, path=+0(%di):string, n=$arg1:u32, $args")
                })
            }
        }
    }

    fn dollar(&self, span: Range<usize>, name: &str) -> Result<ArgExpr, Diagnostic> {
        let numbered = |prefix: &str| {
            name.strip_prefix(prefix)
                .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
                .map(|digits| digits.parse::<u32>().unwrap_or(u32::MAX))
        };
        if name == "stack" {
            return Ok(ArgExpr::StackPointer);
        }
        if name == "retval" {
            return Ok(ArgExpr::RetVal);
        }
        if let Some(n) = numbered("arg") {
            if !(1..=64).contains(&n) {
                return Err(self
                    .error(span, "there is no such argument")
                    .help("they are $arg1 to $arg64"));
            }
            return Ok(ArgExpr::Arg(n));
        }
        if let Some(n) = numbered("stack") {
            if n > 65_535 {
                return Err(self
                    .error(span, "too deep in the stack")
                    .help("$stack0 to $stack65535"));
            }
            return Ok(ArgExpr::Stack(n));
        }
        let error = |message: &str| self.error(span.clone(), message);
        Err(match name {
            "args" => {
                error("`$args` stands alone, without name or type").help("as in -p 'malloc $args'")
            }
            "comm" => error("every line names its command").help("leave it out"),
            "vars" => error("local variables are named one by one").help("as in -p 'f size n'"),
            "params" => error("all parameters together are `$args`").help("as in -p 'f $args'"),
            _ => error("there is no such variable")
                .help("there are $arg1, $arg2, ..., $stack, $stack0, $stack1, ... and $args"),
        })
    }

    fn constant(&self, span: Range<usize>, text: &str) -> Result<ArgExpr, Diagnostic> {
        let (negative, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => (text.starts_with('-'), digits),
            None => (false, text),
        };
        match number(digits) {
            Some(n) if negative => Ok(ArgExpr::Const(n.wrapping_neg())),
            Some(n) => Ok(ArgExpr::Const(n)),
            None if is_numeric(digits) => Err(self.error(span, "this number does not fit 64 bits")),
            None => Err(self
                .error(span, format!("`{text}` is no number"))
                .help("as in 42 or 0x2a; memory is read by +8(%di)")),
        }
    }

    fn deref(&self, span: Range<usize>, depth: usize) -> Result<ArgExpr, Diagnostic> {
        if depth >= MAX_DEPTH {
            return Err(self
                .error(span, "too many dereferences in each other")
                .help(format!("at most {MAX_DEPTH}")));
        }
        let text = self.word.get(span.clone()).unwrap_or_default();
        let open = text.find('(').unwrap_or(text.len());
        if !text.ends_with(')') {
            return Err(self
                .error(
                    span.start + open..span.end,
                    "this parenthesis is never closed",
                )
                .help("as in +8(%di):u32"));
        }
        let digits = text.get(1..open).unwrap_or_default();
        // perf-probe marks user memory by a `u`; there is no other here.
        let digits = digits.strip_prefix('u').unwrap_or(digits);
        let offset = number(digits).and_then(|n| {
            if text.starts_with('-') {
                0_i64.checked_sub_unsigned(n)
            } else {
                i64::try_from(n).ok()
            }
        });
        let Some(offset) = offset else {
            return Err(self
                .error(span.start..span.start + open, "this offset is no number")
                .help("memory at an address is +0(ADDRESS), as in +8(%di) or -0x10(%bp)"));
        };
        let inner = self.expr(span.start + open + 1..span.end - 1, depth + 1)?;
        Ok(ArgExpr::Deref {
            offset,
            inner: Box::new(inner),
        })
    }

    fn format(&self, span: Range<usize>) -> Result<Format, Diagnostic> {
        let text = self.word.get(span.clone()).unwrap_or_default();
        let width = |bits: &str| match bits {
            "8" => Some(Width::W8),
            "16" => Some(Width::W16),
            "32" => Some(Width::W32),
            "64" => Some(Width::W64),
            _ => None,
        };
        let first = text.get(..1).unwrap_or_default();
        let rest = text.get(first.len()..).unwrap_or_default();
        let found = match (text, first) {
            ("char", _) => Some(Format::Int(IntFormat::Char)),
            ("bool", _) => Some(Format::Int(IntFormat::Bool)),
            ("string" | "ustring", _) => Some(Format::Str),
            (_, "u") => width(rest).map(|w| Format::Int(IntFormat::Unsigned(w))),
            (_, "s") => width(rest).map(|w| Format::Int(IntFormat::Signed(w))),
            (_, "x") => width(rest).map(|w| Format::Int(IntFormat::Hex(w))),
            (_, "b") => return self.bits(span, rest),
            _ => None,
        };
        found.ok_or_else(|| {
            let message = match text {
                "" => "a type is missing after the `:`".to_owned(),
                "symbol" | "symstr" => format!("the type `{text}` comes in a later release"),
                _ if text.contains('[') => "arrays come in a later release".to_owned(),
                _ => format!("there is no type `{text}`"),
            };
            self.error(span, message).help(TYPES)
        })
    }

    fn bits(&self, span: Range<usize>, text: &str) -> Result<Format, Diagnostic> {
        let part = |text: &str| {
            let small = number(text).and_then(|n| u32::try_from(n).ok());
            small.filter(|n| *n <= 64)
        };
        let parts = text.split_once('@').and_then(|(width, rest)| {
            let (offset, container) = rest.split_once('/')?;
            Some((part(width)?, part(offset)?, part(container)?))
        });
        match parts {
            Some((width, offset, container))
                if width > 0
                    && matches!(container, 8 | 16 | 32 | 64)
                    && width + offset <= container =>
            {
                Ok(Format::Bits {
                    width,
                    offset,
                    container,
                })
            }
            _ => Err(self
                .error(span, "these bits do not fit")
                .help("bWIDTH@OFFSET/CONTAINER: b4@3/8 is 4 bits above the lowest 3 of 8")),
        }
    }
}
