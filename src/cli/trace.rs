//! `run` and `attach`: what was typed becomes a session; what comes out becomes an exit code.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use super::args::{self, Attach, Format, Run, Trace, Trap};
use super::complain;
use super::exit::Exit;
use super::program;
use super::progress::progress;
use super::targets::{Targets, Unfound};
use crate::analysis::Cache;
use crate::base::{Pid, Tid};
use crate::data::Sink;
use crate::guardian::Guardian;
use crate::output::{
    CallFilter, Chrome, Folded, Json, Several, Style, SummaryTable, Text, Tree, Verbosity, report,
};
use crate::probe::{Limit, TrapPolicy};
use crate::session::{
    DebugFiles, Ended, Exclude, Landing, Options, Outcome, Pending, PlanError, Session, StackBy,
    Wanted, WantedStacks,
};
use crate::spec::{Diagnostic, Kind, Pattern, ProbeSpec, parse_file, parse_pattern, parse_probe};
use crate::sys::errno::sig;
use crate::sys::file;
use crate::sys::poll::{self, Signals};
use crate::sys::wait::{self, Status};
use crate::target::{self, LaunchError};

/// Stack of the thread that traces: demangling and DWARF nest.
const STACK: usize = 16 << 20;

/// The user's cache, when there is a safe place for it.
pub(super) fn cache() -> Option<Cache> {
    Cache::open(&file::cache_dir()?).ok()
}

/// Reads the probes of `-p`, files of probes included.
pub(super) fn specs(texts: &[String]) -> Result<Vec<ProbeSpec>, Vec<Diagnostic>> {
    let mut specs = Vec::new();
    let mut wrong = Vec::new();
    for text in texts {
        match text.strip_prefix('@') {
            Some(path) => match fs::read_to_string(path) {
                Ok(content) => match parse_file(path, &content) {
                    Ok(more) => specs.extend(more),
                    Err(errors) => wrong.extend(errors),
                },
                Err(error) => {
                    let message = format!("cannot read the probes of {path}: {error}");
                    wrong.push(Diagnostic::new(text, 1..text.len(), message));
                }
            },
            None => match parse_probe(text) {
                Ok(spec) => specs.push(spec),
                Err(error) => wrong.push(error),
            },
        }
    }
    if wrong.is_empty() {
        Ok(specs)
    } else {
        Err(wrong)
    }
}

/// What the probes' texts ask for.
pub(super) fn wanted(trace: &Trace, debug: &DebugFiles) -> Result<Wanted, Vec<Diagnostic>> {
    let mut exclude = Vec::new();
    let mut wrong = Vec::new();
    for text in &trace.exclude {
        match parse_pattern(text) {
            Ok((module, name)) => match Pattern::new(&name) {
                Ok(name) => exclude.push(Exclude { module, name }),
                Err(message) => wrong.push(Diagnostic::new(text, 0..text.len(), message)),
            },
            Err(error) => wrong.push(error),
        }
    }
    let specs = specs(&trace.probes);
    match specs {
        Ok(mut specs) if wrong.is_empty() => {
            if trace.calls() {
                probe_returns(&mut specs);
            }
            let returns = |spec: &ProbeSpec| matches!(spec.kind, Kind::Return | Kind::Call);
            let mut wanted = Wanted {
                count_only: trace.count_only(specs.iter().any(returns)),
                specs,
                exclude,
                max_probes: trace.max_probes,
                max_active: trace.max_active,
                stacks: stacks(trace),
                force_returns: trace.force_returns,
                cache: cache(),
                progress: progress(!trace.talk.quiet && io::stderr().is_terminal()),
                pending: match trace.pending {
                    args::Pending::Warn => Pending::Warn,
                    args::Pending::Error => Pending::Error,
                    args::Pending::Ignore => Pending::Ignore,
                },
                ..Wanted::default()
            };
            program::add(&trace.program, &mut wanted, debug, trace.talk.quiet)?;
            Ok(wanted)
        }
        Ok(_) => Err(wrong),
        Err(mut errors) => {
            errors.extend(wrong);
            Err(errors)
        }
    }
}

/// What is recorded of stacks.
fn stacks(trace: &Trace) -> WantedStacks {
    let by = match trace.stack_by {
        args::StackBy::Auto => StackBy::Auto,
        args::StackBy::Fp => StackBy::FramePointers,
        args::StackBy::Copy => StackBy::Copy,
    };
    WantedStacks::new(trace.stack, trace.stack_size, by)
}

/// Makes probes at entries such at returns, too, unless others are at these.
fn probe_returns(specs: &mut [ProbeSpec]) {
    let returns: Vec<ProbeSpec> = specs
        .iter()
        .filter(|spec| spec.kind == Kind::Return)
        .cloned()
        .collect();
    let again = |spec: &ProbeSpec| {
        let same =
            |other: &ProbeSpec| (&other.module, &other.location) == (&spec.module, &spec.location);
        returns.iter().any(same)
    };
    for spec in specs {
        if spec.kind == Kind::Entry && !again(spec) {
            spec.kind = Kind::Call;
        }
    }
}

/// Which calls are shown.
fn call_filter(trace: &Trace) -> Result<CallFilter, String> {
    let mut within = Vec::new();
    for text in &trace.filter {
        let (module, name) = parse_pattern(text).map_err(|error| error.to_string())?;
        within.push((module, Pattern::new(&name)?));
    }
    let means = move |name: &str, module: &str| {
        within.iter().any(|(wanted, pattern)| {
            pattern.matches(name) && wanted.as_ref().is_none_or(|wanted| wanted.matches(module))
        })
    };
    Ok(CallFilter {
        depth: trace.depth,
        at_least: trace.min_duration.unwrap_or(0),
        within: (!trace.filter.is_empty()).then_some(Box::new(means)),
    })
}

pub(super) fn options(trace: &Trace, follow: bool) -> Options {
    Options {
        follow: !trace.no_follow && (trace.follow || follow),
        lenient: false,
        optimise: !trace.no_opt,
        traps: match trace.trap {
            Trap::Auto | Trap::Landing => TrapPolicy::Allow,
            Trap::Never => TrapPolicy::Never,
        },
        landing: match trace.trap {
            Trap::Auto => Landing::Auto,
            Trap::Never => Landing::Silent,
            Trap::Landing => Landing::Required,
        },
        limit: if trace.trap_limit == 0 {
            Limit::NONE
        } else {
            Limit::per_second(trace.trap_limit)
        },
        memory: trace.mem,
        duration: trace
            .duration
            .map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
    }
}

/// Where trace text goes.
enum Stream {
    Out,
    Err,
}

/// Opens what is written to and makes the sinks that write it. Done before anything is traced, so that
/// a wrong path fails early.
fn sink(trace: &Trace, stream: Stream) -> Result<Box<dyn Sink>, String> {
    let output = trace.output.as_deref();
    let first = sink_of(trace, trace.format(), opened(output, stream)?)?;
    if trace.also.is_empty() {
        return Ok(first);
    }
    let mut paths: Vec<&Path> = output.into_iter().collect();
    let mut sinks = vec![first];
    for (format, path) in &trace.also {
        if paths.contains(&path.as_path()) {
            return Err(format!("{} cannot hold two formats", path.display()));
        }
        paths.push(path);
        sinks.push(sink_of(trace, *format, opened(Some(path), Stream::Out)?)?);
    }
    Ok(Box::new(Several::new(sinks)))
}

/// What is written to, and whether it is a terminal.
fn opened(path: Option<&Path>, stream: Stream) -> Result<(Box<dyn Write + Send>, bool), String> {
    Ok(match (path, stream) {
        (None, Stream::Err) => (Box::new(io::stderr()), io::stderr().is_terminal()),
        (None, Stream::Out) => (Box::new(io::stdout()), io::stdout().is_terminal()),
        (Some(path), _) if path == Path::new("-") => {
            (Box::new(io::stdout()), io::stdout().is_terminal())
        }
        (Some(path), _) => {
            let file = file::create_output(path)
                .map_err(|error| format!("cannot write to {}: {error}", path.display()))?;
            let terminal = file.is_terminal();
            (Box::new(file), terminal)
        }
    })
}

/// A format's sink.
fn sink_of(
    trace: &Trace,
    format: Format,
    (out, terminal): (Box<dyn Write + Send>, bool),
) -> Result<Box<dyn Sink>, String> {
    let env = |name: &str| std::env::var_os(name);
    let style = Style::decide(trace.talk.color(), env, terminal);
    let filter = call_filter(trace)?;
    Ok(match format {
        Format::Json => Box::new(Json::new(out)),
        Format::Tree => Box::new(Tree::new(out, style, filter)),
        Format::Folded => Box::new(Folded::new(out, filter)),
        Format::Chrome => Box::new(Chrome::new(out, filter)),
        Format::Summary => Box::new(SummaryTable::new(
            out,
            style,
            trace.talk.verbosity() == Verbosity::Verbose,
            filter,
        )),
        Format::Text => Box::new(Text::new(out, style, jiff::tz::TimeZone::system())),
    })
}

pub(super) fn print_diagnostics(wrong: &[Diagnostic]) {
    for diagnostic in wrong {
        let _ = writeln!(io::stderr(), "{diagnostic}");
    }
}

/// Tells what went wrong and chooses the exit code.
pub(super) fn failed(error: &anyhow::Error, otherwise: Exit) -> Exit {
    match error.downcast_ref::<PlanError>() {
        Some(PlanError::NoMatch(text)) => {
            complain(format_args!("no probe matched\n{text}"));
            Exit::NoMatch
        }
        Some(PlanError::Spec(wrong)) => {
            print_diagnostics(wrong);
            Exit::Usage
        }
        _ => {
            complain(format_args!("{error:#}"));
            otherwise
        }
    }
}

/// Before there is a second thread: one that does not block a signal would swallow it.
fn collect_signals() -> anyhow::Result<Signals> {
    Signals::collect().context("collecting signals")
}

/// What a session says at once.
fn warning(trace: &Trace) -> impl Fn(&str) + Send + 'static {
    let quiet = trace.talk.quiet;
    move |what| {
        if !quiet {
            complain(format_args!("{what}"));
        }
    }
}

/// Starts the process that looks after the target when we are killed. Tracing goes on without.
fn guardian(warn: &impl Fn(&str)) -> Option<Arc<Guardian>> {
    match Guardian::start() {
        Ok(guardian) => Some(Arc::new(guardian)),
        Err(error) => {
            warn(&format!(
                "no guardian can be started: {error}; if kptrace is killed, breakpoints stay in the \
                 target"
            ));
            None
        }
    }
}

/// Runs a tracing thread to its end. Its end also releases threads that were not woken to be
/// let go (`ptrace(2)`: tracees are detached when their tracer ends).
pub(super) fn in_tracer<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let thread = std::thread::Builder::new()
        .name("tracer".to_owned())
        .stack_size(STACK);
    let thread = thread.spawn(work).context("starting a thread")?;
    thread.join().unwrap_or_else(|_| {
        Err(anyhow::anyhow!(
            "the tracing thread panicked; this is a bug"
        ))
    })
}

/// Prints what is left: the sink's summary, then the report. False if output failed.
pub(super) fn conclude(trace: &Trace, outcome: &mut Outcome, verbosity: Verbosity) -> bool {
    let mut fine = true;
    let mut error = outcome.output_error.take();
    if let Some(sink) = &mut outcome.sink
        && error.is_none()
    {
        error = sink
            .summary(&outcome.summary)
            .and_then(|()| sink.flush())
            .err();
    }
    match error {
        // Who closes the pipe has read enough.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Some(error) => {
            complain(format_args!("tracing stopped, cannot write: {error}"));
            fine = false;
        }
        None => {}
    }
    let env = |name: &str| std::env::var_os(name);
    let style = Style::decide(trace.talk.color(), env, io::stderr().is_terminal());
    // In one piece: the target may write there too.
    let mut text = Vec::new();
    let _ = report(&outcome.summary, &mut text, style, verbosity);
    let _ = io::stderr().write_all(&text);
    fine
}

/// What became of a command that was to be traced.
pub(super) enum Traced {
    /// It was, from its start on.
    Yes(Pid, Outcome),
    /// It cannot be run.
    No(io::Error),
}

/// Starts a command and traces it.
pub(super) fn launched(
    trace: &Trace,
    command: &[OsString],
    (wanted, sink): (Wanted, Box<dyn Sink>),
    options: Options,
) -> anyhow::Result<Traced> {
    let signals = collect_signals()?;
    let command = command.to_vec();
    let warn = warning(trace);
    let guardian = guardian(&warn);
    let guarded = guardian.clone();
    let traced = in_tracer(move || {
        let process = match target::launch(&command, signals.mask_before()) {
            Ok(process) => process,
            Err(LaunchError::Exec(error)) => return Ok(Traced::No(error)),
            Err(LaunchError::Other(error)) => return Err(error.context("cannot start the command")),
        };
        let pid = process.pid;
        let session = Session::launched(process, signals, options, wanted, sink)?;
        Ok(Traced::Yes(pid, session.guarded(guarded, warn).run()?))
    });
    // It ends before we wait for a target that was let go.
    drop(guardian);
    traced
}

/// Attaches to processes and traces them.
pub(super) fn attached(
    trace: &Trace,
    targets: Targets,
    (wanted, sink): (Wanted, Box<dyn Sink>),
    options: Options,
) -> anyhow::Result<Outcome> {
    let signals = collect_signals()?;
    let warn = warning(trace);
    let guardian = guardian(&warn);
    let guarded = guardian.clone();
    let quiet = trace.talk.quiet;
    let traced = in_tracer(move || {
        let processes = targets.seize(quiet)?;
        Session::attached(processes, signals, options, wanted, sink)?
            .guarded(guarded, warn)
            .run()
    });
    drop(guardian);
    traced
}

/// `kptrace run`.
pub(super) fn run(run: &Run) -> ExitCode {
    let wanted = match wanted(
        &run.trace,
        &DebugFiles::of_command(run.cmd.first().map(|c| c.as_os_str())),
    ) {
        Ok(wanted) => wanted,
        Err(wrong) => {
            print_diagnostics(&wrong);
            return Exit::Usage.into();
        }
    };
    let sink = match sink(&run.trace, Stream::Err) {
        Ok(sink) => sink,
        Err(message) => {
            complain(format_args!("{message}"));
            return Exit::OwnFailure.into();
        }
    };
    let options = options(&run.trace, true);
    match launched(&run.trace, &run.cmd, (wanted, sink), options) {
        Ok(Traced::Yes(pid, mut outcome)) => {
            conclude(&run.trace, &mut outcome, run.trace.talk.verbosity());
            end_as(pid, outcome.ended)
        }
        Ok(Traced::No(error)) => {
            let name = run
                .cmd
                .first()
                .map(|name| name.to_string_lossy())
                .unwrap_or_default();
            complain(format_args!("cannot run {name}: {error}"));
            if let Some(hint) = super::habits::command_line_in_one_word(run) {
                complain(format_args!("{hint}"));
            }
            match error.kind() {
                io::ErrorKind::NotFound => Exit::NotFound.into(),
                _ => Exit::NotExecutable.into(),
            }
        }
        Err(error) => failed(&error, Exit::OwnFailure).into(),
    }
}

/// Ends as the target ended: its status, or the same signal. A target that was let go is waited
/// for.
fn end_as(pid: Pid, ended: Ended) -> ExitCode {
    let ended = match ended {
        Ended::Detached => loop {
            match wait::thread(Tid(pid.0)) {
                Ok(Status::Exited(status)) => break Ended::Exited(status),
                Ok(Status::Killed(signal)) => break Ended::Killed(signal),
                Ok(_) => {}
                Err(_) => break Ended::Detached,
            }
        },
        ended => ended,
    };
    match ended {
        Ended::Exited(status) => ExitCode::from(u8::try_from(status & 0xff).unwrap_or(1)),
        Ended::Killed(signal) => {
            poll::die_by(signal);
            ExitCode::from(u8::try_from(128 + (signal & 0x7f)).unwrap_or(1))
        }
        Ended::Detached => Exit::OwnFailure.into(),
    }
}

/// `kptrace attach`.
pub(super) fn attach(attach: &Attach) -> ExitCode {
    let targets = match Targets::find(&attach.pids, &attach.names) {
        Ok(targets) => targets,
        Err(Unfound::Wrong(message)) => {
            complain(format_args!("{message}"));
            return Exit::Usage.into();
        }
        Err(Unfound::Nobody(message)) => {
            complain(format_args!("{message}"));
            return Exit::Failure.into();
        }
    };
    let wanted = match wanted(&attach.trace, &DebugFiles::of_processes(&targets.pids())) {
        Ok(wanted) => wanted,
        Err(wrong) => {
            print_diagnostics(&wrong);
            return Exit::Usage.into();
        }
    };
    let sink = match sink(&attach.trace, Stream::Out) {
        Ok(sink) => sink,
        Err(message) => {
            complain(format_args!("{message}"));
            return Exit::Failure.into();
        }
    };
    let options = Options {
        lenient: targets.by_name(),
        ..options(&attach.trace, false)
    };
    match attached(&attach.trace, targets, (wanted, sink), options) {
        Ok(mut outcome) => {
            let fine = conclude(&attach.trace, &mut outcome, attach.trace.talk.verbosity());
            if let Ended::Killed(signal) = outcome.ended
                && signal != sig::TERM
            {
                complain(format_args!("the target was ended by signal {signal}"));
            }
            match outcome.exit {
                _ if !fine => Exit::Failure.into(),
                Some(status) => status.into(),
                None => Exit::Success.into(),
            }
        }
        Err(error) => failed(&error, Exit::Failure).into(),
    }
}
