//! Programs of the probe language made of pieces of others: some in every run of the tests, millions
//! when asked for. Invariant: a text that ends the process is in a file by then.
//!
//! ```text
//! KPTRACE_RUNS=10000000 cargo test --release --test hostile -- --ignored --nocapture millions
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::mutate::Corpus;
use super::support::Rng;
use super::{cases, language, rng};

/// Longest that a text may take.
const LONGEST: Duration = Duration::from_secs(1);
/// Most texts at fault that are looked for.
const MOST_FAULTS: usize = 30;
/// Most memory of the process, in bytes.
const MEMORY: u64 = 2 << 30;

/// How long the text takes: the least of some turns, for the machine may be busy.
fn least(text: &str, first: Duration) -> Duration {
    let turn = || {
        let start = Instant::now();
        language::program(text);
        start.elapsed()
    };
    (0..3).map(|_| turn()).fold(first, Duration::min)
}

/// Makes and reads texts; gives how many were programs. `last` holds the text that is being read.
fn read(runs: usize, rng: &mut Rng, last: Option<&File>, done: &AtomicU64) -> usize {
    let mut corpus = Corpus::new();
    let mut programs = 0;
    let mut faults = Vec::new();
    for _ in 0..runs {
        let text = corpus.make(rng);
        if let Some(last) = last {
            let text = format!("{} bytes\n{text}", text.len());
            last.write_all_at(text.as_bytes(), 0).unwrap();
        }
        let start = Instant::now();
        let outcome = catch_unwind(|| language::program(&text));
        let took = start.elapsed();
        done.fetch_add(1, Ordering::Relaxed);
        if took > LONGEST {
            let took = least(&text, took);
            assert!(took < LONGEST, "{took:?}: {text:?}");
        }
        match outcome {
            Ok(outcome) => {
                programs += usize::from(outcome.compiled);
                corpus.learn(&text, outcome.seen);
            }
            Err(_) => faults.push(text),
        }
        assert!(faults.len() < MOST_FAULTS, "{faults:#?}");
    }
    assert!(faults.is_empty(), "{faults:#?}");
    let (given, kept) = corpus.sizes();
    println!("{runs} texts, {programs} of them programs; {kept} kept, of which {given} were given");
    programs
}

#[test]
fn programs_made_of_pieces_of_others_are_read_without_harm() {
    let mut rng = rng("language");
    let programs = read(cases(3000), &mut rng, None, &AtomicU64::new(0));
    assert!(programs > 0, "some of them still compile");
}

/// Texts that were at fault: cut down from those that were found.
#[test]
fn what_was_found_once_is_read_without_harm() {
    for text in [
        "BEGIN { $x = 1; $t = (); }",
        "u:f { @s[1] = \"x\"; } u:g { @s[arg0] = str(arg1); }",
        "BEGIN { @s = \"x\"; } END { @s = \"longer than eight\"; }",
        "BEGIN { @[\"a\"] = 1; } END { @[\"longer than eight\"] = 1; }",
    ] {
        assert!(language::program(text).compiled, "{text}");
    }
}

/// Ends everything when a text never ends; until all is `over`.
fn watch(done: &AtomicU64, file: &Path, over: &Receiver<()>) {
    let start = Instant::now();
    let mut before = u64::MAX;
    while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(Duration::from_secs(60)) {
        let now = done.load(Ordering::Relaxed);
        if now == before {
            eprintln!("no end: see {}", file.display());
            std::process::abort();
        }
        println!("{now} in {:.0} s", start.elapsed().as_secs_f64());
        before = now;
    }
}

#[test]
#[ignore = "takes hours: KPTRACE_RUNS says how many"]
fn millions_of_programs_are_read_without_harm() {
    let runs = std::env::var("KPTRACE_RUNS").ok();
    let runs: usize = runs.map_or(100_000, |n| n.parse().expect("KPTRACE_RUNS is a number"));
    let mut rng = rng("millions");
    let file = format!("program-{}", std::process::id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    println!("the text that is being read is in {}", file.display());
    let last = File::create(&file).unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_AS).unwrap();
    setrlimit(Resource::RLIMIT_AS, MEMORY, most).unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&done);
    let path = file.clone();
    let (ended, over) = channel();
    let watcher = std::thread::spawn(move || watch(&watched, &path, &over));
    let start = Instant::now();
    let programs = read(runs, &mut rng, Some(&last), &done);
    let took = start.elapsed().as_secs_f64();
    ended.send(()).unwrap();
    watcher.join().unwrap();
    println!("{runs} in {took:.0} s: {:.0} a second", runs as f64 / took);
    assert!(programs * 1000 > runs, "{programs} programs");
    std::fs::remove_file(file).unwrap();
}
