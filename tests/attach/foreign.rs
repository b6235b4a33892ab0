//! Bytes that somebody else wrote at a site: they are neither overwritten nor taken back.

use std::process::Stdio;

use super::every::{attach, let_go};
use super::support::*;

#[test]
fn bytes_that_the_program_wrote_at_a_site_stay() {
    for options in [&[][..], &["--no-opt"]] {
        let mut line = command(c("foreign_bytes").build());
        line.stdin(Stdio::piped());
        let mut target = start(line);
        target.out.wait_for("ready");
        let kptrace = attach(
            &target,
            &[&["-p", "patched", "-p", "neighbour"], options].concat(),
        );
        target.write("\n");
        target.out.wait_for("wrote 9 2");
        let told = let_go(kptrace);
        assert_eq!(json::count(&told, "neighbour"), 1, "{told}");
        assert_eq!(
            json::count(&told, "patched"),
            0,
            "its site was gone: {told}"
        );
        let notes = told["notes"].to_string();
        assert!(notes.contains("changed by somebody else"), "{told}");
        target.write("\n");
        target.out.wait_for("have 9 2");
        target.end().expect(0);
    }
}
