//! Programs of another C library: musl is its own loader, tells of what it maps once all is there,
//! and never unmaps. And busybox, which is one program under many names.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use libtest_mimic::Completion;
use serde_json::Value;

use super::Verdict;
use super::case::Case;
use super::looks::{different, look};
use super::need::{all, missing_one};
use super::support::{Ended, Source, command, has, json, kptrace, launch, start, targets};

/// Where musl's own compiler finds what static programs need.
const PLACE: &str = "/usr/lib/x86_64-linux-musl";

fn target(name: &str) -> Source {
    let path = targets().join(format!("{name}.c"));
    let text = std::fs::read_to_string(path).unwrap();
    Source::new("musl-gcc", "c", name, text)
}

fn utf8(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn module(prefix: &str) -> PathBuf {
    let define = format!("-DPREFIX={prefix}");
    target("early_module")
        .flags(&["-shared", "-fPIC", &define])
        .named(&format!("lib{prefix}.so"))
        .build()
}

/// A program that is linked with one library and opens another: both.
fn dynamic() -> [String; 2] {
    let (linked, opened) = (module("linked"), module("opened"));
    let path = format!("-Wl,-rpath,{}", linked.parent().unwrap().display());
    let program = target("early_plain").flags(&[&utf8(&linked), &path]);
    [program.build(), opened].map(|path| utf8(&path))
}

/// musl's specs know no static program that may be anywhere; the linker does.
fn static_pie() -> Source {
    let text = std::fs::read_to_string(targets().join("early_plain.c")).unwrap();
    let [start, library] = ["rcrt1.o", "libc.a"].map(|name| format!("{PLACE}/{name}"));
    Source::new("cc", "c", "early_plain", text).flags(&[
        "-static-pie",
        "-fPIE",
        "-DSTATIC",
        "-nostdinc",
        "-isystem",
        "/usr/include/x86_64-linux-musl",
        "-nostdlib",
        &start,
        &library,
        "-lgcc",
    ])
}

fn marks(summary: &Value) -> u64 {
    let probes = summary["probes"].as_array().unwrap().iter();
    let marks = probes.filter(|probe| probe["name"] == "mark");
    marks.map(|probe| probe["hits"].as_u64().unwrap()).sum()
}

fn said(text: &str) -> u64 {
    let last = text.lines().last().unwrap_or_default();
    last.parse().unwrap_or_else(|_| panic!("{text}"))
}

/// What `kptrace run` with these options makes of a program.
fn traced(options: &[&str], program: &[&str]) -> (Ended, Value) {
    let mut line = vec!["run", "-c", "--format", "json"];
    line.extend(options);
    line.push("--");
    line.extend(program);
    let ended = kptrace(&line).expect(0);
    let summary = json::summary(&ended.err);
    assert_eq!(summary["notes"], serde_json::json!([]), "{options:?}");
    (ended, summary)
}

pub fn starts() -> Verdict {
    if !has("musl-gcc") {
        return missing_one("no musl-gcc here");
    }
    let [program, opened] = dynamic();
    for way in [&[][..], &["--no-opt"], &["-p", "libc:*"]] {
        let (ended, summary) = traced(&[&["-p", "*:mark"], way].concat(), &[&program, &opened]);
        assert_eq!(marks(&summary), said(&ended.out), "{way:?}: {summary}");
        // The loader's own first steps, in the C library.
        let probes = summary["probes"].as_array().unwrap().iter();
        let first = |probe: &&Value| probe["name"].as_str().unwrap().starts_with("__dls");
        assert!(probes.clone().filter(first).all(|probe| probe["hits"] == 1));
        let found = probes.filter(first).count();
        assert_eq!(found > 0, way.contains(&"libc:*"), "{summary}");
    }
    Ok(Completion::Completed)
}

pub fn starts_alone() -> Verdict {
    if !has("musl-gcc") {
        return missing_one("no musl-gcc here");
    }
    let fixed = target("early_plain").flags(&["-static", "-DSTATIC"]);
    for program in [fixed, static_pie()] {
        let program = utf8(&program.build());
        for options in [&["-p", "mark"][..], &["-p", "*"], &["-p", "*", "--no-opt"]] {
            let (ended, summary) = traced(options, &[&program]);
            assert_eq!(marks(&summary), said(&ended.out), "{options:?}: {summary}");
        }
    }
    Ok(Completion::Completed)
}

pub fn opens() -> Verdict {
    if !has("musl-gcc") {
        return missing_one("no musl-gcc here");
    }
    let text = "#include <dlfcn.h>\n#include <stdlib.h>\n\
        int main(int argc, char **argv) { (void)argc; for (int i = 0; i < atoi(argv[2]); i++) {\n\
        void *library = dlopen(argv[1], RTLD_NOW); if (!library) return 1;\n\
        long (*marks)(void) = (long (*)(void))dlsym(library, \"opened_marks\");\n\
        if (marks() != 4 || dlclose(library)) return 2; } return 0; }\n";
    let program = utf8(&Source::new("musl-gcc", "c", "opens", text).build());
    let library = utf8(&module("opened"));
    for way in [&[][..], &["--no-opt"], &["-p", "libc:*"]] {
        let probes = ["-p", "libopened.so:mark", "-p", "libopened.so:opened_marks"];
        let options = [&probes[..], &["--pending", "ignore"], way].concat();
        let (_, summary) = traced(&options, &[&program, &library, "1000"]);
        assert_eq!(json::count(&summary, "opened_marks"), 1000, "{way:?}");
        // It is never unmapped: constructors run once, and destructors at the end.
        assert_eq!(json::count(&summary, "mark"), 3 + 1 + 1, "{way:?}");
    }
    Ok(Completion::Completed)
}

pub fn later() -> Verdict {
    if !has("musl-gcc") {
        return missing_one("no musl-gcc here");
    }
    let [program, opened] = dynamic();
    let mut waiting = command(&program);
    waiting.args(["wait", &opened]).stdin(Stdio::piped());
    let mut target = start(waiting);
    target.out.wait_for("ready");
    let before = target.out.wait_for("").parse::<u64>().unwrap();
    let pid = target.pid().to_string();
    let attach = |options: &[&str]| {
        let mut tracer = command(launch::binary());
        tracer.args(["attach", "-c", "--format", "json"]);
        tracer.args(options).arg(&pid);
        let mut tracer = start(tracer);
        tracer.out.wait_for("attached_probes");
        tracer
    };
    let was = look(target.pid());
    for options in [&["-p", "*:*"][..], &["-p", "*:*", "--no-opt"]] {
        let tracer = attach(options);
        assert_ne!(different(target.pid()), [""; 0]);
        tracer.signal(nix::sys::signal::Signal::SIGINT);
        tracer.end().expect(0);
        assert_eq!(different(target.pid()), [""; 0], "{options:?}");
        assert_eq!(look(target.pid()), was, "{options:?}");
    }
    let tracer = attach(&["-p", "*:mark"]);
    drop(target.stdin.take());
    let ended = target.end().expect(0);
    let summary = json::summary(&tracer.end().expect(0).out);
    // What the library it is linked with counted before.
    let linked = 3 + 1;
    assert_eq!(marks(&summary) + before + linked, said(&ended.out));
    Ok(Completion::Completed)
}

pub fn everything() -> Verdict {
    if !has("musl-gcc") {
        return missing_one("no musl-gcc here");
    }
    Case::new("musl", &dynamic()).compare()
}

/// Applets in one process and in children, pipes, and a death by signal.
const SCRIPT: &str = r#"
for i in 1 2 3; do
    (echo "sub $i"; x=$(busybox seq 1 $i | busybox tr '\n' ' '); echo $x)
done | busybox sort -r | busybox sed 's/sub/SUB/'
busybox seq 1 20000 > numbers
busybox awk '{s += $1} END {print s}' numbers
busybox gzip -c numbers | busybox gunzip | busybox sha256sum
busybox tar cf - numbers | busybox tar tf -
busybox sed -n 's/9/N/gp' numbers | busybox tail -3
f() { if [ $1 -gt 0 ]; then f $(($1 - 1)); echo $1; fi; }
f 20 | busybox wc -l
trap 'echo usr1' USR1
kill -USR1 $$
kill -KILL $$
"#;

pub fn busybox() -> Verdict {
    let [busybox] = match all(["busybox"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    let words = [busybox.as_os_str(), "sh".as_ref(), "-c".as_ref()];
    let mut case = Case::new("busybox sh", &words);
    case.argv.push(SCRIPT.into());
    case.makes = vec!["numbers"];
    case.status = 128 + 9;
    case.compare()
}
