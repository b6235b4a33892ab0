//! Every function of real programs and of all their libraries, probed where it is entered and where it
//! returns: what they print is what they print alone, and every entry is accounted for. Programs that are
//! not there are left out, and named.

use std::path::Path;

use crate::accounts;
use crate::support::build::{self, Source};
use crate::support::json;
use crate::support::launch::{self, kptrace};

fn is_as_alone(program: &str, args: &[&str]) {
    if !build::has(program) {
        println!("skipped: there is no {program}");
        return;
    }
    compare(program, args);
}

fn compare(program: &str, args: &[&str]) {
    let mut command = launch::command(program);
    command.args(args);
    let alone = launch::start(command).end();
    let place = tempfile::tempdir().expect("a directory");
    let summary = place.path().join("summary");
    let probed = [
        &[
            "run",
            "-q",
            "-c",
            "--format",
            "json",
            "-o",
            summary.to_str().expect("UTF-8"),
            "-p",
            "*:*%call",
            "--",
            program,
        ][..],
        args,
    ];
    let probed = kptrace(&probed.concat());
    assert_eq!(probed.out, alone.out, "{program}: {}", probed.err);
    assert_eq!(probed.code(), alone.code(), "{program}: {}", probed.err);
    let summary = json::summary(&std::fs::read_to_string(&summary).expect("a summary"));
    let accounts = accounts::check(&summary);
    assert_eq!(accounts.wrong, [""; 0], "{program}");
    assert!(accounts.functions > 500, "{program}: {accounts:?}");
    assert!(accounts.entries > 500, "{program}: {accounts:?}");
}

#[test]
fn listing_and_shell_are_as_alone() {
    is_as_alone("ls", &["-l", "/etc"]);
    is_as_alone(
        "bash",
        &["-c", "for i in 1 2 3; do echo $i | cat; done; exit 3"],
    );
}

/// Debian's python and its extensions.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn python_is_as_alone_with_exceptions_generators_and_threads() {
    let text = "
import subprocess, threading
def fails(n):
    if n == 0:
        raise ValueError(n)
    return fails(n - 1)
def gives(n):
    try:
        for i in range(n):
            yield i
    finally:
        yield from range(2)
caught = 0
for i in range(500):
    try:
        fails(i % 20)
    except ValueError:
        caught += 1
print(caught, sum(x for x in range(10000)), sorted(str(x) for x in range(200))[7])
print(sum(sum(gives(n)) for n in range(50)), next(gives(3)))
print(subprocess.run(['echo', 'hi'], capture_output=True).stdout)
threads = [threading.Thread(target=fails, args=(-1 % 7 + i,)) for i in range(4)]
threading.excepthook = lambda args: None
for thread in threads: thread.start()
for thread in threads: thread.join()
raise SystemExit(5)
";
    is_as_alone(PYTHON, &["-c", text]);
}

#[test]
fn python_passes_its_tests_of_exceptions_and_generators() {
    let tests = "
import io, sys, unittest
names = ['test_raise', 'test_with', 'test_generators', 'test_contextlib', 'test_exception_variations']
suite = unittest.TestSuite()
for name in names:
    suite.addTests(unittest.defaultTestLoader.loadTestsFromName('test.' + name))
result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
print(result.testsRun, result.failures, result.errors)
";
    let has = [PYTHON, "-c", "import test.test_raise, test.test_generators"];
    let mut command = launch::command(has[0]);
    command.args(&has[1..]);
    if !Path::new(PYTHON).exists() || launch::start(command).end().code() != 0 {
        println!("skipped: python3 has no tests of its own here");
        return;
    }
    compare(PYTHON, &["-c", tests]);
}

#[test]
fn greenlets_whose_stacks_are_copied_are_as_alone() {
    let text = "
import greenlet, threading
def run(results):
    count = 0
    def deep(n, main):
        if n == 0:
            return main.switch(n)
        below = deep(n - 1, main)
        if n == 3: raise ValueError(below)
        return below
    def work(k):
        nonlocal count
        main = greenlet.getcurrent().parent
        for i in range(30):
            try: deep(i % 10, main)
            except ValueError as error: count += k + error.args[0]
    all = [greenlet.greenlet(work) for _ in range(10)]
    for k, one in enumerate(all): one.switch(k)
    for i in range(40):
        for one in all:
            if not one.dead: one.switch(i)
    # And some that are dropped in the middle.
    for k in range(20): greenlet.greenlet(work).switch(k)
    results.append(count)
results = []
threads = [threading.Thread(target=run, args=(results,)) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(results)
";
    let mut command = launch::command(PYTHON);
    command.args(["-c", "import greenlet"]);
    if !Path::new(PYTHON).exists() || launch::start(command).end().code() != 0 {
        println!("skipped: there is no python3-greenlet");
        return;
    }
    compare(PYTHON, &["-c", text]);
}

#[test]
fn git_and_sqlite_are_as_alone() {
    is_as_alone("git", &["--version"]);
    let repository = env!("CARGO_MANIFEST_DIR");
    is_as_alone("git", &["-C", repository, "log", "--oneline", "-30"]);
    is_as_alone("git", &["-C", repository, "grep", "-c", "unwound"]);
    let sql = "create table t(a); with recursive c(x) as \
               (select 1 union all select x + 1 from c where x < 3000) insert into t select x from c; \
               select sum(a), count(distinct a % 7) from t; select missing from t;";
    is_as_alone("sqlite3", &[":memory:", sql]);
}

#[test]
fn perl_that_dies_and_goes_on_is_as_alone() {
    let text = "my $n; sub f { my $d = shift; die {d => 1} if $d == 0; f($d - 1) } \
                for (1..300) { eval { f($_ % 20) }; $n++ if $@ } print \"$n\\n\"; exit 3";
    is_as_alone("perl", &["-e", text]);
}

#[test]
fn node_whose_stack_is_walked_by_its_runtime_is_as_alone() {
    let text = "let s = 0; for (let i = 0; i < 1e5; i++) { try { if (i % 7 == 0) throw new Error('x'); \
                s += i } catch (e) { s += e.stack.length > 0 ? 2 : 0 } } \
                console.log(s, /(a+)+b/.test('aaaaaaaaaaaab'), JSON.stringify([1, 2])); \
                new Promise(r => setTimeout(r, 5)).then(() => { throw new Error('late') }) \
                .catch(e => console.log(e.message))";
    is_as_alone("node", &["-e", text]);
}

#[test]
fn rust_that_panics_and_catches_is_as_alone() {
    if !build::has("rustc") {
        println!("skipped: there is no rustc");
        return;
    }
    let text = std::fs::read_to_string(build::targets().join("panics.rs")).expect("its source");
    let program = Source::new("rustc", "rs", "panics", text)
        .flags(&["-O"])
        .build();
    compare(program.to_str().expect("UTF-8"), &[]);
}

#[test]
fn handlers_that_are_left_and_stacks_that_are_switched_by_hand_are_as_alone() {
    let program = build::c("switches").flags(&["-O2"]).build();
    compare(program.to_str().expect("UTF-8"), &[]);
}
