//! The few things that a program can see: they are documented, and pinned here.

use super::support::*;

#[test]
fn a_program_that_reads_its_own_text_sees_the_jump_or_the_breakpoint() {
    let program = c("self_reading").build();
    let program = program.to_str().expect("UTF-8");
    let alone = start(command(program)).end().expect(0);
    for (option, byte) in [("--color=never", "e9"), ("--no-opt", "cc")] {
        let traced = kptrace(&["run", "-c", option, "-p", "watched", "--", program]).expect(0);
        assert_eq!(traced.out, format!("{byte} 7\n"));
        assert_ne!(traced.out, alone.out);
    }
}
