//! What a summary says of its sites. Reads JSON that kptrace printed; knows nothing of programs.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The summary of one run.
pub struct Sites {
    summary: Value,
}

impl Sites {
    /// The last line of a file that `--format json -o FILE` wrote.
    pub fn read(path: &Path) -> Result<Sites, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("no summary: {error}"))?;
        let last = text.lines().last().unwrap_or_default();
        let summary: Value =
            serde_json::from_str(last).map_err(|error| format!("no summary: {error}: {last}"))?;
        if summary["type"] == "summary" {
            Ok(Sites { summary })
        } else {
            Err(format!("the last line is no summary: {last}"))
        }
    }

    pub fn probes(&self) -> &[Value] {
        self.summary["probes"].as_array().map_or(&[], Vec::as_slice)
    }

    /// A probe as a line of `-p @FILE`.
    pub fn line(probe: &Value) -> String {
        let text = |key: &str| probe[key].as_str().unwrap_or_default();
        format!("{}:+{}", text("module"), text("offset"))
    }

    /// Those that were armed, as lines of `-p @FILE`.
    pub fn armed(&self) -> Vec<String> {
        let armed = self
            .probes()
            .iter()
            .filter(|probe| probe["state"] != "refused");
        armed.map(Sites::line).collect()
    }

    /// What must hold of every summary of a program that did not exec.
    pub fn check(&self) -> Result<(), String> {
        let count = |key: &str| self.summary[key].as_u64().unwrap_or_default();
        if count("hits") == 0 {
            return Err("no probe was hit".to_owned());
        }
        if count("jump") == 0 {
            return Err("no site jumps".to_owned());
        }
        if count("jump") + count("trap") != count("armed") {
            return Err(format!(
                "{} jumps and {} traps are not {} armed",
                count("jump"),
                count("trap"),
                count("armed")
            ));
        }
        for probe in self.probes() {
            match probe["state"].as_str().unwrap_or_default() {
                // A library may have come and gone.
                "jump" | "gone" => {}
                "trap" | "refused" | "disabled" if probe["reason"].is_string() => {}
                _ => return Err(format!("a site is neither jump nor has a reason: {probe}")),
            }
            // Counts have no ring, and no other cause may be.
            let missed = &probe["missed"];
            if missed["ring_full"] != 0 || missed["abandoned"] != 0 || missed["trap"] != 0 {
                return Err(format!("hits were missed: {probe}"));
            }
        }
        Ok(())
    }

    /// How many jump, and why each other one does not.
    pub fn report(&self, name: &str) -> String {
        let mut reasons: BTreeMap<(String, String), usize> = BTreeMap::new();
        for probe in self.probes() {
            if probe["state"] != "jump" {
                let state = probe["state"].as_str().unwrap_or_default().to_owned();
                let reason = generalised(probe["reason"].as_str().unwrap_or_default());
                *reasons.entry((state, reason)).or_default() += 1;
            }
        }
        let mut text = format!(
            "{name}: {} sites, {} jump, {} hits\n",
            self.summary["armed"], self.summary["jump"], self.summary["hits"]
        );
        for ((state, reason), count) in reasons {
            let _ = writeln!(text, "    {count:>5} {state}: {reason}");
        }
        text
    }
}

/// A reason without its addresses, so that like ones count together.
fn generalised(reason: &str) -> String {
    let words = reason
        .split(' ')
        .map(|word| if word.contains("0x") { "..." } else { word });
    words.collect::<Vec<_>>().join(" ")
}
