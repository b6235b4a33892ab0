//! Memory of programs: tables that all processes of a session share, tables that each thread has for
//! itself, and what blocks tell of whose they are. The tracer is this program once more, with
//! programs put together by hand.

#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod support;

#[path = "attach/looks.rs"]
mod looks;

use std::ffi::OsString;
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kptrace::abi;
use kptrace::base::Pid;
use kptrace::data::{Feed, Hit, Sink, Summary};
use kptrace::program::table::HEADER;
use kptrace::program::{
    BinaryOp, Cell, Effect, Home, Inst, Key, KeyPart, Known, MapOp, Program, Table,
};
use kptrace::session::{Memory, Options, Pending, Session, Wanted};
use kptrace::spec::parse_probe;
use kptrace::sys::poll::Signals;
use kptrace::sys::shm::Shared;
use kptrace::target;
use libtest_mimic::{Arguments, Trial};
use looks::look;
use nix::sys::signal::Signal;
use support::*;

/// What each thread, the forked child and the program that it becomes do.
const STEPS: u64 = 20_000;
/// Maps without keys, by number; those with a key follow.
const PLAIN: [&str; 5] = ["word", "nanos", "uid", "gid", "child"];
const KEYED: [&str; 3] = ["pid", "tid", "name"];
/// Bytes of all of them.
const TABLES: u64 = 1 << 16;

fn plain(name: &str) -> Arc<Table> {
    let number = PLAIN.iter().position(|plain| *plain == name).unwrap() as u32;
    Arc::new(Table {
        map: number,
        home: Home::Session,
        offset: 128 * number,
        slots: 1,
        key: Vec::new(),
        cell: Cell::Word,
    })
}

fn keyed(name: &str) -> Arc<Table> {
    let number = KEYED.iter().position(|keyed| *keyed == name).unwrap() as u32;
    Arc::new(Table {
        map: 16 + number,
        home: Home::Session,
        offset: 1024 + 8192 * number,
        slots: 64,
        key: vec![KeyPart::Word],
        cell: Cell::Count,
    })
}

fn of_threads() -> Arc<Table> {
    Arc::new(Table {
        map: 32,
        home: Home::Thread,
        offset: 64,
        slots: 1,
        key: Vec::new(),
        cell: Cell::Count,
    })
}

/// A program of one effect after the other.
fn program(effects: impl FnOnce(&mut Program) -> Vec<Effect>) -> Program {
    let mut program = Program::default();
    program.effects = effects(&mut program);
    program
}

/// What happens at `step`, at `look` and at `named`.
fn programs() -> [Program; 3] {
    let step = program(|program| {
        let one = program.push(Inst::Const(1));
        let pid = program.push(Inst::Known(Known::Pid));
        let tid = program.push(Inst::Known(Known::Tid));
        vec![
            Effect::Count,
            Effect::Map(plain("word"), Key::None, MapOp::Add(one, None)),
            Effect::Map(of_threads(), Key::None, MapOp::Aggregate(None)),
            Effect::Map(keyed("pid"), Key::Word(pid), MapOp::Aggregate(None)),
            Effect::Map(keyed("tid"), Key::Word(tid), MapOp::Aggregate(None)),
        ]
    });
    let look = program(|program| {
        let known = [
            ("nanos", Known::Nanos),
            ("uid", Known::Uid),
            ("gid", Known::Gid),
            ("child", Known::Child),
        ];
        let set = |(name, known)| {
            let value = program.push(Inst::Known(known));
            Effect::Map(plain(name), Key::None, MapOp::Set(value))
        };
        known.map(set).to_vec()
    });
    let named = program(|program| {
        let name = program.push(Inst::Known(Known::Comm(0)));
        // Both halves in one word: the second is 0 for short names.
        let rest = program.push(Inst::Known(Known::Comm(1)));
        let both = program.push(Inst::Binary(BinaryOp::Xor, name, rest));
        vec![Effect::Map(
            keyed("name"),
            Key::Word(both),
            MapOp::Aggregate(None),
        )]
    });
    [step, look, named]
}

fn wanted(maps: u64) -> Wanted {
    let specs = ["step", "look", "named"].map(|text| parse_probe(text).unwrap());
    Wanted {
        specs: specs.to_vec(),
        programs: programs().map(Some).to_vec(),
        memory: Memory {
            tables: 256,
            scratch: 0,
            maps,
        },
        pending: Pending::Ignore,
        ..Wanted::default()
    }
}

/// Takes in what the blocks of each process hold in the end.
struct Reader(Arc<AtomicU64>);

impl Sink for Reader {
    fn armed(&mut self, _: usize) -> std::io::Result<()> {
        println!("armed");
        std::io::stdout().flush()
    }
    fn hit(&mut self, _: &Hit<'_>) -> std::io::Result<()> {
        Ok(())
    }
    fn lost(&mut self, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn closed(&mut self, feed: &Feed) -> std::io::Result<()> {
        let offset = u64::from(feed.layout.tables() + of_threads().offset + HEADER);
        for block in feed.directory.used() {
            let count = feed.shared.load(feed.layout.block(block) + offset);
            self.0.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }
    fn summary(&mut self, _: &Summary) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keys and counts.
fn entries(maps: &Shared, table: &Table) -> Vec<(u64, u64)> {
    let slot = |index: u32| u64::from(table.offset + HEADER + index * table.slot_size());
    let all = (0..table.slots).map(slot);
    let born = all.filter(|slot| maps.load(slot + 8) != 0);
    let entry = |slot| {
        let count = maps.load(slot + u64::from(table.cell_at()));
        (maps.load(slot + 16), count)
    };
    born.map(entry).collect()
}

fn word(maps: &Shared, name: &str) -> u64 {
    maps.load(u64::from(plain(name).offset + HEADER + 8))
}

/// Says when the target is known by its new name.
fn await_name(maps: &Shared) {
    let name = u64::from_le_bytes(*b"renamed\0");
    let table = keyed("name");
    while !entries(maps, &table).iter().any(|&(key, _)| key == name) {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("renamed");
    let _ = std::io::stdout().flush();
}

fn tracer(how: &str, words: &[OsString]) -> anyhow::Result<()> {
    let signals = Signals::collect()?;
    let follow = how != "attach-alone";
    let options = Options {
        follow,
        ..Options::default()
    };
    let count = Arc::new(AtomicU64::new(0));
    let sink = Box::new(Reader(Arc::clone(&count)));
    let wanted = wanted(TABLES);
    let session = if how == "run" {
        let Ok(process) = target::launch(words, signals.mask_before()) else {
            anyhow::bail!("it cannot be started");
        };
        Session::launched(process, signals, options, wanted, sink)?
    } else {
        let pid = Pid(words[0].to_str().unwrap().parse()?);
        let mut process = target::attach(pid)?;
        kptrace::session::restore(&mut process)?;
        Session::attached(vec![process], signals, options, wanted, sink)?
    };
    let maps = session.maps().unwrap();
    let looked_at = Arc::clone(&maps);
    std::thread::spawn(move || await_name(&looked_at));
    let outcome = session.run()?;
    for note in outcome.summary.notes {
        println!("note {note}");
    }
    println!("threads {}", count.load(Ordering::Relaxed));
    for name in PLAIN {
        println!("{name} {}", word(&maps, name));
    }
    for name in ["pid", "tid"] {
        for (key, count) in entries(&maps, &keyed(name)) {
            println!("{name} {key} {count}");
        }
    }
    Ok(())
}

/// What a tracer said in the end.
struct Said(String);

impl Said {
    /// The words behind this one, of each line.
    fn all(&self, name: &str) -> Vec<Vec<i64>> {
        let lines = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?.strip_prefix(' ')?;
            rest.split(' ').map(|word| word.parse().ok()).collect()
        });
        lines.collect()
    }

    fn one(&self, name: &str) -> i64 {
        match &self.all(name)[..] {
            [one] if one.len() == 1 => one[0],
            other => panic!("{name}: {other:?} of {}", self.0),
        }
    }

    /// All that four times [`STEPS`] steps leave: by two threads, a child, and what that became.
    fn adds_up(&self, process: i64, child: i64) {
        let steps = STEPS as i64;
        assert_eq!(self.one("word"), 4 * steps, "{}", self.0);
        assert_eq!(self.one("threads"), 4 * steps, "{}", self.0);
        let mut pids = self.all("pid");
        pids.sort();
        let mut right = [vec![process, 2 * steps], vec![child, 2 * steps]];
        right.sort();
        assert_eq!(pids, right, "{}", self.0);
        let mut tids = self.all("tid");
        let own = tids.extract_if(.., |entry| entry[0] == child);
        assert_eq!(own.collect::<Vec<_>>(), [[child, 2 * steps]]);
        assert_eq!(tids.len(), 2, "{}", self.0);
        assert!(tids.iter().all(|entry| entry[1] == steps), "{}", self.0);
        assert_eq!(self.all("note"), Vec::<Vec<i64>>::new());
    }
}

fn start_target(words: &[&str]) -> Running {
    let mut line = command(built());
    line.args(words).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

fn built() -> &'static std::path::Path {
    static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| c("shares").flags(&["-pthread"]).build())
}

fn start_tracer(how: &str, words: &[&str]) -> Running {
    let mut line = command(std::env::current_exe().unwrap());
    line.args(["tracer", how]).args(words).stdin(Stdio::piped());
    start(line)
}

fn attach(how: &str, target: &Running) -> Running {
    let mut tracer = start_tracer(how, &[&target.pid().to_string()]);
    tracer.out.wait_for("armed");
    tracer
}

/// The numbers behind a word that it said.
fn numbers(said: &str) -> Vec<i64> {
    let words = said.split(' ').skip(1);
    words.map(|word| word.trim().parse().unwrap()).collect()
}

fn right(mut target: Running) {
    target.write("\n");
    let ended = target.end().expect(0);
    assert!(ended.out.ends_with("right\n"), "{}", ended.out);
}

/// Nothing of ours is mapped or open.
fn as_before(pid: u32, before: &looks::Look) {
    assert_eq!(looks::different(pid), [""; 0]);
    let after = look(pid);
    assert_eq!(after.executable, before.executable);
    assert_eq!(after.descriptors, before.descriptors);
    let ours = |mapping: &&String| mapping.contains("memfd");
    assert_eq!(after.mappings.iter().find(ours), None);
}

fn all_steps_are_counted(words: &[&str]) {
    let mut target = start_target(words);
    let before = look(target.pid());
    let mut tracer = attach("attach", &target);
    let mapped = |mapping: &&String| mapping.contains("memfd");
    assert!(look(target.pid()).mappings.iter().any(|m| mapped(&m)));
    assert_eq!(look(target.pid()).descriptors, before.descriptors);
    target.write("\n");
    let clock = numbers(&target.out.wait_for("clock "));
    let child = numbers(&target.out.wait_for("done "))[0];
    tracer.out.wait_for("renamed");
    tracer.signal(Signal::SIGINT);
    let ended = tracer.end().expect(0);
    as_before(target.pid(), &before);
    let said = Said(ended.out);
    said.adds_up(i64::from(target.pid()), child);
    if kptrace::sys::clock::ticks_are_invariant() {
        // The line is a few millionths off, and some tens of nanoseconds at its start.
        let nanos = said.one("nanos");
        let slack = 1_000 + 2 * LIMIT.as_nanos() as i64 / 1_000_000;
        assert!(clock[0] - slack <= nanos, "{clock:?} {nanos}");
        assert!(nanos <= clock[1] + slack, "{clock:?} {nanos}");
    }
    assert_eq!(said.one("child"), 0);
    let user = nix::unistd::getuid().as_raw();
    let group = nix::unistd::getgid().as_raw();
    let ids = (said.one("uid"), said.one("gid"));
    assert_eq!(ids, (user.into(), group.into()));
    right(target);
}

fn no_free_descriptor_is_told(free: &str) {
    let target = start_target(&[free]);
    let before = look(target.pid());
    let tracer = start_tracer("attach", &[&target.pid().to_string()]);
    let ended = tracer.end().expect(1);
    assert!(ended.err.contains("Too many open files"), "{}", ended.err);
    as_before(target.pid(), &before);
    assert_eq!(look(target.pid()).mappings, before.mappings);
    let mut target = target;
    target.write("\n");
    target.out.wait_for("done ");
    target.write("\n");
    target.end();
}

fn a_child_that_is_not_followed_has_nothing_of_ours() {
    let mut target = start_target(&["alone"]);
    let tracer = attach("attach-alone", &target);
    target.write("\n");
    let child = numbers(&target.out.wait_for("done "))[0];
    let child = look(u32::try_from(child).unwrap());
    let ours = |mapping: &&String| mapping.contains("memfd");
    assert_eq!(child.mappings.iter().find(ours), None);
    tracer.signal(Signal::SIGINT);
    let said = Said(tracer.end().expect(0).out);
    assert_eq!(said.one("word"), 2 * STEPS as i64);
    assert_eq!(said.one("threads"), 2 * STEPS as i64);
    right(target);
}

/// Killed at any moment, before and after it mapped anything: it is taken out again.
fn what_a_killed_tracer_left_is_taken_away() {
    let mut target = start_target(&[]);
    let pid = target.pid().to_string();
    let before = look(target.pid());
    let begun = Instant::now();
    let tracer = attach("attach", &target);
    let whole = begun.elapsed();
    tracer.signal(Signal::SIGKILL);
    tracer.end();
    assert!(looks::different(target.pid()).len() > 1);
    kptrace(&["restore", &pid]).expect(0);
    as_before(target.pid(), &before);
    const TIMES: u32 = 48;
    for time in 1..=TIMES {
        let begun = Instant::now();
        let tracer = start_tracer("attach", &[&pid]);
        while begun.elapsed() < whole * time / TIMES {
            std::hint::spin_loop();
        }
        tracer.signal(Signal::SIGKILL);
        tracer.end();
        let said = kptrace(&["restore", &pid]).expect(0).err;
        // An object that it had not marked yet, and of which it is said that nobody knows whose it is.
        if !said.contains("is an empty memory file without a name") {
            as_before(target.pid(), &before);
            assert_eq!(look(target.pid()).mappings, before.mappings);
        }
    }
    target.write("\n");
    target.out.wait_for("done ");
    right(target);
}

/// What a tracer leaves that is killed after the descriptor came.
fn a_descriptor_of_tables_that_are_not_mapped_yet_is_closed() {
    let text = "#include <fcntl.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
        #include \"target.h\"\n\
        static int marked(unsigned long mark) {\n unsigned long head[8] = {0, 0, 0, VERSION, mark};\n\
        int fd = syscall(SYS_memfd_create, \"\", 0);\n\
        return write(fd, head, sizeof head) > 0 ? fd : -1; }\n\
        int main(void) {\n int ours = marked(MARK), theirs = marked(MARK + 1);\n ready();\n\
        wait_for_go();\n if (fcntl(ours, F_GETFD) != -1 || fcntl(theirs, F_GETFD) == -1) return 1;\n\
        puts(\"right\"); return 0;\n}\n";
    let mark = format!("-DMARK={}UL", abi::MAPS_MAGIC);
    let version = format!("-DVERSION={}", abi::VERSION);
    let source = Source::new("cc", "c", "passed", text).flags(&[&mark, &version]);
    let mut line = command(source.build());
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    kptrace(&["restore", &target.pid().to_string()]).expect(0);
    right(target);
}

/// Calls that only tables of a session need are tried when there are some.
fn calls_that_filters_do_not_allow_are_named() {
    let filters = c("filters").flags(&["-pthread"]).build();
    let under = |words: &[&str]| {
        let mut line = command(&filters);
        line.arg("unbound").args(words);
        start(line).end()
    };
    let own = std::env::current_exe().unwrap();
    let target = built().to_str().unwrap();
    let refused = under(&[own.to_str().unwrap(), "tracer", "run", target]).expect(1);
    assert_eq!(refused.out, "", "it does not run untraced");
    assert!(refused.err.contains("do not allow bind"), "{}", refused.err);
    let traced = under(&[launch::binary(), "run", "-c", "-p", "step", "--", target]).expect(0);
    assert!(traced.out.ends_with("right\n"), "{}", traced.out);
    assert!(traced.err.contains("3 jumps"), "{}", traced.err);
}

/// Whether these namespaces can be made here.
fn can_unshare(flags: &str) -> bool {
    let mut line = std::process::Command::new("unshare");
    line.args([flags, "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    line.status().is_ok_and(|status| status.success())
}

fn in_namespaces_of_its_own(flags: &str) {
    let built = built().to_str().unwrap();
    let mut tracer = start_tracer("run", &["unshare", flags, built]);
    let unshare = i64::from(tracer.pid());
    tracer.out.wait_for("ready");
    tracer.write("\n");
    tracer.out.wait_for("done ");
    tracer.write("\n");
    let ended = tracer.end().expect(0);
    let said = Said(ended.out);
    assert!(said.0.contains("right\n"), "{} {}", said.0, ended.err);
    assert!(said.one("child") > unshare, "{}", said.0);
    // Their numbers are those of our own namespace.
    let mut pids: Vec<i64> = said.all("pid").iter().map(|entry| entry[0]).collect();
    pids.sort();
    said.adds_up(pids[0], pids[1]);
}

fn main() {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [first, how, rest @ ..] = &words[..]
        && first == "tracer"
    {
        if let Err(error) = tracer(how.to_str().unwrap(), rest) {
            eprintln!("{error:#}");
            std::process::exit(1);
        }
        return;
    }
    let trial = |name: &str, test: Box<dyn FnOnce() + Send>| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let mut trials = vec![
        trial(
            "steps_of_threads_children_and_their_programs_add_up",
            Box::new(|| all_steps_are_counted(&[])),
        ),
        trial(
            "two_free_descriptors_are_enough",
            Box::new(|| all_steps_are_counted(&["2"])),
        ),
        trial(
            "a_child_that_is_not_followed_has_nothing_of_ours",
            Box::new(a_child_that_is_not_followed_has_nothing_of_ours),
        ),
        trial(
            "what_a_killed_tracer_left_is_taken_away",
            Box::new(what_a_killed_tracer_left_is_taken_away),
        ),
        trial(
            "calls_that_filters_do_not_allow_are_named",
            Box::new(calls_that_filters_do_not_allow_are_named),
        ),
        trial(
            "a_descriptor_of_tables_that_are_not_mapped_yet_is_closed",
            Box::new(a_descriptor_of_tables_that_are_not_mapped_yet_is_closed),
        ),
    ];
    for free in ["0", "1"] {
        let test = Box::new(move || no_free_descriptor_is_told(free));
        trials.push(trial(&format!("{free}_free_descriptors_are_too_few"), test));
    }
    for flags in ["-Urpf", "-Urpfn", "-Urpfm"] {
        let test = Box::new(move || in_namespaces_of_its_own(flags));
        let trial = trial(&format!("steps_add_up_in_namespaces_{flags}"), test);
        trials.push(trial.with_ignored_flag(!can_unshare(flags)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
