//! Every entry is accounted for: it returned, ended in a tail call, was unwound, is still inside at the
//! end, or was missed for a cause that is named. Reads summaries; knows nothing of programs.

use std::collections::HashMap;

use serde_json::Value;

/// What became of the calls of all functions that are probed at both ends.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Functions whose numbers do not add up.
    pub wrong: Vec<String>,
    pub entries: u64,
    pub inside: u64,
    /// Functions with both probes.
    pub functions: usize,
}

/// Holds the entries of every function against their ends.
pub fn check(summary: &Value) -> Accounts {
    let probes = summary["probes"].as_array().expect("probes");
    let key = |probe: &Value| ["module", "offset", "name"].map(|key| probe[key].to_string());
    let of = |kind: &'static str| probes.iter().filter(move |probe| probe["kind"] == kind);
    let number = |value: &Value| value.as_u64();
    let entries = of("entry").filter(|probe| probe["offset"].is_string());
    let entries: HashMap<[String; 3], u64> = entries
        .filter_map(|probe| Some((key(probe), number(&probe["hits"])?)))
        .collect();
    let mut accounts = Accounts::default();
    for probe in of("return").filter(|probe| probe["state"] != "refused") {
        let Some(&entered) = entries.get(&key(probe)) else {
            continue;
        };
        accounts.functions += 1;
        accounts.entries += entered;
        let begun = number(&probe["inherited"]).map(|inherited| entered + inherited);
        accounts.inside += number(&probe["inside"]).unwrap_or(0);
        // Hits are returns and those that were not seen.
        let ends = ["hits", "tail", "unwound", "inside"].map(|end| number(&probe[end]));
        let ends = ends.into_iter().sum::<Option<u64>>();
        if begun.is_none() || begun != ends {
            accounts.wrong.push(format!("{entered} entries: {probe}"));
        }
    }
    accounts
}
