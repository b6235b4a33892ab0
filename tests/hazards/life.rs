//! Children, other programs, other names for the process: nobody runs armed who is not traced.

use super::support::*;

/// Runs the target with everything probed, both ways; children are followed or not.
fn everything(source: Source, follow: &str) -> Vec<Ended> {
    let program = source.flags(&["-pthread"]).build();
    let program = program.to_str().expect("UTF-8");
    let alone = start(command(program)).end().expect(0);
    let mut ended = Vec::new();
    for way in [&[][..], &["--no-opt", "--trap-limit", "0"]] {
        let mut line = vec!["run"];
        line.extend(way);
        line.extend([follow, "-c", "--format", "json", "-p", "*:*", "--", program]);
        let traced = kptrace(&line).expect(0);
        assert_eq!(traced.out, alone.out, "{way:?}");
        ended.push(traced);
    }
    ended
}

#[test]
fn a_forked_child_has_clean_text_and_nothing_of_ours() {
    everything(c("clean_children"), "--no-follow");
}

#[test]
fn children_that_borrow_the_memory_hit_the_same_probes() {
    for ended in everything(c("borrowers"), "--no-follow") {
        // Each round: one in the vforked child that execs, one in the one that ends, 100 in the
        // clone, 100 of its own.
        assert_eq!(json::count(&summary(&ended.err), "work"), 20 * 202);
    }
}

#[test]
fn hits_go_on_after_the_first_thread_has_ended() {
    // 1,000 and one in a thread, each round, and one in a forked child.
    for (follow, hits) in [("--no-follow", 1001), ("--follow", 1002)] {
        for ended in everything(c("late"), follow) {
            assert_eq!(json::count(&summary(&ended.err), "work"), 20 * hits);
        }
    }
}

#[test]
fn a_program_that_a_thread_executes_is_traced_from_its_first_instruction() {
    for ended in everything(c("exec_thread"), "--no-follow") {
        assert_eq!(ended.out, "right\n");
        let summary = summary(&ended.err);
        let programs = summary["processes"].as_array().unwrap();
        let names: Vec<&str> = programs.iter().filter_map(|p| p["comm"].as_str()).collect();
        assert_eq!(names, ["exec_thread", "sh"]);
        assert!(
            programs
                .iter()
                .all(|program| program["hits"].as_u64() > Some(100))
        );
    }
}
