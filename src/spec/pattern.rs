//! Which names and modules a pattern means. Pure text; knows nothing of symbols or files.
//! Invariant: matching takes time in the product of the two lengths at most, whatever the pattern.

use super::tree::{ModuleName, NameText};

/// A name or pattern, ready to match.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// One name.
    Exact(String),
    /// A glob.
    Glob(String),
    /// A regular expression.
    Regex(regex::Regex),
}

impl Pattern {
    /// Prepares a name. Errors say what is wrong with a regular expression, in one line.
    pub fn new(name: &NameText) -> Result<Pattern, String> {
        Ok(match name {
            NameText::Exact(name) => Pattern::Exact(name.clone()),
            NameText::Glob(glob) => Pattern::Glob(glob.clone()),
            NameText::Regex(regex) => Pattern::Regex(regex::Regex::new(regex).map_err(|e| {
                // The last line of the crate's drawing is the message.
                let text = e.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.trim().trim_start_matches("error: ").to_owned()
            })?),
        })
    }

    /// Whether it means this name.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Exact(exact) => exact == name,
            Pattern::Glob(glob) => glob_matches(glob, name),
            Pattern::Regex(regex) => regex.is_match(name),
        }
    }
}

impl ModuleName {
    /// Whether it means the module of this path. `libc` means `libc.so.6` and `libc-2.31.so` too.
    /// Paths are compared as text: who can look makes them absolute first.
    pub fn matches(&self, path: &str) -> bool {
        let file = path.rsplit('/').next().unwrap_or(path);
        match self {
            ModuleName::Path(own) => own == path,
            ModuleName::Glob(glob) if glob.contains('/') => glob_matches(glob, path),
            ModuleName::Glob(glob) => glob_matches(glob, file),
            ModuleName::Name(name) => file
                .strip_prefix(name.as_str())
                .is_some_and(|rest| is_version_tail(name, rest)),
        }
    }
}

/// Whether `rest` adds nothing but `.so` and version numbers to a library's name.
fn is_version_tail(name: &str, rest: &str) -> bool {
    if rest.is_empty() {
        return true;
    }
    if name.ends_with(".so") {
        return is_numbers(rest);
    }
    let Some((version, tail)) = rest.split_once(".so") else {
        return false;
    };
    let version_ok = version.is_empty()
        || version
            .strip_prefix('-')
            .is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    version_ok && is_numbers(tail)
}

/// `.6`, `.1.2.3`, or nothing.
fn is_numbers(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix('.').is_some_and(|rest| {
            rest.split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        })
}

/// Whether `glob` matches all of `text`; `*` is any text, `?` any one character.
pub(super) fn glob_matches(glob: &str, text: &str) -> bool {
    let (mut g, mut t) = (glob, text);
    // Where to go on when what follows the last star does not match: one character further.
    let mut retry: Option<(&str, &str)> = None;
    loop {
        let wanted = g.chars().next();
        let found = t.chars().next();
        match (wanted, found) {
            (Some('*'), _) => {
                g = rest(g);
                retry = Some((g, t));
            }
            (None, None) => return true,
            (Some(w), Some(f)) if w == f || w == '?' => {
                g = rest(g);
                t = rest(t);
            }
            _ => match retry {
                Some((after_star, from)) if !from.is_empty() => {
                    g = after_star;
                    t = rest(from);
                    retry = Some((g, t));
                }
                _ => return false,
            },
        }
    }
}

fn rest(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("mal*", "malloc", true),
            ("*oc", "malloc", true),
            ("m*l*c", "malloc", true),
            ("m?lloc", "malloc", true),
            ("m?lloc", "mlloc", false),
            ("mal", "malloc", false),
            ("*a*b", "xaxbx", false),
            ("operator[]*", "operator[](int)", true),
            ("?", "é", true),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_glob_of_many_stars_ends_soon() {
        let glob = "*a".repeat(200);
        assert!(!glob_matches(
            &glob,
            &"a".repeat(20_000).replace("aa", "ab")[..350]
        ));
    }

    #[test]
    fn a_library_is_known_by_its_short_name() {
        let libc = ModuleName::Name("libc".into());
        for path in [
            "/lib/libc.so.6",
            "/lib/libc-2.31.so",
            "libc.so",
            "/bin/libc",
        ] {
            assert!(libc.matches(path), "{path}");
        }
        for path in [
            "/lib/libcrypto.so.3",
            "/lib/libc++.so.1",
            "/lib/libc.a",
            "/lib/libc6.so",
        ] {
            assert!(!libc.matches(path), "{path}");
        }
        assert!(ModuleName::Name("libpython3.11".into()).matches("/x/libpython3.11.so.1.0"));
        assert!(!ModuleName::Name("libpython3".into()).matches("/x/libpython3.11.so.1.0"));
        assert!(ModuleName::Name("libc.so".into()).matches("/x/libc.so.6"));
        assert!(!ModuleName::Name("libc.so.6".into()).matches("/x/libc.so.61"));
    }

    #[test]
    fn a_module_glob_sees_the_file_name_unless_it_has_a_slash() {
        assert!(ModuleName::Glob("libc*".into()).matches("/usr/lib/libcrypto.so.3"));
        assert!(!ModuleName::Glob("*usr*".into()).matches("/usr/lib/libcrypto.so.3"));
        assert!(ModuleName::Glob("/usr/*".into()).matches("/usr/lib/libcrypto.so.3"));
    }

    #[test]
    fn a_bad_regex_is_explained_in_one_line() {
        let error = Pattern::new(&NameText::Regex("a(".into())).unwrap_err();
        assert!(
            error.contains("unclosed group") && !error.contains('\n'),
            "{error}"
        );
    }
}
