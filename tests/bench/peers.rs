//! Other tools on the same target, those that are installed: what a hit costs there.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Bench;
use super::per_hit::Floor;
use super::table::{Sample, Table};
use super::target::Target;

/// Which clock tells what a hit costs.
#[derive(Clone, Copy, PartialEq)]
pub enum Clock {
    /// The thread's processor time: the tool works in the thread.
    Processor,
    /// The wall: the tool works while the thread is stopped.
    Wall,
}

/// One tool in one mode. In its words `{hot}` is the target's path, `{dir}` a directory, and
/// `{target}` the target with its arguments, as words of their own or, inside a word, as one.
pub struct Peer<'a> {
    /// The row's name.
    pub name: &'a str,
    /// What is started.
    pub program: &'a str,
    /// Its arguments.
    pub words: &'a [&'a str],
    /// Calls a slice.
    pub calls: u64,
    /// Length of the text that is passed.
    pub text: u32,
    /// What is read.
    pub clock: Clock,
}

const PEERS: [Peer<'static>; 6] = [
    Peer {
        name: "bpftrace: uprobe, count()",
        program: "bpftrace",
        words: &["-e", "uprobe:{hot}:hot { @ = count(); }", "-c", "{target}"],
        calls: 100_000,
        text: 20,
        clock: Clock::Processor,
    },
    Peer {
        name: "perf stat: uprobe",
        program: "perf",
        words: &[
            "stat",
            "-o",
            "{dir}/perf.stat",
            "-e",
            "kptrace_bench:hot",
            "--",
            "{target}",
        ],
        calls: 100_000,
        text: 20,
        clock: Clock::Processor,
    },
    Peer {
        name: "perf record: uprobe",
        program: "perf",
        words: &[
            "record",
            "-q",
            "-m",
            "4M",
            "-o",
            "{dir}/perf.data",
            "-e",
            "kptrace_bench:hot",
            "--",
            "{target}",
        ],
        calls: 30_000,
        text: 20,
        clock: Clock::Processor,
    },
    Peer {
        name: "uftrace: record -P",
        program: "uftrace",
        words: &[
            "record",
            "--no-event",
            "-d",
            "{dir}/uftrace",
            "-P",
            "^hot$",
            "{target}",
        ],
        calls: 100_000,
        text: 20,
        clock: Clock::Processor,
    },
    Peer {
        name: "gdb: breakpoint with ignore count (wall time)",
        program: "gdb",
        words: &[
            "-q",
            "-nx",
            "-batch",
            "-ex",
            "set startup-with-shell off",
            "-ex",
            "break *hot",
            "-ex",
            "ignore 1 1000000000",
            "-ex",
            "run",
            "--args",
            "{target}",
        ],
        calls: 50,
        text: 20,
        clock: Clock::Wall,
    },
    Peer {
        name: "ltrace: -x hot (wall time)",
        program: "ltrace",
        words: &["-L", "-x", "hot@MAIN", "-o", "{dir}/ltrace", "{target}"],
        calls: 50,
        text: 20,
        clock: Clock::Wall,
    },
];

/// Runs the rows that are wanted.
pub fn run(bench: &Bench, floor: &Floor) -> anyhow::Result<()> {
    if !bench.wants_any(PEERS.iter().map(|peer| peer.name)) {
        return Ok(());
    }
    bench.machine.step_aside();
    let mut table = Table::new(
        "Other tools, one thread (ratio: to the floor's safe count)",
        "ns",
    );
    table.base(floor.count);
    for peer in &PEERS {
        if !bench.wants(peer.name) {
            continue;
        }
        if !installed(peer.program) {
            table.missing(peer.name, "not installed");
            continue;
        }
        let defined = peer.program == "perf" && define(&bench.programs.hot, true);
        match measure(bench, peer) {
            // No probe of the kernel or of a debugger costs less than a cache miss.
            Ok(sample) if sample.median().is_none_or(|ns| ns < 5.0) => {
                table.missing(peer.name, "failed: its probe was not hit");
            }
            Ok(sample) => table.row(peer.name, &sample, ""),
            Err(error) => table.missing(peer.name, &format!("failed: {error:#}")),
        }
        if defined {
            define(&bench.programs.hot, false);
        }
    }
    bench.machine.run_anywhere();
    Ok(())
}

/// Whether some directory of the search path holds it.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Defines perf's probe, or takes it away again.
fn define(hot: &Path, there: bool) -> bool {
    let mut perf = Command::new("perf");
    perf.args(["probe", "-q"]);
    if there {
        perf.arg("-x")
            .arg(hot)
            .args(["--add", "kptrace_bench:hot=hot"]);
    } else {
        perf.args(["--del", "kptrace_bench:*"]);
    }
    let silent = perf.stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// Slices of `hot` under a tool.
pub fn measure(bench: &Bench, peer: &Peer<'_>) -> anyhow::Result<Sample> {
    let hot = bench.programs.hot.to_string_lossy();
    let dir = bench.programs.dir.to_string_lossy();
    let pairs = bench.or_quick(9, 5);
    let processor = bench.machine.target.to_string();
    let target = [
        &*hot,
        "-p",
        &processor,
        "-n",
        &peer.calls.to_string(),
        "-r",
        &pairs.to_string(),
        "-s",
        &peer.text.to_string(),
    ]
    .map(str::to_owned);
    let one_word = peer.program == "bpftrace";
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "60", peer.program]);
    for word in peer.words {
        match *word {
            "{target}" if !one_word => command.args(&target),
            "{target}" => command.arg(target.join(" ")),
            word => command.arg(word.replace("{hot}", &hot).replace("{dir}", &dir)),
        };
    }
    let mut running = Target::start(command.stderr(Stdio::null()))?;
    let values = (0..pairs)
        .map(|_| {
            let pair = running.next_pair()?;
            Ok(match peer.clock {
                Clock::Processor => pair.cpu,
                Clock::Wall => pair.wall,
            })
        })
        .collect::<anyhow::Result<Vec<f64>>>()?;
    running.end()?;
    Ok(Sample::new(values))
}
