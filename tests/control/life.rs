//! What happens to a process while its probes are switched: another program, libraries that come and go,
//! exceptions through calls that are under way.

use std::process::Stdio;

use serde_json::json;

use super::session::*;
use super::support::*;

#[test]
fn what_was_switched_off_stays_so_in_the_program_that_it_begins() {
    let program = c("toggles").flags(&["-pthread"]).build();
    let runtime = tempfile::tempdir().expect("a directory");
    let mut line = command(launch::binary());
    line.env("XDG_RUNTIME_DIR", runtime.path())
        .stdin(Stdio::piped());
    line.args([
        "run",
        "-c",
        "--format",
        "json",
        "-p",
        "toggles:steady",
        "--pending",
        "ignore",
    ]);
    let script = "echo ready $$; read line; exec \"$0\" 2";
    line.args(["--", "sh", "-c", script]).arg(program);
    let mut kptrace = start(line);
    let pid = kptrace.out.wait_for("ready");
    let pid: u32 = pid.trim_start_matches("ready ").parse().expect("a number");
    let socket = runtime.path().join("kptrace").join(pid.to_string());
    let mut talk = Talk::with(&socket);
    // It is there before the program has begun.
    let end = std::time::Instant::now() + LIMIT;
    loop {
        talk.say(&json!({"do": "off"}).to_string());
        let answer = talk.answer();
        if answer["ok"] == true {
            break;
        }
        assert!(std::time::Instant::now() < end, "{answer}");
    }
    kptrace.write("go\n");
    kptrace.out.wait_for("ready");
    let mut talk = Talk::with(&socket);
    let list = talk.ask(&json!({"do": "list"}));
    assert_eq!(
        (&list["on"], listed(&list, "steady", 0)["state"].as_str()),
        (&json!(false), Some("disabled"))
    );
    assert_eq!(changed(pid), [""; 0]);
    kptrace.write("more\n");
    kptrace.out.wait_for("round");
    let list = talk.ask(&json!({"do": "list"}));
    assert_eq!(listed(&list, "steady", 0)["hits"], 0);
    talk.ask(&json!({"do": "on"}));
    kptrace.write("more\n");
    kptrace.out.wait_for("round");
    let ended = kptrace.end().expect(0);
    assert!(json::count(&summary(&ended.err), "steady") > 0);
}

#[test]
fn libraries_that_come_and_go_while_all_is_off_are_known_when_it_is_on_again() {
    let text =
        "int calls; __attribute__((noinline)) int plugged(int n) { calls++; return n + 1; }\n";
    let plugin = Source::new("cc", "c", "libplugged.so", text).flags(&["-shared", "-fPIC"]);
    let text = "#include <dlfcn.h>\n#include <unistd.h>\n#include \"target.h\"\n\
                int main(int argc, char **argv) { (void)argc; ready(); char line[64]; void *l = 0;\n\
                while (read(0, line, sizeof line) > 0) {\n\
                if (*line == 'o') { l = dlopen(argv[1], RTLD_NOW); if (!l) return 3; }\n\
                if (*line == 'c') { dlclose(l); l = 0; }\n\
                if (l && ((int (*)(int))dlsym(l, \"plugged\"))(1) != 2) return 2;\n\
                puts(\"round\"); fflush(stdout); } return 0; }\n";
    let program = Source::new("cc", "c", "plugs", text).flags(&["-ldl"]);
    let mut line = command(program.build());
    line.arg(plugin.build()).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let options = ["-p", "libplugged.so:plugged", "--pending", "ignore"];
    let mut session = Session::with(target, &options);
    let mut talk = session.talk();
    let mut told = |session: &mut Session, words: &str| {
        for word in words.split(' ') {
            match word {
                "on" | "off" => drop(talk.ask(&json!({"do": word}))),
                _ => {
                    session.target.write(&format!("{word}\n"));
                    session.target.out.wait_for("round");
                }
            }
        }
        let list = talk.ask(&json!({"do": "list"}));
        let state = listed(&list, "plugged", 0)["state"]
            .as_str()
            .map(str::to_owned);
        (
            state.unwrap_or_default(),
            listed(&list, "plugged", 0)["hits"].as_u64(),
        )
    };
    assert_eq!(
        told(&mut session, "off open more on"),
        ("jump".to_owned(), Some(0))
    );
    assert_eq!(told(&mut session, "more"), ("jump".to_owned(), Some(1)));
    assert_eq!(
        told(&mut session, "off close on"),
        ("gone".to_owned(), Some(1))
    );
    assert_eq!(
        told(&mut session, "open more"),
        ("jump".to_owned(), Some(3))
    );
    assert_eq!(
        told(&mut session, "off close open on more"),
        ("jump".to_owned(), Some(4))
    );
    session.let_go().0.end().expect(0);
}

#[test]
fn an_exception_passes_through_calls_that_were_under_way_when_all_was_switched_off() {
    let text = "#include <unistd.h>\n#include \"target.h\"\n\
                extern \"C\" NOINLINE int waits(int n) { char line[64];\n\
                if (n) return waits(n - 1) + 1;\n\
                if (read(0, line, sizeof line) <= 0) return -4;\n throw 7; }\n\
                int main() { ready(); for (;;) { try { return waits(3) + 1; }\n\
                catch (int n) { puts(n == 7 ? \"round\" : \"wrong\"); fflush(stdout); } } }\n";
    let source = Source::new("c++", "cc", "throws", text).flags(&["-fno-optimize-sibling-calls"]);
    let mut line = command(source.build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let mut session = Session::with(target, &["-p", "waits%call"]);
    let mut talk = session.talk();
    session.round();
    // It waits in calls whose returns are probed.
    let pid = session.target.pid();
    let end = std::time::Instant::now() + LIMIT;
    while listed(&talk.ask(&json!({"do": "list"})), "waits", 0)["hits"] != 4 {
        assert!(std::time::Instant::now() < end, "it calls again");
    }
    let off = talk.ask(&json!({"do": "off"}));
    assert_eq!(
        (&off["restored"], &off["left"]),
        (&json!(1), &json!(1)),
        "{off}"
    );
    assert!(
        !changed(pid).is_empty(),
        "the unwinder is told of thunks still"
    );
    session.round();
    // Nothing is under way any more, and the last of ours goes.
    while !changed(pid).is_empty() {
        assert!(std::time::Instant::now() < end, "{:?}", changed(pid));
        std::thread::yield_now();
    }
    session.round();
    talk.ask(&json!({"do": "on"}));
    session.round();
    session.round();
    let (target, _) = session.let_go();
    target.end().expect(0);
}
