//! Servers that run probed from their start to their end: redis, and postgres with its tools.
//! Invariant: each is a test's own, in a directory of its own, on a socket there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Completion;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

use super::Verdict;
use super::accounts;
use super::case::{Probes, command_with};
use super::need::{all, missing_one, postgres};
use super::redis::{self, Client, READY};
use super::sites::Sites;
use super::support;

/// That every entry of a run is accounted for.
fn adds_up(name: &str, summary: &Path) -> Result<(), String> {
    let text = fs::read_to_string(summary).map_err(|why| format!("{name}: {why}"))?;
    let accounts = accounts::check(&super::support::json::summary(&text));
    println!(
        "{name}: {} entries of {} functions, {} inside at the end",
        accounts.entries, accounts.functions, accounts.inside
    );
    if accounts.wrong.is_empty() && accounts.entries > 100_000 {
        return Ok(());
    }
    Err(format!("{name}: {accounts:?}"))
}

/// The report of a probed run that ended well.
fn report(name: &str, summary: &Path) -> Result<(), String> {
    let sites = Sites::read(summary).map_err(|why| format!("{name}: {why}"))?;
    print!("{}", sites.report(name));
    sites.check().map_err(|why| format!("{name}: {why}"))
}

pub fn redis() -> Verdict {
    serve_redis(&Probes::All)
}

pub fn redis_returns() -> Verdict {
    serve_redis(&Probes::Calls)
}

fn serve_redis(probes: &Probes<'_>) -> Verdict {
    let [server, benchmark] = match all(["redis-server", "redis-benchmark"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let summary = place.join("summary.json");
    let argv = redis::server(&server, place);
    let mut running = support::start(command_with(probes, &summary, &argv));
    running.out.wait_for(READY);
    redis::benchmark(&benchmark, place, 1000)?;
    let mut client = Client::new(place);
    redis::is_right(&mut client);
    // A fork, which must not run armed.
    client.ask("BGSAVE");
    running
        .out
        .wait_for("Background saving terminated with success");
    redis::is_right(&mut client);
    running.signal_target(Signal::SIGTERM, client);
    running.end().expect(0);
    match probes {
        Probes::Calls => adds_up("redis-server", &summary)?,
        _ => report("redis-server", &summary)?,
    }
    Ok(Completion::Completed)
}

impl support::Running {
    /// A signal to what kptrace runs; `client` knows its number.
    fn signal_target(&self, signal: Signal, mut client: Client) {
        let info = client.ask("INFO server");
        let pid = info
            .lines()
            .find_map(|line| line.strip_prefix("process_id:"));
        let pid = pid
            .and_then(|pid| pid.trim().parse().ok())
            .expect("redis tells its number");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }
}

/// A cluster of a test's own, and who may run it: not root.
struct Cluster {
    programs: PathBuf,
    directory: TempDir,
    owner: Option<User>,
    kptrace: PathBuf,
}

impl Cluster {
    fn new() -> Result<Cluster, Verdict> {
        let Some(programs) = postgres() else {
            return Err(missing_one("no postgres here"));
        };
        let owner = if geteuid().is_root() {
            match User::from_name("postgres").ok().flatten() {
                Some(user) => Some(user),
                None => return Err(missing_one("no user postgres, and initdb refuses root")),
            }
        } else {
            None
        };
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        // Where that user can read it.
        let kptrace = place.join("kptrace");
        fs::copy(env!("CARGO_BIN_EXE_kptrace"), &kptrace).unwrap();
        fs::set_permissions(&kptrace, fs::Permissions::from_mode(0o755)).unwrap();
        let cache = place.join("cache");
        fs::create_dir(&cache).unwrap();
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
        if let Some(user) = &owner {
            for path in [place, cache.as_path()] {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
        }
        Ok(Cluster {
            programs,
            directory,
            owner,
            kptrace,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn own(&self, program: &Path) -> Command {
        let mut command = support::command(program);
        command
            .current_dir(self.directory.path())
            .env("HOME", self.directory.path())
            .env("XDG_CACHE_HOME", self.at("cache"));
        if let Some(user) = &self.owner {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// One of postgres's programs.
    fn alone(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.own(&self.programs.join(name));
        command.args(arguments);
        command
    }

    /// The same with a probe at every function.
    fn probed(&self, name: &str, arguments: &[&str], summary: &str) -> Command {
        self.probed_at("*:*", (name, arguments), summary)
    }

    fn probed_at(
        &self,
        probes: &str,
        (name, arguments): (&str, &[&str]),
        summary: &str,
    ) -> Command {
        let mut command = self.own(&self.kptrace);
        command.args(["run", "-q", "-c", "-p", probes, "--format", "json", "-o"]);
        command
            .arg(self.at(summary))
            .arg("--")
            .arg(self.programs.join(name))
            .args(arguments);
        command
    }

    fn initdb() -> [&'static str; 8] {
        [
            "-D",
            "data",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-k",
            "--no-sync",
        ]
    }
}

/// Runs to the end, which is a good one; what it wrote to standard output.
fn done(command: Command) -> String {
    support::start(command).end().expect(0).out
}

/// What a backend answers to these, on its standard output, is the same each time.
const QUERIES: &str = "
create temp table t as select i, i * 7919 % 10007 as n, 'v' || i as s from generate_series(1, 20000) i;
create index on t(n);
select count(*), sum(n), max(s), avg(i), stddev(n) from t;
select n % 10 as k, count(*) from t group by 1 order by 1;
select count(*) from t a join t b on a.n = b.i where a.s like 'v1%';
select count(*) from pg_class, pg_attribute where attrelid = pg_class.oid;
select 1 / (select count(*) from t where n < 0);
select s from t where s ~ '^v(1+)$' order by i;
";

fn single(cluster: &Cluster, mut command: Command) -> String {
    let queries = cluster.at("queries.sql");
    fs::write(&queries, QUERIES).unwrap();
    command.stdin(Stdio::from(fs::File::open(queries).unwrap()));
    done(command)
}

pub fn initdb() -> Verdict {
    let cluster = match Cluster::new() {
        Ok(cluster) => cluster,
        Err(missing) => return missing,
    };
    let said = done(cluster.probed("initdb", &Cluster::initdb(), "initdb.json"));
    if !said.contains("Success.") {
        return Err(format!("initdb: {said}").into());
    }
    report("initdb", &cluster.at("initdb.json"))?;
    done(cluster.alone("pg_checksums", &["--check", "-D", "data"]));
    let backend = ["--single", "-D", "data", "postgres"];
    let alone = single(&cluster, cluster.alone("postgres", &backend));
    let probed = single(
        &cluster,
        cluster.probed("postgres", &backend, "single.json"),
    );
    if !alone.contains("count") || alone != probed {
        return Err(format!("a backend answers\n{probed}\nalone\n{alone}").into());
    }
    report("postgres --single", &cluster.at("single.json"))?;
    done(cluster.alone("pg_checksums", &["--check", "-D", "data"]));
    Ok(Completion::Completed)
}

const SUMS: &str = "
select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history),
    (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers),
    (select sum(abalance) from pgbench_accounts) = (select sum(tbalance) from pgbench_tellers),
    count(*) from pgbench_history";

pub fn pgbench() -> Verdict {
    let cluster = match Cluster::new() {
        Ok(cluster) => cluster,
        Err(missing) => return missing,
    };
    done(cluster.alone("initdb", &Cluster::initdb()));
    let place = cluster.directory.path().to_str().unwrap().to_owned();
    let server = [
        "-D",
        "data",
        "-k",
        &place,
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
    ];
    let mut running = support::start(cluster.probed("postgres", &server, "postmaster.json"));
    running.err.wait_for("ready to accept connections");
    let client = ["-h", &place, "-U", "postgres"];
    let with = |more: &[&'static str]| -> Vec<&str> { [&client[..], more].concat() };
    let load = with(&["-i", "-q", "postgres"]);
    done(cluster.probed("pgbench", &load, "load.json"));
    let bench = with(&["-c", "4", "-j", "2", "-t", "150", "postgres"]);
    let said = done(cluster.probed("pgbench", &bench, "bench.json"));
    if !said.contains("actually processed: 600/600") {
        return Err(format!("pgbench: {said}").into());
    }
    let sums = done(cluster.alone("psql", &with(&["-At", "postgres", "-c", SUMS])));
    if sums.trim() != "t|t|t|600" {
        return Err(format!("the sums of pgbench: {sums}").into());
    }
    let number = fs::read_to_string(cluster.at("data/postmaster.pid")).unwrap();
    let number: i32 = number.lines().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(number), Signal::SIGINT).unwrap();
    running.end().expect(0);
    for (name, summary) in [
        ("postmaster", "postmaster.json"),
        ("pgbench -i", "load.json"),
        ("pgbench", "bench.json"),
    ] {
        report(name, &cluster.at(summary))?;
    }
    done(cluster.alone("pg_checksums", &["--check", "-D", "data"]));
    Ok(Completion::Completed)
}

/// Errors leave by `longjmp`, on every one of these ways.
const FAILURES: &str = "
select 1 / 0;
create temp table f(a int primary key, b text check (length(b) < 5));
insert into f values (1, 'x'), (2, 'yy');
insert into f values (1, 'again');
insert into f values (3, 'too long');
do $$ declare n int := 0; begin
  for i in 1..200 loop
    begin perform i / (i % 3); exception when division_by_zero then n := n + 1; end;
    begin insert into f values (i, 'z'); exception when unique_violation then n := n + 1000; end;
  end loop;
  raise notice 'caught %', n;
end $$;
create function deep(n int) returns int language plpgsql as
  $$ begin if n = 0 then raise exception 'bottom'; end if; return deep(n - 1); end $$;
select deep(30);
begin; savepoint a; select nothing; rollback to a; select count(*) from f; commit;
select count(*), sum(a), max(b) from f;
select '{broken'::json;
drop function deep;
";

pub fn postgres_returns() -> Verdict {
    let cluster = match Cluster::new() {
        Ok(cluster) => cluster,
        Err(missing) => return missing,
    };
    done(cluster.alone("initdb", &Cluster::initdb()));
    let place = cluster.directory.path().to_str().unwrap().to_owned();
    let queries = cluster.at("failures.sql");
    fs::write(&queries, FAILURES).unwrap();
    let server = ["-D", "data", "-k", &place, "-c", "listen_addresses="];
    let mut answers = Vec::new();
    for probed in [false, true] {
        let command = if probed {
            cluster.probed_at("*:*%call", ("postgres", &server), "returns.json")
        } else {
            cluster.alone("postgres", &server)
        };
        let mut running = support::start(command);
        running.err.wait_for("ready to accept connections");
        for _ in 0..2 {
            let mut client = cluster.alone("psql", &["-h", &place, "-U", "postgres", "-At"]);
            client.stdin(Stdio::from(fs::File::open(&queries).unwrap()));
            let ended = support::start(client).end().expect(0);
            answers.push(ended.out + &ended.err);
        }
        let number = fs::read_to_string(cluster.at("data/postmaster.pid")).unwrap();
        let number: i32 = number.lines().next().unwrap().parse().unwrap();
        kill(Pid::from_raw(number), Signal::SIGINT).unwrap();
        running.end().expect(0);
    }
    if !answers[0].contains("caught") || answers.iter().any(|answer| *answer != answers[0]) {
        return Err(format!("postgres answers {answers:#?}").into());
    }
    adds_up("postgres", &cluster.at("returns.json"))?;
    done(cluster.alone("pg_checksums", &["--check", "-D", "data"]));
    Ok(Completion::Completed)
}
