//! Programs that come in packages and end by themselves: git, Python, SQLite, node, and one of our
//! own in C++.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::Verdict;
use super::case::{Case, Compared};
use super::need::{all, find, first, missing_one};
use super::support;

fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/targets")
        .join(name)
}

/// A repository of 300 commits that change many files, as `git fast-import` reads it.
fn history() -> String {
    let mut text = String::new();
    let mut random = 12345u32;
    let mut next = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    for commit in 0..300 {
        let message = format!("commit {commit}");
        let _ = write!(
            text,
            "commit refs/heads/main\ncommitter a <a@b> {} +0000\ndata {}\n{message}\n",
            1_600_000_000 + commit * 60,
            message.len()
        );
        for _ in 0..6 {
            let path = format!("d{}/f{}.txt", next(10), next(20));
            let lines: String = (0..10 + next(60))
                .map(|line| format!("line {line} {}\n", next(9)))
                .collect();
            let _ = write!(text, "M 644 inline {path}\ndata {}\n{lines}\n", lines.len());
        }
    }
    text
}

fn git(name: &'static str, arguments: &[&str]) -> Verdict {
    let [git] = match all(["git"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    let mut case = Case::new(name, &[git.as_os_str()]);
    let place = case.directory.path();
    // Only what is said here counts, not how this machine's user set up git.
    let own = |words: &[&str]| {
        let mut command = support::command(&git);
        command
            .args(["-C", "repository"])
            .args(words)
            .current_dir(place);
        command
    };
    fs::create_dir(place.join("repository")).unwrap();
    assert!(
        own(&["init", "-q", "-b", "main", "."])
            .status()
            .unwrap()
            .success()
    );
    let mut import = own(&["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import
        .stdin
        .take()
        .unwrap()
        .write_all(history().as_bytes())
        .unwrap();
    assert!(import.wait().unwrap().success(), "git fast-import");
    case.argv
        .extend(["-C", "repository", "--no-pager"].map(OsString::from));
    case.argv.extend(arguments.iter().map(OsString::from));
    case.compare()
}

pub fn git_log() -> Verdict {
    git("git log --stat", &["log", "--stat", "-p"])
}

pub fn git_fsck() -> Verdict {
    git("git fsck", &["fsck", "--full", "--strict"])
}

/// Standard tests with threads, signals, forks, and foreign calls.
const PYTHON_TESTS: [&str; 16] = [
    "test_struct",
    "test_ctypes",
    "test_json",
    "test_re",
    "test_math",
    "test_generators",
    "test_coroutines",
    "test_exceptions",
    "test_mmap",
    "test_zlib",
    "test_gc",
    "test_thread",
    "test_select",
    "test_fork1",
    "test_threading",
    "test_signal",
];

pub fn python() -> Verdict {
    let here = ["/usr/bin/python3.11", "/usr/bin/python3"];
    let tested = here.iter().find(|python| {
        let mut command = support::command(python);
        command
            .args(["-c", "import test.test_struct, test.test_ctypes"])
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    let Some(python) = tested else {
        return missing_one("no Python with its own tests here");
    };
    let mut case = Case::new("python -m test", &[python, "-m", "test"]);
    // Stress tests take as long as they are given.
    for slow in ["*StressTest*", "*ItimerTest*", "*SiginterruptTest*"] {
        case.argv.extend(["-i".into(), slow.into()]);
    }
    case.argv.extend(PYTHON_TESTS.map(OsString::from));
    case.stdout = Compared::Part(|text| {
        let results = text.lines().filter(|line| {
            line.contains("tests OK") || line.contains("failed") || line.starts_with("Result")
        });
        results.collect::<Vec<_>>().join("\n")
    });
    case.stderr = Compared::Nothing;
    case.limit = Duration::from_secs(600);
    case.compare()
}

const LOAD: &str = "
create table t(a integer primary key, b text, c real);
create index by_b on t(b);
with recursive n(x) as (select 1 union all select x + 1 from n where x < 200000)
    insert into t select x, 'v' || (x * 7919 % 100003), x * 0.5 from n;
select count(*), sum(a), sum(length(b)), total(c) from t;
select b, count(*) from t group by b order by 2 desc, 1 limit 5;
delete from t where a % 3 = 0;
vacuum;
select count(*), max(b), avg(c) from t where b like 'v1%';
pragma integrity_check;
";

pub fn sqlite() -> Verdict {
    let [sqlite] = match all(["sqlite3"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    let mut case = Case::new(
        "sqlite3",
        &[sqlite.as_os_str(), "-batch".as_ref(), "made.db".as_ref()],
    );
    let input = case.directory.path().join("load.sql");
    fs::write(&input, LOAD).unwrap();
    case.input = Some(input);
    case.makes = vec!["made.db"];
    case.compare()
}

pub fn node() -> Verdict {
    let [node] = match all(["node"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    Case::new("node", &[node, target("workers.js")]).compare()
}

pub fn cxx() -> Verdict {
    let Some(compiler) = find("c++").or_else(|| first(&["/usr/bin/g++"])) else {
        return missing_one("no C++ compiler here");
    };
    let mut case = Case::new("C++ exceptions", &["./program"]);
    let place = case.directory.path();
    let built = support::command(compiler)
        .args(["-O2", "-pthread", "-o", "program"])
        .arg(target("exceptions.cpp"))
        .current_dir(place)
        .status();
    assert!(built.unwrap().success(), "the C++ program compiles");
    case.argv = vec![place.join("program").into()];
    case.status = 9;
    case.compare()
}
