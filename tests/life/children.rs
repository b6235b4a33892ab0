//! Children: followed, each with counts of its own, or let go with clean text.

use super::support::*;

fn run(follow: &str, probes: &str, command: &[&str]) -> (Ended, serde_json::Value) {
    let mut line = vec!["run", follow, "-c", "--format", "json", "-p", probes, "--"];
    line.extend(command);
    let ended = kptrace(&line).expect(0);
    let summary = json::summary(&ended.err);
    (ended, summary)
}

fn hits(summary: &serde_json::Value, comm: &str) -> u64 {
    let processes = summary["processes"].as_array().expect("processes").iter();
    let named = processes.filter(|process| process["comm"] == comm);
    named
        .map(|process| process["hits"].as_u64().expect("hits"))
        .sum()
}

#[test]
fn every_program_of_a_pipeline_counts_for_itself() {
    let script = ["sh", "-c", "seq 1 1000 | sort -rn | head -3; exec true"];
    let alone = start({
        let mut command = command(script[0]);
        command.args(&script[1..]);
        command
    });
    let alone = alone.end().expect(0);
    let (followed, summary) = run("--follow", "libc:malloc", &script);
    assert_eq!(followed.out, alone.out);
    for comm in ["sh", "seq", "sort", "head"] {
        assert!(hits(&summary, comm) > 0, "{comm}: {summary}");
    }
    let all = summary["processes"].as_array().expect("processes");
    let sum: u64 = all.iter().map(|p| p["hits"].as_u64().expect("hits")).sum();
    assert_eq!(json::count(&summary, "malloc"), sum);
    let (one, summary) = run("--no-follow", "libc:malloc", &script);
    assert_eq!(one.out, alone.out);
    // The shell, and what it became at its end.
    let all = summary["processes"].as_array().expect("processes");
    let names: Vec<&str> = all.iter().filter_map(|p| p["comm"].as_str()).collect();
    assert_eq!(names, ["sh", "true"]);
}

#[test]
fn a_forked_child_counts_in_memory_of_its_own() {
    let text = "#include <stdio.h>\n#include <stdlib.h>\n#include <sys/wait.h>\n#include <unistd.h>\n\
                __attribute__((noinline)) int work(int n) { __asm__ volatile(\"\"); return n + 1; }\n\
                static int spread(int depth) { int n = work(depth); if (depth == 0) return n;\n\
                for (int i = 0; i < 2; i++) { pid_t c = fork(); if (c == 0) { spread(depth - 1); _exit(0); }\n\
                int s; if (waitpid(c, &s, 0) != c || s) return -1; } return n; }\n\
                int main(int argc, char **argv) { (void)argc; return spread(atoi(argv[1])) < 0; }\n";
    let program = Source::new("cc", "c", "spreads", text).build();
    let program = program.to_str().expect("UTF-8");
    for probes in ["work", "*:*"] {
        // A tree of depth 4: 31 processes, one call each.
        let (_, summary) = run("--follow", probes, &[program, "4"]);
        assert_eq!(json::count(&summary, "work"), 31);
        assert_eq!(summary["processes"].as_array().map(Vec::len), Some(31));
        let (_, summary) = run("--no-follow", probes, &[program, "4"]);
        assert_eq!(json::count(&summary, "work"), 1);
    }
}

#[test]
fn hits_of_a_child_are_recorded_with_its_number() {
    let text = "#include <sys/wait.h>\n#include <unistd.h>\n#include <stdio.h>\n\
                __attribute__((noinline)) int work(int n) { __asm__ volatile(\"\"); return n + 1; }\n\
                int main(void) { for (int i = 0; i < 3; i++) { if (fork() == 0) { work(i); _exit(0); }\n\
                wait(0); } work(7); printf(\"%d\\n\", getpid()); return 0; }\n";
    let program = Source::new("cc", "c", "three", text).build();
    let line = [
        "run",
        "--format",
        "json",
        "-p",
        "work n=%di:s32",
        "--",
        program.to_str().expect("UTF-8"),
    ];
    let ended = kptrace(&line).expect(0);
    let hits = json::hits(&ended.err);
    let values: Vec<i64> = hits
        .iter()
        .filter_map(|hit| hit["args"]["n"].as_i64())
        .collect();
    assert_eq!(values, [0, 1, 2, 7]);
    let pids: std::collections::BTreeSet<u64> =
        hits.iter().filter_map(|hit| hit["pid"].as_u64()).collect();
    assert_eq!(pids.len(), 4);
    let own: u64 = ended.out.trim().parse().expect("a number");
    assert_eq!(hits[3]["pid"].as_u64(), Some(own));
}

#[test]
fn a_daemon_that_outlives_its_parents_is_traced_to_its_end() {
    let script = "(setsid sh -c 'seq 1 200 | sort -n | tail -1; ls / >/dev/null' &) ; exit 0";
    let (_, summary) = run("--follow", "libc:malloc", &["sh", "-c", script]);
    assert!(hits(&summary, "ls") > 0, "{summary}");
    assert!(hits(&summary, "tail") > 0, "{summary}");
}

#[test]
fn a_chain_of_forty_programs_is_one_process_that_is_traced_in_each() {
    let script = "n=$1; [ $n -gt 0 ] || exec echo done; exec sh -c \"$0\" \"$0\" $((n - 1))";
    for follow in ["--follow", "--no-follow"] {
        let (ended, summary) = run(follow, "libc:malloc", &["sh", "-c", script, script, "40"]);
        assert_eq!(ended.out, "done\n");
        assert_eq!(summary["processes"].as_array().map(Vec::len), Some(42));
    }
}
