//! Arming in the middle of a program's work, letting go of it there, and what is left behind then:
//! nothing. The targets are those of the hazards.

use std::process::Stdio;

use nix::sys::signal::Signal;

use super::looks::{different, look};
use super::support::*;

/// Starts a target that goes on until its input ends, and waits until it is at work.
pub fn at_work(source: &Source) -> Running {
    let mut line = command(source.build());
    line.arg("go").stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

/// Has the target make a round from begin to end.
pub fn round(target: &mut Running) {
    target.write("more\n");
    target.out.wait_for("round");
}

/// Attaches, with these options, and waits until all is armed.
pub fn attach(target: &Running, options: &[&str]) -> Running {
    let mut line = command(launch::binary());
    line.arg("attach")
        .args(["-c", "--format", "json"])
        .args(options)
        .arg(target.pid().to_string());
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    kptrace
}

/// Lets go, and gives the summary.
pub fn let_go(kptrace: Running) -> serde_json::Value {
    kptrace.signal(Signal::SIGINT);
    summary(&kptrace.end().expect(0).out)
}

/// Arms, works, disarms, works, with jumps and then with breakpoints.
fn goes_on(source: Source) {
    goes_on_in(source, "check");
}

/// The same; `check` is what the function of a round is called.
fn goes_on_in(source: Source, check: &str) {
    let mut target = at_work(&source);
    round(&mut target);
    let before = look(target.pid());
    for options in [
        &["-p", "*:*"][..],
        &["-p", "*:*", "--no-opt", "--trap-limit", "0"],
    ] {
        let kptrace = attach(&target, options);
        round(&mut target);
        let told = let_go(kptrace);
        assert!(json::count(&told, check) > 0, "{options:?}: {told}");
        assert_eq!(different(target.pid()), [""; 0], "{options:?}");
        assert_eq!(
            look(target.pid()).executable,
            before.executable,
            "{options:?}"
        );
        round(&mut target);
    }
    let after = look(target.pid());
    assert_eq!(after.descriptors, before.descriptors);
    let ended = target.end().expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
}

macro_rules! go_on {
    ($($test:ident: $name:literal $(, $flag:literal)*;)*) => {$(
        #[test]
        fn $test() {
            goes_on(c($name).flags(&[$($flag),*]));
        }
    )*};
}

go_on! {
    loops_in_the_window_go_on: "window_branches";
    jump_tables_go_on: "jump_tables";
    computed_gotos_go_on: "computed_goto";
    short_functions_go_on: "short_functions";
    operands_relative_to_the_pc_go_on: "rip_relative";
    short_branches_go_on: "short_branches";
    system_calls_in_the_window_go_on: "raw_syscall", "-pthread";
    entries_of_every_kind_go_on: "entries";
    no_ops_left_for_other_tools_go_on: "sleds";
    springboards_go_on: "springboards", "-pthread";
    registers_and_flags_go_on: "custom_abi";
    vector_registers_go_on: "vectors";
    small_stacks_go_on: "small_stacks";
    the_red_zone_goes_on: "red_zone";
    faults_go_on: "faults";
    long_jumps_go_on: "long_jumps";
    a_profiler_goes_on: "profiler";
    sites_across_pages_go_on: "lines_and_pages";
    threads_go_on_coming_and_going: "thread_storm", "-pthread";
    threads_without_tls_go_on: "raw_clone";
    real_time_signals_go_on: "rt_signals", "-pthread";
    a_program_goes_on_with_its_gs: "gs_user";
    children_go_on: "clean_children";
    children_that_borrow_the_memory_go_on: "borrowers";
}

#[test]
fn exceptions_go_on() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/targets/exceptions.cc");
    let text = std::fs::read_to_string(path).expect("the target");
    goes_on_in(Source::new("c++", "cc", "exceptions", text), "check()");
}

/// Libraries come and go all the time here, so that mappings are never the same; what was left in text
/// would end it.
#[test]
fn text_that_is_protected_anew_goes_on() {
    let mut target = at_work(&c("reprotects").flags(&["-ldl"]));
    let jumps: &[&str] = &["-p", "*:*"];
    for options in [jumps, &["-p", "*:*", "--no-opt", "--trap-limit", "0"]].repeat(3) {
        round(&mut target);
        let kptrace = attach(&target, options);
        round(&mut target);
        let told = let_go(kptrace);
        assert!(json::count(&told, "guarded") > 0, "{options:?}: {told}");
        let notes = told["notes"].to_string();
        assert!(!notes.contains("somebody else"), "{options:?}: {told}");
        round(&mut target);
    }
    let ended = target.end().expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
}
