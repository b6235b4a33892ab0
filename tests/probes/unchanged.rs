//! bpftrace's tools for user space, as they are published, on real targets. Those that need return
//! probes are refused until these are there, and what they do at entries is run alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use libtest_mimic::{Completion, Failed};

use super::Verdict;
use super::need;
use super::printed::{Printed, run};
use super::support::{self, Running, c};

/// The tool of this name, of the current release and of the distribution's.
fn tools(name: &str) -> [PathBuf; 2] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language");
    ["bpftrace", "bpftrace-0.17"].map(|folder| root.join(folder).join(format!("{name}.bt")))
}

/// A program without its blocks at returns.
fn entries(program: &str) -> String {
    let mut kept = String::new();
    let mut dropping = false;
    for line in program.lines() {
        dropping |= line.starts_with("uretprobe:");
        if !dropping {
            kept += line;
            kept.push('\n');
        }
        dropping &= line != "}";
    }
    kept
}

/// A run of the tool, whole or its entries, with a target that reads `input`.
fn traced(program: &Path, input: &str, target: &[&str]) -> Result<Printed, String> {
    let place = tempfile::tempdir().unwrap();
    let (given, printed) = (place.path().join("given"), place.path().join("printed"));
    fs::write(&given, input).unwrap();
    let mut command = support::command(support::launch::binary());
    command.env("PATH", "/usr/bin:/bin:/usr/sbin");
    command.stdin(Stdio::from(File::open(given).unwrap()));
    command.args(["run", "-q", "--format", "json", "-o"]);
    command.arg(&printed).arg("-f").arg(program).arg("--");
    command.args(target);
    let ended = support::start(command).end();
    match ended.status.code() {
        Some(2) => Err(ended.err),
        _ => Ok(Printed {
            objects: support::objects(&fs::read_to_string(&printed).unwrap()),
            out: ended.expect(0).out,
        }),
    }
}

/// Runs a tool whole, or sees it refused and runs its entries. `input` and `target` are made anew for
/// each run.
fn each(
    name: &str,
    mut target: impl FnMut(&mut dyn FnMut(&str, &[&str])),
    whole: impl Fn(&Printed),
    entered: impl Fn(&Printed),
) -> Verdict {
    for tool in tools(name) {
        let text = fs::read_to_string(&tool).unwrap();
        let place = tempfile::tempdir().unwrap();
        let half = place.path().join("entries.bt");
        fs::write(&half, entries(&text)).unwrap();
        target(&mut |input, words| match traced(&tool, input, words) {
            Ok(printed) => whole(&printed),
            Err(said) => panic!("{name}: {said}"),
        });
        if entries(&text).contains("uprobe:") {
            target(&mut |input, words| match traced(&half, input, words) {
                Ok(printed) => entered(&printed),
                Err(said) => panic!("{name}: {said}"),
            });
        }
    }
    Ok(Completion::Completed)
}

pub fn threadsnoop() -> Verdict {
    let [tool, _] = tools("threadsnoop");
    let target = c("locks").flags(&["-pthread"]).build();
    let printed = run(&tool, &[target.as_os_str()], 0);
    let text = printed.text();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["TIME", "PID", "COMM", "FUNC"], "{text}");
    assert_eq!(lines.len(), 6, "{text}");
    let started = |what: &str| {
        lines[1..]
            .iter()
            .filter(|l| l[2..] == ["locks", what])
            .count()
    };
    assert_eq!((started("waiter"), started("taker")), (1, 4), "{text}");
    Ok(Completion::Completed)
}

pub fn bashreadline() -> Verdict {
    if let Err(missing) = need::all(["bash"]) {
        return missing;
    }
    each(
        "bashreadline",
        |run| {
            run(
                "echo one two\ntrue\n",
                &["bash", "--norc", "--noprofile", "-i"],
            )
        },
        |printed| {
            let text = printed.text();
            let typed = |what: &str| text.lines().filter(|l| l.ends_with(what)).count();
            assert_eq!((typed(" echo one two"), typed(" true")), (1, 1), "{text}");
        },
        |_| (),
    )
}

pub fn gethostlatency() -> Verdict {
    if let Err(missing) = need::all(["getent"]) {
        return missing;
    }
    each(
        "gethostlatency",
        |run| run("", &["getent", "ahosts", "127.0.0.1"]),
        |printed| {
            let text = printed.text();
            let line = text.lines().find(|l| l.ends_with(" 127.0.0.1"));
            assert!(line.is_some_and(|l| l.contains(" getent ")), "{text}");
        },
        |printed| {
            let times = printed.map("@start").as_object().unwrap();
            assert_eq!(times.len(), 1, "{times:?}");
        },
    )
}

/// A server on this machine that answers one connection, and its port.
pub fn server(openssl: &Path, place: &Path) -> Result<(Running, String), Failed> {
    let mut command = support::command(openssl);
    command
        .args("req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=localhost".split(' '));
    support::start({
        command.current_dir(place);
        command
    })
    .end()
    .expect(0);
    let mut command = support::command(openssl);
    command.current_dir(place);
    command.args("s_server -accept 127.0.0.1:0 -key k -cert c -www -naccept 1".split(' '));
    let mut server = support::start(command);
    let line = server.out.wait_for("ACCEPT ");
    let port = line.trim().rsplit(':').next().ok_or("no port")?.to_owned();
    Ok((server, port))
}

/// With a client that asks a server of this machine for a page.
fn secured(name: &str, whole: impl Fn(&Printed), entered: impl Fn(&Printed)) -> Verdict {
    let [openssl] = match need::all(["openssl"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    let place = tempfile::tempdir().unwrap();
    each(
        name,
        |run| {
            let (_server, port) = server(&openssl, place.path()).unwrap();
            let at = format!("127.0.0.1:{port}");
            let openssl = openssl.to_str().unwrap();
            let words = [openssl, "s_client", "-quiet", "-connect", &at];
            run("GET / HTTP/1.0\r\n\r\n", &words);
        },
        whole,
        entered,
    )
}

/// Names of the functions that a thread entered last.
fn entered(printed: &Printed) {
    let functions = printed.map("@func_ssl").as_object().unwrap();
    let known = ["SSL_read", "SSL_write", "SSL_do_handshake"];
    assert_eq!(functions.len(), 1, "{functions:?}");
    for function in functions.values() {
        assert!(known.iter().any(|name| function == name), "{function}");
    }
    assert_eq!(printed.map("@start_ssl").as_object().unwrap().len(), 1);
}

pub fn sslsnoop() -> Verdict {
    let whole = |printed: &Printed| {
        let text = printed.text();
        for function in ["SSL_write", "SSL_read"] {
            let line = text.lines().find(|line| line.ends_with(function));
            assert!(line.is_some_and(|l| l.contains(" openssl ")), "{text}");
        }
    };
    secured("sslsnoop", whole, entered)
}

pub fn ssllatency() -> Verdict {
    let whole = |printed: &Printed| {
        let stats = printed.map("@stat").as_object().unwrap();
        assert!(stats["SSL_write"]["count"].as_u64() > Some(0), "{stats:?}");
        assert!(stats["SSL_read"]["count"].as_u64() > Some(0), "{stats:?}");
        assert!(printed.map("@hist")["SSL_read"].is_array());
    };
    secured("ssllatency", whole, entered)
}
