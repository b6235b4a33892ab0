//! What kptrace prints as JSON, one object a line.

use serde_json::Value;

/// The objects in a text that may have other lines.
pub fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")))
        .collect()
}

/// The objects of one type.
pub fn of_type(text: &str, kind: &str) -> Vec<Value> {
    let all = objects(text).into_iter();
    all.filter(|object| object["type"] == kind).collect()
}

/// The hits.
pub fn hits(text: &str) -> Vec<Value> {
    of_type(text, "hit")
}

/// The summary, which comes once and last.
pub fn summary(text: &str) -> Value {
    let all = objects(text);
    let summaries = all.iter().filter(|o| o["type"] == "summary").count();
    assert_eq!(summaries, 1, "one summary in:\n{text}");
    let last = all.last().expect("there is one").clone();
    assert_eq!(last["type"], "summary", "the summary is last in:\n{text}");
    last
}

/// The probe of a summary that has this name.
pub fn probe<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let probes = summary["probes"].as_array().expect("probes");
    let mut named = probes.iter().filter(|probe| probe["name"] == name);
    let first = named.next();
    assert!(named.next().is_none(), "{name} is there once: {summary}");
    first.unwrap_or_else(|| panic!("no {name} in {summary}"))
}

/// How often a probe of this name was hit.
pub fn count(summary: &Value, name: &str) -> u64 {
    let hits = &probe(summary, name)["hits"];
    hits.as_u64().unwrap_or_else(|| panic!("{name}: {hits}"))
}
