//! Stacks while returns are probed: they are those of the program, without anything of ours.

use crate::support::build;
use crate::support::launch::kptrace;

#[test]
fn a_stack_by_frame_pointers_names_the_callers_and_no_thunk() {
    let flags = ["-O1", "-pthread", "-fno-omit-frame-pointer"];
    let program = build::c("returns").flags(&flags).named("framed").build();
    let path = program.to_str().expect("UTF-8");
    let stacks = |more: &str| {
        let text = format!(
            "uprobe:{path}:end_of_chain {{ @[ustack(6)] = count(); }}
             uprobe:{path}:down /arg0 == 3/ {{ @[ustack(3)] = count(); }} {more}"
        );
        let ended = kptrace(&["run", "-q", "-e", &text, "--", path]).expect(0);
        ended.err
    };
    let plain = stacks("");
    assert!(
        plain.contains("chain+") && plain.contains("main+"),
        "{plain}"
    );
    assert!(plain.contains("down+"), "{plain}");
    let probed = stacks(&format!("uretprobe:{path}:* {{ @returned = count(); }}"));
    let probed: Vec<&str> = probed
        .lines()
        .filter(|line| !line.starts_with("@returned"))
        .collect();
    let plain: Vec<&str> = plain.lines().collect();
    assert_eq!(probed, plain);
}
