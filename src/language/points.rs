//! Attach points: `uprobe:libc:malloc` to the probe that it names. Knows how they are written and
//! which of them a user-space tracer has; whether there is such a function others say.

mod provider;

use self::provider::{PROVIDERS, Provider};
use super::source::{Source, Span};
use super::token::number;
use super::tree::Name;
use super::typed::{Attach, Point};
use crate::base::suggest;
use crate::spec::{Kind, Location, ModuleName, NameText, ProbeSpec};

/// Why there is no such attach point.
#[derive(Debug)]
pub(super) struct Refused {
    pub span: Span,
    pub message: String,
    pub help: String,
    /// It is one of the kernel's: left out where missing probes are.
    pub kernel: bool,
}

/// A part between colons.
#[derive(Clone, Debug)]
struct Part {
    /// Without its quotes.
    text: String,
    quoted: bool,
    /// What follows the closing quote.
    suffix: String,
    span: Span,
}

/// Reads an attach point; `$1` in it is the first parameter.
pub(super) fn read(source: &Source, name: &Name, parameters: &[String]) -> Result<Attach, Refused> {
    let mut reader = Reader {
        source,
        span: name.span.clone(),
        moved: false,
    };
    let text = reader.replace(&name.text, parameters)?;
    let parts = reader.split(&text)?;
    let (first, rest) = match parts.split_first() {
        Some(split) => split,
        None => return Err(reader.refuse(&name.span, "this probe is empty", "")),
    };
    let known = PROVIDERS.iter().find(|(short, ..)| *short == first.text);
    let Some((_, long, provider)) = known else {
        return Err(reader.unknown(first, rest));
    };
    let written = text.split_once(':').map_or("", |(_, rest)| rest);
    let long_text = format!("{long}:{written}");
    match *provider {
        Provider::Begin | Provider::End if !rest.is_empty() => Err(reader.refuse(
            &name.span,
            &format!("{long} stands alone"),
            "as in: BEGIN { ... }",
        )),
        Provider::Begin => Ok(Attach::Begin),
        Provider::End => Ok(Attach::End),
        Provider::Interval => reader.interval(rest),
        Provider::Uprobe => reader.function(rest, long_text, false).map(Attach::Entry),
        Provider::Uretprobe => reader.function(rest, long_text, true).map(Attach::Return),
        Provider::Usdt => reader.usdt(rest, long_text).map(Attach::Usdt),
        Provider::Kernel(help) => Err(Refused {
            kernel: true,
            ..reader.refuse(
                &first.span,
                &format!("`{long}` is a probe of the kernel, not available in user space"),
                help,
            )
        }),
    }
}

struct Reader<'a> {
    source: &'a Source,
    span: Span,
    /// Whether parameters were put in: parts then have no place of their own.
    moved: bool,
}

const FORMS: &str = "as in: uprobe:libc:malloc, uretprobe:/bin/bash:readline, usdt:BINARY:NAME, interval:s:1, BEGIN, END";

impl Reader<'_> {
    fn refuse(&self, span: &Span, message: &str, help: &str) -> Refused {
        let span = match self.moved {
            true => self.span.clone(),
            false => span.clone(),
        };
        Refused {
            span,
            message: message.to_owned(),
            help: help.to_owned(),
            kernel: false,
        }
    }

    fn unknown(&self, first: &Part, rest: &[Part]) -> Refused {
        let names = PROVIDERS.iter().map(|(name, ..)| *name);
        let names = names.filter(|name| name.len() > 2);
        let close = suggest::closest(&first.text, names);
        let text = &first.text;
        let code = text.contains(['(', '=', ';']);
        match close {
            _ if code => self.refuse(
                &first.span,
                "this stands outside of any probe",
                "code stands in a probe's braces: BEGIN { ... }, uprobe:libc:malloc { ... }",
            ),
            Some(close) => {
                let message = format!("there are no `{text}` probes");
                self.refuse(&first.span, &message, &format!("did you mean `{close}`?"))
            }
            None if rest.is_empty() && !text.is_empty() => {
                let message = format!("`{text}` is no probe");
                let help = format!("a function of the program is uprobe:{text}; {FORMS}");
                self.refuse(&first.span, &message, &help)
            }
            None => {
                let whole = self.source.get(&self.span);
                let help = format!("a function is probed with uprobe:{whole}");
                self.refuse(&first.span, &format!("there are no `{text}` probes"), &help)
            }
        }
    }

    /// Puts parameters in.
    fn replace(&mut self, text: &str, parameters: &[String]) -> Result<String, Refused> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(rest.get(..at).unwrap_or_default());
            rest = rest.get(at + 1..).unwrap_or_default();
            let len = rest.bytes().take_while(u8::is_ascii_digit).count();
            if len == 0 {
                out.push('$');
                continue;
            }
            let digits = rest.get(..len).unwrap_or_default();
            rest = rest.get(len..).unwrap_or_default();
            let index: Option<usize> = digits.parse().ok();
            let value = index
                .and_then(|n| n.checked_sub(1))
                .and_then(|n| parameters.get(n));
            let Some(value) = value else {
                let message = format!("parameter ${digits} was not given");
                return Err(self.refuse(&self.span, &message, "it is part of this probe's name"));
            };
            if out.len() + value.len() > 64 << 10 {
                return Err(self.refuse(&self.span, "this probe is too long", ""));
            }
            self.moved = true;
            out.push_str(value);
        }
        out.push_str(rest);
        Ok(out)
    }

    fn split(&self, text: &str) -> Result<Vec<Part>, Refused> {
        let mut parts = Vec::new();
        let mut chars = text.char_indices().peekable();
        let start = self.span.start;
        loop {
            let from = chars.peek().map_or(text.len(), |(at, _)| *at);
            let mut part = Part {
                text: String::new(),
                quoted: false,
                suffix: String::new(),
                span: start + from..start + from,
            };
            let quote = chars.next_if(|(_, c)| matches!(c, '"' | '\''));
            if let Some((_, quote)) = quote {
                part.quoted = true;
                let mut closed = false;
                while let Some((_, c)) = chars.next() {
                    match c {
                        c if c == quote => {
                            closed = true;
                            break;
                        }
                        '\\' => part.text.extend(chars.next().map(|(_, c)| c)),
                        c => part.text.push(c),
                    }
                }
                if !closed {
                    let span = start + from..start + text.len();
                    return Err(self.refuse(&span, "this quote is never closed", ""));
                }
            }
            while let Some((_, c)) = chars.next_if(|(_, c)| *c != ':') {
                match part.quoted {
                    true => part.suffix.push(c),
                    false => part.text.push(c),
                }
            }
            part.span.end = start + chars.peek().map_or(text.len(), |(at, _)| *at);
            parts.push(part);
            if chars.next().is_none() {
                return Ok(parts);
            }
            if parts.len() > 100 {
                return Err(self.refuse(&self.span, "there are too many `:` in this probe", ""));
            }
        }
    }

    fn interval(&self, rest: &[Part]) -> Result<Attach, Refused> {
        const HELP: &str = "as in: interval:s:1, interval:ms:100, interval:hz:10, interval:1s";
        let (unit, count) = match rest {
            [unit, count] => (unit.text.as_str(), count),
            [count] => ("ns", count),
            _ => return Err(self.refuse(&self.span, "an interval has a unit and a number", HELP)),
        };
        let Ok(n) = number(&count.text) else {
            let message = format!("`{}` is no number", count.text);
            return Err(self.refuse(&count.span, &message, HELP));
        };
        let scale = match unit {
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            "hz" if n > 0 && n <= 1_000_000 => return Ok(Attach::Interval(1_000_000_000 / n)),
            "hz" => 0,
            _ => {
                let message = format!("there is no unit `{unit}`");
                let span = rest.first().map_or(&self.span, |part| &part.span);
                return Err(self.refuse(span, &message, HELP));
            }
        };
        match n.checked_mul(scale) {
            Some(ns) if ns >= 1_000 && i64::try_from(ns).is_ok() => Ok(Attach::Interval(ns)),
            _ => Err(self.refuse(
                &count.span,
                "this interval is too short or too long",
                "the shortest is 1 us",
            )),
        }
    }

    fn module(&self, part: &Part) -> Result<Option<ModuleName>, Refused> {
        if part.text.is_empty() {
            return Ok(None);
        }
        if !part.suffix.is_empty() {
            let message = format!("`{}` after a module's name", part.suffix);
            return Err(self.refuse(&part.span, &message, ""));
        }
        Ok(Some(match part.text.contains(['*', '?']) && !part.quoted {
            true => ModuleName::Glob(part.text.clone()),
            false => ModuleName::literal(part.text.clone()),
        }))
    }

    fn function(&self, rest: &[Part], text: String, returns: bool) -> Result<Point, Refused> {
        let (module, name) = match rest {
            [] => return Err(self.no_function("")),
            [only] if !only.quoted && only.text.contains('@') => {
                return self.line(only, &[], text, returns);
            }
            [only] if only.text.contains('/') && !only.quoted => {
                return Err(self.no_function(&only.text));
            }
            [only] => (None, vec![only.clone()]),
            // `ns::f`: no module.
            [first, second, _, ..]
                if second.text.is_empty()
                    && !second.quoted
                    && !first.text.is_empty()
                    && !first.text.contains('/') =>
            {
                (None, rest.to_vec())
            }
            [module, line @ ..] if !module.quoted && module.text.contains('@') => {
                return self.line(module, line, text, returns);
            }
            [module, name @ ..] => (self.module(module)?, name.to_vec()),
        };
        let name = match name.as_slice() {
            [cpp, name @ ..] if cpp.text == "cpp" && !cpp.quoted && !name.is_empty() => {
                name.to_vec()
            }
            _ => name,
        };
        let location = self.location(&module, &name, returns)?;
        Ok(self.point(module, location, text))
    }

    fn no_function(&self, module: &str) -> Refused {
        let module = if module.is_empty() { "libc" } else { module };
        self.refuse(
            &self.span,
            "the function is missing",
            &format!("as in: uprobe:{module}:malloc; every function is uprobe:{module}:*"),
        )
    }

    fn location(
        &self,
        module: &Option<ModuleName>,
        name: &[Part],
        returns: bool,
    ) -> Result<Location, Refused> {
        let span = match (name.first(), name.last()) {
            (Some(first), Some(last)) => first.span.start..last.span.end,
            _ => self.span.clone(),
        };
        let single = match name {
            [only] => Some(only),
            _ => None,
        };
        let quoted = single.is_some_and(|part| part.quoted);
        let joined: Vec<&str> = name.iter().map(|part| part.text.as_str()).collect();
        let joined = joined.join(":");
        let suffix = single.map_or("", |part| part.suffix.as_str());
        let (name, offset) = match quoted {
            true => match suffix.strip_prefix('+') {
                Some(offset) => (joined, Some(offset.to_owned())),
                None if suffix.is_empty() => (joined, None),
                None => {
                    let message = format!("`{suffix}` after a name in quotes");
                    return Err(self.refuse(&span, &message, "only +OFFSET can follow"));
                }
            },
            false => match joined.rsplit_once('+') {
                Some((name, offset)) if offset.starts_with(|c: char| c.is_ascii_digit()) => {
                    (name.to_owned(), Some(offset.to_owned()))
                }
                _ => (joined, None),
            },
        };
        let offset = match offset.map(|offset| number(&offset)) {
            None => None,
            Some(Ok(offset)) => Some(offset),
            Some(Err(_)) => {
                return Err(self.refuse(&span, "this offset is no number", "as in: malloc+0x10"));
            }
        };
        if name.is_empty() {
            return Err(self.no_function(&module.as_ref().map_or(String::new(), |m| m.to_string())));
        }
        let numeric = !quoted && name.starts_with(|c: char| c.is_ascii_digit());
        if returns && (numeric || offset.is_some_and(|offset| offset != 0)) {
            return Err(self.refuse(
                &span,
                "a return probe needs a function",
                "an address or an offset can be probed with uprobe",
            ));
        }
        if numeric {
            let address = number(&name).ok();
            let address = address.and_then(|a| a.checked_add(offset.unwrap_or(0)));
            let Some(address) = address else {
                let message = format!("`{name}` is no address");
                return Err(self.refuse(&span, &message, "as in: uprobe:/bin/ls:0x1136"));
            };
            return Ok(match module {
                Some(ModuleName::Glob(_)) => {
                    return Err(self.refuse(&span, "an address needs one module", ""));
                }
                Some(_) => Location::ModuleOffset(address),
                None => Location::Address(address),
            });
        }
        let glob = name.contains(['*', '?']);
        if glob && offset.is_some() {
            return Err(self.refuse(
                &span,
                "an offset needs one function",
                "name the function, or leave the offset out",
            ));
        }
        Ok(Location::Symbol {
            name: match glob {
                true => NameText::Glob(name),
                false => NameText::Exact(name),
            },
            version: None,
            offset: offset.unwrap_or(0),
        })
    }

    /// `BIN@file.c:42`
    fn line(
        &self,
        module: &Part,
        rest: &[Part],
        text: String,
        returns: bool,
    ) -> Result<Point, Refused> {
        const HELP: &str = "as in: uprobe:/bin/bash@readline.c:362";
        let (binary, file) = module.text.split_once('@').unwrap_or((&module.text, ""));
        let line = match rest {
            [line] => line.text.parse().ok().filter(|line| *line > 0),
            [_, column, ..] => {
                return Err(self.refuse(&column.span, "a column cannot be chosen", HELP));
            }
            [] => None,
        };
        let Some(line) = line.filter(|_| !file.is_empty()) else {
            return Err(self.refuse(&self.span, "this is no line of a source file", HELP));
        };
        if returns {
            return Err(self.refuse(&self.span, "a return probe needs a function", ""));
        }
        let part = Part {
            text: binary.to_owned(),
            ..module.clone()
        };
        let module = self.module(&part)?;
        let file = file.to_owned();
        Ok(self.point(module, Location::Line { file, line }, text))
    }

    fn usdt(&self, rest: &[Part], text: String) -> Result<Point, Refused> {
        const HELP: &str = "as in: usdt:/usr/sbin/mysqld:query__start, usdt:BINARY:PROVIDER:NAME";
        let (module, provider, name) = match rest {
            [name] if !name.text.contains('/') => (None, None, name),
            [module, name] => (self.module(module)?, None, name),
            [module, provider, name] => {
                let given = Some(provider).filter(|provider| !provider.text.is_empty());
                (self.module(module)?, given, name)
            }
            _ => return Err(self.refuse(&self.span, "a USDT probe has a binary and a name", HELP)),
        };
        if name.text.is_empty() || !name.suffix.is_empty() {
            return Err(self.refuse(&name.span, "the probe's name is missing", HELP));
        }
        let text_of = |part: &Part| match part.text.contains(['*', '?']) && !part.quoted {
            true => NameText::Glob(part.text.clone()),
            false => NameText::Exact(part.text.clone()),
        };
        let location = Location::Usdt {
            provider: provider.map(text_of),
            name: text_of(name),
            args: Vec::new(),
        };
        Ok(self.point(module, location, text))
    }

    fn point(&self, module: Option<ModuleName>, location: Location, text: String) -> Point {
        let mut spec = ProbeSpec {
            text: String::new(),
            place: Some(self.source.place(self.span.start)),
            span: 0..0,
            module,
            location,
            kind: Kind::Entry,
            args: Vec::new(),
        };
        spec.text = spec.to_string();
        spec.span = 0..spec.text.len();
        Point {
            spec,
            text,
            span: self.span.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<Attach, Refused> {
        let source = Source::new("t.bt", text);
        let name = Name {
            text: text.to_owned(),
            span: 0..text.len(),
        };
        read(&source, &name, &["/bin/x".to_owned(), "f".to_owned()])
    }

    fn spec(text: &str) -> String {
        match at(text) {
            Ok(Attach::Entry(p) | Attach::Return(p) | Attach::Usdt(p)) => p.spec.text,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn error(text: &str) -> String {
        at(text).err().map_or_else(String::new, |e| e.message)
    }

    #[test]
    fn every_form_of_a_user_probe_is_understood() {
        for (text, wanted) in [
            ("uprobe:libc:malloc", "libc:malloc"),
            ("u:/bin/bash:readline", "/bin/bash:readline"),
            ("uretprobe:libc.so.6:open*", "libc.so.6:open*"),
            ("uprobe:malloc", "malloc"),
            ("uprobe::malloc", "malloc"),
            ("uprobe:*:malloc", "*:malloc"),
            ("uprobe:libc:malloc+0x10", "libc:malloc+0x10"),
            ("uprobe:/bin/ls:0x1136", "/bin/ls:0x1136"),
            ("uprobe:0x401136", "0x401136"),
            (
                "uprobe:./x:\"ns::f(int, char)\"",
                "./x:\"ns::f(int, char)\"",
            ),
            ("uprobe:./x:\"f\"+4", "./x:f+0x4"),
            ("uprobe:./x:cpp:\"A::f\"", "./x:A::f"),
            ("uprobe:./x:ns::f", "./x:ns::f"),
            ("uprobe:ns::f", "ns::f"),
            (
                "uprobe:/bin/bash@readline.c:362",
                "/bin/bash:readline.c:362",
            ),
            ("uprobe:@file.c:3", "file.c:3"),
            ("uprobe:$1:$2", "/bin/x:f"),
            ("usdt:/x/y:tick", "usdt:/x/y:tick"),
            ("usdt:/x/y:p:tick", "usdt:/x/y:p:tick"),
            ("usdt:/x/y::tick", "usdt:/x/y:tick"),
            ("usdt:/x/y:p*:*", "usdt:/x/y:p*:*"),
            ("U:tick", "usdt:tick"),
        ] {
            assert_eq!(spec(text), wanted, "{text}");
        }
    }

    #[test]
    fn intervals_have_units() {
        for (text, ns) in [
            ("interval:s:2", 2_000_000_000),
            ("i:ms:100", 100_000_000),
            ("i:us:5", 5_000),
            ("i:hz:10", 100_000_000),
            ("interval:1s", 1_000_000_000),
        ] {
            assert_eq!(at(text).ok(), Some(Attach::Interval(ns)), "{text}");
        }
        assert_eq!(
            error("interval:s:0"),
            "this interval is too short or too long"
        );
    }

    #[test]
    fn what_is_no_user_probe_is_refused_by_name() {
        assert_eq!(
            error("kprobe:vfs_read"),
            "`kprobe` is a probe of the kernel, not available in user space"
        );
        let refused = at("uprobes:libc:malloc").expect_err("a misspelling");
        assert_eq!(refused.help, "did you mean `uprobe`?");
        assert_eq!(error("uprobe:/bin/bash"), "the function is missing");
        assert_eq!(
            error("uretprobe:libc:f+4"),
            "a return probe needs a function"
        );
        assert_eq!(error("uprobe:$9:f"), "parameter $9 was not given");
    }
}
