//! The programs in `probes/`, each on a real program of which some fact is known.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Completion, Failed};

use super::Verdict;
use super::need;
use super::printed::{Printed, counted, ready, run, sum};
use super::support::c;

const DONE: Verdict = Ok(Completion::Completed);

/// The tests of each are in this file, that of USDT probes or that of durations, by name.
pub fn all_there() -> Verdict {
    let tests = concat!(
        include_str!("ready.rs"),
        include_str!("usdt.rs"),
        include_str!("lasting.rs")
    );
    let mut count = 0;
    for file in fs::read_dir(ready("x").parent().unwrap()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(tests.contains(&format!("\"{name}\"")), "{name} has a test");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#!/usr/bin/env -S kptrace run -f\n/*\n"));
        for part in [&format!(" * {name}: "), " * USAGE: ", " * SAMPLE: "] {
            assert!(text.contains(part), "{name} has {part}");
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name} can be run");
        count += 1;
    }
    assert!(count >= 20);
    DONE
}

/// The programs that are needed, or what to report.
pub fn need(names: &[&str]) -> Result<(), Verdict> {
    match names.iter().find(|name| need::find(name).is_none()) {
        Some(name) => Err(need::missing_one(&format!("no {name} here"))),
        None => Ok(()),
    }
}

fn ls(name: &str) -> Printed {
    run(&ready(name), &["ls", "/usr/include"], 0)
}

pub fn malloc() -> Verdict {
    let (sizes, classes, stacks) = (ls("mallocsize"), ls("malloccount"), ls("mallocstacks"));
    let total = &sizes.map("@total")["malloc"];
    let calls = sum(&total["count"]);
    assert!(calls > 20, "{total}");
    assert_eq!(counted(&sizes.map("@size")["malloc"]), calls);
    assert_eq!(sum(classes.map("@calls")), calls);
    assert_eq!(sum(classes.map("@bytes")), sum(&total["total"]));
    assert_eq!(sum(stacks.map("@bytes")), sum(&total["total"]));
    let stacks = stacks.map("@bytes").as_object().unwrap();
    assert!(stacks.len() > 2);
    for stack in stacks.keys() {
        assert!(stack.trim_start().starts_with("malloc+0"), "{stack}");
    }
    // 64 holds 33 to 64.
    for (key, bytes) in classes.map("@bytes").as_object().unwrap() {
        let class: u64 = key.strip_prefix("ls,").unwrap().parse().unwrap();
        let calls = sum(&classes.map("@calls")[key]);
        if class > 16 {
            let (bytes, most) = (sum(bytes), calls * class);
            assert!(
                bytes <= most && bytes > most / 2,
                "{key}: {bytes} of {calls}"
            );
        }
    }
    DONE
}

fn locked(name: &str) -> Printed {
    let target = c("locks").flags(&["-pthread"]).build();
    run(&ready(name), &[target.as_os_str()], 0)
}

pub fn allocations() -> Verdict {
    let printed = locked("mallocsize");
    let total = printed.map("@total");
    let realloc = serde_json::json!({"count": 7, "average": 70000, "total": 490_000});
    assert_eq!(total["realloc"], realloc);
    let large = printed.map("@size")["calloc"].as_array().unwrap();
    let large = large.iter().find(|bucket| bucket["min"] == 2048).unwrap();
    assert_eq!(large["count"], 7);
    DONE
}

pub fn locks() -> Verdict {
    let printed = locked("locksnoop");
    let (lock, ready) = printed.out.trim().split_once(' ').unwrap();
    let thread = |address: &str| format!("locks,{address}");
    assert_eq!(printed.map("@signal")[thread(ready)], 1);
    // One for the waiter, 100 for each taker, and main's until it sees that somebody waits.
    let taken = sum(&printed.map("@lock")[thread(lock)]);
    assert!(taken > 1 + 4 * 100, "{taken}");
    assert_eq!(printed.map("@wait")[thread(ready)], 1);
    DONE
}

pub fn threads() -> Verdict {
    let text = locked("threadsnoop").text();
    let starts: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(starts.len(), 5, "{text}");
    let of = |name| starts.iter().filter(|line| line.ends_with(name)).count();
    assert_eq!((of(" waiter"), of(" taker")), (1, 4), "{text}");
    DONE
}

pub fn python_threads() -> Verdict {
    if let Err(missing) = need(&["python3.11"]) {
        return missing;
    }
    let code = "import threading\n\
        ts = [threading.Thread(target=print) for _ in range(6)]\n\
        [t.start() for t in ts]; [t.join() for t in ts]";
    let printed = run(
        &ready("threadsnoop"),
        &["python3.11", "-I", "-S", "-c", code],
        0,
    );
    assert_eq!(printed.text().lines().count(), 1 + 6, "{}", printed.text());
    DONE
}

pub fn io() -> Verdict {
    let words = ["dd", "if=/dev/zero", "of=/dev/null", "bs=3000", "count=9"];
    let printed = run(&ready("iosize"), &words, 0);
    for (map, descriptor) in [("@read", "0"), ("@write", "1")] {
        let expected = serde_json::json!([{"min": 2048, "max": 4095, "count": 9}]);
        assert_eq!(printed.map(map)[descriptor], expected, "{map}");
    }
    DONE
}

pub fn redis() -> Verdict {
    if let Err(missing) = need(&["redis-server", "redis-cli"]) {
        return missing;
    }
    let place = tempfile::tempdir().unwrap();
    let script = "redis-server --port 0 --unixsocket s --daemonize no --save '' >log & \
        until redis-cli -s s ping >/dev/null 2>&1; do :; done; \
        redis-cli -s s set k \"$(printf %05000d 0)\" >/dev/null; \
        redis-cli -s s get k; redis-cli -s s shutdown nosave; wait";
    let script = format!("cd {} || exit 1; {script}", place.path().display());
    let printed = run(&ready("iosize"), &["sh", "-c", &script], 0);
    assert_eq!(printed.out.trim(), "0".repeat(5000));
    // The answer, "$5000\r\n...\r\n", in one write.
    let writes = printed.map("@write").as_object().unwrap().values();
    let buckets = writes.flat_map(|sizes| sizes.as_array().unwrap());
    let large = buckets.filter(|bucket| bucket["min"] == 4096 && bucket["count"] != 0);
    assert!(large.count() > 0, "{}", printed.map("@write"));
    DONE
}

pub fn sql() -> Verdict {
    if let Err(missing) = need(&["sqlite3"]) {
        return missing;
    }
    let script = "create table t(a); insert into t values(7); select a+35 from t";
    let printed = run(&ready("sqlsnoop"), &["sqlite3", ":memory:", script], 0);
    assert_eq!(printed.out, "42\n");
    let text = printed.text();
    let reached = |part: &str| text.lines().filter(|line| line.ends_with(part)).count();
    assert_eq!(reached(script), 1, "{text}");
    assert_eq!(reached(" select a+35 from t"), 3, "{text}");
    DONE
}

pub fn opens() -> Verdict {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let printed = run(&ready("opensnoop"), &["cat", path, path], 0);
    let text = printed.text();
    let opened = text
        .lines()
        .filter(|line| line.ends_with(&format!(" {path}")));
    let opened = opened.inspect(|line| assert!(line.contains(" cat "), "{line}"));
    assert_eq!(opened.count(), 2, "{text}");
    DONE
}

pub fn execs() -> Verdict {
    if let Err(missing) = need(&["bash"]) {
        return missing;
    }
    let script = "/bin/true 'two words' x; env -i /bin/echo hello; true";
    let printed = run(&ready("execsnoop"), &["bash", "-c", script], 0);
    assert_eq!(printed.out, "hello\n");
    let text = printed.text();
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap().1.trim())
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(
        lines[0],
        "bash             /bin/true: /bin/true two words x"
    );
    assert!(lines[1].ends_with("env: env -i /bin/echo hello"), "{text}");
    assert_eq!(lines[2], "env              /bin/echo: /bin/echo hello");
    DONE
}

/// A repository with one commit.
fn repository(place: &Path) -> Result<PathBuf, Failed> {
    let tree = place.join("tree");
    let git = |words: &[&str]| {
        let git = Command::new("/usr/bin/git").args(words).output()?;
        match git.status.success() {
            true => Ok(()),
            false => Err(Failed::from(String::from_utf8_lossy(&git.stderr))),
        }
    };
    let at = tree.to_str().unwrap();
    git(&["init", "-q", at])?;
    let who = ["-c", "user.name=n", "-c", "user.email=e"];
    git(&[
        &["-C", at],
        &who[..],
        &["commit", "-q", "--allow-empty", "-m", "m"],
    ]
    .concat())?;
    Ok(tree)
}

pub fn git() -> Verdict {
    if !Path::new("/usr/bin/git").exists() {
        return need::missing_one("no git here");
    }
    let place = tempfile::tempdir().unwrap();
    let tree = repository(place.path())?;
    let tree = tree.to_str().unwrap();
    let words = ["/usr/bin/git", "-C", tree, "-c", "alias.x=!echo seen", "x"];
    let printed = run(&ready("execsnoop"), &words, 0);
    assert_eq!(printed.out, "seen\n");
    let text = printed.text();
    assert!(text.contains("echo seen"), "{text}");
    DONE
}

pub fn python() -> Verdict {
    if let Err(missing) = need(&["python3.11"]) {
        return missing;
    }
    let calls = |n: u32| {
        let code = format!("print(sum(map(lambda x: x, range({n}))))");
        let printed = run(
            &ready("pythoncalls"),
            &["python3.11", "-I", "-S", "-c", &code],
            0,
        );
        sum(printed.map("@calls"))
    };
    // Each call of the function comes from C.
    assert_eq!(calls(3000) - calls(1000), 2000);
    DONE
}

pub fn names() -> Verdict {
    let printed = run(&ready("dnssnoop"), &["getent", "ahosts", "127.0.0.1"], 0);
    let text = printed.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let words: Vec<_> = lines[1].split_whitespace().skip(2).collect();
    assert_eq!(words, ["getent", "127.0.0.1"]);
    DONE
}

pub fn signals() -> Verdict {
    if let Err(missing) = need(&["bash"]) {
        return missing;
    }
    let script = "trap 'exit 3' USR1; kill -USR1 $$; exit 4";
    let printed = run(&ready("killsnoop"), &["bash", "-c", script], 3);
    let text = printed.text();
    let (pid, _) = text.split_once(' ').unwrap();
    assert!(
        text.contains(&format!(" kill({pid}, signal 10)\n")),
        "{text}"
    );
    assert!(
        text.contains(" exit(3)\n") && !text.contains("exit(4)"),
        "{text}"
    );
    DONE
}
