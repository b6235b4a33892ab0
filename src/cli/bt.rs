//! `bt`: a command line of bpftrace. Its options become those of `run` or `attach`; streams, what stands
//! around the output, and the status are bpftrace's (0.17, where releases differ).

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use super::args::{Bt, BtFormat, Cli, Command, Dump, ProgramText, Trace};
use super::exit::Exit;
use super::program;
use super::targets::Targets;
use super::trace::{
    Traced, attached, conclude, failed, launched, options, print_diagnostics, wanted,
};
use super::{complain, dump};
use crate::base::{Pid, Tid};
use crate::data::Sink;
use crate::language::typed::Attach;
use crate::output::{Bpftrace, Json, Style, Text, Verbosity};
use crate::session::{DebugFiles, Ended, Outcome, Pending, Wanted};
use crate::spec::ModuleName;
use crate::sys::clock;
use crate::sys::errno::sig;
use crate::sys::wait::{self, Status};
use crate::sys::{file, poll};

/// How long a command that was asked to end may take, in nanoseconds.
const PATIENCE: u64 = 1_000_000_000;

/// What is traced.
enum Subject {
    Command(Vec<OsString>),
    Process(Pid),
}

/// `kptrace bt`.
pub(super) fn run(bt: &Bt) -> ExitCode {
    let exit = subject(bt).and_then(|subject| match bt.debug {
        0 => traced(bt, subject),
        _ => dry(bt, &debug(subject.as_ref())),
    });
    match exit {
        Ok(status) => status.into(),
        Err(()) => Exit::Failure.into(),
    }
}

/// What the command line names, in words of its own.
fn subject(bt: &Bt) -> Result<Option<Subject>, ()> {
    if let Some(pid) = bt.pid {
        return Ok(Some(Subject::Process(pid)));
    }
    let Some(text) = &bt.cmd else {
        return Ok(None);
    };
    match shlex::split(text) {
        Some(words) if !words.is_empty() => {
            let words = words.into_iter().map(OsString::from);
            Ok(Some(Subject::Command(words.collect())))
        }
        _ => {
            complain(format_args!(
                "-c: no command, or a quote is not closed: {text}"
            ));
            Err(())
        }
    }
}

fn debug(subject: Option<&Subject>) -> DebugFiles {
    match subject {
        Some(Subject::Command(words)) => {
            DebugFiles::of_command(words.first().map(OsString::as_os_str))
        }
        Some(Subject::Process(pid)) => DebugFiles::of_process(*pid),
        None => DebugFiles::of_command(None),
    }
}

/// The program, and its parameters: without `-e` the first word is its file.
fn text(bt: &Bt) -> ProgramText {
    let mut words = bt.words.iter();
    let files = match bt.programs.is_empty() {
        true => words.next().map(Into::into).into_iter().collect(),
        false => Vec::new(),
    };
    ProgramText {
        programs: bt.programs.clone(),
        files,
        parameters: words.cloned().collect(),
        allow_unsafe: bt.allow_unsafe,
    }
}

/// `-d`.
fn dry(bt: &Bt, debug: &DebugFiles) -> Result<u8, ()> {
    let compiled = program::compiled(&text(bt), debug, bt.no_warnings);
    let program = compiled.map_err(|wrong| print_diagnostics(&wrong))?;
    let mut out = io::stdout().lock();
    let printed = dump::print(Dump::Ast, &program, &mut out)
        .and_then(|()| writeln!(out))
        .and_then(|()| dump::print(Dump::Ir, &program, &mut out));
    printed.map(|()| 0).map_err(drop)
}

fn traced(bt: &Bt, subject: Option<Subject>) -> Result<u8, ()> {
    let mut trace = defaults().ok_or(())?;
    trace.program = text(bt);
    trace.talk.quiet = bt.no_warnings;
    let wanted = wanted(&trace, &debug(subject.as_ref()));
    let mut wanted = wanted.map_err(|wrong| print_diagnostics(&wrong))?;
    let Some(subject) = subject else {
        return Err(());
    };
    if names_files(&wanted, &subject) {
        wanted.pending = Pending::Ignore;
    }
    let sink = sink(bt, &wanted).map_err(|why| complain(format_args!("{why}")))?;
    let failed = |error: anyhow::Error| {
        failed(&error, Exit::Failure);
    };
    match subject {
        Subject::Command(words) => {
            let options = options(&trace, true);
            match launched(&trace, &words, (wanted, sink), options).map_err(failed)? {
                Traced::Yes(pid, mut outcome) => {
                    let status = concluded(bt, &trace, &mut outcome);
                    if outcome.ended == Ended::Detached {
                        end(pid);
                    }
                    status
                }
                Traced::No(error) => {
                    let name = words.first().map(|name| name.to_string_lossy());
                    let name = name.unwrap_or_default();
                    complain(format_args!("cannot run {name}: {error}"));
                    Err(())
                }
            }
        }
        Subject::Process(pid) => {
            let options = options(&trace, false);
            let outcome = attached(&trace, Targets::one(pid), (wanted, sink), options);
            concluded(bt, &trace, &mut outcome.map_err(failed)?)
        }
    }
}

/// What `attach` does when nothing is said.
fn defaults() -> Option<Trace> {
    match Cli::try_parse_from(["kptrace", "attach"]).ok()?.command {
        Command::Attach(attach) => Some(attach.trace),
        _ => None,
    }
}

/// Whether a probe names a file that is not the program: it may be mapped at any time, or never.
fn names_files(wanted: &Wanted, subject: &Subject) -> bool {
    let program = match subject {
        Subject::Process(pid) => Path::new(&format!("/proc/{pid}/exe")).canonicalize(),
        Subject::Command(words) => {
            let word = words.first().map(Path::new);
            word.unwrap_or(Path::new("")).canonicalize()
        }
    };
    let program = program.ok();
    wanted.specs.iter().any(|spec| match &spec.module {
        Some(ModuleName::Path(path)) => {
            let file = Path::new(path).canonicalize().ok();
            file.is_some() && file != program
        }
        _ => false,
    })
}

/// Opens the output, before anything is traced.
fn sink(bt: &Bt, wanted: &Wanted) -> Result<Box<dyn Sink>, String> {
    let out: Box<dyn Write + Send> = match &bt.output {
        None => Box::new(io::stdout()),
        Some(path) => {
            let file = file::create_output(path);
            Box::new(file.map_err(|why| format!("cannot write to {}: {why}", path.display()))?)
        }
    };
    let json = bt.format == BtFormat::Json;
    let format: Box<dyn Sink> = match json {
        true => Box::new(Json::new(out)),
        false => {
            let text = Text::new(out, Style::PLAIN, jiff::tz::TimeZone::system());
            Box::new(text.without_gap())
        }
    };
    let blocks = wanted
        .language
        .iter()
        .flat_map(|language| &language.checked.blocks);
    let own = blocks.flat_map(|block| &block.attach);
    let own = own
        .filter(|attach: &&Attach| !attach.is_in_target())
        .count();
    let gap = Box::new(io::stdout());
    Ok(Box::new(Bpftrace::new((format, json), gap, own, bt.quiet)))
}

/// Prints what is left; the status.
fn concluded(bt: &Bt, trace: &Trace, outcome: &mut Outcome) -> Result<u8, ()> {
    let everything = outcome
        .summary
        .probes
        .iter()
        .all(|probe| probe.reason.is_none());
    let verbosity = match bt.verbose || !everything {
        true => Verbosity::Normal,
        false => Verbosity::Quiet,
    };
    match conclude(trace, outcome, verbosity) {
        true => Ok(outcome.exit.unwrap_or(0)),
        false => Err(()),
    }
}

/// Ends a command that was let go, and takes what is left of it.
fn end(pid: Pid) {
    let ended = |status| {
        matches!(
            status,
            Ok(Some(Status::Exited(_) | Status::Killed(_))) | Err(_)
        )
    };
    let until = clock::monotonic() + PATIENCE;
    let _ = poll::kill(pid, sig::TERM);
    while clock::monotonic() < until {
        if ended(wait::thread_now(Tid(pid.0))) {
            return;
        }
        clock::nap();
    }
    let _ = poll::kill(pid, sig::KILL);
    while !ended(wait::thread(Tid(pid.0)).map(Some)) {}
}
