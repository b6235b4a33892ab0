//! Demangling, bounded. Knows no symbol tables.
//!
//! Invariant: the work and the output for one name are bounded, whatever the name: mangled names
//! refer back to their own parts, so a few hundred bytes can stand for gigabytes.

use std::borrow::Cow;

/// Longest mangled name that is demangled.
const LENGTH_CAP: usize = 4096;
/// Longest text a name may stand for, by a generous estimate.
const EXPANSION_CAP: u64 = 1 << 24;

/// Whether a name looks mangled (Itanium C++, Rust legacy, Rust v0).
pub(super) fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

/// The demangled name, Rust's without its hash; `None` when the name is not mangled, or too large.
pub fn demangle(name: &str) -> Option<String> {
    if !is_mangled(name) || name.len() > LENGTH_CAP || !expands_within_cap(name) {
        return None;
    }
    match addr2line::demangle_auto(Cow::Borrowed(name), None) {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => (text != name).then_some(text),
    }
}

/// The name without its parameters and what follows them: `ns::f<int>(char) const` is
/// `ns::f<int>`. The whole name when it has none.
pub(super) fn without_parameters(name: &str) -> &str {
    let bytes = name.as_bytes();
    // The parameter list is the last parenthesis at depth 0 that is not part of a name such as
    // `(anonymous namespace)` or `operator()`: what follows it is only a qualifier.
    let tail_end = {
        let mut end = bytes.len();
        loop {
            let head = name.get(..end).unwrap_or_default().trim_end();
            let stripped = [" const", " volatile", " &&", " &", " noexcept"]
                .iter()
                .find_map(|q| head.strip_suffix(q));
            match stripped {
                Some(shorter) => end = shorter.len(),
                None => break head.len(),
            }
        }
    };
    if bytes.get(tail_end.wrapping_sub(1)) != Some(&b')') {
        return name;
    }
    let mut depth = 0_u32;
    for at in (0..tail_end).rev() {
        match bytes.get(at) {
            Some(b')') => depth = depth.saturating_add(1),
            Some(b'(') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    let head = name.get(..at).unwrap_or(name);
                    // `operator()` itself, or a name that is all parenthesis.
                    if head.is_empty() || head.ends_with("operator") || head.ends_with("::") {
                        return name;
                    }
                    return head;
                }
            }
            _ => {}
        }
    }
    name
}

/// Whether the demangled text is known to stay below [`EXPANSION_CAP`].
///
/// A reference (`S_`, `S0_`, `T_`...) repeats at most what stood before the first reference to its
/// number or a higher one, because the part it names was complete there. Summing so bounds the
/// output from above without parsing. Letters of identifiers that look like references only make
/// the bound larger.
fn expands_within_cap(name: &str) -> bool {
    // For `S` and `T`: bound on the text before the first reference to each number or higher.
    let mut firsts: [Vec<(u64, u64)>; 2] = [Vec::new(), Vec::new()];
    let mut bound = 0_u64;
    let bytes = name.as_bytes();
    for (at, letter) in bytes.iter().enumerate() {
        // No single letter stands for more than a few words.
        bound = bound.saturating_add(8);
        let firsts = match letter {
            b'S' => &mut firsts[0],
            b'T' => &mut firsts[1],
            _ => continue,
        };
        let Some(number) = bytes.get(at + 1..).and_then(reference_number) else {
            continue;
        };
        let size = match firsts.iter().find(|&&(n, _)| n >= number) {
            Some(&(_, size)) => size,
            None => {
                firsts.push((number, bound));
                bound
            }
        };
        bound = bound.saturating_add(size);
        if bound > EXPANSION_CAP {
            return false;
        }
    }
    true
}

/// The number of the reference whose letter was just read: `_` is 0, `0_` is 1, base 36.
fn reference_number(rest: &[u8]) -> Option<u64> {
    let len = rest.iter().take(4).position(|&b| b == b'_')?;
    let text = std::str::from_utf8(rest.get(..len)?).ok()?;
    if text.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(text, 36).ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_cut_off_and_names_kept() {
        for (full, bare) in [
            ("ns::f(int)", "ns::f"),
            ("ns::f(int, void (*)(char)) const", "ns::f"),
            ("A::operator()(int)", "A::operator()"),
            ("A::operator()", "A::operator()"),
            ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
            ("(anonymous namespace)::f", "(anonymous namespace)::f"),
            ("main", "main"),
            (
                "f<(E)1>(int) [clone .part.0]",
                "f<(E)1>(int) [clone .part.0]",
            ),
            ("", ""),
        ] {
            assert_eq!(without_parameters(full), bare, "{full}");
        }
    }

    #[test]
    fn cpp_and_rust_names_demangle() {
        assert_eq!(demangle("_ZN2ns1fEi").as_deref(), Some("ns::f(int)"));
        assert_eq!(
            demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE").as_deref(),
            Some("core::fmt::Write::write_fmt")
        );
        assert_eq!(demangle("malloc"), None);
        assert_eq!(demangle("_Znonsense"), None);
    }

    #[test]
    fn a_name_that_stands_for_gigabytes_is_left_mangled() {
        let mut name = "_Z1f1AIiiiiE".to_owned();
        for n in 0..30 {
            let id = |n: u32| match n {
                0 => String::new(),
                n => char::from_digit(n - 1, 36)
                    .map(|c| c.to_ascii_uppercase().to_string())
                    .unwrap_or_default(),
            };
            name.push_str("S_I");
            for _ in 0..4 {
                name.push_str(&format!("S{}_", id(n + 1)));
            }
            name.push('E');
        }
        assert_eq!(demangle(&name), None);
    }
}
