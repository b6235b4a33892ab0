//! A program of the language run to the target's end, and what it printed, as JSON objects. Knows
//! nothing of what it should be.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support;

/// What came of a run.
pub struct Printed {
    pub objects: Vec<Value>,
    /// What the target wrote to its standard output.
    pub out: String,
}

/// A program of `probes/`.
pub fn ready(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("probes").join(format!("{name}.bt"))
}

/// Runs a program file with a target that ends by `status`.
pub fn run<S: AsRef<OsStr>>(program: &Path, target: &[S], status: i32) -> Printed {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("printed");
    let mut command = support::command(support::launch::binary());
    command.env("PATH", "/usr/bin:/bin:/usr/sbin");
    command.env("PYTHONHASHSEED", "0");
    command.args(["run", "-q", "--format", "json", "-o"]);
    command.arg(&file).arg("-f").arg(program).arg("--");
    command.args(target);
    let ended = support::start(command).end().expect(status);
    Printed {
        objects: support::objects(&fs::read_to_string(&file).unwrap()),
        out: ended.out,
    }
}

impl Printed {
    /// All that printf, join and the like have printed.
    pub fn text(&self) -> String {
        let text = self.objects.iter().filter_map(|object| {
            let data = object["data"].as_str()?;
            Some(match object["type"].as_str()? {
                "printf" | "time" => data.to_owned(),
                "join" => format!("{data}\n"),
                _ => return None,
            })
        });
        text.collect()
    }

    /// The values a map was printed with, in order.
    pub fn all<'a>(&'a self, map: &'a str) -> impl Iterator<Item = &'a Value> {
        let data = self.objects.iter().map(|object| &object["data"]);
        data.filter_map(move |data| data.get(map))
    }

    /// The value a map had when it was printed last.
    pub fn map<'a>(&'a self, map: &'a str) -> &'a Value {
        let last = self.all(map).last();
        last.unwrap_or_else(|| panic!("no {map} in {:?}", self.objects))
    }

    /// The summary.
    pub fn summary(&self) -> &Value {
        let last = self.objects.last().expect("a summary");
        assert_eq!(last["type"], "summary");
        last
    }
}

/// The sum of all numbers in a map's values.
pub fn sum(value: &Value) -> u64 {
    match value {
        Value::Object(entries) => entries.values().map(sum).sum(),
        // Large ones are written as text.
        Value::String(text) => text.parse().unwrap(),
        value => value.as_u64().unwrap(),
    }
}

/// How many values a histogram has.
pub fn counted(histogram: &Value) -> u64 {
    let buckets = histogram.as_array().unwrap().iter();
    buckets
        .map(|bucket| bucket["count"].as_u64().unwrap())
        .sum()
}
