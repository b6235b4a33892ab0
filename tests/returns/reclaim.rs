//! Calls that are left make room for others once nobody can return from them.

use std::process::Stdio;

use crate::support::build;
use crate::support::json;
use crate::support::launch;

#[test]
fn calls_that_longjmp_left_make_room_and_those_that_somebody_returns_from_stay() {
    let program = build::c("abandons").flags(&["-O2", "-pthread"]).build();
    let mut command = launch::command(launch::binary());
    command.args(["run", "-c", "-q", "--format", "json", "-p", "*%call"]);
    command.args(["--max-active", "1022", "--"]);
    command.arg(&program).stdin(Stdio::piped());
    let mut target = launch::start(command);
    target.out.wait_for("ready");
    target.write("\n");
    // So many would fill a pool eight times over.
    target.out.wait_for("left 9000");
    target.write("\n");
    target.out.wait_for("returned 42 7");
    let summary = json::summary(&target.end().expect(0).err);
    let number = |name: &str, kind: &str, path: &str| {
        let probes = summary["probes"].as_array().expect("probes").iter();
        let mut found = probes.filter(|probe| probe["name"] == name && probe["kind"] == kind);
        let probe = found.next().expect(name);
        probe
            .pointer(path)
            .and_then(|value| value.as_u64())
            .expect(path)
    };
    let made = number("leaves", "entry", "/hits");
    let unwound = number("leaves", "return", "/unwound");
    let missed = number("leaves", "return", "/missed/crowded");
    assert!(made >= 9000 && unwound > 1022, "{summary}");
    assert!(made - unwound - missed <= 1022, "{summary}");
    for name in ["suspends", "nested", "waits"] {
        assert_eq!(number(name, "return", "/hits"), 1, "{name} {summary}");
        assert_eq!(number(name, "return", "/unwound"), 0, "{name} {summary}");
    }
}
