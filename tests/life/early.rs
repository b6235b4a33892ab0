//! What runs before the program does is counted exactly.

use std::path::PathBuf;

use super::support::*;

fn module(prefix: &str) -> PathBuf {
    let name = format!("lib{prefix}.so");
    let define = format!("-DPREFIX={prefix}");
    c("early_module")
        .flags(&["-shared", "-fPIC", &define])
        .named(&name)
        .build()
}

fn program(flags: &[&str]) -> Source {
    let text = include_str!("../targets/early.cc");
    Source::new("c++", "cc", "early", text).flags(flags)
}

/// The dynamic program and its libraries: what it is called with.
fn dynamic() -> [String; 2] {
    let (linked, opened) = (module("linked"), module("opened"));
    let place = linked.parent().expect("a directory").display().to_string();
    let path = format!("-Wl,-rpath,{place}");
    let linked = linked.to_str().expect("UTF-8");
    let program = program(&["-pthread", linked, &path, "-ldl"]).build();
    [program, opened].map(|path| path.to_str().expect("UTF-8").to_owned())
}

fn marks(summary: &serde_json::Value) -> u64 {
    let probes = summary["probes"].as_array().expect("probes").iter();
    let marks = probes.filter(|probe| probe["name"] == "mark");
    marks
        .map(|probe| probe["hits"].as_u64().expect("a number"))
        .sum()
}

fn said(text: &str) -> u64 {
    let last = text.lines().last().expect("a line");
    last.parse().unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn resolvers_constructors_and_initialisers_of_all_modules_are_counted_exactly() {
    let [program, opened] = dynamic();
    for way in [&[][..], &["--no-opt"], &["--trap", "never"]] {
        let mut line = vec!["run", "-c", "--format", "json", "-p", "*:mark"];
        line.extend(way);
        line.extend(["--", &program, &opened]);
        let ended = kptrace(&line).expect(0);
        let summary = json::summary(&ended.err);
        assert_eq!(marks(&summary), said(&ended.out), "{way:?}: {summary}");
        // Three modules, the last of which was mapped while the program ran.
        assert_eq!(summary["probes"].as_array().map(Vec::len), Some(3));
    }
}

#[test]
fn a_program_that_the_loader_is_told_to_run_is_counted_exactly() {
    let [program, opened] = dynamic();
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let mut line = vec!["run", "-c", "--format", "json", "-p", "*:mark"];
    let refused = kptrace(&[&line[..], &["--", loader, &program, &opened]].concat());
    assert!(refused.expect(3).err.contains("no such function in ld-"));
    line.extend(["--pending", "ignore", "--", loader, &program, &opened]);
    let ended = kptrace(&line).expect(0);
    let summary = json::summary(&ended.err);
    assert_eq!(marks(&summary), said(&ended.out), "{summary}");
}

#[test]
fn all_functions_of_all_modules_and_the_loader_leave_the_result_as_it_is() {
    let [program, opened] = dynamic();
    let alone = start({
        let mut command = command(&program);
        command.arg(&opened);
        command
    });
    let alone = alone.end().expect(0);
    let line = [
        "run", "-c", "--format", "json", "-p", "*:*", "--", &program, &opened,
    ];
    let ended = kptrace(&line).expect(0);
    assert_eq!(ended.out, alone.out);
    let summary = json::summary(&ended.err);
    assert_eq!(marks(&summary), said(&ended.out));
    for first in ["_dl_start", "dl_main"] {
        let probes = summary["probes"].as_array().expect("probes");
        let loader = probes.iter().find(|probe| probe["name"] == first);
        // Named by the loader's debug file, where there is one.
        if let Some(probe) = loader {
            assert_eq!(probe["hits"], 1, "{probe}");
        }
    }
}

#[test]
fn programs_without_a_loader_are_counted_exactly() {
    for flags in [
        &["-static", "-DSTATIC", "-pthread"][..],
        &["-static-pie", "-fPIE", "-DSTATIC", "-pthread"],
    ] {
        let program = program(flags).build();
        let program = program.to_str().expect("UTF-8");
        for probes in ["mark", "*"] {
            let line = ["run", "-c", "--format", "json", "-p", probes, "--", program];
            let ended = kptrace(&line).expect(0);
            let summary = json::summary(&ended.err);
            assert_eq!(marks(&summary), said(&ended.out), "{flags:?} {probes}");
        }
    }
}

#[test]
fn who_attaches_later_counts_the_rest() {
    let [program, opened] = dynamic();
    let mut waiting = command(&program);
    waiting
        .args(["wait", &opened])
        .stdin(std::process::Stdio::piped());
    let mut target = start(waiting);
    target.out.wait_for("ready");
    let before = target.out.wait_for("");
    let pid = target.pid().to_string();
    let mut tracer = command(launch::binary());
    tracer.args(["attach", "-c", "--format", "json", "-p", "*:mark", &pid]);
    let mut tracer = start(tracer);
    tracer.out.wait_for("attached_probes");
    drop(target.stdin.take());
    let ended = target.end().expect(0);
    let summary = json::summary(&tracer.end().expect(0).out);
    // What the program itself and the library it is linked with counted before.
    let before: u64 = before.parse().expect("a number");
    let linked = 2 + 3 + 1;
    assert_eq!(
        marks(&summary) + before + linked,
        said(&ended.out),
        "{summary}"
    );
}

#[test]
fn an_indirect_function_of_a_program_without_a_loader_is_its_implementation() {
    // Its slot holds nothing of use until the program's own start has called the resolver.
    let text = "#include <string.h>\nint main(int c, char **v) { volatile size_t n = 0; (void)c;\n\
                for (int i = 0; i < 1234; i++) n += strlen(v[0] + (i & 1)); return n == 0; }\n";
    for flags in [
        &["-static", "-fno-builtin"][..],
        &["-static-pie", "-fPIE", "-fno-builtin"],
    ] {
        let program = Source::new("cc", "c", "lengths", text).flags(flags).build();
        let program = program.to_str().expect("UTF-8");
        let line = [
            "run", "-c", "--format", "json", "-p", "strlen", "--", program,
        ];
        let summary = json::summary(&kptrace(&line).expect(0).err);
        assert!(json::count(&summary, "strlen") >= 1234, "{summary}");
        assert_eq!(json::probe(&summary, "strlen")["state"], "jump");
    }
}
