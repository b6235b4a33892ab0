//! The components of a location to module, place and kind. Pure text: which reading fits the
//! target (`ls+0x1136` as symbol or module) is decided where symbols are known.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::pattern::Pattern;
use super::tree::{Kind, Location, ModuleName, NameText};
use super::words::{Component, Style, is_numeric, number};

/// A location, read.
pub(super) struct Parsed {
    pub module: Option<ModuleName>,
    pub location: Location,
    pub kind: Kind,
}

/// Reads the components; `span` is the whole location in `text`.
pub(super) fn read(
    text: &str,
    span: Range<usize>,
    components: &[Component],
) -> Result<Parsed, Diagnostic> {
    let reader = Reader { text, span };
    match components {
        [name] => reader.name(None, name),
        [first, last] => match reader.line_number(last)? {
            Some((line, kind)) => reader.line(None, first, line, kind),
            None => reader.name(Some(reader.module(first)?), last),
        },
        [module, file, last] => match reader.line_number(last)? {
            Some((line, kind)) => reader.line(Some(reader.module(module)?), file, line, kind),
            None => Err(reader.too_many(components)),
        },
        _ => Err(reader.too_many(components)),
    }
}

struct Reader<'a> {
    text: &'a str,
    span: Range<usize>,
}

impl Reader<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.text, span, message)
    }

    fn too_many(&self, components: &[Component]) -> Diagnostic {
        let error = self.error(
            self.span.clone(),
            "too many `:` here; a probe is [MODULE:]SYMBOL or [MODULE:]FILE:LINE",
        );
        let first = components.first().map_or("", |c| c.body.as_str());
        match first {
            "uprobe" | "u" | "p" | "probe" => error.help(format!(
                "leave `{first}:` out: -p takes MODULE:SYMBOL, as in libc:malloc"
            )),
            _ => error.help("put a name or path that has a `:` of its own in quotes"),
        }
    }

    /// The line number and kind, when the last component is one.
    fn line_number(&self, last: &Component) -> Result<Option<(u32, Kind)>, Diagnostic> {
        if last.style != Style::Plain {
            return Ok(None);
        }
        let (digits, kind) = self.kind(&last.body, last.span.start)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        match digits.parse() {
            Ok(line) if line > 0 => Ok(Some((line, kind))),
            _ => Err(self
                .error(last.span.clone(), format!("no file has a line {digits}"))
                .help("an address of a module is written in hex: libc:0x1136")),
        }
    }

    fn line(
        &self,
        module: Option<ModuleName>,
        file: &Component,
        line: u32,
        kind: Kind,
    ) -> Result<Parsed, Diagnostic> {
        if file.style == Style::Regex || !file.suffix.is_empty() || file.body.is_empty() {
            return Err(self
                .error(file.span.clone(), "this is no source file")
                .help("a line of source is written FILE.c:LINE"));
        }
        Ok(Parsed {
            module,
            location: Location::Line {
                file: file.body.clone(),
                line,
            },
            kind,
        })
    }

    fn module(&self, component: &Component) -> Result<ModuleName, Diagnostic> {
        if component.style == Style::Regex {
            return Err(self
                .error(component.span.clone(), "a module is not named by a regex")
                .help("a glob will do: libc*:malloc"));
        }
        if !component.suffix.is_empty() {
            return Err(self.error(
                component.span.clone(),
                format!("`{}` after a module's name", component.suffix),
            ));
        }
        self.module_text(
            &component.body,
            component.style == Style::Quoted,
            component.span.clone(),
        )
    }

    fn module_text(
        &self,
        text: &str,
        quoted: bool,
        span: Range<usize>,
    ) -> Result<ModuleName, Diagnostic> {
        if text.is_empty() {
            return Err(self.error(span, "a module's name is missing before the `:`"));
        }
        if !quoted && text.contains("::") {
            return Err(self
                .error(span, format!("`{text}` is no module"))
                .help("put a name that has single colons in quotes"));
        }
        if text.ends_with('/') {
            return Err(self
                .error(span, format!("`{text}` is no module"))
                .help("a slash in a regex is written `\\/`; a path is one of a file"));
        }
        let pattern = !quoted && text.contains(['*', '?']);
        let directory = |rest: &str| rest.contains('/') && !rest.contains('\\');
        if pattern && text.strip_prefix('/').is_some_and(|rest| !directory(rest)) {
            return Err(self
                .error(span, format!("`{text}` is no pattern of paths"))
                .help("as in '/usr/lib/lib*:malloc'; a regex ends with a slash"));
        }
        Ok(if pattern {
            ModuleName::Glob(text.to_owned())
        } else {
            ModuleName::literal(text.to_owned())
        })
    }

    /// Splits `%KIND` off; `start` is where `text` stands.
    fn kind<'t>(&self, text: &'t str, start: usize) -> Result<(&'t str, Kind), Diagnostic> {
        let Some(at) = text.rfind('%') else {
            return Ok((text, Kind::Entry));
        };
        let (before, word) = (
            text.get(..at).unwrap_or_default(),
            text.get(at + 1..).unwrap_or_default(),
        );
        let span = start + at..start + text.len();
        let known = ["return", "ret", "call", "stop"]
            .into_iter()
            .find(|known| word.starts_with(known));
        match (word, known) {
            ("stop", _) => Ok((before, Kind::Stop)),
            ("return", _) => Ok((before, Kind::Return)),
            ("ret", _) => Err(self
                .error(span, "there are no `%ret` probes")
                .help("%return")),
            ("call", _) => Ok((before, Kind::Call)),
            (_, Some(known))
                if word
                    .get(known.len()..)
                    .is_some_and(|r| r.starts_with(['+', '@'])) =>
            {
                Err(self
                    .error(span, format!("`%{known}` comes last"))
                    .help("SYMBOL+OFFSET%KIND"))
            }
            _ => {
                // A module or version behind it does not make it part of a name.
                let kind = word.split_once('@').map_or(word, |(kind, _)| kind);
                // `operator%` and `operator%=` are names.
                if kind.is_empty() || !kind.bytes().all(|b| b.is_ascii_lowercase()) {
                    return Ok((text, Kind::Entry));
                }
                Err(self
                    .error(span, format!("there are no `%{kind}` probes"))
                    .help("an argument stands after a space: malloc size=%di; a kind is %stop"))
            }
        }
    }

    fn name(
        &self,
        module: Option<ModuleName>,
        component: &Component,
    ) -> Result<Parsed, Diagnostic> {
        let plain = component.style == Style::Plain;
        let tail = if plain {
            &component.body
        } else {
            &component.suffix
        };
        let tail_start = component.span.end - tail.len();
        let (tail, kind) = self.kind(tail, tail_start)?;
        let (tail, mut offset) = self.offset(tail, tail_start)?;
        let (name, at) = self.at_sign(tail, tail_start)?;
        let (name, more) = match (&at, offset) {
            (Some(_), None) => self.offset(name, tail_start)?,
            _ => (name, None),
        };
        offset = offset.or(more);
        let at_span = tail_start + name.len()..component.span.end;

        let (mut module, mut version) = (module, None);
        match at {
            Some(At::Version(text)) => version = Some(text),
            Some(At::Either(text)) if looks_like_version(&text) => version = Some(text),
            Some(At::Either(text)) => {
                if module.is_some() {
                    return Err(self
                        .error(at_span, format!("the module is named twice, `{text}` too"))
                        .help("a version is written SYMBOL@@VERSION"));
                }
                // In front it could be taken for a regex.
                if text.starts_with('/') && text.contains(['*', '?']) {
                    return Err(self
                        .error(at_span, "a pattern of paths cannot follow the `@`")
                        .help("write it in front: PATTERN:SYMBOL"));
                }
                module = Some(self.module_text(&text, false, at_span)?);
            }
            None => {}
        }

        let name = match component.style {
            Style::Plain => {
                if let Some(location) =
                    self.address(&mut module, name, offset, version.is_some(), component)?
                {
                    return Ok(Parsed {
                        module,
                        location,
                        kind,
                    });
                }
                if name.is_empty() {
                    let span = tail_start..component.span.end.max(tail_start);
                    return Err(self
                        .error(span, "the symbol's name is missing")
                        .help("every function of a module is MODULE:*"));
                }
                if name.contains(['*', '?']) && !is_operator_star(name) {
                    NameText::Glob(name.to_owned())
                } else {
                    NameText::Exact(name.to_owned())
                }
            }
            style if !name.is_empty() => {
                let what = if style == Style::Quoted {
                    "quotes"
                } else {
                    "a regex"
                };
                return Err(self
                    .error(
                        tail_start..component.span.end,
                        format!("`{name}` after {what}"),
                    )
                    .help(
                        "only @LIB, +OFFSET and %KIND can follow; separate arguments by a space",
                    ));
            }
            Style::Regex => NameText::Regex(component.body.clone()),
            Style::Quoted if component.body.is_empty() => {
                return Err(self.error(component.span.clone(), "the symbol's name is missing"));
            }
            Style::Quoted => NameText::Exact(component.body.clone()),
        };
        if let Err(message) = Pattern::new(&name) {
            return Err(self
                .error(component.span.clone(), format!("in this regex: {message}"))
                .help("regexes are those of Rust's regex crate, unanchored"));
        }
        if offset.is_some() && !matches!(name, NameText::Exact(_)) {
            return Err(self
                .error(component.span.clone(), "an offset needs one symbol")
                .help("name the function, or leave the offset out"));
        }
        Ok(Parsed {
            module,
            location: Location::Symbol {
                name,
                version,
                offset: offset.unwrap_or(0),
            },
            kind,
        })
    }

    /// The location, when a plain name is an address or a module with an offset.
    fn address(
        &self,
        module: &mut Option<ModuleName>,
        name: &str,
        offset: Option<u64>,
        versioned: bool,
        component: &Component,
    ) -> Result<Option<Location>, Diagnostic> {
        let span = component.span.clone();
        let is_hex = name.starts_with("0x") && is_numeric(name);
        if versioned && (is_hex || name.is_empty()) {
            return Err(self.error(span, "an address has no version"));
        }
        if is_hex {
            let address = number(name).and_then(|n| n.checked_add(offset.unwrap_or(0)));
            let Some(address) = address else {
                return Err(self.error(span, "this address does not fit 64 bits"));
            };
            return Ok(Some(match module {
                Some(_) => Location::ModuleOffset(address),
                None => Location::Address(address),
            }));
        }
        match (&module, offset) {
            (Some(_), Some(offset)) if name.is_empty() => Ok(Some(Location::ModuleOffset(offset))),
            (None, Some(offset)) if looks_like_file(name) => {
                *module = Some(self.module_text(name, false, span)?);
                Ok(Some(Location::ModuleOffset(offset)))
            }
            (None, None) if looks_like_file(name) => Err(self
                .error(span, "this is a file; which symbol?")
                .help(format!(
                    "{name}:SYMBOL, or {name}:* for every function; a regex is /.../"
                ))),
            _ => Ok(None),
        }
    }

    /// Splits `+OFFSET` off. `operator+` and `operator++` are names.
    fn offset<'t>(
        &self,
        text: &'t str,
        start: usize,
    ) -> Result<(&'t str, Option<u64>), Diagnostic> {
        let hex_after = |at: usize| {
            let rest = text.get(at + 1..).unwrap_or_default();
            rest.starts_with("0x") && is_numeric(rest)
        };
        if let Some(at) = text.rfind('-').filter(|at| hex_after(*at)) {
            return Err(self
                .error(
                    start + at..start + text.len(),
                    "an offset cannot be negative",
                )
                .help("name the function that the address is in"));
        }
        let Some(at) = text.rfind('+') else {
            return Ok((text, None));
        };
        let digits = text.get(at + 1..).unwrap_or_default();
        // In `f+4@VERSION` the version is split off first.
        if !digits.starts_with(|c: char| c.is_ascii_digit()) || digits.contains('@') {
            return Ok((text, None));
        }
        match number(digits) {
            Some(offset) => Ok((text.get(..at).unwrap_or_default(), Some(offset))),
            None => {
                let (message, help) = if is_numeric(digits) {
                    ("this offset does not fit 64 bits", "")
                } else {
                    ("this offset is no number", "write +0x1f or +31")
                };
                let error = self.error(start + at..start + text.len(), message);
                Err(if help.is_empty() {
                    error
                } else {
                    error.help(help)
                })
            }
        }
    }

    /// Splits `@LIB`, `@VERSION` or `@@VERSION` off.
    fn at_sign<'t>(
        &self,
        text: &'t str,
        start: usize,
    ) -> Result<(&'t str, Option<At>), Diagnostic> {
        let Some(at) = text.find('@') else {
            return Ok((text, None));
        };
        let name = text.get(..at).unwrap_or_default();
        let rest = text.get(at + 1..).unwrap_or_default();
        let (word, double) = match rest.strip_prefix('@') {
            Some(word) => (word, true),
            None => (rest, false),
        };
        let allowed = |c: char| {
            c.is_alphanumeric()
                || matches!(c, '_' | '.' | '-')
                || !double && matches!(c, '+' | '/' | '*' | '?')
        };
        if word.is_empty() || !word.chars().all(allowed) {
            return Err(self
                .error(
                    start + at..start + text.len(),
                    "a library or a version should follow the `@`",
                )
                .help("malloc@libc, memcpy@GLIBC_2.2.5, or memcpy@@VERSION"));
        }
        let found = if double {
            At::Version(word.to_owned())
        } else {
            At::Either(word.to_owned())
        };
        Ok((name, Some(found)))
    }
}

/// What follows an `@`.
enum At {
    Version(String),
    Either(String),
}

/// `GLIBC_2.2.5`, `CXXABI_1.3`, `LIBXML2_2.4.30`: version nodes are upper case and have a `_`.
fn looks_like_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.contains('_')
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.'))
}

/// A path, or a library's file name. Go's symbols have slashes too, but do not start with one.
fn looks_like_file(text: &str) -> bool {
    let library = text
        .find(".so")
        .and_then(|at| text.get(at + 3..))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    text.starts_with('/') || text.starts_with("./") || text.starts_with("../") || library
}

/// `operator*` and `operator*=` are names, not patterns.
fn is_operator_star(name: &str) -> bool {
    let name = name.rsplit("::").next().unwrap_or(name);
    matches!(name, "operator*" | "operator*=" | "operator->*")
}
