//! Programs that are wherever this is built: ls, sh, the C compiler with its parts, rustc.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Completion;

use super::Verdict;
use super::case::Case;
use super::need::missing_one;
use super::support;

/// Forks, pipes, subshells, functions, traps, background jobs, and a death by signal.
const SCRIPT: &str = r#"
for i in 1 2 3 4 5; do
    (echo "sub $i"; x=$(seq 1 $i | tr '\n' ' '); echo $x)
done | sort -r | sed 's/sub/SUB/'
f() { if [ $1 -gt 0 ]; then f $(($1 - 1)); echo $1; fi; }
f 20 | wc -l
(exit 7); echo $?
cat <<END | tr a-z A-Z
here is a document
END
{ sleep 0 & wait $!; echo waited $?; }
trap 'echo usr1' USR1
kill -USR1 $$
trap 'echo leaving' EXIT
exec 3>&1
echo to three >&3
(trap '' INT; kill -INT $(sh -c 'echo $PPID'); echo ignored)
kill -KILL $$
"#;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub fn ls() -> Verdict {
    Case::new("ls -lR", &["ls", "-lR", "/usr/include", "/usr/lib/gcc"]).compare_listing()
}

impl Case {
    /// A listing of a tree that may not be there in full.
    fn compare_listing(mut self) -> Verdict {
        self.argv
            .retain(|word| !Path::new(word).is_absolute() || Path::new(word).exists());
        self.compare()
    }
}

/// What a program that reads its own text shows is the documented exception; here it is what every
/// other case would tell if it failed.
pub fn bisected() -> Verdict {
    let program = support::c("reads_itself").build();
    let failed = Case::new("reads itself", &[&program]).compare();
    let Err(failed) = failed else {
        return Err("a program that prints a patched byte shows nothing".into());
    };
    let told = failed.message().unwrap_or_default();
    let listed = support::kptrace(&["list".as_ref(), "--json".as_ref(), program.as_os_str()]);
    let entry = |line: &&str| line.contains("\"name\":\"watched\"");
    let entry = listed.out.lines().find(entry).unwrap();
    let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
    let site = format!(
        "sites fail:\nreads_itself:+{}",
        entry["address"].as_str().unwrap()
    );
    if told.contains("bisected: 1 of ") && told.ends_with(&site) {
        Ok(Completion::Completed)
    } else {
        Err(format!("not {site}:\n{told}").into())
    }
}

pub fn sh() -> Verdict {
    let mut case = Case::new("sh", &["sh", "-c", SCRIPT]);
    case.status = 128 + 9;
    case.compare()
}

fn c_source() -> PathBuf {
    source("tests/targets/relocate_harness.c")
}

pub fn cc() -> Verdict {
    let mut case = Case::new("cc -O2", &["cc", "-O2", "-c", "-o", "made.o"]);
    case.argv.push(c_source().into());
    case.makes = vec!["made.o"];
    case.compare()
}

/// What the driver would run for these arguments: the line that has `part`.
fn driven(directory: &Path, arguments: &[OsString], part: &str) -> Option<Vec<OsString>> {
    let told = support::command("cc")
        .current_dir(directory)
        .arg("-###")
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    let line = told
        .lines()
        .find(|line| line.starts_with(' ') && line.contains(part))?;
    // The line is quoted for a shell.
    let split = Command::new("sh")
        .args(["-c", &format!("printf '%s\\n' {line}")])
        .output()
        .unwrap();
    let words = String::from_utf8(split.stdout).unwrap();
    Some(words.lines().map(OsString::from).collect())
}

fn tool(name: &str) -> String {
    let told = support::command("cc")
        .arg(format!("-print-prog-name={name}"))
        .output()
        .unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

/// A stage of the compiler, run to make what the next one needs.
fn stage(directory: &Path, arguments: &[OsString]) {
    let status = support::command("cc")
        .current_dir(directory)
        .args(arguments)
        .status();
    assert!(status.unwrap().success(), "cc {arguments:?}");
}

pub fn cc1() -> Verdict {
    let mut case = Case::new("cc1 -O2", &[""]);
    let arguments = [
        "-O2".into(),
        "-S".into(),
        "-o".into(),
        "made.s".into(),
        c_source().into_os_string(),
    ];
    let Some(argv) = driven(case.directory.path(), &arguments, "cc1") else {
        return missing_one("this C compiler has no cc1");
    };
    case.argv = argv;
    case.makes = vec!["made.s"];
    case.compare()
}

pub fn assembler() -> Verdict {
    let mut case = Case::new("as", &[&tool("as"), "-o", "made.o", "given.s"]);
    let place = case.directory.path();
    stage(
        place,
        &[
            "-O2".into(),
            "-S".into(),
            "-o".into(),
            "given.s".into(),
            c_source().into_os_string(),
        ],
    );
    case.makes = vec!["made.o"];
    case.compare()
}

pub fn ld() -> Verdict {
    let mut case = Case::new("ld", &[""]);
    let place = case.directory.path();
    stage(
        place,
        &[
            "-O2".into(),
            "-c".into(),
            "-o".into(),
            "given.o".into(),
            c_source().into_os_string(),
        ],
    );
    let arguments = ["-o".into(), "made".into(), "given.o".into()];
    let Some(argv) = driven(place, &arguments, "crt1.o") else {
        return missing_one("the C compiler does not tell how it links");
    };
    // Without the plugin for link-time optimisation: the driver feeds it files of its own.
    let mut words = argv.into_iter().skip(1);
    let mut argv = vec![OsString::from(tool("ld"))];
    while let Some(word) = words.next() {
        if word == "-plugin" {
            words.next();
        } else if !word.to_string_lossy().starts_with("-plugin-opt") {
            argv.push(word);
        }
    }
    case.argv = argv;
    case.makes = vec!["made"];
    case.compare()
}

pub fn rustc() -> Verdict {
    let told = support::command("rustc")
        .args(["--print", "sysroot"])
        .output();
    // Tests that were built by one user and are run by another.
    let Some(told) = told.ok().filter(|told| told.status.success()) else {
        return missing_one("no rustc here");
    };
    let root = String::from_utf8(told.stdout).unwrap();
    // `rustc` itself may be a program that only chooses one and execs it.
    let program = Path::new(root.trim()).join("bin/rustc");
    let mut case = Case::new("rustc", &[program]);
    let options = [
        "-O",
        "-C",
        "codegen-units=2",
        "--crate-type",
        "lib",
        "--emit",
        "obj",
        "-o",
        "made.o",
    ];
    case.argv.extend(options.map(OsString::from));
    case.argv.push(source("tests/targets/words.rs").into());
    case.makes = vec!["made.o"];
    case.compare()
}
