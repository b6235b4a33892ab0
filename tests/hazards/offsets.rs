//! Probes inside functions: the red zone, flags that are live, several probes at one address,
//! names for one address.

use super::support::*;

fn run(name: &str, options: &[&str], probes: &[&str]) -> serde_json::Value {
    let program = c(name).build();
    let mut line = vec!["run", "-c", "--format", "json"];
    line.extend(options);
    for probe in probes {
        line.extend(["-p", probe]);
    }
    line.extend(["--", program.to_str().expect("UTF-8")]);
    let ended = kptrace(&line).expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
    summary(&ended.err)
}

fn hits(summary: &serde_json::Value) -> Vec<u64> {
    let probes = summary["probes"].as_array().expect("probes");
    probes
        .iter()
        .map(|probe| probe["hits"].as_u64().expect("a count"))
        .collect()
}

const WAYS: [&[&str]; 2] = [&[], &["--no-opt", "--trap-limit", "0"]];

#[test]
fn the_red_zone_and_the_flags_inside_a_function_stay() {
    for way in WAYS {
        let probes = ["red_zone+0x11", "red_zone+0x23", "flags+0x3"];
        let summary = run("red_zone", way, &probes);
        // 15 turns of each loop, 300 rounds; three calls of `flags`.
        assert_eq!(hits(&summary), [4500, 4500, 900], "{way:?}");
    }
}

#[test]
fn many_probes_at_one_address_all_count() {
    for way in WAYS {
        let summary = run("entries", way, &["real", "alias", "other_alias", "real+0x0", "tail"]);
        let counts = hits(&summary);
        assert!(!counts.is_empty());
        for probe in summary["probes"].as_array().expect("probes") {
            let expected = if probe["name"] == "tail" { 300 } else { 1200 };
            assert_eq!(probe["hits"], expected, "{probe}");
        }
    }
}
