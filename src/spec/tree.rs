//! The checked tree of one probe. Plain data: how it is written is in `print`, what it means at a
//! place is for those who know symbols.

use std::ops::Range;

use super::diagnostic::{Diagnostic, Place};
use crate::program::IntFormat;

/// One probe as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// The text it was parsed from.
    pub text: String,
    /// Where that stands, when it was read from a file.
    pub place: Option<Place>,
    /// Bytes of `text` that name the location.
    pub span: Range<usize>,
    /// The module it is in, when one is named.
    pub module: Option<ModuleName>,
    /// Where in the module.
    pub location: Location,
    /// What happens there.
    pub kind: Kind,
    /// What is recorded at each hit.
    pub args: Vec<ArgSpec>,
}

/// Where a probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At or after a symbol.
    Symbol {
        /// Its name.
        name: NameText,
        /// Its version, such as `GLIBC_2.2.5`.
        version: Option<String>,
        /// Bytes behind its start; 0 with globs and regexes.
        offset: u64,
    },
    /// A link address of the module; [`ProbeSpec::module`] is named.
    ModuleOffset(u64),
    /// A run-time address (the link address too where the program is not position independent).
    Address(u64),
    /// The code of a source line.
    Line {
        /// The file, or the last parts of its path.
        file: String,
        /// The line, from 1.
        line: u32,
    },
    /// The places that a USDT note names.
    Usdt {
        /// Who defines it; anybody where nobody is named.
        provider: Option<NameText>,
        /// Its name.
        name: NameText,
        /// Only places that pass these arguments, by number, as written here.
        args: Vec<(u8, String)>,
    },
}

/// A symbol's name or a pattern for many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameText {
    /// This name, mangled or demangled.
    Exact(String),
    /// A pattern with `*` and `?`, for the whole name.
    Glob(String),
    /// A regular expression (of the `regex` crate, known to compile), for any part of the name.
    Regex(String),
}

/// A module as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleName {
    /// `libc`, `libc.so.6`, `redis-server`.
    Name(String),
    /// Something with a slash.
    Path(String),
    /// A pattern with `*` and `?`, for the file name, or for the path when it has a slash.
    Glob(String),
}

/// What a probe does besides counting and recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing: control goes on.
    Entry,
    /// `%return`: it happens when the function returns.
    Return,
    /// `%call`: at the entry and at the return.
    Call,
    /// `%stop`: stops the target there for a debugger; such a site stays a breakpoint.
    Stop,
}

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgSpec {
    /// What it is called in the output; distinct within a probe. Empty for `$args`.
    pub name: String,
    /// Its value.
    pub value: ArgExpr,
    /// How it is read and shown.
    pub format: Format,
    /// Bytes of the probe's text it was parsed from.
    pub span: Range<usize>,
}

/// A value at a hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgExpr {
    /// `%di`: a register, named without `%`.
    Reg(String),
    /// `$arg1`: the n-th integer argument, from 1.
    Arg(u32),
    /// `$retval`: what the function returns.
    RetVal,
    /// `$stack`: the stack pointer.
    StackPointer,
    /// `$stack2`: the n-th word of the stack, from 0.
    Stack(u32),
    /// A number.
    Const(u64),
    /// `+8(%di)`: memory at `inner + offset`.
    Deref {
        /// Displacement.
        offset: i64,
        /// Address.
        inner: Box<ArgExpr>,
    },
    /// A variable or parameter, to be replaced by what the debug information says.
    Named(String),
    /// `$args`: all parameters, to be replaced by what the debug information says.
    AllArgs,
}

/// How an argument is read and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing was said: 64 bits in hex, unless debug information says better.
    Default,
    /// An integer; memory is read in this width.
    Int(IntFormat),
    /// The NUL-terminated bytes the value points to: `+8(%di):string` starts at di+8,
    /// `%di:string` at di.
    Str,
    /// `bWIDTH@OFFSET/CONTAINER`: some bits of an integer, counted from the lowest, in decimal.
    Bits {
        /// How many.
        width: u32,
        /// Above how many.
        offset: u32,
        /// Of how many: 8, 16, 32 or 64.
        container: u32,
    },
}

impl ProbeSpec {
    /// An error about the probe's location.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.error_at(self.span.clone(), message)
    }

    /// An error about bytes of the probe's text.
    pub fn error_at(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(&self.text, span, message).at(self.place.clone())
    }

    /// The number, when the probe is nothing but one: whoever writes `-p 1234` and has no such
    /// symbol means a process.
    pub fn looks_like_pid(&self) -> Option<u32> {
        match &self.location {
            Location::Symbol {
                name: NameText::Exact(name),
                version: None,
                offset: 0,
            } if self.module.is_none() && name.bytes().all(|b| b.is_ascii_digit()) => {
                name.parse().ok()
            }
            _ => None,
        }
    }

    /// The other reading of `ls+0x1136`: a link address of a module. For when there is no such
    /// symbol.
    pub fn as_module_offset(&self) -> Option<ProbeSpec> {
        match &self.location {
            Location::Symbol {
                name: NameText::Exact(name),
                version: None,
                offset,
            } if self.module.is_none() && *offset != 0 => Some(ProbeSpec {
                module: Some(ModuleName::literal(name.clone())),
                location: Location::ModuleOffset(*offset),
                ..self.clone()
            }),
            _ => None,
        }
    }

    /// Whether it names many symbols.
    pub fn is_pattern(&self) -> bool {
        let many = |name: &NameText| !matches!(name, NameText::Exact(_));
        match &self.location {
            Location::Symbol { name, .. } => many(name),
            Location::Usdt { provider, name, .. } => {
                many(name) || provider.as_ref().is_some_and(many)
            }
            _ => false,
        }
    }

    /// Whether some argument needs debug information.
    pub fn needs_debug_info(&self) -> bool {
        self.args.iter().any(|arg| arg.value.needs_debug_info())
    }
}

impl ArgExpr {
    /// Whether debug information has to say what it is.
    pub fn needs_debug_info(&self) -> bool {
        match self {
            ArgExpr::Named(_) | ArgExpr::AllArgs => true,
            ArgExpr::Deref { inner, .. } => inner.needs_debug_info(),
            _ => false,
        }
    }

    /// Whether it is read by the calling convention, which holds at a function's entry only.
    pub fn is_entry_only(&self) -> bool {
        match self {
            ArgExpr::Arg(_) => true,
            ArgExpr::Deref { inner, .. } => inner.is_entry_only(),
            _ => false,
        }
    }
}

impl ModuleName {
    /// The module of exactly this name or path.
    pub fn literal(text: String) -> ModuleName {
        if text.contains('/') {
            ModuleName::Path(text)
        } else {
            ModuleName::Name(text)
        }
    }

    /// Whether it names many modules.
    pub fn is_pattern(&self) -> bool {
        matches!(self, ModuleName::Glob(_))
    }
}

impl ProbeSpec {
    /// The probes it stands for: `%call` is one at the entry and one at the return, and each argument
    /// belongs to the one at which it is there.
    pub fn halves(&self) -> Vec<ProbeSpec> {
        if self.kind != Kind::Call {
            return vec![self.clone()];
        }
        let half = |kind| {
            let args = self.args.iter();
            let here = |arg: &&ArgSpec| arg.value.is_returned() == (kind == Kind::Return);
            ProbeSpec {
                kind,
                args: args.filter(here).cloned().collect(),
                ..self.clone()
            }
        };
        vec![half(Kind::Entry), half(Kind::Return)]
    }
}

impl ArgExpr {
    /// Whether it is made of what a function returns.
    fn is_returned(&self) -> bool {
        match self {
            ArgExpr::RetVal => true,
            ArgExpr::Deref { inner, .. } => inner.is_returned(),
            _ => false,
        }
    }
}
