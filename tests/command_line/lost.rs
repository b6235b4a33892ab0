//! Hits that find no room are lost and counted: recorded and lost are what was made.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use super::support::*;

fn flood() -> String {
    let program = c("flood").flags(&["-O2", "-pthread"]).build();
    program.to_str().expect("UTF-8").to_owned()
}

/// Recorded and lost, from what was written; both ways of telling the loss agree.
fn recorded_and_lost(trace: &str) -> (u64, u64) {
    let recorded = json::hits(trace).len() as u64;
    let summary = json::summary(trace);
    let missed = &json::probe(&summary, "hot")["missed"];
    let number = |key: &str| missed[key].as_u64().expect("a count");
    assert_eq!((number("abandoned"), number("trap")), (0, 0), "{missed}");
    let told: u64 = json::of_type(trace, "lost_events")
        .iter()
        .map(|lost| lost["data"]["events"].as_u64().expect("a count"))
        .sum();
    assert_eq!(told, number("ring_full"));
    assert_eq!(json::count(&summary, "hot"), recorded + told);
    (recorded, told)
}

/// Traces while nobody reads the trace, so that the ring must overflow.
fn overflow(threads: u64, calls: u64) {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a FIFO");
    let fifo = path.to_str().expect("UTF-8");
    let (program, threads_text, calls_text) = (flood(), threads.to_string(), calls.to_string());
    let mut line = command(launch::binary());
    line.args([
        "run",
        "--mem",
        "1M",
        "--format",
        "json",
        "-p",
        "hot n=%di",
        "-o",
        fifo,
        "--",
    ]);
    line.args([&program, &threads_text, &calls_text])
        .stdin(Stdio::piped());
    let mut running = start(line);
    let mut from = fs::File::open(&path).expect("kptrace writes");
    running.out.wait_for(&format!("made {}", threads * calls));
    let reader = std::thread::spawn(move || {
        let mut trace = String::new();
        from.read_to_string(&mut trace).expect("UTF-8");
        trace
    });
    let ended = running.end().expect(0);
    let trace = reader.join().expect("read");
    let (recorded, lost) = recorded_and_lost(&trace);
    assert_eq!(recorded + lost, threads * calls);
    assert!(recorded > 0 && lost > 0, "{recorded} recorded, {lost} lost");
    let told = format!("missed {lost} hits: {lost} the ring was full\n");
    assert!(ended.err.contains(&told), "{}", ended.err);
    // What is there is in order: a thread's arguments only grow.
    let mut last = std::collections::HashMap::new();
    for hit in json::hits(&trace) {
        let n = hit["args"]["n"].as_u64().expect("a number");
        if let Some(before) = last.insert(hit["tid"].as_u64(), n) {
            assert!(n > before, "{hit} after {before}");
        }
    }
}

#[test]
fn one_thread_that_overflows_the_ring_loses_what_is_said() {
    overflow(1, 300_000);
}

#[test]
fn several_threads_that_overflow_their_rings_lose_what_is_said() {
    overflow(4, 100_000);
}

#[test]
fn a_trace_that_nobody_reads_can_be_given_up() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a FIFO");
    let fifo = path.to_str().expect("UTF-8");
    let mut line = command(launch::binary());
    line.args([
        "run",
        "-p",
        "hot n=%di",
        "-o",
        fifo,
        "--",
        &flood(),
        "1",
        "100000",
    ]);
    let mut running = start(line);
    let _unread = fs::File::open(&path).expect("kptrace writes");
    running.out.wait_for("made 100000");
    let begun = std::time::Instant::now();
    while !running.ends_within(std::time::Duration::from_millis(100)) {
        running.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(begun.elapsed() < LIMIT, "{}", running.err.so_far());
    }
    let ended = running.end().expect(0);
    assert!(ended.err.contains("nobody reads it"), "{}", ended.err);
}

#[test]
fn a_count_loses_nothing_however_small_the_memory() {
    let line = [
        "run", "--mem", "1M", "-c", "--format", "json", "-p", "hot", "--",
    ];
    let program = flood();
    let line = [&line[..], &[&program, "8", "200000"]].concat();
    let summary = json::summary(&kptrace(&line).expect(0).err);
    assert_eq!(json::count(&summary, "hot"), 1_600_000);
}

#[test]
fn more_threads_than_blocks_still_count_exactly() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    let line = [
        "run",
        "--mem",
        "1M",
        "-p",
        "hot n=%di",
        "--format",
        "json",
        "-o",
        path,
        "--",
    ];
    let program = flood();
    let line = [&line[..], &[&program, "40", "1000"]].concat();
    kptrace(&line).expect(0);
    let trace = fs::read_to_string(path).expect("the trace");
    let (recorded, lost) = recorded_and_lost(&trace);
    assert_eq!(recorded + lost, 40_000);
}
