//! Whoever opens a library waits for kptrace, where no breakpoint may tell of it: but not for one that
//! does not come.

use std::process::Stdio;

use nix::sys::signal::Signal;

use super::support::*;

const OPENS: &str = "#include \"target.h\"\n#include <dlfcn.h>\n\
    int main(int argc, char **argv) { (void)argc; ready();\n\
    for (int c; (c = getchar()) != EOF;) { if (c != '\\n') continue;\n\
    void *library = dlopen(argv[1], RTLD_NOW); if (!library) return 1;\n\
    int (*plugged)(int) = (int (*)(int))dlsym(library, \"plugged\");\n\
    if (plugged(1) != 2 || dlclose(library)) return 2; puts(\"opened\"); fflush(stdout); }\n\
    return 0; }\n";
const PLUGIN: &str = "__attribute__((noinline)) int plugged(int n) { return n + 1; }\n";

/// A target that opens a library whenever it is told to, and who counts what it calls there.
fn traced() -> (Running, Running) {
    let program = Source::new("cc", "c", "opens", OPENS).flags(&["-ldl"]);
    let plugin = Source::new("cc", "c", "libplugin.so", PLUGIN).flags(&["-shared", "-fPIC"]);
    let mut line = command(program.build());
    line.arg(plugin.build()).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    let mut line = command(launch::binary());
    line.args(["attach", "-c", "--format", "json", "--trap", "never"])
        .args(["-p", "main", "-p", "libplugin.so:plugged"])
        .arg(target.pid().to_string());
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    (target, kptrace)
}

fn open(target: &mut Running) {
    target.write("\n");
    target.out.wait_for("opened");
}

#[test]
fn a_library_that_comes_while_kptrace_is_stopped_is_said() {
    let (mut target, kptrace) = traced();
    open(&mut target);
    kptrace.signal(Signal::SIGSTOP);
    open(&mut target);
    kptrace.signal(Signal::SIGCONT);
    // It is let go of while it waits for its input: then what came meanwhile was dealt with.
    kptrace.signal(Signal::SIGINT);
    let told = summary(&kptrace.end().expect(0).out);
    assert_eq!(json::count(&told, "plugged"), 1, "{told}");
    let notes = told["notes"].to_string();
    assert!(notes.contains("was not seen"), "{told}");
    target.end().expect(0);
}

#[test]
fn opening_goes_on_when_kptrace_is_killed() {
    let (mut target, kptrace) = traced();
    open(&mut target);
    kptrace.signal(Signal::SIGKILL);
    kptrace.end();
    for _ in 0..3 {
        open(&mut target);
    }
    target.end().expect(0);
}
