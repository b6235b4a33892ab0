//! Letting go of a process that is inside of calls whose returns are probed.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::accounts;
use crate::support::build;
use crate::support::json;
use crate::support::launch;

/// What of ours is mapped in a process.
pub fn ours(pid: u32) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
    let lines = maps.lines().map(str::to_owned);
    lines.filter(|line| line.contains("memfd:")).collect()
}

#[test]
fn a_process_that_is_let_go_of_in_nested_calls_returns_from_them_by_itself() {
    let program = build::c("inside").flags(&["-O2"]).build();
    let mut command = launch::command(&program);
    command.stdin(Stdio::piped());
    let mut target = launch::start(command);
    target.out.wait_for("ready");
    let pid = target.pid();
    let mut round = |line: &str, expected: &str, probed: bool, left: [u64; 3]| {
        let mut command = launch::command(launch::binary());
        command.args(["attach", "-c", "-p", "*%call", "-p", "libc:*%call"]);
        command.arg("--format").arg("json").arg(pid.to_string());
        let mut tracer = launch::start(command);
        tracer.out.wait_for("attached_probes");
        if probed {
            target.write(line);
            target.out.wait_for(expected);
        }
        tracer.signal(Signal::SIGINT);
        assert!(tracer.ends_within(Duration::from_secs(60)));
        let ended = tracer.end();
        assert!(!ended.err.contains("left in the target"), "{}", ended.err);
        assert_eq!(ours(pid), Vec::<String>::new());
        let summary = json::summary(&ended.out);
        assert_eq!(accounts::check(&summary).wrong, [""; 0]);
        let inside = |name: &str| {
            let probes = summary["probes"].as_array().expect("probes");
            let of = |p: &&Value| p["name"] == name && p["kind"] == "return";
            let found = probes.iter().find(of).expect("it is probed");
            found["inside"].as_u64().expect("a number")
        };
        let all = ["nested", "innermost", "suspended"].map(inside);
        assert_eq!(all, left, "{line}");
        if !probed {
            target.write(line);
            target.out.wait_for(expected);
        }
    };
    // It enters eleven calls, and a coroutine's that is left in the middle, while it is probed.
    round("hello\n", "round 0 17", true, [11, 1, 1]);
    round("abc\n", "round 1 15", false, [0, 0, 0]);
    // Nobody is inside of a call that began while it was probed.
    round("abcde\n", "round 2 17", true, [0, 0, 0]);
    target.out.wait_for("suspended 42");
    target.end().expect(0);
}

#[test]
fn exceptions_pass_through_calls_while_their_process_is_let_go() {
    let text = "#include <atomic>\n#include <pthread.h>\n#include \"target.h\"\n\
                static std::atomic<bool> over; static std::atomic<long> thrown;\n\
                extern \"C\" NOINLINE long throws(long n) {\n\
                if (n) return throws(n - 1) + 1;\n throw 7; }\n\
                static void *all_the_time(void *) { while (!over) {\n\
                try { throws(6); } catch (int n) { thrown += n == 7; } } return nullptr; }\n\
                int main() { pthread_t threads[2]; for (auto &thread : threads)\n\
                pthread_create(&thread, nullptr, all_the_time, nullptr);\n\
                ready(); wait_for_go(); over = true;\n\
                for (auto thread : threads) pthread_join(thread, nullptr);\n\
                puts(thrown > 0 ? \"thrown\" : \"none\"); }\n";
    let flags = ["-O1", "-pthread", "-fno-optimize-sibling-calls"];
    let source = build::Source::new("c++", "cc", "throws_always", text).flags(&flags);
    let mut command = launch::command(source.build());
    command.stdin(Stdio::piped());
    let mut target = launch::start(command);
    target.out.wait_for("ready");
    let pid = target.pid();
    for _ in 0..20 {
        let mut command = launch::command(launch::binary());
        command.args(["attach", "-c", "-p", "throws%call", "--format", "json"]);
        let mut tracer = launch::start({
            command.arg(pid.to_string());
            command
        });
        tracer.out.wait_for("attached_probes");
        tracer.signal(Signal::SIGINT);
        let ended = tracer.end().expect(0);
        // What could not be taken out is said, and the next one takes it out first.
        let said = ended.out.contains("left in the target");
        assert!(said || ours(pid).is_empty(), "{}", ended.out);
    }
    target.write("\n");
    target.out.wait_for("thrown");
    target.end().expect(0);
}
