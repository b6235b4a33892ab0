//! Children, other programs, other names for the process: nobody runs armed who is not traced.

use super::support::*;

/// Runs the target with everything probed; both ways.
fn everything(source: Source) -> Vec<Ended> {
    let program = source.flags(&["-pthread"]).build();
    let program = program.to_str().expect("UTF-8");
    let alone = start(command(program)).end().expect(0);
    let mut ended = Vec::new();
    for way in [&[][..], &["--no-opt", "--trap-limit", "0"]] {
        let mut line = vec!["run"];
        line.extend(way);
        line.extend(["-c", "--format", "json", "-p", "*:*", "--", program]);
        let traced = kptrace(&line).expect(0);
        assert_eq!(traced.out, alone.out, "{way:?}");
        ended.push(traced);
    }
    ended
}

#[test]
fn a_forked_child_has_clean_text_and_nothing_of_ours() {
    everything(c("clean_children"));
}

#[test]
fn children_that_borrow_the_memory_hit_the_same_probes() {
    for ended in everything(c("borrowers")) {
        // Each round: one in the vforked child that execs, one in the one that ends, 100 in the
        // clone, 100 of its own.
        assert_eq!(json::count(&summary(&ended.err), "work"), 20 * 202);
    }
}

#[test]
fn hits_go_on_after_the_first_thread_has_ended() {
    for ended in everything(c("late")) {
        // 1,000 and one in a thread, each round; the one in a forked child is not counted.
        assert_eq!(json::count(&summary(&ended.err), "work"), 20 * 1001);
    }
}

#[test]
fn a_thread_that_executes_another_program_ends_the_probes() {
    for ended in everything(c("exec_thread")) {
        assert_eq!(ended.out, "right\n");
        assert!(ended.err.contains("began another program"), "{}", ended.err);
    }
}
