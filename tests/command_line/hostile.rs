//! Names that a target chooses are shown, never obeyed: no escape sequence reaches a terminal.

use std::fs;

use super::support::*;

/// Names that clear screens, look like something else, or end lines. None has a quote or a
/// backslash: the assembler must take them.
const NAMES: [&str; 6] = [
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "line\nline",
    "tab\tand\rreturn",
    "turn\u{202e}ed",
    "\u{9b}31mred",
    "space d, %s : x=1 {}",
];

/// A program of functions with these names, each called once; its thread has such a name too.
fn program() -> String {
    // In the text, so that other names are another build.
    let mut text = format!("/* {NAMES:?} */\n");
    text.push_str(
        "#include <stdio.h>\n#include <sys/prctl.h>\n#define X(n, s) __attribute__((noinline)) \
         int f##n(int i) __asm__(s); int f##n(int i) { __asm__ volatile(\"\" ::: \"memory\"); return i * n + 1; }\n",
    );
    let mut calls = String::new();
    for n in 0..NAMES.len() {
        text.push_str(&format!("X({n}, \"hostile_{n}_PLACE\")\n"));
        calls.push_str(&format!(" + f{n}(1)"));
    }
    text.push_str(&format!(
        "int main(void) {{ prctl(PR_SET_NAME, \"\\033[31mevil\\n\\a\\x9b\"); printf(\"%d\\n\", 0{calls}); return 0; }}\n"
    ));
    // No assembler takes such names: they are written into the built file's string table.
    for (n, name) in NAMES.iter().enumerate() {
        let long = format!("hostile_{n}_{}", "x".repeat(name.len()));
        text = text.replace(&format!("hostile_{n}_PLACE"), &long);
    }
    let built = build::Source::new("cc", "c", "hostile", text)
        .flags(&["-O2", "-g0"])
        .build();
    let mut bytes = fs::read(&built).expect("the program");
    for (n, name) in NAMES.iter().enumerate() {
        let long = format!("hostile_{n}_{}\0", "x".repeat(name.len()));
        let at = bytes
            .windows(long.len())
            .position(|w| w == long.as_bytes())
            .expect("the name");
        let new = format!("hostile_{n}_{name}");
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    let path = built.with_file_name("hostile-named");
    if !path.exists() {
        let fresh = tempfile::NamedTempFile::new_in(path.parent().expect("a directory"));
        let fresh = fresh.expect("a file");
        fs::write(fresh.path(), &bytes).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(fresh.path(), mode).expect("executable");
        let (_, fresh) = fresh.into_parts();
        fresh.persist(&path).expect("named");
    }
    path.to_str().expect("UTF-8").to_owned()
}

fn harmless(what: &str, text: &str) {
    let bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!text.contains(bad), "{what}: {text:?}");
}

#[test]
fn hostile_names_are_escaped_in_every_output() {
    let program = program();
    let own = start(command(&program)).end().expect(0).out;
    let all = "/^hostile_/";
    for line in [
        &["run", "-p", all, "--", &program][..],
        &["run", "--format", "json", "-p", all, "--", &program],
        &["run", "-c", "-p", all, "--", &program],
        &["run", "-c", "-v", "--no-opt", "-p", all, "--", &program],
        &[
            "run", "-c", "-v", "--color", "never", "--trap", "never", "--no-opt", "-p", all, "--",
            &program,
        ],
        &["list", &program],
        &["list", "--json", &program],
        &["check", "-v", &program, all],
        &["check", "--json", &program, all],
    ] {
        let ended = kptrace(line).expect(0);
        harmless("standard error", &ended.err);
        harmless("standard output", &ended.out);
        if line[0] == "run" {
            assert_eq!(ended.out, own, "{line:?}");
        }
    }
}

#[test]
fn every_hostile_function_is_probed_once() {
    let program = program();
    let line = [
        "run",
        "--format",
        "json",
        "-p",
        "/^hostile_/",
        "--",
        &program,
    ];
    let ended = kptrace(&line).expect(0);
    let summary = json::summary(&ended.err);
    let probes = summary["probes"].as_array().expect("probes");
    assert_eq!(probes.len(), NAMES.len());
    for probe in probes {
        assert_eq!(probe["hits"], 1, "{probe}");
    }
    for (n, name) in NAMES.iter().enumerate() {
        json::probe(&summary, &format!("hostile_{n}_{name}"));
    }
}

#[test]
fn the_name_of_a_thread_is_escaped() {
    let program = program();
    for format in ["text", "json"] {
        let line = [
            "run",
            "--format",
            format,
            "-p",
            "/^hostile_5/",
            "--",
            &program,
        ];
        let ended = kptrace(&line).expect(0);
        harmless(format, &ended.err);
    }
}

#[test]
fn what_was_typed_is_escaped_in_messages() {
    for probe in [
        "f\u{1b}[31m",
        "f x=\u{1b}[2J",
        "/\u{7}(/",
        "@\u{1b}[31mfile",
        "lib\u{9b}x:f",
        "f\u{202e}%foo",
    ] {
        for line in [
            &["run", "-c", "-p", probe, "--", "true"][..],
            &["check", "/proc/self/exe", probe],
            &["list", "/proc/self/exe", probe],
        ] {
            let ended = kptrace(line);
            assert!(!ended.status.success(), "{line:?}");
            harmless(probe, &ended.err);
        }
    }
}

#[test]
fn names_of_files_and_commands_are_escaped() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("\u{1b}[31mprogram\n");
    fs::copy(program(), &path).expect("a copy");
    let path = path.to_str().expect("UTF-8");
    let traced = kptrace(&["run", "-p", "main", "-p", "nothing:x", "--", path]).expect(0);
    harmless("text", &traced.err);
    assert!(traced.err.contains("program"), "{}", traced.err);
    for line in [
        &["list", path][..],
        &["list", "--json", path],
        &["check", path, "main"],
    ] {
        let ended = kptrace(line).expect(0);
        harmless("output", &(ended.out + &ended.err));
    }
    let missing = format!("{path}/nothing");
    for line in [
        &["run", "-c", "-p", "f", "--", &missing][..],
        &["run", "-c", "-p", "f", "-o", &missing, "--", "true"],
        &["list", &missing],
    ] {
        let ended = kptrace(line);
        assert!(!ended.status.success(), "{line:?}");
        harmless("message", &ended.err);
    }
}
