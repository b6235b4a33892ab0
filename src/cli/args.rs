//! The command line as clap reads it. Knows names of options and what they must look like; what
//! they do is the plan's. Invariant: what is returned is consistent ([`super::habits`]
//! refuses the rest), and every refusal says what to type.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};

pub use super::choices::{BtFormat, Color, Dump, Format, Pending, Shell, StackBy, Trap};
use super::ctl::Ctl;
use super::exit::Exit;
use super::habits;
use super::top::Top;
pub use super::values::Target;
use super::values::{another, nanoseconds, pid, process, seconds, size, target};
use crate::base::Pid;
use crate::output::{ColorChoice, Verbosity};
use crate::session::{MAX_ACTIVE, WantedStacks};

use super::texts::{
    ATTACH_EXAMPLES, BT_EXAMPLES, CHECK_EXAMPLES, CTL_EXAMPLES, EXAMPLES, LIST_EXAMPLES,
    RESTORE_EXAMPLES, RUN_EXAMPLES, TOP_EXAMPLES,
};

/// kprobes for user space, without root and without a kernel module
///
/// kptrace starts a command or attaches to a process and arms probes at functions: breakpoints,
/// which become jumps into generated code wherever that is safe. A hit is counted or recorded
/// within nanoseconds, without a stop of the target. When tracing ends, every byte is as it was.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "kptrace", version, after_help = EXAMPLES)]
#[command(max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Start a command and trace it
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Trace running processes
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(Attach),
    /// List what can be probed: function, address, size, jump or why not
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Say what probes would do, without doing it
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// List and switch the probes of a process while it is traced
    ///
    /// Whoever traces PID, and root, may do so; what was asked for holds for that process.
    #[command(after_help = CTL_EXAMPLES)]
    Ctl(Ctl),
    /// Watch the probes of a traced process: the hottest first, with keys to sort, filter and switch them
    ///
    /// Hits a second and in all, what was missed, times where returns are probed, state. Up and down
    /// select a probe, space switches it off and on, left and right choose the order, / filters, h
    /// explains the rest.
    #[command(after_help = TOP_EXAMPLES)]
    Top(Top),
    /// Run a command line of bpftrace: its options, its streams
    ///
    /// What `bpftrace` would print on standard output is printed there, text and JSON; it ends with
    /// status 0 or that of `exit()`, and with 1 when something is wrong. `exit()` ends the command
    /// of `-c`.
    #[command(after_help = BT_EXAMPLES, version, display_name = "kptrace")]
    Bt(Bt),
    /// Take out of a process what a kptrace that was killed left in it
    ///
    /// Jumps, breakpoints and memory of ours are known by what they are; the text is what its files
    /// say. Bytes that somebody else changed are left alone. `attach` does this first by itself.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Restore),
    /// Print a shell's completions
    Completions {
        /// For this shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// `run`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Run {
    /// What and how to trace.
    #[command(flatten)]
    pub trace: Trace,
    /// The command and its arguments; everything after CMD is CMD's
    #[arg(value_name = "CMD", trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub cmd: Vec<OsString>,
}

/// `attach`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Attach {
    /// What and how to trace.
    #[command(flatten)]
    pub trace: Trace,
    /// Trace every process of this name that runs: the command name or that of the executable, a
    /// glob or a /regex/ (may be repeated); those that cannot be traced are named and left out
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// The processes; if one of them cannot be traced, none is
    #[arg(value_name = "PID", value_parser = pid)]
    pub pids: Vec<Pid>,
}

/// Options of `run` and `attach`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Trace {
    /// The probes, as typed.
    #[arg(
        help = "Probe at PROBE: [MODULE:]SYMBOL, a glob, /regex/, an address, FILE.c:LINE, or \
                @FILE; arguments to print follow after a space (may be repeated)",
        short = 'p',
        long = "probe",
        value_name = "PROBE",
        allow_hyphen_values = true
    )]
    pub probes: Vec<String>,

    /// The program of the language.
    #[command(flatten)]
    pub program: ProgramText,

    /// Leave out what matches PATTERN, as in 'mem*', '/_unlocked$/' or 'libc:*' (may be repeated)
    #[arg(short = 'x', long, value_name = "PATTERN")]
    pub exclude: Vec<String>,

    /// Only count hits; print a table at the end (the summary object with --format json)
    #[arg(short = 'c', long)]
    pub count: bool,

    /// Probe the returns of -p's functions too, as %call does; tree, folded and chrome do so
    #[arg(long)]
    pub call: bool,

    /// How many calls of one thread may be under way whose returns are seen; others are counted as missed
    #[arg(long, value_name = "N", default_value_t = MAX_ACTIVE, value_parser = clap::value_parser!(u32).range(1..=65_534))]
    pub max_active: u32,

    /// Show the stack at each hit of -p: N frames at most [default: 127]
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "127",
        value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    pub stack: Option<u32>,

    /// How stacks are walked: by frame pointers where all of the target keeps them, else by a copy that
    /// is walked later (auto), always by frame pointers (fp), or always by a copy
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub stack_by: StackBy,

    /// How many bytes of the stack are copied at most
    #[arg(
        long, value_name = "BYTES", default_value_t = WantedStacks::COPIED,
        value_parser = clap::value_parser!(u16).range(64..=i64::from(WantedStacks::MOST_COPIED))
    )]
    pub stack_size: u16,

    /// Probe returns also where kptrace does not know how the program unwinds its stack: a program that
    /// throws exceptions ends then
    #[arg(long)]
    pub force_returns: bool,

    /// Write to FILE, replacing it; - is standard output [default: standard error for run,
    /// standard output for attach]
    #[arg(short = 'o', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,

    /// How to print: a line a hit, a JSON object a line, a table at the end, or as calls: a tree, stacks
    /// for flame graphs, or trace events for the Perfetto UI [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// Write the same run to FILE in another format, too, as in chrome=trace.json (may be repeated)
    #[arg(long, value_name = "FORMAT=FILE", value_parser = another)]
    pub also: Vec<(Format, PathBuf)>,

    /// Show the outermost N levels of calls only, as -D of uftrace
    #[arg(short = 'D', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub depth: Option<u32>,

    /// Show only calls that last TIME or longer, as in 500ns, 10us or 1.5ms, as -t of uftrace
    #[arg(short = 't', long, alias = "time-filter", value_name = "TIME", value_parser = nanoseconds)]
    pub min_duration: Option<u64>,

    /// Show only calls of FUNCTION (a name, a glob, a /regex/) and what they call, as -F of uftrace
    /// (may be repeated)
    #[arg(short = 'F', long, visible_alias = "caller", value_name = "FUNCTION")]
    pub filter: Vec<String>,

    /// Detach after SECS seconds
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Refuse to arm more than N probes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_probes: Option<u32>,

    /// Trace children, too [default for run]
    #[arg(long, overrides_with = "no_follow")]
    pub follow: bool,

    /// Do not trace children [default for attach]
    #[arg(long, overrides_with = "follow")]
    pub no_follow: bool,

    /// What to do with probes that name nothing that is mapped: wait for a library that may come and
    /// name them at the end, refuse to start, or wait also when there is nothing else to trace
    #[arg(long, value_name = "WHAT", default_value = "warn")]
    pub pending: Pending,

    /// Leave every probe a breakpoint
    #[arg(long)]
    pub no_opt: bool,

    /// What to do with sites that cannot become jumps: leave them breakpoints (auto), or leave them
    /// out (never), or leave them breakpoints only if the target survives a kptrace that is killed
    /// (landing)
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub trap: Trap,

    /// Switch a breakpoint off that is hit more than N times a second; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub trap_limit: u32,

    /// Most memory to share with the target, with suffix K, M or G
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size)]
    pub mem: u64,

    /// How much to say, and in which colours.
    #[command(flatten)]
    pub talk: Talk,
}

/// A program of the language, as typed.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct ProgramText {
    /// A program in bpftrace's language (may be repeated: all are one program)
    #[arg(short = 'e', value_name = "PROGRAM", group = "program")]
    pub programs: Vec<String>,

    /// A file with such a program (may be repeated)
    #[arg(short = 'f', value_name = "FILE", value_hint = ValueHint::FilePath, group = "program")]
    pub files: Vec<PathBuf>,

    /// Give the program its next parameter: $1, $2 and so on
    #[arg(long = "arg", value_name = "VALUE", allow_hyphen_values = true)]
    pub parameters: Vec<String>,

    /// Let the program run commands and read files: system(), cat()
    #[arg(long = "unsafe")]
    pub allow_unsafe: bool,
}

/// Options of all that talk.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Talk {
    /// Say only what went wrong
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Colours: always, never, or as the environment (NO_COLOR, CLICOLOR_FORCE, TERM) and the
    /// terminal say
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// `list`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct List {
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// How much to say, and in which colours.
    #[command(flatten)]
    pub talk: Talk,
    /// A file, or the process whose modules are meant; ./42 is a file
    #[arg(value_name = "BINARY|PID", value_hint = ValueHint::FilePath, value_parser = target_parser())]
    pub target: Target,
    /// Only these, as in 'mem*', '/^str/' or 'libc:*'
    #[arg(value_name = "PATTERN")]
    pub pattern: Option<String>,
}

/// `check`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Check {
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// The program that is compiled.
    #[command(flatten)]
    pub program: ProgramText,
    /// Print what the program was compiled to
    #[arg(long, value_name = "STAGE", requires = "program")]
    pub dump: Option<Dump>,
    /// How much to say, and in which colours.
    #[command(flatten)]
    pub talk: Talk,
    /// A file, or a process; ./42 is a file. A program needs none
    #[arg(
        value_name = "BINARY|PID", value_hint = ValueHint::FilePath, value_parser = target_parser(),
        required_unless_present = "program"
    )]
    pub target: Option<Target>,
    /// The probes, each one word as after -p
    #[arg(value_name = "PROBE", required_unless_present = "program")]
    pub probes: Vec<String>,
}

/// `bt`: the options of bpftrace.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Bt {
    /// Run PROGRAM
    #[arg(short = 'e', value_name = "PROGRAM")]
    pub programs: Vec<String>,
    /// Run CMD, split into words as a shell does, and trace it
    #[arg(short = 'c', value_name = "CMD", conflicts_with = "pid")]
    pub cmd: Option<String>,
    /// Trace this process
    #[arg(short = 'p', value_name = "PID", value_parser = process)]
    pub pid: Option<Pid>,
    /// How to print
    #[arg(short = 'f', value_name = "FORMAT", default_value = "text")]
    pub format: BtFormat,
    /// Write to FILE
    #[arg(short = 'o', value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Let the program run commands and read files: system(), cat()
    #[arg(long = "unsafe")]
    pub allow_unsafe: bool,
    /// Do not say how many probes are attached
    #[arg(short = 'q')]
    pub quiet: bool,
    /// Say more: what was armed and what was not
    #[arg(short = 'v')]
    pub verbose: bool,
    /// Print what the program means and what it was compiled to, and do not run it
    #[arg(short = 'd', action = ArgAction::Count)]
    pub debug: u8,
    /// Taken and not needed: output comes as it is made
    #[arg(short = 'B', value_name = "MODE", value_parser = ["full", "line", "none"])]
    pub buffer: Option<String>,
    /// Do not say what is odd about the program
    #[arg(long)]
    pub no_warnings: bool,
    /// What belongs to the kernel; taken and not needed
    #[arg(short = 'k', action = ArgAction::Count, hide = true)]
    pub kernel: u8,
    /// Taken and not needed.
    #[arg(long, hide = true)]
    pub usdt_file_activation: bool,
    /// Refused, with what to type instead.
    #[arg(short = 'l', value_name = "PATTERN", num_args = 0..=1, hide = true)]
    pub list: Option<Option<String>>,
    /// Refused, with what to do instead.
    #[arg(short = 'I', long = "include", value_name = "FILE", hide = true)]
    pub include: Vec<String>,
    /// The file of the program, - for standard input, unless there is -e; then $1, $2 and so on
    #[arg(value_name = "FILE|ARG", value_hint = ValueHint::FilePath)]
    pub words: Vec<String>,
}

/// `restore`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Restore {
    /// Say only what went wrong
    #[arg(short, long)]
    pub quiet: bool,
    /// The process
    #[arg(value_name = "PID", value_parser = process)]
    pub pid: Pid,
}

fn target_parser() -> impl TypedValueParser<Value = Target> {
    OsStringValueParser::new().map(|text| target(&text))
}

impl Trace {
    /// The format in effect: `-c` means a table unless JSON was asked for.
    pub fn format(&self) -> Format {
        match (self.format, self.count) {
            (Some(Format::Json), _) => Format::Json,
            (_, true) => Format::Summary,
            (Some(format), false) => format,
            (None, false) => Format::Text,
        }
    }

    /// All formats that are written.
    pub fn formats(&self) -> impl Iterator<Item = Format> {
        let also = self.also.iter().map(|(format, _)| *format);
        std::iter::once(self.format()).chain(also)
    }

    /// Whether returns are probed beside entries.
    pub fn calls(&self) -> bool {
        self.call || self.formats().any(Format::is_made_of_calls)
    }

    /// Whether hits are counted only, as nobody would see a record: of `returns`, a table shows times.
    pub fn count_only(&self, returns: bool) -> bool {
        let tables = || self.formats().all(|format| format == Format::Summary);
        self.count || (tables() && !returns)
    }

    /// Whether some calls are to be left out.
    pub fn filters(&self) -> bool {
        self.depth.is_some() || self.min_duration.is_some() || !self.filter.is_empty()
    }
}

impl ProgramText {
    /// Whether there is one.
    pub fn is_given(&self) -> bool {
        !(self.programs.is_empty() && self.files.is_empty())
    }
}

impl Talk {
    /// `-q` and `-v` as the report takes them.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        }
    }

    /// `--color` as the style takes it.
    pub fn color(&self) -> ColorChoice {
        self.color.choice()
    }
}

/// Why there is nothing to do: help was asked for, or the command line was refused.
#[derive(Debug)]
pub enum Refusal {
    /// Clap's: help, the version, or an error about an option.
    Clap(Box<clap::Error>),
    /// Ours, one or more lines without a newline at the end.
    Usage(String),
}

impl Refusal {
    /// Prints it where it belongs: help to standard output, errors to standard error. Errors of
    /// the streams are dropped, there is nobody left to tell.
    pub fn print(&self) -> Exit {
        match self {
            Refusal::Clap(error) => {
                let _ = error.print();
                if error.use_stderr() {
                    Exit::Usage
                } else {
                    Exit::Success
                }
            }
            Refusal::Usage(text) => {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "{text}");
                Exit::Usage
            }
        }
    }
}

/// Reads a command line, the program's name first.
pub fn parse<I, T>(words: I) -> Result<Command, Refusal>
where
    I: IntoIterator<Item = T>,
    T: AsRef<OsStr>,
{
    let words = words.into_iter().map(|word| word.as_ref().to_owned());
    let command = match Cli::try_parse_from(words) {
        Ok(cli) => cli.command,
        Err(error) => return Err(Refusal::Clap(Box::new(error))),
    };
    habits::check(&command).map_err(Refusal::Usage)?;
    Ok(command)
}
