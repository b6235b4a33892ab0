//! What people do all day: building a project, packing a repository, a script of pipelines. Followed
//! into every process or not, it comes out as it does alone, and the counts add up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;

use super::support::*;

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// Runs these words there, alone.
fn alone(place: &Path, words: &[&str]) -> Ended {
    let mut line = command(words[0]);
    line.args(&words[1..]).current_dir(place);
    start(line).end()
}

/// The same with probes; with the summary.
fn probed(place: &Path, options: &[&str], words: &[&str]) -> (Ended, serde_json::Value) {
    let report = tempfile::NamedTempFile::new().expect("a file");
    let mut line = command(launch::binary());
    line.args(["run", "-q", "-c", "--format", "json", "-o"])
        .arg(report.path())
        .args(options)
        .arg("--")
        .args(words)
        .current_dir(place);
    let ended = start(line).end();
    let told = summary(&fs::read_to_string(report.path()).expect("a report"));
    (ended, told)
}

fn same(probed: &Ended, alone: &Ended) {
    assert_eq!(probed.status, alone.status);
    assert_eq!(probed.out, alone.out);
    assert_eq!(probed.err, alone.err);
}

/// Hits of all processes, by command.
fn by_command(told: &serde_json::Value) -> BTreeMap<String, Vec<u64>> {
    let mut commands: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for process in told["processes"].as_array().expect("processes") {
        let comm = process["comm"].as_str().expect("a name").to_owned();
        let hits = process["hits"].as_u64().expect("hits");
        commands.entry(comm).or_default().push(hits);
    }
    commands
}

/// What every process counted is all that was counted.
fn adds_up(told: &serde_json::Value) {
    let hits = |of: &serde_json::Value| of["hits"].as_u64().expect("hits");
    let probes = told["probes"].as_array().expect("probes");
    let processes = told["processes"].as_array().expect("processes");
    let all: u64 = probes.iter().map(hits).sum();
    assert!(all > 0, "{told}");
    assert_eq!(processes.iter().map(hits).sum::<u64>(), all, "{told}");
}

const FILES: usize = 5;

/// A program of several files, with what builds it.
fn project(place: &Path) {
    let mut main = String::from("#include <stdio.h>\n");
    let mut calls = String::new();
    for n in 0..FILES {
        let text = format!(
            "#include <stdlib.h>\n#include <string.h>\nstatic int table[{n} + 1];\n\
             int part{n}(int x) {{ for (int i = 0; i <= {n}; i++) table[i] += x * i + {n};\n\
             return table[{n}] + (int)strlen(getenv(\"HOME\") ? \"home\" : \"none\"); }}\n"
        );
        fs::write(place.join(format!("part{n}.c")), text).expect("written");
        let _ = writeln!(main, "int part{n}(int x);");
        let _ = write!(calls, " + part{n}({n})");
    }
    let _ = writeln!(
        main,
        "int main(void) {{ printf(\"%d\\n\", 0{calls}); return 0; }}"
    );
    fs::write(place.join("main.c"), main).expect("written");
    let parts: String = (0..FILES).map(|n| format!(" part{n}.o")).collect();
    let rules = format!(
        "CFLAGS = -O2 -g\nprogram: main.o{parts}\n\tcc -o $@ $^\n%.o: %.c\n\tcc $(CFLAGS) -c -o $@ $<\n\
         clean:\n\trm -f *.o program\n"
    );
    fs::write(place.join("Makefile"), rules).expect("written");
}

/// All that was built.
fn built(place: &Path) -> BTreeMap<String, Vec<u8>> {
    let made = fs::read_dir(place).expect("its files").flatten();
    let made = made.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    let made = made.filter(|name| name == "program" || name.ends_with(".o"));
    made.map(|name| {
        let bytes = fs::read(place.join(&name)).expect("it was built");
        (name, bytes)
    })
    .collect()
}

pub fn make() -> Result<(), String> {
    let place = directory();
    let place = place.path();
    project(place);
    let line = ["make", "-s", "-j2"];
    let plain = alone(place, &line);
    assert_eq!(plain.code(), 0, "{plain:?}");
    let wanted = built(place);
    assert_eq!(wanted.len(), FILES + 2);
    let clean = || {
        alone(place, &["make", "-s", "clean"]).expect(0);
        assert_eq!(built(place).len(), 0);
    };
    let start = ["-p", "libc:__libc_start_main"];
    for (follow, probes) in [
        ("--follow", start),
        ("--follow", ["-p", "libc:malloc"]),
        ("--follow", ["-p", "libc:*"]),
        ("--no-follow", ["-p", "libc:*"]),
    ] {
        clean();
        let (ended, told) = probed(place, &[&[follow], &probes[..]].concat(), &line);
        same(&ended, &plain);
        assert!(built(place) == wanted, "{follow} {probes:?}: other files");
        adds_up(&told);
        let commands = by_command(&told);
        if follow == "--no-follow" {
            assert_eq!(commands.keys().collect::<Vec<_>>(), ["make"], "{told}");
            continue;
        }
        // Every program that was begun began once.
        if probes == start {
            let begun = commands.values().flatten().filter(|&&hits| hits > 0);
            assert!(begun.clone().all(|&hits| hits == 1), "{told}");
            let begun = begun.count() as u64;
            assert_eq!(json::count(&told, "__libc_start_main"), begun, "{told}");
        }
        let compiled = commands
            .get("as")
            .map(|of| of.iter().filter(|&&n| n > 0).count());
        assert_eq!(compiled, Some(FILES + 1), "{told}");
    }
    // A failure is the program's own.
    clean();
    fs::write(place.join("part3.c"), "int part3(int x) { return y; }\n").expect("written");
    let line = ["make", "-s"];
    let plain = alone(place, &line);
    assert_ne!(plain.code(), 0);
    clean();
    let (ended, told) = probed(place, &["-p", "libc:malloc"], &line);
    same(&ended, &plain);
    adds_up(&told);
    Ok(())
}

/// A repository of many small commits, each an object of its own.
fn repository(place: &Path) {
    let git = |words: &[&str]| {
        let all = [&["git", "-C", "repository"], words].concat();
        alone(place, &all).expect(0);
    };
    fs::create_dir(place.join("repository")).expect("made");
    git(&["init", "-q", "-b", "main", "."]);
    let mut history = String::new();
    for commit in 0..120 {
        let message = format!("commit {commit}");
        let _ = write!(
            history,
            "commit refs/heads/main\ncommitter a <a@b> {} +0000\ndata {}\n{message}\n",
            1_600_000_000 + commit * 60,
            message.len()
        );
        for file in 0..3 {
            let lines: String = (0..40 + commit % 7)
                .map(|line| format!("line {line} {}\n", (commit * 7 + line * file) % 11))
                .collect();
            let path = format!("d{}/f{file}", commit % 5);
            let _ = write!(
                history,
                "M 644 inline {path}\ndata {}\n{lines}\n",
                lines.len()
            );
        }
    }
    let mut import = command("git");
    import
        .args(["-C", "repository", "-c", "fastimport.unpackLimit=100000"])
        .args(["fast-import", "--quiet"])
        .current_dir(place)
        .stdin(Stdio::piped());
    let mut import = start(import);
    let stdin = import.stdin.as_mut().expect("a pipe");
    stdin.write_all(history.as_bytes()).expect("written");
    import.end().expect(0);
}

/// The packs, which are named by what they hold, and what git counts.
fn packed(place: &Path) -> (Vec<String>, String) {
    let packs = fs::read_dir(place.join("repository/.git/objects/pack")).expect("packs");
    let packs = packs
        .flatten()
        .map(|e| e.file_name().into_string().expect("UTF-8"));
    let mut packs: Vec<String> = packs.collect();
    packs.sort();
    let counted = alone(place, &["git", "-C", "repository", "count-objects", "-v"]).expect(0);
    // Sizes on disk depend on the file system's mood.
    let counted = counted.out.lines().filter(|line| !line.starts_with("size"));
    (packs, counted.collect::<Vec<_>>().join("\n"))
}

pub fn git_gc() -> Result<(), String> {
    let gc = [
        "git",
        "-C",
        "repository",
        "-c",
        "pack.threads=1",
        "gc",
        "--prune=now",
    ];
    let plain_place = directory();
    repository(plain_place.path());
    let loose = packed(plain_place.path());
    let plain = alone(plain_place.path(), &gc);
    assert_eq!(plain.code(), 0, "{plain:?}");
    let wanted = packed(plain_place.path());
    assert_ne!(wanted, loose, "there was something to pack");
    for options in [
        &["--follow", "-p", "libc:malloc"][..],
        &["--follow", "-p", "*:*"],
        &["--no-follow", "-p", "*:*"],
    ] {
        let place = directory();
        let place = place.path();
        repository(place);
        let (ended, told) = probed(place, options, &gc);
        same(&ended, &plain);
        assert_eq!(packed(place), wanted, "{options:?}");
        adds_up(&told);
        let processes = told["processes"].as_array().expect("processes").len();
        assert_eq!(processes > 1, options[0] == "--follow", "{told}");
        let checked = alone(
            place,
            &["git", "-C", "repository", "fsck", "--full", "--strict"],
        );
        assert_eq!(checked.expect(0).out, "");
    }
    Ok(())
}

/// Pipelines in loops, in functions, in the background, in subshells; signals, and a status.
const SCRIPT: &str = r#"
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for n in 1 2 3 4 5 6; do
    seq 1 $((n * 50)) | sed 's/$/ x/' | awk '{ s += $1 } END { print s }' > "$work/$n" &
done
wait
cat "$work"/[1-6] | sort -n | paste -s -d ' ' -
count() { tr -s ' ' '\n' | sort | uniq -c | sort -rn | head -2 | awk '{ print $2, $1 }'; }
printf 'a b a c b a\n' | count
(cd / && ls -d etc usr | xargs -n 1 echo at) | tee "$work/list" | wc -l
grep -c at < "$work/list"
mkfifo "$work/pipe"
(cat "$work/pipe" | tail -1) & seq 1 20000 > "$work/pipe"; wait $!
yes | head -3
kill -TERM $(sh -c 'sleep 100 > /dev/null & echo $!') && echo ended
find /usr/include -maxdepth 1 -name 's*.h' | sort | head -3
echo to stderr >&2
false | true; echo $?
sh -c 'kill -USR1 $$'; echo $?
exit 5
"#;

pub fn script() -> Result<(), String> {
    let place = directory();
    let place = place.path();
    let line = ["sh", "-c", SCRIPT];
    let plain = alone(place, &line);
    assert_eq!(plain.code(), 5, "{plain:?}");
    for options in [
        &["--follow", "-p", "libc:malloc", "-p", "libc:write"][..],
        &["--follow", "-p", "libc:*"],
        &[
            "--follow",
            "--no-opt",
            "--trap-limit",
            "0",
            "-p",
            "libc:malloc",
        ],
        &["--no-follow", "-p", "*:*"],
    ] {
        let (ended, told) = probed(place, options, &line);
        same(&ended, &plain);
        adds_up(&told);
        let commands = by_command(&told);
        let followed = options[0] == "--follow";
        for comm in [
            "seq", "sed", "awk", "mawk", "gawk", "sort", "uniq", "xargs", "tee", "tail",
        ] {
            let there = commands.contains_key(comm);
            assert!(followed || !there, "{comm}: {told}");
            let one = ["awk", "mawk", "gawk"].contains(&comm);
            assert!(there || one || !followed, "no {comm}: {told}");
        }
    }
    Ok(())
}
