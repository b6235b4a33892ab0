//! Wrong input gets one clear message, the right code, and nothing is started or touched.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::*;
use object::{Object, ObjectSection, ObjectSymbol};

/// What `run` says to a probe; nothing may have run.
fn refused(probe: &str, code: i32) -> String {
    let ended = kptrace(&["run", "-p", probe, "--", "echo", "it ran"]).expect(code);
    assert_eq!(ended.out, "", "{probe}");
    assert!(!ended.err.contains('\u{1b}'), "{probe}: {}", ended.err);
    assert!(ended.err.ends_with('\n'), "{probe}: {:?}", ended.err);
    ended.err
}

#[test]
fn a_malformed_probe_is_shown_with_the_place_and_help() {
    for (probe, part) in [
        ("", "empty"),
        ("f x=", "value"),
        ("f x=+0(%di", "parenthesis"),
        ("f x=%di:u7", "u7"),
        ("a:b:c:d", "too many"),
        ("/(/", "unclosed group"),
        ("\"f", "quote"),
        ("f%foo", "%foo"),
        ("f%ret", "%return"),
        ("/no/such/file", "which symbol"),
        (":", "module"),
    ] {
        let said = refused(probe, 2);
        assert!(said.starts_with("error: "), "{said}");
        assert!(said.contains(part), "{probe}: {said}");
        assert!(said.contains('^'), "{probe}: {said}");
    }
}

#[test]
fn a_register_that_does_not_exist_is_named() {
    let said = refused("libc:malloc x=%zz", 2);
    assert!(said.contains("%zz"), "{said}");
}

#[test]
fn every_error_is_reported_not_the_first_only() {
    let line = [
        "run", "-p", "f x=", "-p", "g%foo", "-x", "/(/", "--", "echo", "it ran",
    ];
    let ended = kptrace(&line).expect(2);
    assert_eq!(ended.err.matches("error: ").count(), 3, "{}", ended.err);
    assert_eq!(ended.out, "");
}

#[test]
fn a_misspelt_name_gets_a_suggestion() {
    for (probe, meant) in [
        ("libc:mallok", "malloc"),
        ("libc:pthread_crate", "pthread_create"),
        ("mallco", "malloc"),
    ] {
        let said = refused(probe, 3);
        assert!(said.contains("did you mean"), "{said}");
        assert!(said.contains(meant), "{said}");
    }
}

#[test]
fn a_module_that_is_not_there_is_told_with_those_that_are() {
    let said = refused("libnowhere:f", 3);
    assert!(
        said.contains("libnowhere") && said.contains("libc.so.6"),
        "{said}"
    );
}

#[test]
fn a_number_after_p_leads_to_attach() {
    let said = refused("12345", 3);
    assert!(said.contains("kptrace attach"), "{said}");
    let ended = kptrace(&["attach", "-p", "12345"]).expect(2);
    assert!(
        ended.err.contains("kptrace attach -c -p '*' 12345"),
        "{}",
        ended.err
    );
}

#[test]
fn one_of_several_that_matches_is_enough_and_the_other_is_told() {
    let line = [
        "run",
        "-c",
        "-p",
        "libc:malloc",
        "-p",
        "libc:mallok",
        "--",
        "true",
    ];
    let ended = kptrace(&line).expect(0);
    assert!(
        ended
            .err
            .contains("1 pending (1 no such function in libc.so.6"),
        "{}",
        ended.err
    );
    let nothing = [
        "run",
        "-c",
        "-p",
        "libc:malloc",
        "-x",
        "mall*",
        "--",
        "true",
    ];
    let ended = kptrace(&nothing).expect(3);
    assert!(ended.err.contains("excluded"), "{}", ended.err);
}

#[test]
fn without_a_probe_the_line_to_type_is_named() {
    let ended = kptrace(&["run", "ls", "-l"]).expect(2);
    assert!(
        ended.err.contains("kptrace run -c -p '*' -- ls -l"),
        "{}",
        ended.err
    );
    let ended = kptrace(&["attach", "1"]).expect(2);
    assert!(
        ended.err.contains("kptrace attach -c -p '*' 1"),
        "{}",
        ended.err
    );
    let ended = kptrace(&["run", "-p", "libc:malloc"]).expect(2);
    assert!(
        ended.err.contains("kptrace run -p libc:malloc -- CMD"),
        "{}",
        ended.err
    );
}

#[test]
fn habits_of_other_tools_are_answered() {
    // strace's `-f`: `ls` is no file of ours.
    let ended = kptrace(&["run", "-p", "libc:malloc", "-f", "ls", "true"]).expect(2);
    assert!(
        ended.err.contains("cannot read the program")
            && ended.err.contains("children are followed by themselves"),
        "{}",
        ended.err
    );
    let ended = plain_path(&["run", "-p", "libc:malloc", "-c", "ls -l"]).expect(127);
    assert!(
        ended.err.contains("kptrace run -c -p libc:malloc -- ls -l"),
        "{}",
        ended.err
    );
    let ended = kptrace(&["run", "-e", "f { }", "ls"]).expect(2);
    assert!(ended.err.contains("help: "), "{}", ended.err);
    let ended = kptrace(&["attach", "-p", "f", "ls"]).expect(2);
    assert!(ended.err.contains("kptrace run"), "{}", ended.err);
}

#[test]
fn bad_options_are_usage_errors_and_help_is_none() {
    for line in [
        &["run", "--cuont", "ls"][..],
        &["run", "-p", "f", "--format", "trees", "ls"],
        &["attach", "-p", "f", "--mem", "7", "1"],
        &["nothing"],
        &["list"],
        &["check", "/bin/ls"],
    ] {
        kptrace(line).expect(2);
    }
    for line in [
        &["--help"][..],
        &["run", "--help"],
        &["--version"],
        &["man"],
        &["completions", "bash"],
    ] {
        let ended = kptrace(line).expect(0);
        assert!(!ended.out.is_empty() && ended.err.is_empty(), "{line:?}");
    }
}

#[test]
fn restore_wants_one_process_that_is_there() {
    for words in [
        &["restore"][..],
        &["restore", "0"],
        &["restore", "-5"],
        &["restore", "ls"],
        &["restore", "1", "2"],
        &["restore", "99999999999999999999"],
        &["restore", "-p", "f", "1"],
    ] {
        let ended = kptrace(words).expect(2);
        assert_eq!(ended.out, "", "{words:?}");
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
    }
    let ended = kptrace(&["restore", "4194304"]).expect(1);
    assert!(ended.err.contains("no such process"), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    let help = kptrace(&["restore", "--help"]).expect(0);
    assert!(help.out.contains("kptrace restore 1234"), "{}", help.out);
}

#[test]
fn a_file_that_is_no_program_is_told_by_list_and_check() {
    let place = tempfile::tempdir().expect("a directory");
    let cases: [(&str, &[u8]); 4] = [
        ("empty", b""),
        ("text", b"hello\n"),
        ("short", b"\x7fELF"),
        (
            "thirty-two",
            b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0",
        ),
    ];
    let check = |path: &Path| {
        let path = path.to_str().expect("UTF-8");
        for line in [&["list", path][..], &["check", path, "main"]] {
            let ended = kptrace(line).expect(1);
            assert_eq!(ended.err.lines().count(), 1, "{path}: {}", ended.err);
            assert_eq!(ended.out, "", "{path}");
        }
    };
    for (name, bytes) in cases {
        let path = place.path().join(name);
        fs::write(&path, bytes).expect("written");
        check(&path);
    }
    check(&place.path().join("missing"));
    check(place.path());
}

/// A small random sequence that is the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// A program with debug information, small enough to be damaged many times.
fn victim() -> PathBuf {
    c("small").flags(&["-O2"]).build()
}

/// A damaged file is read, or refused in a word: never a crash, a hang, or silence.
fn survives(path: &Path) {
    let path = path.to_str().expect("UTF-8");
    for line in [
        &["list", path][..],
        &["check", path, "*"],
        &["check", path, "add $args", "small.c:10"],
    ] {
        let ended = kptrace(line);
        let code = ended.code();
        assert!(matches!(code, 0..=3), "{line:?}: {ended:?}");
        assert_eq!(code == 0, !ended.out.is_empty(), "{line:?}: {ended:?}");
        assert!(code == 0 || !ended.err.is_empty(), "{line:?}: {ended:?}");
        assert!(!ended.err.contains("panicked"), "{line:?}: {ended:?}");
    }
}

#[test]
fn truncated_programs_are_read_as_far_as_they_go() {
    let whole = fs::read(victim()).expect("the program");
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("victim");
    for part in 1..12 {
        fs::write(&path, &whole[..whole.len() * part / 12]).expect("written");
        survives(&path);
    }
}

#[test]
fn damaged_programs_are_read_or_refused() {
    let whole = fs::read(victim()).expect("the program");
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("victim");
    let mut random = Random(7);
    for _ in 0..25 {
        let mut bytes = whole.clone();
        for _ in 0..=random.next(60) {
            let at = random.next(bytes.len());
            bytes[at] = random.next(256) as u8;
        }
        fs::write(&path, &bytes).expect("written");
        survives(&path);
    }
    // The headers decide most: damage only them.
    for _ in 0..25 {
        let mut bytes = whole.clone();
        let tail = bytes.len() - 31 * 64;
        for start in [16, 24, 32, 40, 54, tail] {
            if random.next(3) == 0 {
                let at = start + random.next(if start == tail { 31 * 64 } else { 8 });
                bytes[at] ^= 1 << random.next(8);
            }
        }
        fs::write(&path, &bytes).expect("written");
        survives(&path);
    }
}

/// Writes a program and makes it executable.
fn install(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(path, mode).expect("executable");
}

#[test]
fn a_program_with_damaged_debug_information_still_runs_and_is_traced() {
    let whole = fs::read(victim()).expect("the program");
    let file = object::File::parse(&*whole).expect("ELF");
    let debug: Vec<(u64, u64)> = file
        .sections()
        .filter(|section| section.name().is_ok_and(|name| name.starts_with(".debug_")))
        .filter_map(|section| section.file_range())
        .collect();
    assert!(debug.len() > 3, "{debug:?}");
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("victim");
    let mut random = Random(11);
    for _ in 0..10 {
        let mut bytes = whole.clone();
        for &(start, length) in &debug {
            for _ in 0..1 + length / 20 {
                let at = start as usize + random.next(length as usize);
                bytes[at] = random.next(256) as u8;
            }
        }
        install(&path, &bytes);
        let name = path.to_str().expect("UTF-8");
        let ended = kptrace(&["run", "-c", "-p", "*", "-p", "libc:malloc", "--", name]).expect(0);
        assert_eq!(ended.out, "6\n", "{}", ended.err);
        // Arguments by name are shown, refused, or fewer; the target minds none of it.
        let line = ["run", "-p", "add $args", "--", name];
        let ended = kptrace(&line);
        assert!(matches!(ended.code(), 0 | 2), "{ended:?}");
        assert!(ended.code() == 2 || ended.out == "6\n", "{ended:?}");
    }
}

#[test]
fn a_symbol_that_lies_is_refused() {
    let whole = fs::read(victim()).expect("the program");
    let file = object::File::parse(&*whole).expect("ELF");
    let main = file
        .symbols()
        .find(|s| s.name() == Ok("main"))
        .expect("main");
    let table = file.section_by_name(".symtab").and_then(|s| s.file_range());
    let value = table.expect("a table").0 as usize + 24 * main.index().0 + 8;
    let mut bytes = whole.clone();
    bytes[value..value + 8].copy_from_slice(&(main.address() + 1).to_le_bytes());
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("victim");
    install(&path, &bytes);
    let name = path.to_str().expect("UTF-8");
    let ended = kptrace(&["run", "-c", "-p", "*", "--", name]).expect(0);
    assert_eq!(ended.out, "6\n", "{}", ended.err);
}
