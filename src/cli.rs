//! The human: arguments, what they mean, exit codes.

pub mod args;
mod bt;
mod check;
mod choices;
pub mod ctl;
mod dump;
mod environment;
pub mod exit;
pub mod habits;
mod inspect;
pub mod pages;
mod program;
mod progress;
mod restore;
mod targets;
mod texts;
mod top;
mod trace;
mod values;

use std::io::Write as _;
use std::process::ExitCode;

use args::Command;
use exit::Exit;

/// Runs the command line.
pub fn main() -> ExitCode {
    let variable = std::env::var_os("KPTRACE_OPTIONS");
    let args = match environment::with_environment(std::env::args_os(), variable) {
        Ok(args) => args,
        Err(why) => {
            complain(format_args!("{why}"));
            return Exit::Usage.into();
        }
    };
    let bt = args.get(1).is_some_and(|word| word == "bt");
    let command = match args::parse(args) {
        Ok(command) => command,
        Err(refusal) => match refusal.print() {
            // As bpftrace ends.
            Exit::Usage if bt => return Exit::Failure.into(),
            exit => return exit.into(),
        },
    };
    let mut out = std::io::stdout();
    let written = match command {
        Command::Run(run) => return trace::run(&run),
        Command::Attach(attach) => return trace::attach(&attach),
        Command::List(list) => return inspect::list(&list).into(),
        Command::Check(check) => return check::check(&check).into(),
        Command::Ctl(ctl) => return ctl::run(&ctl).into(),
        Command::Top(top) => return top::run(&top).into(),
        Command::Bt(bt) => return bt::run(&bt),
        Command::Restore(args) => return restore::run(&args).into(),
        Command::Completions { shell } => pages::completions(shell, &mut out),
        Command::Man => pages::man(&mut out),
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => Exit::Success.into(),
        // Who closes the pipe has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Success.into(),
        Err(error) => {
            complain(format_args!("cannot write: {error}"));
            Exit::Failure.into()
        }
    }
}

/// One line on standard error; if that is closed there is nobody to tell.
fn complain(what: std::fmt::Arguments<'_>) {
    let text = what.to_string();
    let mut lines = String::new();
    for line in text.lines() {
        lines.push_str("kptrace: ");
        lines.push_str(&crate::output::escaped(line));
        lines.push('\n');
    }
    let _ = std::io::stderr().write_all(lines.as_bytes());
}
