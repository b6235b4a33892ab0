//! `ctl`: asks the kptrace that traces a process to list or switch its probes. What it answers is
//! printed; nothing is decided here.
//!
//! Invariant: only a socket in a directory that belongs to the tracer's user alone is asked.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::complain;
use super::exit::Exit;
use super::inspect::written;
use super::values::process;
use crate::base::{Pid, Tid};
use crate::output::{escaped, json_line};
use crate::session::words;
use crate::sys::local::{Stream, is_private, places};
use crate::sys::{file, procfs};

/// How long an answer is waited for, and each piece of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// No answer is longer.
const LONGEST: usize = 1 << 30;

/// `ctl`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Ctl {
    /// The traced process
    #[arg(value_name = "PID", value_parser = process)]
    pub pid: Pid,
    /// What is asked for.
    #[command(subcommand)]
    pub action: Action,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Action {
    /// List the probes: address, kind (k at the entry, r at the return), symbol, module, state, number,
    /// hits, calls where they are recorded, hits that were missed and why, and why it is not a jump
    List {
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Arm everything that is enabled again; so does SIGUSR2 to kptrace
    On,
    /// Give all text its original bytes, verify that, and keep what was asked for; so does SIGUSR1
    Off,
    /// Allow jumps, or make all of them breakpoints
    Opt {
        /// Whether
        switch: Switch,
    },
    /// Switch probes on
    Enable {
        /// The number of a probe, a name, a pattern as in 'mem*' or 'libc:*', or the probe as it was
        /// asked for
        #[arg(value_name = "PROBE")]
        probe: String,
    },
    /// Switch probes off: they cost nothing any more, and keep their counts
    Disable {
        /// As for enable
        #[arg(value_name = "PROBE")]
        probe: String,
    },
    /// Add a probe, as after -p of run and attach
    Add {
        /// The probe, one word with its arguments
        #[arg(value_name = "PROBE", allow_hyphen_values = true)]
        probe: String,
    },
    /// Take probes away
    Remove {
        /// As for enable
        #[arg(value_name = "PROBE")]
        probe: String,
    },
    /// End tracing, as an interrupt of kptrace does
    Detach,
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Jumps where they are safe
    On,
    /// Breakpoints
    Off,
}

impl Action {
    /// As the socket takes it.
    fn request(&self) -> Value {
        match self {
            Action::List { .. } => json!({ "do": "list" }),
            Action::On => json!({ "do": "on" }),
            Action::Off => json!({ "do": "off" }),
            Action::Opt { switch } => json!({ "do": "opt", "on": *switch == Switch::On }),
            Action::Enable { probe } => json!({ "do": "enable", "probe": probe }),
            Action::Disable { probe } => json!({ "do": "disable", "probe": probe }),
            Action::Add { probe } => json!({ "do": "add", "probe": probe }),
            Action::Remove { probe } => json!({ "do": "remove", "probe": probe }),
            Action::Detach => json!({ "do": "detach" }),
        }
    }
}

/// `kptrace ctl`.
pub(super) fn run(ctl: &Ctl) -> Exit {
    let answer = match call(ctl.pid).and_then(|stream| ask(&stream, &ctl.action.request())) {
        Ok(answer) => answer,
        Err(why) => {
            complain(format_args!("{why}"));
            return Exit::Failure;
        }
    };
    if let Some(error) = answer["error"].as_str() {
        complain(format_args!("{error}"));
        return match answer["status"].as_u64() {
            Some(2) => Exit::Usage,
            Some(3) => Exit::NoMatch,
            _ => Exit::Failure,
        };
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    written(print(&ctl.action, &answer, &mut out).and_then(|()| out.flush()))
}

/// Finds the kptrace that traces a process.
pub(super) fn call(pid: Pid) -> Result<Stream, String> {
    let tracer = procfs::status(pid, Tid(pid.0))
        .map_err(|_| format!("there is no process {pid}"))?
        .tracer;
    if tracer == 0 {
        return Err(format!("process {pid} is not traced"));
    }
    // The tracer's thread, which need not be its first.
    let owner = procfs::status(Pid(tracer), Tid(tracer)).map_err(|error| error.to_string())?;
    let owner = owner.uid[1];
    let caller = file::user();
    if caller != owner && caller != 0 {
        let name = file::user_name(owner).unwrap_or_else(|| owner.to_string());
        return Err(format!(
            "process {pid} is traced by {name}: only {name} and root may control it"
        ));
    }
    let runtime = match procfs::variable(Pid(tracer), "XDG_RUNTIME_DIR") {
        Some(dir) => Some(PathBuf::from(dir)),
        None => std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
    };
    let mut why = "it has no socket; while it arms its first probes there is none".to_owned();
    for dir in places(owner, runtime) {
        let path = dir.join(pid.to_string());
        let met = is_private(&dir, owner).and_then(|()| Stream::connect(&path, PATIENCE));
        let met = met.and_then(|stream| Ok((stream.peer()?, stream)));
        match met {
            Ok((peer, stream)) if peer == owner => return Ok(stream),
            Ok((peer, _)) => why = format!("{} is user {peer}'s", path.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => why = format!("{}: {error}", path.display()),
        }
    }
    Err(format!(
        "the tracer of process {pid} ({tracer}) cannot be asked: {why}"
    ))
}

/// Sends a request and waits for its answer.
pub(super) fn ask(stream: &Stream, request: &Value) -> Result<Value, String> {
    let mut line = request.to_string().into_bytes();
    line.push(b'\n');
    let mut rest = line.as_slice();
    let broken = |error: io::Error| format!("the tracer cannot be asked: {error}");
    while !rest.is_empty() {
        match stream.write(rest).map_err(broken)? {
            Some(some) => rest = rest.get(some..).unwrap_or_default(),
            None => return Err("the tracer does not listen".to_owned()),
        }
    }
    let mut answer = Vec::new();
    let mut piece = vec![0; 1 << 16];
    while answer.last() != Some(&b'\n') {
        match stream.read(&mut piece).map_err(broken)? {
            Some(0) => return Err("the tracer has ended".to_owned()),
            Some(got) => answer.extend(piece.iter().take(got)),
            None => return Err("the tracer does not answer".to_owned()),
        }
        if answer.len() > LONGEST {
            return Err("the answer is too long".to_owned());
        }
    }
    serde_json::from_slice(&answer).map_err(|error| format!("the tracer's answer is none: {error}"))
}

fn print(action: &Action, answer: &Value, out: &mut impl Write) -> io::Result<()> {
    match action {
        Action::List { json } => {
            let probes = answer["probes"].as_array().into_iter().flatten();
            match json {
                true => probes
                    .map(json_line)
                    .try_for_each(|line| writeln!(out, "{line}")),
                false => list(probes.collect(), out),
            }
        }
        Action::Detach => Ok(()),
        _ => writeln!(out, "{}", words(answer)),
    }
}

/// The columns of the kernel's `kprobes/list`, then what was counted, then why.
fn list(probes: Vec<&Value>, out: &mut impl Write) -> io::Result<()> {
    let mut rows = Vec::with_capacity(probes.len());
    for probe in probes {
        let text = |key: &str| escaped(probe[key].as_str().unwrap_or_default());
        let kind = if probe["kind"] == "return" { "r" } else { "k" };
        let offset = probe["offset"].as_u64().unwrap_or(0);
        let hits = probe["hits"].as_u64();
        let hits = hits.map_or_else(|| "-".to_owned(), |hits| hits.to_string());
        let address = probe["address"].as_str().unwrap_or("-").to_owned();
        rows.push([
            address,
            kind.to_owned(),
            format!("{}+{offset:#x}", text("symbol")),
            text("module"),
            format!("[{}]", text("state").to_uppercase()),
            format!("id={}", probe["id"].as_u64().unwrap_or(0)),
            format!("hits={hits}"),
            calls(probe),
            missed(&probe["missed"]),
            match probe["reason"].as_str() {
                Some(_) => format!("# {}", text("reason")),
                None => String::new(),
            },
        ]);
    }
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let width = widths.get(index).copied().unwrap_or(0);
            if width == 0 && cell.is_empty() {
                continue;
            }
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A time in the unit that suits it.
fn duration(ns: u64) -> String {
    let short = |unit: u64| format!("{}.{}", ns / unit, ns % unit * 10 / unit);
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => short(1_000) + "us",
        1_000_000..1_000_000_000 => short(1_000_000) + "ms",
        _ => short(1_000_000_000) + "s",
    }
}

/// What its calls came to, where that is known.
fn calls(probe: &Value) -> String {
    let number = |key: &str| probe[key].as_u64();
    match (number("calls"), number("total_ns"), number("p99_ns")) {
        (Some(calls), Some(total), Some(p99)) => {
            let average = total.checked_div(calls).unwrap_or(0);
            format!(
                "calls={calls} avg={} p99={}",
                duration(average),
                duration(p99)
            )
        }
        _ => String::new(),
    }
}

/// Missed hits by cause, those that there are.
fn missed(missed: &Value) -> String {
    let causes = missed.as_object().into_iter().flatten();
    let some = causes.filter(|(_, count)| count.as_u64() != Some(0));
    let some: Vec<String> = some
        .map(|(cause, count)| format!("missed:{}={count}", escaped(cause)))
        .collect();
    some.join(" ")
}
