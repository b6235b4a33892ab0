//! `kptrace bt`: what bpftrace's command lines print and how they end. `bpftrace/` holds what bpftrace
//! 0.17 printed on standard output (and into `-o FILE`) for each of [`CASES`]; with root and bpftrace,
//! `KPTRACE_WRITE=1 cargo test --test command_line -- --ignored bpftrace_says` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::support::*;

/// A name, and words after `kptrace bt` or `bpftrace`. `FILE` is a file of this program, `OUT` one that
/// is not there yet.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "count",
        "",
        &[
            "-e",
            "uprobe:./talks:work { @ = count(); printf(\"%d\\n\", arg0); }",
            "-c",
            "./talks",
        ],
    ),
    (
        "count_json",
        "",
        &[
            "-f",
            "json",
            "-e",
            "uprobe:./talks:work { @ = count(); printf(\"%d\\n\", arg0); }",
            "-c",
            "./talks",
        ],
    ),
    (
        "quiet",
        "",
        &[
            "-q",
            "-e",
            "uprobe:./talks:work { @[arg0 * 2] = sum(arg0); }",
            "-c",
            "./talks",
        ],
    ),
    (
        "quiet_json",
        "",
        &[
            "-q",
            "-f",
            "json",
            "-e",
            "uprobe:./talks:work { @[arg0 * 2] = sum(arg0); }",
            "-c",
            "./talks",
        ],
    ),
    (
        "blocks",
        "BEGIN { printf(\"begin\\n\"); }
         uprobe:./talks:work { @by[arg0 % 2] = sum(arg0); @last = arg0; @max = max(arg0); }
         END { printf(\"end\\n\"); }",
        &["FILE", "-c", "./talks"],
    ),
    (
        "parameters",
        "#!/usr/bin/env bpftrace
         uprobe:./talks:work /arg0 > $1/ { printf(\"%d %s %s\\n\", arg0, str($2), str(arg1)); }",
        &["FILE", "2", "two words", "-c", "./talks here"],
    ),
    (
        "options_first",
        "uprobe:./talks:work /arg0 > $1/ { printf(\"%d %s %s\\n\", arg0, str($2), str(arg1)); }",
        &[
            "-B",
            "none",
            "--unsafe",
            "-c",
            "./talks here",
            "FILE",
            "2",
            "two",
        ],
    ),
    (
        "exit",
        "uprobe:./talks:work /arg0 == 20/ { printf(\"at %d\\n\", arg0); exit(); }
         END { printf(\"end\\n\"); }",
        &["FILE", "-c", "./talks for ever"],
    ),
    (
        "hist",
        "uprobe:./talks:work { @h = hist(arg0); @l[str(arg1)] = lhist(arg0, 0, 6, 2); }",
        &["FILE", "-c", "./talks here"],
    ),
    (
        "hist_json",
        "uprobe:./talks:work { @h = hist(arg0); @l[str(arg1)] = lhist(arg0, 0, 6, 2); }",
        &["-f", "json", "FILE", "-c", "./talks here"],
    ),
    (
        "output",
        "uprobe:./talks:work { @ = count(); printf(\"%d\\n\", arg0); } END { print(@); }",
        &["-o", "OUT", "FILE", "-c", "./talks"],
    ),
    (
        "output_json",
        "uprobe:./talks:work { @ = avg(arg0); printf(\"%d\\n\", arg0); }",
        &["-f", "json", "-o", "OUT", "FILE", "-c", "./talks"],
    ),
    (
        "malformed",
        "",
        &["-e", "uprobe:./talks:work { @ = ; }", "-c", "./talks"],
    ),
    (
        "no_match",
        "",
        &[
            "-e",
            "uprobe:./talks:nosuch { @ = count(); }",
            "-c",
            "./talks",
        ],
    ),
    (
        "unsafe",
        "",
        &[
            "-e",
            "uprobe:./talks:work { system(\"true\"); }",
            "-c",
            "./talks",
        ],
    ),
    (
        "both",
        "",
        &[
            "-e",
            "uprobe:./talks:work { @ = count(); }",
            "-c",
            "./talks",
            "-p",
            "1",
        ],
    ),
];

fn talks() -> PathBuf {
    c("talks").build()
}

fn stored(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command_line/bpftrace");
    place.join(format!("{name}.txt"))
}

/// What a tool prints, without what the target does, and how it ends; JSON without spaces between its
/// tokens.
fn printed(mut tool: Command, (name, program, words): (&str, &str, &[&str])) -> String {
    let place = tempfile::tempdir().expect("a directory");
    let (file, out) = (place.path().join("program.bt"), place.path().join("out"));
    fs::write(&file, program).expect("a file");
    tool.current_dir(talks().parent().expect("a directory"));
    for word in words {
        match *word {
            "FILE" => tool.arg(&file),
            "OUT" => tool.arg(&out),
            word => tool.arg(word),
        };
    }
    let ended = tool.output().expect("it runs");
    let Output { status, stdout, .. } = ended;
    let mut text = String::from_utf8(stdout).expect("UTF-8");
    if let Ok(out) = fs::read_to_string(&out) {
        text.push_str("--- into the file:\n");
        text.push_str(&out);
    }
    let lines = text.lines();
    let lines = lines.filter(|line| !line.starts_with("sum ") && *line != "ready");
    let mut kept = String::new();
    for line in lines {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) if line.starts_with('{') => kept.push_str(&value.to_string()),
            // As releases since 0.24 print the line above a histogram.
            _ => kept.push_str(if line.starts_with('@') {
                line.trim_end()
            } else {
                line
            }),
        }
        kept.push('\n');
    }
    let code = status.code().unwrap_or_else(|| panic!("{name}: {status}"));
    format!("{kept}--- status {code}\n")
}

/// `No probes to attach` is bpftrace's word for what is told in other words on standard error.
fn ours(text: &str) -> String {
    text.replace("No probes to attach\n", "")
}

#[test]
fn bt_prints_what_bpftrace_prints_and_ends_as_it_ends() {
    for case in CASES {
        let mut tool = command(launch::binary());
        tool.arg("bt");
        let expected = fs::read_to_string(stored(case.0)).expect(case.0);
        assert_eq!(printed(tool, *case), ours(&expected), "{}", case.0);
    }
}

#[test]
#[ignore = "needs root and bpftrace 0.17"]
fn bpftrace_says_what_is_stored() {
    for case in CASES {
        let text = printed(command("bpftrace"), *case);
        if std::env::var_os("KPTRACE_WRITE").is_some() {
            fs::write(stored(case.0), &text).expect("it can be written");
        }
        let expected = fs::read_to_string(stored(case.0)).expect(case.0);
        assert_eq!(text, expected, "{}", case.0);
    }
}

#[test]
fn what_went_wrong_is_said_on_standard_error_alone() {
    let program = "uprobe:./talks:nosuch { }";
    let mut tool = command(launch::binary());
    tool.current_dir(talks().parent().expect("a directory"));
    tool.args(["bt", "-e", program, "-c", "./talks"]);
    let ended = start(tool).end().expect(1);
    assert_eq!(ended.out, "");
    assert!(
        ended.err.contains("no such function in talks"),
        "{}",
        ended.err
    );
}

#[test]
fn the_command_of_c_is_split_as_a_shell_does() {
    let program = "uprobe:./talks:work /arg0 == 1/ { printf(\"%s\\n\", str(arg1)); }";
    let mut tool = command(launch::binary());
    tool.current_dir(talks().parent().expect("a directory"));
    tool.args(["bt", "-q", "-e", program, "-c", "./talks  'two words'"]);
    let ended = start(tool).end().expect(0);
    let lines: Vec<&str> = ended.out.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.contains(&"two words"), "{lines:?}");
}

#[test]
fn exit_ends_the_command_whatever_it_does_about_it() {
    let program =
        "uprobe:./talks:work /arg0 > 5/ { exit(7); } END { printf(\"cpid %d\\n\", cpid); }";
    let mut tool = command(launch::binary());
    tool.current_dir(talks().parent().expect("a directory"));
    tool.args(["bt", "-q", "-e", program, "-c", "./talks goes regardless"]);
    // What it left would hold the pipes open, and this would not end.
    let ended = start(tool).end().expect(7);
    assert!(ended.err.contains("asked to end"), "{}", ended.err);
    let pid = ended
        .out
        .lines()
        .find_map(|line| line.strip_prefix("cpid "));
    let pid = pid.expect("its number");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid}");
}

#[test]
fn a_process_is_let_go_and_goes_on() {
    let mut target = command(talks());
    target.args(["for", "ever"]);
    let mut target = start(target);
    target.out.wait_for("ready");
    let pid = target.pid().to_string();
    let program = format!(
        "uprobe:{}:work /arg0 > 5/ {{ @n = count(); exit(); }}",
        talks().display()
    );
    let ended = kptrace(&["bt", "-e", &program, "-p", &pid]).expect(0);
    let (head, rest) = ended.out.split_once('\n').expect("lines");
    assert_eq!(head, "Attaching 1 probe...");
    assert!(rest.starts_with("\n\n@n: "), "{rest}");
    assert_eq!(ended.err, "");
    target.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(target.end().signal(), Some(15));
}

#[test]
fn an_interrupt_ends_the_command_and_prints_what_there_is() {
    let mut tool = command(launch::binary());
    tool.current_dir(talks().parent().expect("a directory"));
    let program =
        "uprobe:./talks:work /arg0 == 10/ { printf(\"ten\\n\"); } END { printf(\"end\\n\"); }";
    tool.args(["bt", "-e", program, "-c", "./talks for ever"]);
    let mut running = start(tool);
    running.out.wait_for("ten");
    running.signal(nix::sys::signal::Signal::SIGINT);
    let ended = running.end().expect(0);
    assert!(ended.out.ends_with("end\n\n\n"), "{:?}", ended.out);
}

#[test]
fn what_it_cannot_do_is_answered_with_what_to_type() {
    for (words, said) in [
        (&["-e", "BEGIN { exit(); }"][..], "-c CMD runs a command"),
        (&["-l", "uprobe:/bin/ls:*"], "kptrace list /bin/ls '*'"),
        (
            &["-I", "/usr/include", "a.bt", "-p", "1"],
            "struct s { int n; };",
        ),
        (&["-c", "true"], "no program"),
        (&["-f", "xml", "-e", "BEGIN { }", "-c", "true"], "xml"),
        (
            &["-e", "BEGIN { }", "-c", "./is-not-there"],
            "cannot run ./is-not-there",
        ),
        (&["-e", "BEGIN { }", "-c", "a 'b"], "a quote is not closed"),
        (&["is-not-there.bt", "-c", "true"], "is-not-there.bt"),
    ] {
        let line = [&["bt"], words].concat();
        let ended = kptrace(&line).expect(1);
        assert!(ended.err.contains(said), "{words:?}: {}", ended.err);
    }
}

#[test]
fn d_says_what_a_program_means_and_runs_nothing() {
    let ended = kptrace(&["bt", "-d", "-e", "uprobe:libc:malloc { @ = count(); }"]).expect(0);
    assert!(ended.out.contains("map @: count()"), "{}", ended.out);
    assert!(ended.out.contains("  m0 count\n"), "{}", ended.out);
}

#[test]
fn v_says_what_was_armed() {
    let mut tool = command(launch::binary());
    tool.current_dir(talks().parent().expect("a directory"));
    tool.args([
        "bt",
        "-v",
        "-e",
        "uprobe:./talks:work { @ = count(); }",
        "-c",
        "./talks",
    ]);
    let ended = start(tool).end().expect(0);
    assert!(ended.err.contains("armed 1 site"), "{}", ended.err);
}
