//! The programs in `probes/` that tell how long something took, each on a real program.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;

use libtest_mimic::Completion;

use super::Verdict;
use super::need;
use super::printed::{Printed, counted, ready, run, sum};
use super::ready::need as have;
use super::support::c;
use super::unchanged::server;

const DONE: Verdict = Ok(Completion::Completed);

/// How many values the histograms of a map have, by their keys.
fn counts(printed: &Printed, map: &str) -> Vec<(String, u64)> {
    let entries = printed.map(map).as_object().unwrap().iter();
    entries
        .map(|(key, histogram)| (key.clone(), counted(histogram)))
        .collect()
}

/// The words of the line that ends so.
fn line_of(text: &str, end: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.ends_with(end));
    let line = line.unwrap_or_else(|| panic!("no line ends with {end}: {text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

pub fn allocations() -> Verdict {
    // The first calls of a thread go to the kernel; nothing takes as long as a thousand seconds.
    let printed = run(&ready("slowmalloc"), &["ls", "/usr/include"], 0);
    let times = counts(&printed, "@ns");
    let timed = times.iter().filter(|(call, _)| call != "free");
    let timed: u64 = timed.map(|(_, calls)| calls).sum();
    // realloc() of nothing ends in malloc(), which returns in its place.
    let probes = printed.summary()["probes"].as_array().unwrap();
    let tails = probes.iter().filter_map(|probe| probe["tail"].as_u64());
    let entries = run(&ready("mallocsize"), &["ls", "/usr/include"], 0);
    let total = entries.map("@total").as_object().unwrap();
    let allocated: u64 = total.values().map(|stats| sum(&stats["count"])).sum();
    assert_eq!(timed + tails.sum::<u64>(), allocated);
    assert!(printed.text().starts_with("TID "), "{}", printed.text());
    DONE
}

pub fn leaks() -> Verdict {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("leaks.c");
    let text = "#include <stdlib.h>\n#include <string.h>\nint main(void) { void *volatile p;\n\
        for (int i = 0; i < 10; i++) { p = malloc(1000); free(p); }\n\
        for (int i = 0; i < 7; i++) p = calloc(10, 50);\n\
        p = malloc(3); p = realloc(p, 70000); return p == NULL; }";
    fs::write(&source, text).unwrap();
    let target = place.path().join("leaks");
    let mut compiler = super::support::command("cc");
    compiler
        .args(["-O0", "-fno-omit-frame-pointer", "-o"])
        .arg(&target)
        .arg(&source);
    super::support::start(compiler).end().expect(0);
    let printed = run(&ready("memleak"), &[target.as_os_str()], 0);
    assert_eq!(sum(printed.map("@bytes")), 7 * 500 + 70000);
    assert_eq!(sum(printed.map("@blocks")), 7 + 1);
    let stacks = printed.map("@bytes").as_object().unwrap();
    assert_eq!(stacks.len(), 2, "{stacks:?}");
    assert!(
        stacks.keys().all(|stack| stack.contains("main+")),
        "{stacks:?}"
    );
    DONE
}

pub fn locks() -> Verdict {
    let target = c("contended").flags(&["-pthread", "-D_GNU_SOURCE"]).build();
    let printed = run(&ready("lockwait"), &[target.as_os_str()], 0);
    let lines = printed
        .out
        .lines()
        .map(|line| line.split_once(' ').unwrap());
    let lines: Vec<(&str, u64)> = lines
        .map(|(lock, ns)| (lock, ns.parse().unwrap()))
        .collect();
    let [(wanted, waited), (idle, _)] = lines[..] else {
        panic!("{}", printed.out);
    };
    let known = sum(&printed.map("@waited_ns")[wanted]);
    // Three naps at least, and no more than the program saw, but for what the holder may have waited.
    assert!(known >= 3 * 20_000_000, "{known} of {waited}");
    assert_eq!(printed.map("@taken")[idle], 100);
    assert_eq!(printed.map("@taken")[wanted], 3 + 3);
    let longest = printed.map("@waited_us")[wanted].as_array().unwrap();
    let long = longest
        .iter()
        .filter(|bucket| bucket["min"].as_u64() >= Some(16384));
    assert_eq!(
        long.map(|bucket| bucket["count"].as_u64().unwrap())
            .sum::<u64>(),
        3
    );
    DONE
}

pub fn io() -> Verdict {
    let file = tempfile::NamedTempFile::new().unwrap();
    let to = format!("of={}", file.path().display());
    let words = [
        "dd",
        "if=/dev/zero",
        &to,
        "bs=3000",
        "count=9",
        "conv=fsync,notrunc",
    ];
    let printed = run(&ready("iolatency"), &words, 0);
    let calls = counts(&printed, "@us");
    for (key, times) in [("read,0", 9), ("write,1", 9), ("fsync,1", 1)] {
        assert!(calls.contains(&(key.to_owned(), times)), "{calls:?}");
    }
    assert_eq!(printed.map("@bytes")["read,0"], 27000);
    assert_eq!(printed.map("@bytes")["write,1"], 27000);
    // A descriptor that cannot be written to.
    let words = ["sh", "-c", "echo x >&0; true"];
    let failed = run(&ready("iolatency"), &words, 0);
    assert_eq!(failed.map("@failed")["write,1"], 1);
    DONE
}

pub fn fsync() -> Verdict {
    let file = tempfile::NamedTempFile::new().unwrap();
    let to = format!("of={}", file.path().display());
    let words = [
        "dd",
        "if=/dev/zero",
        &to,
        "bs=3000",
        "count=2",
        "conv=fdatasync,notrunc",
    ];
    let printed = run(&ready("fsyncsnoop"), &words, 0);
    let text = printed.text();
    assert_eq!(text.lines().count(), 2, "{text}");
    let words = line_of(&text, " 0 1");
    assert_eq!(words[2..4], ["dd", "fdatasync"], "{text}");
    words[4].parse::<u64>().unwrap();
    assert_eq!(counts(&printed, "@us"), [("fdatasync".to_owned(), 1)]);
    DONE
}

pub fn names() -> Verdict {
    let of = |name: &str, status| {
        let printed = run(&ready("dnslatency"), &["getent", "ahosts", name], status);
        assert_eq!(counted(printed.map("@us")), 1);
        line_of(&printed.text(), &format!(" {name}"))
    };
    // Nobody is asked for what is an address.
    let found = of("127.0.0.1", 0);
    assert_eq!((found[2].as_str(), found[4].as_str()), ("getent", "0"));
    // A name cannot be so long: EAI_NONAME.
    let failed = of(&"x".repeat(70), 2);
    assert!(failed[4].starts_with('-'), "{failed:?}");
    DONE
}

pub fn connections() -> Verdict {
    if let Err(missing) = have(&["bash"]) {
        return missing;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let printed = run(&ready("connectsnoop"), &["bash", "-c", &script], 0);
    let words = line_of(&printed.text(), &format!(" 127.0.0.1 port {port}"));
    assert_eq!((words[2].as_str(), words[4].as_str()), ("bash", "0"));
    drop(listener);
    let printed = run(
        &ready("connectsnoop"),
        &["bash", "-c", "exec 3<>/dev/tcp/::1/1"],
        1,
    );
    let words = line_of(&printed.text(), " ::1 port 1");
    assert_eq!(words[4], "-1");
    DONE
}

pub fn waits() -> Verdict {
    if let Err(missing) = have(&["bash"]) {
        return missing;
    }
    let printed = run(&ready("waitsnoop"), &["bash", "-c", "sleep 0.1; true"], 0);
    let of = |call: &str| {
        counts(&printed, "@ms")
            .into_iter()
            .filter(|(key, _)| key == call)
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    assert!(of("clock_nanosleep") >= 1 && of("wait4") >= 1);
    let from = printed.map("@from").as_object().unwrap();
    let naps = from
        .iter()
        .filter(|(key, _)| key.starts_with("sleep,clock_nanosleep,"));
    let slept: u64 = naps.map(|(_, ns)| sum(ns)).sum();
    assert!(slept >= 100_000_000, "{from:?}");
    let waited = from
        .iter()
        .filter(|(key, _)| key.starts_with("bash,wait4,"));
    assert!(waited.map(|(_, ns)| sum(ns)).sum::<u64>() > 0, "{from:?}");
    DONE
}

pub fn secured() -> Verdict {
    let [openssl] = match need::all(["openssl"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    if let Err(missing) = have(&["curl"]) {
        return missing;
    }
    let place = tempfile::tempdir().unwrap();
    let (_server, port) = server(&openssl, place.path())?;
    let url = format!("https://127.0.0.1:{port}/");
    let printed = run(&ready("tlssnoop"), &["curl", "-sk", &url], 0);
    assert!(printed.out.contains("<pre>"), "{}", printed.out);
    let text = printed.text();
    let asked = text.lines().find(|line| line.contains(" SSL_write "));
    assert!(
        asked.is_some_and(|line| line.contains("GET / HTTP/1.1")),
        "{text}"
    );
    let bytes = |call: &str| -> u64 {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let lines = lines.filter(|words| words.get(2) == Some(&call));
        lines.filter_map(|words| words[3].parse::<u64>().ok()).sum()
    };
    // The page, and what stands before it.
    assert!(bytes("SSL_read") > printed.out.len() as u64, "{text}");
    assert!(bytes("SSL_read") < printed.out.len() as u64 + 500, "{text}");
    let times = counts(&printed, "@us");
    assert!(
        times
            .iter()
            .any(|(call, n)| call == "SSL_do_handshake" && *n >= 1),
        "{times:?}"
    );
    DONE
}

pub fn sql() -> Verdict {
    if let Err(missing) = have(&["sqlite3"]) {
        return missing;
    }
    let script =
        "create table t(a); insert into t values(7); insert into t values(8); select a+35 from t";
    let printed = run(&ready("slowsql"), &["sqlite3", ":memory:", script], 0);
    assert_eq!(printed.out, "42\n43\n");
    let text = printed.text();
    let steps: Vec<(String, String)> = text
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .map(|words: Vec<String>| (words[3].clone(), words[4..].join(" ")))
        .collect();
    let expected = [
        ("1", script),
        (
            "1",
            "insert into t values(7); insert into t values(8); select a+35 from t",
        ),
        ("1", "insert into t values(8); select a+35 from t"),
        // Two rows and the end.
        ("3", "select a+35 from t"),
    ];
    let own = |statement: &str| !statement.starts_with("SELECT*FROM");
    let told = steps.iter().filter(|(_, statement)| own(statement));
    let told: Vec<(&str, &str)> = told.map(|(n, text)| (n.as_str(), text.as_str())).collect();
    assert_eq!(told, expected, "{text}");
    let lines = text.lines().count() as u64 - 1;
    assert_eq!(counted(printed.map("@us")), lines);
    DONE
}

pub fn python() -> Verdict {
    if let Err(missing) = have(&["python3.11"]) {
        return missing;
    }
    let code = "def f(n):\n return n and f(n - 1)\n\
                def g():\n import time; time.sleep(0.05)\n\
                import json, gc\nf(30)\ng()\ngc.collect()\nprint(json.dumps([1]))";
    let printed = run(
        &ready("pylatency"),
        &["python3.11", "-I", "-S", "-c", code],
        0,
    );
    assert_eq!(printed.out, "[1]\n");
    let of = |function: &str| &printed.map("@us")[format!("<string>,{function}")];
    assert_eq!(of("f")["count"], 31);
    assert_eq!(of("g")["count"], 1);
    assert!(of("g")["total"].as_u64() >= Some(50_000), "{}", of("g"));
    assert!(
        printed.map("@import_us")["json"].as_u64()
            >= printed.map("@import_us")["json.decoder"].as_u64()
    );
    assert!(counted(printed.map("@gc_us")) >= 1);
    DONE
}

pub fn one_key() -> Verdict {
    let program = "uprobe:libc:malloc, uprobe:libc:free, uprobe:*:getenv { @[func] = count(); @at[probe] = count(); }
        uretprobe:libc:malloc, uretprobe:libc:free { @[func] = count(); @at[probe] = count(); }";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(program.as_bytes()).unwrap();
    let printed = run(file.path(), &["ls", "/"], 0);
    let (by, at) = (
        printed.map("@").as_object().unwrap(),
        printed.map("@at").as_object().unwrap(),
    );
    for function in ["malloc", "free"] {
        let of = |kind: &str| {
            let probes = at.iter().filter(|(probe, _)| {
                probe.starts_with(&format!("{kind}:")) && probe.ends_with(&format!(":{function}"))
            });
            probes.map(|(_, count)| sum(count)).sum::<u64>()
        };
        assert_eq!(of("uprobe"), of("uretprobe"), "{function}");
        assert_eq!(sum(&by[function]), 2 * of("uprobe"), "{function}");
    }
    DONE
}
