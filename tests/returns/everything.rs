//! Every function of real programs and of all their libraries, probed where it returns: what they print
//! is what they print alone. Programs that are not there are left out, and named.

use crate::support::build;
use crate::support::launch::{self, kptrace};

fn is_as_alone(program: &str, args: &[&str]) {
    if !build::has(program) {
        println!("skipped: there is no {program}");
        return;
    }
    let mut command = launch::command(program);
    command.args(args);
    let alone = launch::start(command).end();
    let probed = [
        &[
            "run",
            "-q",
            "-c",
            "-o",
            "/dev/null",
            "-p",
            "*:*%return",
            "--",
            program,
        ][..],
        args,
    ];
    let probed = kptrace(&probed.concat());
    assert_eq!(probed.out, alone.out, "{program}: {}", probed.err);
    assert_eq!(probed.code(), alone.code(), "{program}: {}", probed.err);
}

#[test]
fn listing_and_shell_are_as_alone() {
    is_as_alone("ls", &["-l", "/etc"]);
    is_as_alone(
        "bash",
        &["-c", "for i in 1 2 3; do echo $i | cat; done; exit 3"],
    );
}

#[test]
fn python_is_as_alone_with_exceptions_and_generators() {
    let text = "
def fails(n):
    if n == 0:
        raise ValueError(n)
    return fails(n - 1)
caught = 0
for i in range(500):
    try:
        fails(i % 20)
    except ValueError:
        caught += 1
print(caught, sum(x for x in range(10000)), sorted(str(x) for x in range(200))[7])
";
    is_as_alone("python3", &["-c", text]);
}

#[test]
fn git_and_sqlite_are_as_alone() {
    is_as_alone("git", &["--version"]);
    let sql = "create table t(a); insert into t values (1),(2),(3); select sum(a) from t;";
    is_as_alone("sqlite3", &[":memory:", sql]);
}

#[test]
fn perl_that_dies_and_goes_on_is_as_alone() {
    is_as_alone(
        "perl",
        &[
            "-e",
            "my $n; for (1..200) { eval { die 'x' }; $n++ if $@ } print \"$n\\n\"",
        ],
    );
}

#[test]
fn node_whose_stack_is_walked_by_its_runtime_is_as_alone() {
    let text = "let s = 0; for (let i = 0; i < 1e5; i++) { try { if (i % 7 == 0) throw new Error('x'); \
                s += i } catch (e) { s += e.stack.length > 0 ? 2 : 0 } } \
                console.log(s, /(a+)+b/.test('aaaaaaaaaaaab'), JSON.stringify([1, 2]))";
    is_as_alone("node", &["-e", text]);
}
