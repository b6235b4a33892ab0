//! Programs of the language before they run (`check -e`, `--dump`), as files that run by themselves, and
//! what the summary says of their probes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::support::*;

/// With everything that a dump shows.
const PROGRAM: &str = "config = { max_map_keys = 100 }
BEGIN { printf(\"begin %s\\n\", str($1)); }
uprobe:./talks:work /arg0 > 2/ { @by[arg0] = count(); printf(\"%5d %s\\n\", arg0, str(arg1, 16)); }
uretprobe:./talks:work { @sizes = hist(retval); }
interval:ms:1500 { print(@by, 3); clear(@by); }
";

fn talks() -> String {
    let program = c("talks").build();
    program.to_str().expect("UTF-8").to_owned()
}

fn checked(program: &str, more: &[&str]) -> Ended {
    kptrace(&[&["check", "-e", program][..], more].concat())
}

#[test]
fn check_compiles_without_a_target() {
    let ended = checked(PROGRAM, &["--arg", "x"]).expect(0);
    assert_eq!(
        ended.out,
        "BEGIN                   begin\n\
         uprobe:./talks:work     entry\n\
         uretprobe:./talks:work  return\n\
         interval:ms:1500        interval\n\
         the program compiles: 2 probes in the target, 2 of its own; a BINARY or PID \
          tells their sites\n"
    );
    assert_eq!(ended.err, "");
}

#[test]
fn check_tells_the_sites_of_each_probe_in_a_program_and_its_libraries() {
    let program = talks();
    let text = format!(
        "uprobe:{program}:work, uprobe:libc:malloc {{ @ = count(); }}
         uretprobe:libc:free {{ @ = count(); }}
         uprobe:libc:nosuchfunction {{ @ = count(); }}
         END {{ }}"
    );
    let ended = checked(&text, &["--json", &program]).expect(0);
    let probes = json::of_type(&ended.out, "check_probe");
    let told: Vec<_> = probes
        .iter()
        .map(|probe| {
            (
                probe["kind"].as_str().expect("a kind"),
                probe["sites"].as_u64(),
            )
        })
        .collect();
    let expected = [
        ("entry", Some(1)),
        ("entry", Some(1)),
        ("return", Some(1)),
        ("entry", Some(0)),
        ("end", None),
    ];
    assert_eq!(told, expected);
    let reason = |index: usize| {
        probes[index]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(reason(0), "");
    assert_eq!(reason(2), "");
    assert!(reason(3).contains("no such function"), "{}", reason(3));
    let sites = json::of_type(&ended.out, "check");
    assert_eq!(sites.len(), 3, "{}", ended.out);
    for site in &sites {
        let asked = probes
            .iter()
            .filter(|probe| probe["probe"] == site["probe"]);
        assert_eq!(asked.count(), 1, "{site}");
    }
    // What does not run has the addresses of its files.
    let listed = kptrace(&["list", "--json", &program, "work"]).expect(0);
    assert_eq!(
        json::objects(&listed.out)[0]["address"],
        sites[0]["address"]
    );
    let whole = &json::of_type(&ended.out, "check_program")[0];
    assert_eq!((&whole["target"], &whole["own"]), (&4.into(), &1.into()));
}

#[test]
fn check_tells_the_sites_in_a_process() {
    let program = talks();
    let mut target = command(&program);
    target.args(["for", "ever"]);
    let mut target = start(target);
    target.out.wait_for("ready");
    let pid = target.pid().to_string();
    let text =
        format!("uprobe:{program}:w*k {{ @ = count(); }} uprobe:libc:usleep {{ @ = count(); }}");
    let ended = checked(&text, &[&pid]).expect(0);
    assert!(
        ended.out.contains(":work  [") && ended.out.contains(":usleep  ["),
        "{}",
        ended.out
    );
    assert!(
        ended
            .out
            .ends_with("the program compiles: 2 probes in the target, 0 of its own\n"),
        "{}",
        ended.out
    );
    target.signal(nix::sys::signal::Signal::SIGKILL);
    target.end();
}

#[test]
fn check_ends_with_3_where_nothing_matches() {
    let program = talks();
    let ended = checked("uprobe:libc:nosuchfunction { }", &[&program]).expect(3);
    assert!(ended.err.contains("no probe matched"), "{}", ended.err);
    let ended = checked("BEGIN { }", &[&program, "nosuch"]).expect(3);
    assert!(
        ended.err.contains("nosuch: no such function"),
        "{}",
        ended.err
    );
    // Blocks of the tracer's own need no match.
    checked("BEGIN { exit(); }", &[&program]).expect(0);
}

#[test]
fn check_prints_everything_that_is_wrong() {
    let text = "uprobe:a:b { arg }\nkprobe:c { @ = x; }\nuretprobe:a:b { @y = ; }";
    let ended = checked(text, &["--json"]).expect(2);
    assert_eq!(ended.out, "");
    for place in ["-e:1:14: error: ", "-e:2:1: error: ", "-e:3:"] {
        assert!(ended.err.contains(place), "{place} in\n{}", ended.err);
    }
    let both = kptrace(&["check", "-e", "uprobe:a:b { arg }", &talks(), "f x="]).expect(2);
    assert_eq!(both.err.matches("error: ").count(), 2, "{}", both.err);
}

#[test]
fn check_finds_the_file_of_a_program_and_says_when_there_is_none() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("a.bt");
    fs::write(&file, "uprobe:libc:malloc { @ = hist(arg0); }").expect("a file");
    let file = file.to_str().expect("UTF-8");
    kptrace(&["check", "-f", file]).expect(0);
    let none = kptrace(&["check", "-f", "is-not-there.bt"]).expect(2);
    assert!(none.err.contains("cannot read the program"), "{}", none.err);
    let bare = kptrace(&["check"]).expect(2);
    assert!(bare.err.contains("BINARY|PID"), "{}", bare.err);
    let dump = kptrace(&["check", "--dump", "ir", "/bin/true", "main"]).expect(2);
    assert!(dump.err.contains("-e <PROGRAM>"), "{}", dump.err);
}

/// bpftrace's tools for user space: those of the tests, and those that are installed.
#[test]
fn bpftraces_own_programs_pass_check_unchanged() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language");
    let places = [
        here.join("bpftrace"),
        here.join("bpftrace-0.17"),
        PathBuf::from("/usr/sbin"),
    ];
    for name in [
        "bashreadline",
        "gethostlatency",
        "sslsnoop",
        "ssllatency",
        "threadsnoop",
    ] {
        for place in &places {
            let file = place.join(format!("{name}.bt"));
            if !file.exists() && place.starts_with("/usr") {
                continue;
            }
            let file = file.to_str().expect("UTF-8");
            let ended = kptrace(&["check", "-f", file]).expect(0);
            assert!(
                ended.out.contains("the program compiles: "),
                "{file}: {}",
                ended.out
            );
        }
    }
}

fn dumped(stage: &str) -> String {
    let ended = checked(PROGRAM, &["--arg", "x", "--dump", stage]).expect(0);
    assert_eq!(ended.err, "");
    ended.out
}

#[test]
fn dumps_of_a_program_are_as_stored() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command_line/dump");
    for stage in ["ast", "ir"] {
        let file = place.join(format!("{stage}.txt"));
        let text = dumped(stage);
        if std::env::var_os("KPTRACE_WRITE").is_some() {
            fs::write(&file, &text).expect("it can be written");
        }
        assert_eq!(
            text,
            fs::read_to_string(&file).unwrap_or_default(),
            "{stage}"
        );
    }
}

#[test]
fn nothing_in_a_program_acts_on_the_terminal() {
    let text = "uprobe:libc:\"a\x1b[2Jb\" { @ = 1; }";
    for more in [
        &[][..],
        &["--dump", "ast"],
        &["--dump", "ir"],
        &["--dump", "code"],
    ] {
        let ended = checked(text, more).expect(0);
        assert!(
            ended.out.contains("[2Jb") && !ended.out.contains('\x1b'),
            "{:?}",
            ended.out
        );
    }
}

#[test]
fn the_code_of_each_block_can_be_read() {
    let text = dumped("code");
    for title in [
        "BEGIN",
        "uprobe:./talks:work",
        "uretprobe:./talks:work",
        "interval:ms:1500",
    ] {
        assert!(
            text.contains(&format!("{title}\n{{\n")),
            "{title} in\n{text}"
        );
    }
    assert!(
        text.contains("uretprobe:./talks:work\n{\n  ; handlers"),
        "{text}"
    );
    let line = regex::Regex::new(r"^  (0x[0-9a-f]+  [a-z].*|; [a-z ]+|# .*)$").expect("a pattern");
    let inner = text.lines().filter(|line| line.starts_with(' '));
    inner.for_each(|inner| assert!(line.is_match(inner), "{inner}"));

    let count = checked("uprobe:a:b { @ = count(); }", &["--dump", "code"]).expect(0);
    let hot = count.out.split("; seldom").next().expect("a part");
    let written = hot
        .lines()
        .filter(|line| line.contains("gs:[") && !line.contains("cmp"));
    let written: Vec<&str> = written.collect();
    assert!(
        matches!(written[..], [one] if one.contains("inc qword ptr gs:[")),
        "one inc of this thread's own: {written:?}"
    );
}

/// A file that is run as a command, with kptrace where `env` finds it.
fn script(text: &str, words: &[&str]) -> Ended {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("prog.bt");
    fs::write(&file, text).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its mode");
    let bin = Path::new(launch::binary()).parent().expect("a directory");
    let mut command = command("./prog.bt");
    command.current_dir(place.path()).args(words);
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    start(command).end()
}

#[test]
fn a_file_runs_by_itself_and_the_command_follows() {
    let talks = talks();
    let text = format!(
        "#!/usr/bin/env -S kptrace run -f\n// What work() gets.\n\
         uprobe:{talks}:work /arg0 == 5/ {{ printf(\"five of %s\\n\", str(arg1)); }}"
    );
    // Options of the command are the command's.
    let ended = script(&text, &[&talks, "-q"]).expect(3);
    assert_eq!(ended.out, "sum 30\n");
    assert!(ended.err.starts_with("five of -q\n"), "{}", ended.err);
    // Before it they are kptrace's.
    let ended = script(&text, &["-q", "-o", "-", "--", &talks, "x"]).expect(3);
    assert!(
        ended.out.contains("five of x\n") && ended.err.is_empty(),
        "{ended:?}"
    );
    // Without a command it says what is missing.
    let ended = script(&text, &[]).expect(2);
    assert!(ended.err.contains("no command to run"), "{}", ended.err);
}

#[test]
fn a_file_runs_by_itself_with_bpftraces_options() {
    let talks = talks();
    let text = format!(
        "#!/usr/bin/env -S kptrace bt\nuprobe:{talks}:work /arg0 == $1/ {{ @[str(arg1)] = count(); }}"
    );
    let ended = script(&text, &["4", "-c", &format!("{talks} word")]).expect(0);
    let printed = ended.out.replace("sum 30\n", "");
    assert_eq!(printed, "Attaching 1 probe...\n\n\n@[word]: 1\n");
}

#[test]
fn what_a_program_does_not_count_is_not_said_to_be_0() {
    let talks = talks();
    let program = format!("uprobe:{talks}:work {{ @ = count(); }}");
    let run = |more: &[&str]| {
        let line = [&["run", "-e", &program], more, &["--", &talks]].concat();
        kptrace(&line).expect(3).err
    };
    let table = run(&["--format", "summary"]);
    assert!(table.contains("@: 5\n"), "{table}");
    assert!(
        table.contains("HITS  MISSED  STATE  PROBE\n   -       0  jump   talks:work\n"),
        "{table}"
    );
    assert!(!table.contains("not hit"), "{table}");
    let summary = json::summary(&run(&["-q", "--format", "json"]));
    assert!(json::probe(&summary, "work")["hits"].is_null(), "{summary}");
    assert!(summary["hits"].is_null(), "{summary}");
    assert!(summary["processes"][0]["hits"].is_null(), "{summary}");
    // A probe beside it counts, and is counted alone.
    let summary = json::summary(&run(&["-q", "--format", "json", "-p", "main"]));
    assert_eq!(json::count(&summary, "main"), 1);
    assert_eq!(
        (&summary["hits"], &summary["processes"][0]["hits"]),
        (&1.into(), &1.into())
    );
    assert!(json::probe(&summary, "work")["hits"].is_null(), "{summary}");
}

#[test]
fn a_program_says_what_becomes_of_probes_that_name_nothing() {
    let text = |missing: &str| {
        format!(
            "config = {{ missing_probes = \"{missing}\" }}
             uprobe:libc:nosuch {{ }} BEGIN {{ print(1); exit() }}"
        )
    };
    let run = |missing: &str| kptrace(&["run", "-e", &text(missing), "--", "true"]);
    let ended = run("ignore").expect(0);
    assert!(
        ended.err.contains('1') && !ended.err.contains("nosuch"),
        "{}",
        ended.err
    );
    let ended = run("error").expect(3);
    assert!(ended.err.contains("nosuch"), "{}", ended.err);
}
