//! Down to the few that matter: which of many sites make a case fail. Knows nothing of sites.
//! Invariant: bounded, and what it returns was seen to fail.

/// The most runs that are made.
const RUNS: usize = 60;

/// Words on the smallest part of `all` that was found to fail.
pub fn smallest(all: &[String], mut fails: impl FnMut(&[String]) -> bool) -> String {
    let mut runs = 1;
    if !fails(all) {
        return format!(
            "the same {} sites by themselves do not fail a second time",
            all.len()
        );
    }
    let mut failing = all.to_vec();
    let mut parts = 2;
    // Delta debugging: parts alone, then all but one part, then smaller parts.
    'smaller: while failing.len() > 1 && runs < RUNS {
        let size = failing.len().div_ceil(parts);
        let chunks: Vec<Vec<String>> = failing.chunks(size).map(<[String]>::to_vec).collect();
        for (index, chunk) in chunks.iter().enumerate() {
            runs += 1;
            if runs <= RUNS && fails(chunk) {
                failing.clone_from(chunk);
                parts = 2;
                continue 'smaller;
            }
            let rest: Vec<String> = chunks
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .flat_map(|(_, chunk)| chunk.clone())
                .collect();
            if chunks.len() == 2 {
                continue;
            }
            runs += 1;
            if runs <= RUNS && fails(&rest) {
                failing = rest;
                parts = (parts - 1).max(2);
                continue 'smaller;
            }
        }
        if parts >= failing.len() {
            break;
        }
        parts = (parts * 2).min(failing.len());
    }
    let shown: Vec<&str> = failing.iter().take(20).map(String::as_str).collect();
    format!(
        "{} of {} sites fail:\n{}",
        failing.len(),
        all.len(),
        shown.join("\n")
    )
}
