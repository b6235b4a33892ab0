//! USDT probes of real programs: the ready programs that use them, all notes of a program and its
//! libraries at once, and the same text in bpftrace. Needs packages; the last needs root as well.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Completion;
use nix::unistd::{User, geteuid};

use super::Verdict;
use super::need;
use super::printed::{Printed, counted, ready, run, sum};
use super::support::{self, Source, c};

const DONE: Verdict = Ok(Completion::Completed);

/// Every note of everything that is mapped.
const EVERYTHING: &str = "usdt:*:* { @[probe] = count(); }";

fn everything(target: &[&OsStr]) -> Printed {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, EVERYTHING.as_bytes()).unwrap();
    run(file.path(), target, 0)
}

/// How often the probe of that name was hit.
fn hits(printed: &Printed, name: &str) -> u64 {
    let all = printed.map("@").as_object().unwrap();
    let named = all.iter().filter(|(probe, _)| probe.ends_with(name));
    named.map(|(_, count)| sum(count)).sum()
}

pub fn python() -> Verdict {
    if need::find("python3.11").is_none() {
        return need::missing_one("no python3.11 here");
    }
    let code = "def f(n):\n return n and f(n - 1)\n\
                import json, gc\nf(100)\ngc.collect()\nprint(json.dumps({'a': [1, 2]}))";
    let words = ["python3.11", "-I", "-S", "-c", code];
    let printed = run(&ready("pyfunctions"), &words, 0);
    assert_eq!(printed.out, "{\"a\": [1, 2]}\n");
    assert_eq!(printed.map("@calls")["<string>,f"], 101);
    let text = printed.text();
    let imported = text.lines().filter(|line| *line == "import json").count();
    assert_eq!(imported, 1, "{text}");
    let all = everything(&words.map(OsStr::new));
    assert_eq!(all.out, printed.out);
    let returned = sum(printed.map("@calls"));
    assert_eq!(hits(&all, ":python:function__entry"), returned);
    assert_eq!(hits(&all, ":python:function__return"), returned);
    assert!(hits(&all, ":python:gc__done") >= 1 && hits(&all, ":python:line") > 300);
    DONE
}

pub fn exceptions() -> Verdict {
    if !support::has("c++") {
        return need::missing_one("no c++ here");
    }
    let text = "#include <stdexcept>\n#include <cstdio>\nstruct missing_field {};\n\
        __attribute__((noinline)) static void f(int n) { if (n % 3 == 0) throw std::invalid_argument(\"x\");\n\
        if (n % 3 == 1) throw missing_field(); throw n; }\n\
        int main() { int caught = 0; for (int i = 0; i < 12; i++) {\n\
        try { try { f(i); } catch (const missing_field &) { caught++; throw; } }\n\
        catch (...) { caught++; } } printf(\"caught %d\\n\", caught); }";
    let target = Source::new("c++", "cc", "throws", text).build();
    let printed = run(&ready("throwsnoop"), &[target.as_os_str()], 0);
    assert_eq!(printed.out, "caught 16\n");
    let thrown = serde_json::json!({"St16invalid_argument": 4, "13missing_field": 4, "i": 4});
    assert_eq!(*printed.map("@thrown"), thrown);
    assert_eq!(
        (sum(printed.map("@caught")), sum(printed.map("@again"))),
        (16, 4)
    );
    assert_eq!(printed.text().lines().count(), 1 + 12);
    let all = everything(&[target.as_os_str()]);
    assert_eq!(all.out, printed.out);
    assert_eq!((hits(&all, ":throw"), hits(&all, ":catch")), (12, 16));
    DONE
}

/// A cluster of a test's own. Postgres refuses root.
struct Cluster {
    place: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<User>,
}

const QUERIES: &str = "create temp table t as select i, i * 7919 % 10007 as n from generate_series(1, 5000) i;\n\
    select count(*), sum(n), max(i) from t;\nselect n % 10 as k, count(*) from t group by 1 order by 1;\n\
    select 1 / (select count(*) from t where n < 0);\nselect count(*) > 10 from pg_class;\n";

impl Cluster {
    fn new() -> Result<Cluster, Verdict> {
        let Some(programs) = need::postgres() else {
            return Err(need::missing_one("no postgres here"));
        };
        let owner = geteuid()
            .is_root()
            .then(|| User::from_name("postgres").ok().flatten());
        let owner = match owner {
            Some(None) => {
                return Err(need::missing_one(
                    "no user postgres, and initdb refuses root",
                ));
            }
            other => other.flatten(),
        };
        let place = tempfile::tempdir().unwrap();
        // Where that user can read it.
        let kptrace = place.path().join("kptrace");
        fs::copy(support::launch::binary(), &kptrace).unwrap();
        fs::set_permissions(&kptrace, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(ready("pgsnoop"), place.path().join("pgsnoop.bt")).unwrap();
        fs::write(place.path().join("all.bt"), EVERYTHING).unwrap();
        fs::write(place.path().join("queries"), QUERIES).unwrap();
        if let Some(user) = &owner {
            chown(
                place.path(),
                Some(user.uid.as_raw()),
                Some(user.gid.as_raw()),
            )
            .unwrap();
        }
        let cluster = Cluster {
            place,
            programs,
            owner,
        };
        let initdb = cluster.programs.join("initdb");
        let words = ["-D", "data", "-A", "trust", "--no-sync"];
        cluster.end(cluster.command(&initdb, &words));
        Ok(cluster)
    }

    fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = support::command(program);
        let queries = fs::File::open(self.place.path().join("queries")).unwrap();
        command.args(words).stdin(Stdio::from(queries));
        command.current_dir(self.place.path());
        command.env("HOME", self.place.path());
        if let Some(user) = &self.owner {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    fn end(&self, command: Command) -> String {
        support::start(command).end().expect(0).out
    }

    /// A backend that answers the queries, traced by a program of the language.
    fn traced(&self, program: &str) -> Printed {
        let postgres = self.programs.join("postgres");
        let postgres = postgres.to_str().unwrap();
        let words = [
            "run", "-q", "--format", "json", "-o", "printed", "-f", program, "--", postgres,
        ];
        let words = [&words[..], &BACKEND].concat();
        let out = self.end(self.command(&self.place.path().join("kptrace"), &words));
        let printed = fs::read_to_string(self.place.path().join("printed")).unwrap();
        Printed {
            objects: support::objects(&printed),
            out,
        }
    }
}

const BACKEND: [&str; 4] = ["--single", "-D", "data", "postgres"];

pub fn postgres() -> Verdict {
    let cluster = match Cluster::new() {
        Ok(cluster) => cluster,
        Err(missing) => return missing,
    };
    let alone = cluster.end(cluster.command(&cluster.programs.join("postgres"), &BACKEND));
    let snooped = cluster.traced("pgsnoop.bt");
    assert_eq!(snooped.out, alone);
    let text = snooped.text();
    let said = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(said("select count(*), sum(n), max(i) from t"), 1, "{text}");
    // The one that divides by 0 is never done.
    assert_eq!(said(";"), 4, "{text}");
    assert_eq!(counted(snooped.map("@query_us")), 4);
    assert_eq!(sum(snooped.map("@aborts")), 1);
    assert!(sum(snooped.map("@buffer_hits")) > 100);
    let all = cluster.traced("all.bt");
    assert_eq!(all.out, alone);
    assert_eq!(hits(&all, ":query__start"), 5);
    assert_eq!(hits(&all, ":query__done"), 4);
    assert_eq!(
        hits(&all, ":buffer__read__start"),
        hits(&all, ":buffer__read__done")
    );
    assert!(
        all.summary()["armed"].as_u64() >= Some(70),
        "{}",
        all.summary()
    );
    DONE
}

/// What bpftrace can read of these too.
const BOTH: &str = r#"
    usdt:TARGET:shop:sold { @sold[arg0, arg1] = count(); @all = count(); }
    usdt:TARGET:shop:tick { @tick = count(); }
    usdt:TARGET:shop:formats, usdt:TARGET:shop:wide {
        printf("%s %lld %lld %lld %lld\n", probe, arg0, arg1, arg2, arg3);
    }
"#;

/// Run only when asked for.
pub fn bpftrace() -> Verdict {
    let tried = Command::new("bpftrace")
        .args(["-e", "BEGIN { exit(); }"])
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return Ok(Completion::ignored_with("bpftrace may not trace here"));
    }
    let target = c("usdt").flags(&["-pthread"]).build();
    let program = BOTH.replace("TARGET", &target.to_string_lossy());
    let lines = |mut command: Command| {
        command.stdin(Stdio::piped());
        let mut running = support::start(command);
        running.write("r\nv\nt\nq\n");
        let out = running.end().expect(0).out;
        let ours = |line: &&str| line.starts_with('@') || line.starts_with("usdt:");
        let mut lines: Vec<String> = out.lines().filter(ours).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut theirs = support::command("bpftrace");
    theirs.args(["-q", "-e", &program, "-c"]).arg(&target);
    let mut own = support::command(support::launch::binary());
    own.args(["run", "-q", "-o", "-", "-e", &program, "--"]);
    own.arg(&target);
    let (theirs, own) = (lines(theirs), lines(own));
    assert_eq!(own, theirs);
    assert_eq!(own.len(), 21 + 2 + 2);
    DONE
}
