//! Text to [`ProbeSpec`]: one probe, a file of them, or a pattern of names. Invariant: any text
//! gives a tree or a diagnostic, never a panic; nothing is allocated beyond a few times the text.

use super::arg;
use super::diagnostic::{Diagnostic, Place};
use super::location;
use super::tree::{Kind, Location, ModuleName, NameText, ProbeSpec};
use super::words::{self, Style};

/// Longest text of one probe; the longest C++ names have some 10,000 bytes.
const MAX_TEXT: usize = 64 << 10;

/// Reads one probe, the text of a `-p`.
pub fn parse_probe(text: &str) -> Result<ProbeSpec, Diagnostic> {
    parse(text, false)
}

/// Reads a file of probes, one a line; `#` starts a comment, at the line's start or after a space.
/// All errors are reported. `label` is the file's name in them.
pub fn parse_file(label: &str, text: &str) -> Result<Vec<ProbeSpec>, Vec<Diagnostic>> {
    let (mut probes, mut errors) = (Vec::new(), Vec::new());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let place = Some(Place {
            file: label.to_owned(),
            line: index + 1,
        });
        match parse(line, true) {
            Ok(probe) => probes.push(ProbeSpec { place, ..probe }),
            Err(error) => errors.push(error.at(place)),
        }
    }
    if errors.is_empty() {
        Ok(probes)
    } else {
        Err(errors)
    }
}

/// Reads `[MODULE:]NAME`, the text of `-x` and of `list`'s PATTERN.
pub fn parse_pattern(text: &str) -> Result<(Option<ModuleName>, NameText), Diagnostic> {
    let probe = parse(text, false)?;
    match probe.location {
        Location::Symbol {
            name,
            version: None,
            offset: 0,
        } if probe.kind == Kind::Entry && probe.args.is_empty() => Ok((probe.module, name)),
        _ => Err(
            Diagnostic::new(text, 0..text.len(), "this is no pattern of names")
                .help("as in 'mem*', '/^sqlite3_/', 'libc:*'"),
        ),
    }
}

fn parse(text: &str, comments: bool) -> Result<ProbeSpec, Diagnostic> {
    if text.len() > MAX_TEXT {
        return Err(Diagnostic::new(text, 0..1, "this probe is too long")
            .help(format!("at most {MAX_TEXT} bytes")));
    }
    let start = text.len() - text.trim_start().len();
    if start == text.len() {
        return Err(
            Diagnostic::new(text, 0..text.len(), "this probe is empty").help("as in libc:malloc")
        );
    }
    if text[start..].starts_with('@') {
        return Err(Diagnostic::new(
            text,
            start..text.len(),
            "a file of probes cannot stand here",
        )
        .help("on the command line: -p @FILE"));
    }
    let (components, end) = words::location(text, start)?;
    let mut words = words::words(text, end);
    if comments && let Some(at) = words.iter().position(|(_, word)| word.starts_with('#')) {
        words.truncate(at);
    }
    if !words.is_empty()
        && components
            .iter()
            .any(|c| c.style == Style::Plain && is_cut(&c.body))
    {
        return Err(Diagnostic::new(
            text,
            start..text.len(),
            "this name seems to go on after the space",
        )
        .help("put a name with spaces in quotes inside: -p '\"ns::f(int, char)\" x=%si'"));
    }
    let parsed = location::read(text, start..end, &components)?;
    let mut args = Vec::new();
    for (span, _) in words {
        args.push(arg::read(text, span)?);
    }
    let inside = matches!(parsed.location, Location::Symbol { offset, .. } if offset != 0);
    if let Some(entry_only) = args.iter().find(|a| inside && a.value.is_entry_only()) {
        return Err(Diagnostic::new(
            text,
            entry_only.span.clone(),
            "arguments are known by number only at a function's entry",
        )
        .help("name the register that holds the value there, as in x=%bx"));
    }
    arg::number_duplicates(&mut args);
    Ok(ProbeSpec {
        text: text.to_owned(),
        place: None,
        span: start..end,
        module: parsed.module,
        location: parsed.location,
        kind: parsed.kind,
        args,
    })
}

/// Whether a plain name was cut at a space: `ns::f(int,` or `operator` or `map<int,`.
fn is_cut(name: &str) -> bool {
    let count = |c| name.matches(c).count();
    let operator = name.contains("operator");
    count('(') > count(')')
        || name.ends_with(',')
        || name.ends_with("operator")
        || !operator && count('<') > count('>')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{IntFormat, Width};
    use crate::spec::{ArgExpr, Format};
    use proptest::prelude::*;

    fn symbol(text: &str) -> (Option<String>, String, Option<String>, u64) {
        let probe = parse_probe(text).unwrap_or_else(|e| panic!("{e}"));
        let module = probe.module.map(|m| match m {
            ModuleName::Name(m) => m,
            ModuleName::Path(m) => format!("path {m}"),
            ModuleName::Glob(m) => format!("glob {m}"),
        });
        match probe.location {
            Location::Symbol {
                name,
                version,
                offset,
            } => {
                let name = match name {
                    NameText::Exact(n) => n,
                    NameText::Glob(n) => format!("glob {n}"),
                    NameText::Regex(n) => format!("regex {n}"),
                };
                (module, name, version, offset)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn error(text: &str) -> String {
        let error = parse_probe(text).expect_err(text);
        let part = text.get(error.span.clone()).unwrap_or("?");
        format!("{} <{part}>", error.message)
    }

    #[test]
    fn every_spelling_of_a_module_is_understood() {
        let malloc = (Some("libc".into()), "malloc".into(), None, 0);
        for text in [
            "libc:malloc",
            "malloc@libc",
            "libc!malloc",
            "\"libc\":malloc",
            " libc:malloc ",
        ] {
            assert_eq!(symbol(text), malloc, "{text}");
        }
        for (text, module, name) in [
            ("/usr/lib/x.so:f", "path /usr/lib/x.so", "f"),
            ("/usr/lib/x.so!f", "path /usr/lib/x.so", "f"),
            ("\"/a b/x:y.so\":f", "path /a b/x:y.so", "f"),
            ("*:*", "glob *", "glob *"),
            ("lib*:/^m/", "glob lib*", "regex ^m"),
            ("/^m/@libc", "libc", "regex ^m"),
            ("libc.so.6:ns::f", "libc.so.6", "ns::f"),
            ("libc.so.6:::f", "libc.so.6", "::f"),
            ("libc:\"f(int, char)\"", "libc", "f(int, char)"),
            ("libc!\"f(int, char)\"", "libc", "f(int, char)"),
        ] {
            assert_eq!(
                symbol(text),
                (Some(module.into()), name.into(), None, 0),
                "{text}"
            );
        }
    }

    #[test]
    fn names_of_cpp_rust_and_go_are_names() {
        for name in [
            "ns::f(int,char)",
            "operator+",
            "ns::operator++",
            "operator!=(A,B)",
            "ns::operator!",
            "operator%",
            "A::operator%=",
            "operator*",
            "std::vector<int>::~vector",
            "core::ptr::drop_in_place<alloc::string::String>",
            "<[T]>::len",
            "f::{closure#0}",
            "github.com/x/y.F",
            "f.constprop.0",
            "operator[]",
        ] {
            assert_eq!(symbol(name), (None, name.into(), None, 0));
        }
        for (text, name) in [
            ("\"ns::f(char*, int)\"", "ns::f(char*, int)"),
            ("'operator\"\" _s'", "operator\"\" _s"),
            (r#""a\"b\\c\d""#, r#"a"b\c\d"#),
        ] {
            assert_eq!(symbol(text), (None, name.into(), None, 0));
        }
    }

    #[test]
    fn versions_and_offsets_follow_the_name() {
        for (text, name, version, offset) in [
            ("memcpy@GLIBC_2.2.5", "memcpy", Some("GLIBC_2.2.5"), 0),
            ("memcpy@@VER", "memcpy", Some("VER"), 0),
            ("f+0x1f", "f", None, 31),
            ("f+31", "f", None, 31),
            ("operator+++4", "operator++", None, 4),
            ("f+4@V_1", "f", Some("V_1"), 4),
            ("f@V_1+4", "f", Some("V_1"), 4),
            ("\"f(int, int)\"+8", "f(int, int)", None, 8),
        ] {
            assert_eq!(
                symbol(text),
                (None, name.into(), version.map(str::to_owned), offset)
            );
        }
        assert_eq!(
            symbol("libc:f@V_1"),
            (Some("libc".into()), "f".into(), Some("V_1".into()), 0)
        );
    }

    #[test]
    fn addresses_and_lines_are_told_from_symbols() {
        let location = |text: &str| {
            let probe = parse_probe(text).unwrap_or_else(|e| panic!("{e}"));
            (probe.module.map(|m| m.to_string()), probe.location)
        };
        let line = |file: &str, line| Location::Line {
            file: file.into(),
            line,
        };
        assert_eq!(location("0x401136"), (None, Location::Address(0x401136)));
        for text in ["libc:0x1136", "libc:+0x1136"] {
            assert_eq!(
                location(text),
                (Some("libc".into()), Location::ModuleOffset(0x1136))
            );
        }
        let libc6 = Some("libc.so.6".to_owned());
        assert_eq!(
            location("libc.so.6+0x1136"),
            (libc6, Location::ModuleOffset(0x1136))
        );
        let path = Some("/bin/ls".to_owned());
        assert_eq!(
            location("/bin/ls+0x1136"),
            (path, Location::ModuleOffset(0x1136))
        );
        assert_eq!(location("file.c:42"), (None, line("file.c", 42)));
        assert_eq!(location("src/a.c:42%stop"), (None, line("src/a.c", 42)));
        assert_eq!(
            location("libx:file.c:42"),
            (Some("libx".into()), line("file.c", 42))
        );
        let ls = parse_probe("ls+0x1136").unwrap();
        let other = ls.as_module_offset().unwrap();
        assert_eq!(other.location, Location::ModuleOffset(0x1136));
        assert_eq!(parse_probe("1234").unwrap().looks_like_pid(), Some(1234));
        assert_eq!(parse_probe("libc:malloc").unwrap().looks_like_pid(), None);
    }

    #[test]
    fn arguments_are_read_in_perf_probes_way() {
        let probe = parse_probe(
            "f size=%di %di path=+0(%si):string n=$arg1:u32 +8(+0(%si)):x32 -8(%bp) $stack2 len \
             k=42 b=%ax:b4@3/8 $stack $args",
        )
        .unwrap();
        let names: Vec<_> = probe.args.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "size", "di", "path", "n", "si", "bp", "stack2", "len", "k", "b", "stack", ""
            ]
        );
        assert_eq!(probe.args[0].value, ArgExpr::Reg("di".into()));
        assert_eq!(probe.args[2].format, Format::Str);
        assert_eq!(
            probe.args[3].format,
            Format::Int(IntFormat::Unsigned(Width::W32))
        );
        let inner = ArgExpr::Deref {
            offset: 0,
            inner: Box::new(ArgExpr::Reg("si".into())),
        };
        let outer = ArgExpr::Deref {
            offset: 8,
            inner: Box::new(inner),
        };
        assert_eq!(probe.args[4].value, outer);
        assert_eq!(probe.args[7].value, ArgExpr::Named("len".into()));
        assert!(probe.needs_debug_info());
    }

    #[test]
    fn equal_argument_names_get_numbers() {
        let probe = parse_probe("f x=%di x=%si x_2=%dx").unwrap();
        let names: Vec<_> = probe.args.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["x", "x_2", "x_2_2"]);
    }

    #[test]
    fn errors_name_the_place() {
        for (text, expected) in [
            ("libc:malloc%ret", "there are no `%ret` probes <%ret>"),
            ("malloc%retrun", "there are no `%retrun` probes <%retrun>"),
            ("f size=%", "`%` is no register <%>"),
            ("f x=+0(%di", "this parenthesis is never closed <(%di>"),
            ("f x=%di:u33", "there is no type `u33` <u33>"),
            (
                "f req->len",
                "members of variables come in a later release <req->len>",
            ),
            (
                "f @environ",
                "a global variable's value comes in a later release <@environ>",
            ),
            (
                "f+4 $arg1",
                "arguments are known by number only at a function's entry <$arg1>",
            ),
            ("libc:", "the symbol's name is missing <>"),
            ("\"f(int", "this quote is never closed <\"f(int>"),
            (
                "a:b:c",
                "too many `:` here; a probe is [MODULE:]SYMBOL or [MODULE:]FILE:LINE <a:b:c>",
            ),
            (
                "f(int, char) x=%si",
                "this name seems to go on after the space <f(int, char) x=%si>",
            ),
            ("/a(/", "in this regex: unclosed group </a(/>"),
            ("/bin/ls", "this is a file; which symbol? </bin/ls>"),
            ("m*+4", "an offset needs one symbol <m*+4>"),
            ("f-0x4", "an offset cannot be negative <-0x4>"),
            ("f%stop+4", "`%stop` comes last <%stop+4>"),
            ("f%stop@libc", "`%stop` comes last <%stop@libc>"),
            ("f%di@libc", "there are no `%di` probes <%di@libc>"),
            ("f x=b:b9@0/8", "these bits do not fit <b9@0/8>"),
            ("", "this probe is empty <>"),
        ] {
            assert_eq!(error(text), expected);
        }
    }

    #[test]
    fn a_file_gives_all_its_probes_or_all_its_errors() {
        let probes = parse_file("p", "# head\n\nlibc:malloc n=%di # size\r\n'f #1'\n").unwrap();
        assert_eq!(probes.len(), 2);
        assert_eq!(probes[0].args.len(), 1);
        assert_eq!(probes[1].place.as_ref().map(|p| p.line), Some(4));
        let errors = parse_file("p", "f %\nok\nlibc:\n").unwrap_err();
        let shown: Vec<_> = errors.iter().map(|e| e.to_string()).collect();
        assert!(shown[0].starts_with("p:1:3: error: "), "{}", shown[0]);
        assert!(shown[1].starts_with("p:3:6: error: "), "{}", shown[1]);
    }

    /// The tree without what depends on how it was written.
    fn bare(mut probe: ProbeSpec) -> ProbeSpec {
        probe.text.clear();
        probe.span = 0..0;
        probe.args.iter_mut().for_each(|a| a.span = 0..0);
        probe
    }

    fn check_round_trip(text: &str) {
        if let Ok(probe) = parse_probe(text) {
            let printed = probe.to_string();
            let again = parse_probe(&printed).unwrap_or_else(|e| panic!("{text:?} -> {e}"));
            assert_eq!(bare(again), bare(probe), "{text:?} -> {printed:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            check_round_trip(&text);
            let _ = parse_file("f", &text);
        }

        #[test]
        fn a_printed_probe_parses_to_the_same(text in
            r#"(["'/]?[a-c0x*?:!@+/.~ \\<>(){}-]{1,9}["'/]?)[:!]?["'/]?(operator|0x|f|\.so|::|lib)?[a-c0-9*?:!@+/%"'<>( \\-]{0,9}["'/]?(@@?[A-C_1*/.]{1,3})?(\+(0x)?[0-9a]{1,3})?(%stop)?( [a-b]=)?( ?[%$+\\-][0-9a-z(]{1,6}\)?)?(:(string|u8|b3@1/8|bool))?"#) {
            check_round_trip(&text);
        }
    }
}
