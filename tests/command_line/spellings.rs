//! Every spelling of a probe names what it says.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::support::*;

/// The library and a program that uses it; both have their calls written in their sources.
fn program() -> PathBuf {
    let map = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/targets/library.map");
    let script = format!("-Wl,--version-script={}", map.display());
    let library = c("library")
        .named("libshelf.so.3")
        .flags(&[
            "-O2",
            "-shared",
            "-fPIC",
            "-Wl,-soname,libshelf.so.3",
            &script,
        ])
        .build();
    let place = library.parent().expect("a directory").display().to_string();
    let path = format!("-Wl,-rpath,{place}");
    let library = library.to_str().expect("UTF-8");
    c("spellings")
        .flags(&["-O2", "-no-pie", "-fno-pie", library, &path])
        .build()
}

/// Traces with these probes, counting; the summary.
fn count(probes: &[&str]) -> serde_json::Value {
    let program = program();
    let mut line = vec!["run", "-c", "--format", "json"];
    for probe in probes {
        line.extend(["-p", probe]);
    }
    line.extend(["--", program.to_str().expect("UTF-8")]);
    let traced = kptrace(&line).expect(0);
    json::summary(&traced.err)
}

fn address(symbol: &str) -> String {
    let nm = Command::new("nm").arg(program()).output().expect("nm runs");
    let text = String::from_utf8(nm.stdout).expect("UTF-8");
    let line = text
        .lines()
        .find(|line| line.ends_with(&format!(" {symbol}")));
    let line = line.unwrap_or_else(|| panic!("{symbol} in\n{text}"));
    line.split(' ').next().expect("an address").to_owned()
}

#[test]
fn a_function_of_the_program_is_named_in_many_ways() {
    let path = format!("{}:own_first", program().display());
    let address = address("own_first");
    let absolute = format!("0x{address}");
    let relative = format!("spellings+0x{address}");
    let colon = format!("spellings:0x{address}");
    for probe in [
        "own_first",
        "spellings:own_first",
        "own_first@spellings",
        "spellings!own_first",
        "own_first+0",
        "\"own_first\"",
        "spell*:own_first",
        "*:own_first",
        "own_fir*",
        "own_f?rst",
        "/^own_first$/",
        "spellings:/^own_f/",
        &path,
        &absolute,
        &relative,
        &colon,
    ] {
        let summary = count(&[probe]);
        assert_eq!(summary["hits"], 2, "{probe}: {summary}");
        assert_eq!(summary["armed"], 1, "{probe}: {summary}");
    }
}

#[test]
fn an_offset_is_an_instruction_and_shown() {
    // Built with -O2: `lea 1(%rdi), %eax` is the whole body, then `ret`.
    let summary = count(&["own_first+3"]);
    assert_eq!(json::count(&summary, "own_first+0x3"), 2, "{summary}");
}

#[test]
fn a_source_line_is_found_in_the_program() {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/targets/spellings.c");
    let source = fs::read_to_string(source).expect("the source");
    let line = 1 + source
        .lines()
        .position(|line| line.contains("/* LINE */"))
        .expect("the marked line");
    for probe in [
        format!("spellings.c:{line}"),
        format!("spellings:spellings.c:{line}"),
    ] {
        let summary = count(&[&probe]);
        assert_eq!(summary["hits"], 2, "{probe}: {summary}");
    }
    let program = program();
    let program = program.to_str().expect("UTF-8");
    let none = kptrace(&["run", "-c", "-p", "spellings.c:9999", "--", program]).expect(3);
    assert!(none.err.contains("spellings.c:9999"), "{}", none.err);
}

#[test]
fn a_function_of_a_library_is_named_in_many_ways() {
    for probe in [
        "library_call",
        "libshelf:library_call",
        "libshelf.so:library_call",
        "libshelf.so.3:library_call",
        "library_call@libshelf",
        "library_call@libshelf.so.3",
        "libshelf!library_call",
        "libshelf:library_*",
        "libshelf:/library_c.ll/",
        "libsh*:library_call",
    ] {
        let summary = count(&[probe]);
        assert_eq!(summary["hits"], 9, "{probe}: {summary}");
        assert_eq!(summary["probes"][0]["module"], "libshelf.so.3", "{probe}");
    }
}

#[test]
fn aliases_share_a_site_and_keep_their_names() {
    let summary = count(&["library_call", "library_alias"]);
    assert_eq!(summary["armed"], 1, "{summary}");
    assert_eq!(json::count(&summary, "library_call"), 9);
    assert_eq!(json::count(&summary, "library_alias"), 9);
    let address = |name| json::probe(&summary, name)["address"].clone();
    assert_eq!(address("library_call"), address("library_alias"));
}

#[test]
fn a_version_is_told_from_a_module() {
    for (probe, calls) in [
        ("thing@@SHELF_2", 6),
        ("thing@SHELF_2", 6),
        ("libshelf:thing@SHELF_2", 6),
        ("thing@SHELF_1", 0),
        ("thing@libshelf", 6),
    ] {
        let summary = count(&[probe]);
        assert_eq!(summary["hits"], calls, "{probe}: {summary}");
    }
}

#[test]
fn an_ifunc_is_its_implementation() {
    let summary = count(&["chosen"]);
    assert_eq!(summary["hits"], 7, "{summary}");
    let implementation = count(&["chosen_one"]);
    let address = |summary: &serde_json::Value| summary["probes"][0]["address"].clone();
    assert_eq!(address(&summary), address(&implementation));
}

#[test]
fn an_ifunc_that_is_resolved_by_its_first_call_is_its_implementation() {
    // Nothing in the library calls it, and the program's slot is filled by its first call.
    let summary = count(&["libshelf:shelved"]);
    assert_eq!(summary["hits"], 1, "{summary}");
    assert_eq!(summary["notes"], serde_json::json!([]));
}

#[test]
fn an_ifunc_of_the_c_library_counts_calls_not_resolutions() {
    let program = build::Source::new(
        "cc",
        "c",
        "lengths",
        "#include <string.h>\n#include <stdio.h>\n\
         int main(int c, char **v) { volatile size_t n = 0; for (int i = 0; i < 1234; i++) \
         n += strlen(v[0] + (i & 1)); return n == 0; }\n",
    );
    let program = program.flags(&["-fno-builtin"]).build();
    let program = program.to_str().expect("UTF-8");
    let traced = kptrace(&[
        "run",
        "-c",
        "--format",
        "json",
        "-p",
        "libc:strlen",
        "--",
        program,
    ]);
    let summary = json::summary(&traced.expect(0).err);
    let hits = json::count(&summary, "strlen");
    assert!(hits >= 1234, "{summary}");
}

#[test]
fn a_cold_part_is_no_entry() {
    let summary = count(&["split*"]);
    assert_eq!(summary["armed"], 1, "{summary}");
    assert_eq!(json::count(&summary, "split"), 8);
    let program = program();
    let line = ["run", "-c", "-p", "split.cold", "--"];
    let line = [&line[..], &[program.to_str().expect("UTF-8")]].concat();
    kptrace(&line).expect(3);
}

#[test]
fn a_pattern_without_a_module_means_the_program() {
    let summary = count(&["*"]);
    for probe in summary["probes"].as_array().expect("probes") {
        assert_eq!(probe["module"], "spellings", "{probe}");
    }
    assert_eq!(json::count(&summary, "main"), 1);
    let everywhere = count(&["*:library_*"]);
    assert_eq!(json::count(&everywhere, "library_call_not"), 1);
    assert_eq!(json::count(&everywhere, "library_call"), 9);
}

#[test]
fn a_file_of_probes_has_comments_and_arguments() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = "# probes of the test\n\nown_first n=%di:s32   # not an argument\n  own_second\n";
    fs::write(file.path(), text).expect("written");
    let probe = format!("@{}", file.path().display());
    let program = program();
    let program = program.to_str().expect("UTF-8");
    let traced = kptrace(&["run", "--format", "json", "-p", &probe, "--", program]).expect(0);
    let summary = json::summary(&traced.err);
    assert_eq!(json::count(&summary, "own_first"), 2);
    assert_eq!(json::count(&summary, "own_second"), 3);
    let arguments: Vec<_> = json::hits(&traced.err)
        .into_iter()
        .filter_map(|hit| hit["args"]["n"].as_i64())
        .collect();
    assert_eq!(arguments, [0, 1]);

    fs::write(file.path(), "own_first\nown_second n=%xx\n").expect("written");
    let wrong = kptrace(&["run", "-p", &probe, "--", program]).expect(2);
    let place = format!("{}:2:", file.path().display());
    assert!(wrong.err.contains(&place), "{}", wrong.err);
    let missing = kptrace(&["run", "-p", "@/nonexistent/probes", "--", program]).expect(2);
    assert!(
        missing.err.contains("/nonexistent/probes"),
        "{}",
        missing.err
    );
}

#[test]
fn what_is_excluded_is_left_out() {
    let program = program();
    let program = program.to_str().expect("UTF-8");
    let line = [
        "run",
        "-c",
        "--format",
        "json",
        "-p",
        "own_*",
        "-p",
        "*:library_*",
        "-x",
        "own_second",
        "-x",
        "libshelf:*",
        "--",
        program,
    ];
    let summary = json::summary(&kptrace(&line).expect(0).err);
    let names = summary["probes"].as_array().expect("probes").iter();
    let mut names: Vec<_> = names
        .map(|probe| probe["name"].as_str().expect("a name"))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["library_call_not", "own_first"]);
}

#[test]
fn a_program_started_through_a_link_answers_to_both_names() {
    let real = c("steps").build();
    let directory = tempfile::tempdir().expect("a directory");
    let link = directory.path().join("other-name");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    let link = link.to_str().expect("UTF-8");
    for module in ["other-name", "steps"] {
        let probe = format!("{module}:main");
        let ended = kptrace(&["run", "-c", "--format", "json", "-p", &probe, "--", link]);
        let told = summary(&ended.err);
        assert_eq!(json::count(&told, "main"), 1, "{module}: {told}");
    }
}
