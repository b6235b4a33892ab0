//! "Did you mean": names close to one that matched nothing.
//!
//! Invariant: bounded work, whatever the number and length of names.

use super::demangle::{is_mangled, without_parameters};
use super::entries::Symbols;
use crate::base::suggest::{distance, may_be_close};

/// How many names are compared letter by letter.
const COMPARED: usize = 20_000;
/// How many names are demangled for it.
const DEMANGLED: usize = 2_000;
/// Longer names are not compared.
const LONGEST: usize = 256;
/// How many are given.
const BEST: usize = 3;

impl Symbols {
    /// The up to three names closest to `name`, best first; none when nothing is close.
    pub fn suggestions(&self, name: &str) -> Vec<String> {
        let wanted = name.split('@').next().unwrap_or(name);
        if wanted.is_empty() || wanted.len() > LONGEST {
            return Vec::new();
        }
        let last = wanted.rsplit("::").next().unwrap_or(wanted);
        let last = without_parameters(last);
        let (mut compared, mut demangled) = (0, 0);
        let mut best: Vec<(usize, &str)> = Vec::new();
        for index in self.entries.iter().flat_map(|e| e.names.clone()) {
            let raw = self.name_at(index);
            let shown = if is_mangled(raw) {
                let near = source_names(raw).any(|own| may_be_close(own, last));
                if !near || demangled >= DEMANGLED {
                    continue;
                }
                demangled += 1;
                without_parameters(self.full_name(index))
            } else {
                raw
            };
            // Who leaves out the namespace is shown the whole.
            let own = match wanted.contains("::") {
                true => shown,
                false => shown.rsplit("::").next().unwrap_or(shown),
            };
            if own.len() > LONGEST || !may_be_close(own, wanted) || compared >= COMPARED {
                continue;
            }
            compared += 1;
            if let Some(distance) = distance(own, wanted) {
                best.push((distance, shown));
            }
        }
        best.sort_unstable();
        best.dedup();
        best.iter().take(BEST).map(|&(_, n)| n.to_owned()).collect()
    }
}

/// The identifiers of a mangled name: each spelt as its length and its letters.
fn source_names(mangled: &str) -> impl Iterator<Item = &str> {
    let bytes = mangled.as_bytes();
    let mut at = 0_usize;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let digits = bytes
                .get(at..)?
                .iter()
                .take(4)
                .take_while(|b| b.is_ascii_digit())
                .count();
            if digits == 0 {
                at += 1;
                continue;
            }
            let from = at + digits;
            let len: usize = mangled.get(at..from)?.parse().ok()?;
            let name = from.checked_add(len).and_then(|to| mangled.get(from..to));
            at = from;
            if let Some(name) = name.filter(|n| !n.is_empty()) {
                at += len;
                return Some(name);
            }
        }
        None
    })
}
