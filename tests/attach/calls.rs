//! System calls that wait: attaching, arming and letting go disturb none of them, and what is seen
//! from outside is the same afterwards.

use std::process::Stdio;

use super::every::{attach, let_go};
use super::looks::{different, look};
use super::support::*;

#[test]
fn calls_that_wait_are_not_disturbed() {
    let mut line = command(c("restartable").flags(&["-pthread"]).build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let before = look(target.pid());
    for options in [&["-p", "*:*"][..], &["-p", "*:*", "--no-opt", "--trap-limit", "0"]] {
        for _ in 0..3 {
            let_go(attach(&target, options));
            assert_eq!(different(target.pid()), [""; 0]);
            assert_eq!(look(target.pid()), before);
        }
    }
    let kptrace = attach(&target, &["-p", "*:*"]);
    target.write("\n");
    kptrace.end().expect(0);
    let ended = target.end().expect(0);
    assert_eq!(ended.out, "ready\nright\n");
}
