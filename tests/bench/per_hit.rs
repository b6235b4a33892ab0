//! What a hit costs: the floor by hand, the same with the product's own code, and the product.

use std::process::Command;

use anyhow::Context as _;
use kptrace::abi::Layout;
use kptrace::arch::native::emit::{Called, Environment, Template};
use kptrace::arch::native::relocate::relocate;
use kptrace::base::ProbeId;
use kptrace::program::{Effect, Program, Record};

use super::Bench;
use super::kptrace::{Traced, hits};
use super::programs::MANY;
use super::table::{Sample, Table};
use super::target::{Pair, Target};

/// Calls a slice while nothing is recorded.
pub const CALLS: u64 = 5_000_000;
/// Calls a slice that a ring of 8 MiB holds, with and without a string.
const RECORDS: u64 = 180_000;
const STRINGS: u64 = 25_000;

/// Rows that others are compared with.
#[derive(Default)]
pub struct Floor {
    /// A safe count, by hand.
    pub count: Option<f64>,
}

/// A row of the floor: its name, `hot`'s name of the detour, calls a slice, threads.
const FLOOR: [(&str, &str, u64, u32); 12] = [
    ("floor: empty detour", "empty", CALLS, 1),
    ("floor: safe count", "count", CALLS, 1),
    ("floor: safe count, flags kept", "count_flags", CALLS, 1),
    ("floor: safe count, shared, lock", "count_shared", CALLS, 1),
    ("floor: safe record", "record", RECORDS, 1),
    ("floor: safe record, no time", "record_notime", RECORDS, 1),
    ("floor: call and return, count", "pair", CALLS, 1),
    ("floor: call and return, records", "pair_record", PAIRS, 1),
    (
        "floor: call and return, count, below 8 nested calls",
        "pair",
        CALLS,
        1,
    ),
    ("floor: empty detour, two threads", "empty", CALLS, 2),
    ("floor: safe count, two threads", "count", CALLS, 2),
    ("floor: safe record, two threads", "record", RECORDS, 2),
];

/// A row of the product: its name, its options, calls a slice, threads, records a hit.
type Row = (&'static str, &'static [&'static str], u64, u32, u64);

/// Calls a slice with two records each: less than a lap of the ring, whose pages are then all warm.
const PAIRS: u64 = 40_000;

const RETURNS: &[&str] = &["-c", "--format", "json", "-p", "hot%return"];
const COUNT: &[&str] = &["-c", "--format", "json", "-p", "hot"];
/// Calls a slice that a ring holds with stacks of 32 frames, of 1 KiB and of 8 KiB.
const WALKED: u64 = 8_000;
const KIBIBYTES: u64 = 6_000;
const COPIED: u64 = 800;
const TRACED: [Row; 14] = [
    ("kptrace: count", COUNT, CALLS, 1, 0),
    ("kptrace: record", &["-p", "hot"], RECORDS, 1, 1),
    (
        "kptrace: record, one argument",
        &["-p", "hot n=%si"],
        150_000,
        1,
        1,
    ),
    (
        "kptrace: record, string of 20 bytes",
        &["-p", "hot s=+0(%di):string"],
        STRINGS,
        1,
        1,
    ),
    ("kptrace: call and return, count", RETURNS, CALLS, 1, 0),
    (
        "kptrace: call and return, count, below 8 nested calls",
        RETURNS,
        CALLS,
        1,
        0,
    ),
    (
        "kptrace: call and return, records",
        &["-p", "hot%call"],
        PAIRS,
        1,
        2,
    ),
    (
        "kptrace: call and return, entry counted too",
        &["-c", "--format", "json", "-p", "hot%call"],
        CALLS,
        1,
        0,
    ),
    (
        "kptrace: record, stack of 32 frames by frame pointers",
        &[
            "--format",
            "json",
            "-p",
            "hot",
            "--stack=32",
            "--stack-by",
            "fp",
        ],
        WALKED,
        1,
        1,
    ),
    (
        "kptrace: record, stack copied, 1 KiB",
        &[
            "--format",
            "json",
            "-p",
            "hot",
            "--stack=1",
            "--stack-by",
            "copy",
            "--stack-size",
            "1024",
        ],
        KIBIBYTES,
        1,
        1,
    ),
    (
        "kptrace: record, stack copied, 8 KiB",
        &[
            "--format",
            "json",
            "-p",
            "hot",
            "--stack=1",
            "--stack-by",
            "copy",
        ],
        COPIED,
        1,
        1,
    ),
    ("kptrace: count, two threads", COUNT, CALLS, 2, 0),
    (
        "kptrace: record, two threads",
        &["-p", "hot"],
        100_000,
        2,
        2,
    ),
    ("kptrace: record, ring full", &["-p", "hot"], CALLS, 1, 0),
];

const TRAP: &str = "kptrace: breakpoint (int3), wall time";
const EMITTED: [(&str, bool, bool); 3] = [
    ("kptrace's code in the floor: count", false, false),
    ("kptrace's code in the floor: record", true, true),
    ("kptrace's code in the floor: record, no time", true, false),
];
const ALL: &str = "kptrace: count, 10,000 functions";

/// Runs the rows that are wanted.
pub fn run(bench: &Bench) -> anyhow::Result<Floor> {
    bench.machine.step_aside();
    let mut table = Table::new(
        "Cost of a hit, beyond the untraced call (processor time of the thread)",
        "ns",
    );
    let mut floor = Floor::default();
    let (mut record, mut no_time) = (None, None);
    // The floor is what the others are compared with: it is measured with any of them.
    for (name, detour, calls, threads) in FLOOR {
        let needed = matches!(detour, "count" | "record" | "record_notime") && threads == 1;
        if !needed && !bench.wants(name) {
            continue;
        }
        let pairs = bench.or_quick(9, 5) * if calls < CALLS { 3 } else { 1 };
        let hot = Hot {
            calls,
            threads,
            deep: is_deep(name),
            ..Hot::default()
        };
        let sample = Sample::new(by_hand(bench, ["-d", detour], &hot, pairs)?);
        if threads == 1 && detour == "count" {
            floor.count = sample.median();
        }
        if threads == 1 && detour == "record" {
            record = sample.median();
        }
        if detour == "record_notime" {
            no_time = sample.median();
        }
        table.row(name, &sample, "");
    }
    for (name, records, time) in EMITTED {
        if bench.wants(name) {
            table.base(match (records, time) {
                (false, _) => floor.count,
                (true, false) => no_time,
                (true, true) => record,
            });
            let code = emitted(bench, records, time)?;
            let calls = if records { RECORDS } else { CALLS };
            let pairs = bench.or_quick(9, 5) * if records { 3 } else { 1 };
            let hot = Hot {
                calls,
                ..Hot::default()
            };
            let sample = Sample::new(by_hand(bench, ["-f", &code], &hot, pairs)?);
            table.row(name, &sample, "");
        }
    }
    for row in TRACED {
        if bench.wants(row.0) {
            let recorded = row.4 > 0;
            table.base(if recorded { record } else { floor.count });
            let (sample, note) = traced(bench, row)?;
            table.row(row.0, &sample, &note);
        }
    }
    table.base(floor.count);
    if bench.wants(ALL) {
        let (sample, note) = all(bench)?;
        table.row(ALL, &sample, &note);
    }
    if bench.wants(TRAP) {
        let (sample, note) = trap(bench)?;
        table.row(TRAP, &sample, &note);
    }
    println!(
        "  (ratios: counts and losses to the floor's safe count, records to its safe records)"
    );
    bench.machine.run_anywhere();
    Ok(floor)
}

/// `hot` patched by itself.
fn by_hand(bench: &Bench, detour: [&str; 2], hot: &Hot, pairs: usize) -> anyhow::Result<Vec<f64>> {
    let mut target = Target::start(hot.command(bench).args(detour))?;
    let pairs = (0..pairs).map(|_| target.pair("go").map(|pair| pair.cpu));
    let pairs = pairs.collect::<anyhow::Result<Vec<f64>>>()?;
    target.end()?;
    Ok(pairs)
}

/// How `hot` is run for slices on demand.
pub struct Hot {
    /// Calls a slice.
    pub calls: u64,
    /// Threads that call.
    pub threads: u32,
    /// Length of the text that is passed.
    pub text: u32,
    /// Frames that calls come from below.
    pub frames: u32,
    /// Whether the calls are below eight nested calls.
    pub deep: bool,
}

/// Whether a row is about calls below others.
fn is_deep(name: &str) -> bool {
    name.ends_with("below 8 nested calls")
}

impl Default for Hot {
    fn default() -> Hot {
        Hot {
            calls: CALLS,
            threads: 1,
            text: 20,
            frames: 0,
            deep: false,
        }
    }
}

impl Hot {
    /// Its arguments.
    pub fn args(&self, bench: &Bench) -> Vec<String> {
        let numbers = [
            ("-p", bench.machine.target as u64),
            ("-t", self.threads.into()),
            ("-n", self.calls),
            ("-s", self.text.into()),
            ("-F", self.frames.into()),
        ];
        let words = numbers.map(|(option, number)| [option.to_owned(), number.to_string()]);
        let deep = self.deep.then(|| "-b".to_owned());
        std::iter::once("-i".to_owned())
            .chain(deep)
            .chain(words.into_iter().flatten())
            .collect()
    }

    /// The program with these arguments, not traced.
    pub fn command(&self, bench: &Bench) -> Command {
        let mut command = Command::new(&bench.programs.hot);
        command.args(self.args(bench));
        command
    }
}

/// The code that the product makes for `hot`, for the floor's memory: a file's path.
fn emitted(bench: &Bench, records: bool, time: bool) -> anyhow::Result<String> {
    // What `hot.c` and `hot.S` have: the shared block, the alive word, room for code, `hot`.
    const CODE: u64 = 0x3000_0000;
    const COLD: usize = 0x1000;
    const HOT: u64 = 0x1000_0000;
    const DISPLACED: [u8; 8] = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x8d, 0x46, 0x01];
    const R11: u8 = 11;
    let environment = Environment {
        shared_block: 0x2000_0000,
        alive: 0x1fff_0000,
        layout: Layout {
            probes: 1,
            ring_size: 1 << 23,
            blocks: 3,
            tables: 0,
            scratch: 0,
            largest: 64,
            returns: false,
        },
        own_blocks: true,
        loads: true,
        maps: 0,
        activations: None,
    };
    let mut program = Program::count();
    if records {
        let record = Record {
            action: 0,
            time,
            fields: Vec::new(),
        };
        program.effects.push(Effect::Record(record));
    }
    let template = Template::new(&[program], &environment, false, Some(R11))?;
    let (mut code, cold) = template
        .place(
            &[(ProbeId(0), Called::default())],
            HOT,
            CODE,
            CODE + COLD as u64,
        )
        .context("placing the code")?;
    let copy = relocate(HOT, &DISPLACED, CODE + code.len() as u64)?;
    code.extend(&copy.bytes);
    code.resize(COLD, 0xcc);
    code.extend(&cold);
    code.resize(4 * COLD, 0xcc);
    let path = bench.programs.dir.join("code");
    std::fs::write(&path, code)?;
    Ok(path.to_string_lossy().into_owned())
}

/// `hot` under the product. The tracer stands still during the slices and drains between them.
fn traced(
    bench: &Bench,
    (name, options, calls, threads, records): Row,
) -> anyhow::Result<(Sample, String)> {
    let hot = Hot {
        calls,
        threads,
        frames: if name.contains("stack") { 32 } else { 0 },
        deep: is_deep(name),
        ..Hot::default()
    };
    let args = hot.args(bench);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut traced = Traced::run(&bench.programs.dir, options, &bench.programs.hot, &args)?;
    // The first lap through a ring is the kernel giving it memory: not measured.
    let laps = if records > 0 { 3 } else { 0 };
    let full = name.ends_with("full");
    let pairs = bench.or_quick(9, 5) * if records > 0 { 3 } else { 1 };
    let mut values = Vec::new();
    for pair in 0..pairs + laps {
        let Pair { cpu, .. } = traced.without_tracer(|target| target.pair("go"))?;
        if records > 0 {
            traced.wait_for_lines((pair as u64 + 1) * calls * records);
        }
        if pair >= laps {
            values.push(cpu);
        }
    }
    let made = calls * (pairs + laps) as u64 * u64::from(threads);
    let ended = traced.end()?;
    let note = if full {
        format!(
            "nearly all of {made} lost, as meant; {} recorded",
            ended.lines
        )
    } else if records > 0 {
        match made.saturating_sub(ended.lines) {
            0 => format!("{made} records, none lost"),
            lost => format!("{lost} of {made} lost"),
        }
    } else {
        match hits(&ended.last) {
            Some(seen) if seen == made => "exact".to_owned(),
            seen => format!("{seen:?} of {made} counted"),
        }
    };
    Ok((Sample::new(values), note))
}

/// Ten thousand functions, all armed, called in turn; their equals beside them are not armed.
fn all(bench: &Bench) -> anyhow::Result<(Sample, String)> {
    let processor = bench.machine.target.to_string();
    let options = ["-c", "--format", "json", "-p", "fn_*"];
    let mut traced = Traced::run(
        &bench.programs.dir,
        &options,
        &bench.programs.many,
        &["-p", &processor],
    )?;
    let rounds = 100;
    let pairs = bench.or_quick(9, 5);
    let mut values = Vec::new();
    for _ in 0..pairs {
        values.push(traced.target.pair(&format!("call {rounds}"))?.cpu);
    }
    let made = (pairs * rounds * MANY) as u64;
    let ended = traced.end()?;
    let seen = hits(&ended.last);
    let note = match seen {
        Some(seen) if seen == made => "goal: 25".to_owned(),
        _ => format!("goal: 25; {seen:?} of {made} counted"),
    };
    Ok((Sample::new(values), note))
}

/// Every hit a stop. Processor time tells little of it: most is spent by the tracer.
fn trap(bench: &Bench) -> anyhow::Result<(Sample, String)> {
    // The tracer where the scheduler puts it, as for a user.
    bench.machine.run_anywhere();
    let hot = Hot {
        calls: 2000,
        ..Hot::default()
    };
    let args = hot.args(bench);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let options = [COUNT, &["--no-opt", "--trap-limit", "0"]].concat();
    let mut traced = Traced::run(&bench.programs.dir, &options, &bench.programs.hot, &args)?;
    let pairs = bench.or_quick(9, 5);
    let mut values = Vec::new();
    for _ in 0..pairs {
        values.push(traced.target.pair("go")?.wall);
    }
    let made = pairs as u64 * 2000;
    let ended = traced.end()?;
    let note = match hits(&ended.last) {
        Some(seen) if seen == made => "exact".to_owned(),
        seen => format!("{seen:?} of {made} counted"),
    };
    Ok((Sample::new(values), note))
}
