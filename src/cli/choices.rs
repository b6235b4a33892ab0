//! Words that options take one of. Knows what each is called and said to be; what follows from it is
//! for others to say.

use clap::ValueEnum;

use crate::output::ColorChoice;

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line a hit
    Text,
    /// A JSON object a line
    Json,
    /// A table of hits at the end; of times, too, where returns are probed
    Summary,
    /// The tree of calls, as uftrace shows it; probes the returns, too, as do those that follow
    Tree,
    /// Stacks with their self times at the end, for flamegraph.pl or inferno
    Folded,
    /// Trace events in JSON, for the Perfetto UI
    Chrome,
}

/// `--dump`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dump {
    /// The program, every name resolved and every type written
    Ast,
    /// What each block does, for no machine in particular
    Ir,
    /// The machine code of each block
    Code,
}

/// `-f` of `bt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BtFormat {
    /// As people read it
    Text,
    /// A JSON object a line
    Json,
}

/// `--trap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trap {
    /// Such sites stay breakpoints
    Auto,
    /// Such sites are left out
    Never,
    /// Such sites stay breakpoints, and the target must survive a kptrace that is killed
    Landing,
}

/// `--pending`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pending {
    /// They wait and are named at the end; if nothing matches, nothing is traced
    Warn,
    /// Nothing is traced
    Error,
    /// They wait, also when nothing else is left to trace
    Ignore,
}

/// `--stack-by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StackBy {
    /// By frame pointers where all of the target keeps them, else by a copy
    Auto,
    /// By frame pointers
    Fp,
    /// By a copy of the stack
    Copy,
}

/// `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// As the environment and the terminal say
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A shell with completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

impl Format {
    /// Whether it shows calls, entry and return as one.
    pub fn is_made_of_calls(self) -> bool {
        matches!(self, Format::Tree | Format::Folded | Format::Chrome)
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Color {
    /// As the style takes it.
    pub fn choice(self) -> ColorChoice {
        match self {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        }
    }
}
