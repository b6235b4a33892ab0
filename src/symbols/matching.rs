//! Patterns against the names of a file. Knows no syntax of patterns.
//!
//! Invariant: a name is demangled only when its raw spelling did not decide and could not be
//! excluded by a fragment every match must contain.

use super::demangle::{is_mangled, without_parameters};
use super::entries::Symbols;
use super::names::NamePattern;

/// What demanglers write without the mangled name spelling it. A fragment found in here says
/// nothing about the mangled name.
const WORDS: &str = "std basic_string basic_istream basic_ostream basic_iostream allocator \
    char_traits string istream ostream iostream signed unsigned char short int long double float \
    bool void wchar_t char8_t char16_t char32_t __int128 __float128 nullptr_t decltype auto half \
    decimal32 decimal64 decimal128 _Float16 _Float32 _Float64 _Float128 _BitInt bfloat16_t \
    anonymous namespace lambda unnamed type operator new delete const volatile restrict noexcept \
    throw sizeof alignof typeid dynamic_cast static_cast const_cast reinterpret_cast typename \
    template struct union enum class requires co_await true false this ull ul \
    virtual non-virtual covariant return thunk to VTT vtable typeinfo name for fn construction \
    guard variable reference temporary initializer TLS init function wrapper transaction clone \
    _Complex _Imaginary imaginary complex global constructors destructors keyed parm pack default \
    override offset nullptr java resource invocation block in inner __vector _Accum _Fract _Sat any \
    alignas base object without \
    argument string literal str i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64 never \
    as dyn for impl extern unsafe mut closure shim closure vtable constant shim crate self";

impl Symbols {
    /// Indexes of the entries any of whose names matches, in order.
    pub fn matching(&self, pattern: &NamePattern) -> Vec<usize> {
        if pattern.is_everything() {
            return (0..self.entries.len()).collect();
        }
        let matcher = Matcher::new(pattern);
        (0..self.entries.len())
            .filter(|&index| {
                let names = self.entries.get(index).map(|e| e.names.clone());
                names.unwrap_or(0..0).any(|n| matcher.matches(self, n))
            })
            .collect()
    }
}

struct Matcher<'a> {
    pattern: &'a NamePattern,
    /// Of an exact pattern: the name and the version asked for.
    exact: &'a str,
    version: Option<(&'a str, bool)>,
    /// Identifiers that stand in the mangled form of every demangled match.
    required: Vec<String>,
}

impl<'a> Matcher<'a> {
    fn new(pattern: &'a NamePattern) -> Matcher<'a> {
        let (mut exact, mut version) = ("", None);
        let required = match pattern {
            NamePattern::Exact(name) => {
                exact = name;
                if let Some((head, tail)) = name.split_once('@').filter(|(h, _)| !h.is_empty()) {
                    exact = head;
                    version = Some(match tail.strip_prefix('@') {
                        Some(version) => (version, true),
                        None => (tail, false),
                    });
                }
                fragments(exact, |run| {
                    WORDS.split_ascii_whitespace().any(|w| w == run)
                })
            }
            NamePattern::Glob(glob) => fragments(&glob.literals(), |run| WORDS.contains(run)),
            NamePattern::Regex(_) => Vec::new(),
        };
        Matcher {
            pattern,
            exact,
            version,
            required,
        }
    }

    fn matches(&self, symbols: &Symbols, index: u32) -> bool {
        let raw = symbols.name_at(index);
        if self.one(raw) {
            return self.version_fits(symbols, index);
        }
        if self.version.is_some() && matches!(self.pattern, NamePattern::Exact(name) if name == raw)
        {
            return true;
        }
        if !is_mangled(raw) || !self.required.iter().all(|f| raw.contains(f.as_str())) {
            return false;
        }
        let full = symbols.full_name(index);
        let bare = without_parameters(full);
        (self.one(full) || (bare.len() < full.len() && self.one(bare)))
            && self.version_fits(symbols, index)
    }

    fn one(&self, name: &str) -> bool {
        match self.pattern {
            NamePattern::Exact(_) => name == self.exact,
            NamePattern::Glob(glob) => glob.matches(name),
            NamePattern::Regex(regex) => regex.is_match(name),
        }
    }

    /// `f@V` takes version V whether default or not; `f@@V` only as the default.
    fn version_fits(&self, symbols: &Symbols, index: u32) -> bool {
        let Some((version, must_be_default)) = self.version else {
            return true;
        };
        symbols
            .version_at(index)
            .is_some_and(|(own, default)| own == version && (default || !must_be_default))
    }
}

/// Runs of identifier characters that a mangled name spells as they are; `written` says which the
/// demangler may have written by itself: of an exact name whole words, of a glob any part of one.
fn fragments(text: &str, written: impl Fn(&str) -> bool) -> Vec<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .map(|run| run.trim_start_matches(|c: char| c.is_ascii_digit()))
        // Single letters may be lifetimes or suffixes.
        .filter(|run| run.len() > 1 && !written(run))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::compile;
    use super::*;

    #[test]
    fn words_of_the_demangler_are_no_filter() {
        let word = |run: &str| WORDS.split_ascii_whitespace().any(|w| w == run);
        assert_eq!(
            fragments("std::ns::complete(int)", word),
            ["ns", "complete"]
        );
        let part = |run: &str| WORDS.contains(run);
        assert!(fragments("(anonymous namespace)::*", part).is_empty());
        assert!(fragments("*amespac*", part).is_empty());
    }

    fn found(symbols: &Symbols, name: &str) -> Vec<usize> {
        symbols.matching(&NamePattern::exact(name))
    }

    #[test]
    fn cpp_names_match_in_every_spelling() {
        let source = r#"
            namespace ns {
                int f(int x) { return x; }
                int f(char x) { return x; }
                template <typename T> struct Box { T v; __attribute__((noinline)) T get() const { return v; } };
            }
            namespace { __attribute__((noinline)) int quiet(int x) { return x + 2; } }
            int main(int c, char **) { volatile int n = c; ns::Box<int> b{n}; return ns::f(n) + ns::f('c') + b.get() + quiet(n); }
        "#;
        let Some(built) = compile("c++", "t.cc", source, &["-O0"]) else {
            return;
        };
        let symbols = Symbols::load(&built.image(), None).unwrap();
        assert_eq!(found(&symbols, "ns::f").len(), 2);
        assert_eq!(found(&symbols, "ns::f(int)").len(), 1);
        assert_eq!(found(&symbols, "_ZN2ns1fEi"), found(&symbols, "ns::f(int)"));
        assert_eq!(
            symbols.name(&symbols.entries[found(&symbols, "_ZN2ns1fEi")[0]]),
            "ns::f(int)"
        );
        assert_eq!(found(&symbols, "ns::Box<int>::get").len(), 1);
        assert_eq!(found(&symbols, "(anonymous namespace)::quiet").len(), 1);
        let glob = |text| symbols.matching(&NamePattern::glob(text).unwrap()).len();
        assert_eq!(glob("ns::*"), 3);
        assert_eq!(glob("ns::?"), 2);
        assert_eq!(glob("(anonymous*::quiet*"), 1);
        assert_eq!(glob("*"), symbols.entries().len());
        let regex = |text| symbols.matching(&NamePattern::regex(text).unwrap()).len();
        assert_eq!(regex(r"^ns::f\((int|char)\)$"), 2);
        assert_eq!(
            symbols.suggestions("ns::Box<int>::gte"),
            ["ns::Box<int>::get"]
        );
        assert_eq!(
            symbols.suggestions("quite"),
            ["(anonymous namespace)::quiet"]
        );
        assert_eq!(symbols.suggestions("mian"), ["main"]);
        assert!(symbols.suggestions("nothing_like_it_at_all").is_empty());
    }

    #[test]
    fn matching_everything_demangles_nothing() {
        let Some(built) = compile(
            "c++",
            "t.cc",
            "namespace a { void f() {} } int main() {}",
            &[],
        ) else {
            return;
        };
        let symbols = Symbols::load(&built.image(), None).unwrap();
        assert_eq!(
            symbols.matching(&NamePattern::glob("*").unwrap()).len(),
            symbols.entries().len()
        );
        symbols.matching(&NamePattern::exact("main"));
        assert!(symbols.has_demangled_nothing());
    }

    #[test]
    fn every_function_is_found_by_what_is_shown_of_it() {
        let this = std::env::current_exe().unwrap();
        let libstdcxx = std::path::Path::new("/usr/lib/x86_64-linux-gnu/libstdc++.so.6");
        for path in [this.as_path(), libstdcxx] {
            let Ok(image) = super::super::Image::read(path) else {
                continue;
            };
            let symbols = Symbols::load(&image, None).unwrap();
            for (index, entry) in symbols.entries().iter().enumerate().step_by(97) {
                let full = symbols.name(entry);
                for name in [full, without_parameters(full), symbols.mangled(entry)] {
                    assert!(found(&symbols, name).contains(&index), "{name}");
                }
            }
        }
    }
}
