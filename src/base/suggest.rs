//! "Did you mean": which names are close to one that matched nothing. Pure text.
//!
//! Invariant: bounded work for each pair, whatever their length.

/// Longer names are not compared.
const LONGEST: usize = 256;

/// How far apart two names are, 0 when only letter case differs; `None` when `own` is no
/// misspelling of `wanted`.
pub fn distance(own: &str, wanted: &str) -> Option<usize> {
    if own.len() > LONGEST || wanted.len() > LONGEST || !may_be_close(own, wanted) {
        return None;
    }
    let distance = match own.eq_ignore_ascii_case(wanted) {
        true => 0,
        false => strsim::osa_distance(own, wanted),
    };
    (distance <= limit(wanted)).then_some(distance)
}

/// The name closest to `wanted`; of several, one of its length, and the first in the alphabet.
pub fn closest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().filter_map(|name| {
        let other_length = name.len() != wanted.len();
        Some((distance(name, wanted)?, other_length, name))
    });
    scored.min().map(|(_, _, name)| name)
}

/// How many edits still count as a misspelling.
fn limit(name: &str) -> usize {
    (name.len() / 4).clamp(1, 4)
}

/// Cheap and never wrong in saying no: lengths and sets of letters differ by at most one an edit
/// (two for the letters of a replacement).
pub fn may_be_close(own: &str, wanted: &str) -> bool {
    if own.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let limit = limit(wanted);
    let differ = (letters(own) ^ letters(wanted)).count_ones() as usize;
    own.len().abs_diff(wanted.len()) <= limit && differ <= 2 * limit
}

fn letters(name: &str) -> u64 {
    name.bytes().fold(0, |set, b| set | 1 << (b & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let names = ["printf", "print", "str", "strftime"];
        assert_eq!(closest("prinft", names), Some("printf"));
        assert_eq!(closest("STR", names), Some("str"));
        assert_eq!(closest("frobnicate", names), None);
    }
}
