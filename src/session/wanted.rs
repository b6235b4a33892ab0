//! What a session is to do, apart from how: probes, what they do at a hit, what that needs of memory.
//! Plain data.

use super::resolve::Exclude;
use super::script::Language;
use super::stacks::WantedStacks;
use crate::analysis::Cache;
use crate::program::Program;
use crate::spec::{Kind, ProbeSpec};

/// What the user asked for.
pub struct Wanted {
    /// The probes.
    pub specs: Vec<ProbeSpec>,
    /// Names that are left out.
    pub exclude: Vec<Exclude>,
    /// Whether hits are only counted.
    pub count_only: bool,
    /// Most probes.
    pub max_probes: Option<u32>,
    /// Where analyses are kept.
    pub cache: Option<Cache>,
    /// Called with what is being worked on, and with nothing once it is done.
    pub progress: Progress,
    /// What becomes of probes that name nothing yet.
    pub pending: Pending,
    /// What probes do, in the order of `specs`; where there is none, they record their arguments.
    pub programs: Vec<Option<Program>>,
    /// What they do instead where stacks are copied; nothing where that makes no difference.
    pub copies: Vec<Option<Program>>,
    /// What programs need of memory.
    pub memory: Memory,
    /// How many calls of each thread may be under way whose returns are seen.
    pub max_active: u32,
    /// What is recorded of stacks.
    pub stacks: WantedStacks,
    /// Whether returns are probed also where exceptions would not pass.
    pub force_returns: bool,
    /// The program of the language that some of these belong to.
    pub language: Option<Language>,
}

/// How many calls of a thread may be under way whose returns are seen, unless the user says otherwise.
pub const MAX_ACTIVE: u32 = 4094;

impl Wanted {
    /// Whether returns are probed.
    pub(super) fn returns(&self) -> bool {
        let programs = self.programs.iter().flatten();
        self.specs
            .iter()
            .any(|spec| matches!(spec.kind, Kind::Return | Kind::Call))
            || programs.into_iter().any(Program::at_return)
    }

    /// The program that was made for a probe's text.
    pub(super) fn program(&self, spec: usize) -> Option<&Program> {
        self.programs.get(spec)?.as_ref()
    }
}

impl Wanted {
    /// What is done instead of a probe's program where stacks are copied.
    pub(super) fn copy(&self, spec: usize) -> Option<&Program> {
        self.copies.get(spec)?.as_ref()
    }
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            specs: Vec::new(),
            exclude: Vec::new(),
            count_only: false,
            max_probes: None,
            cache: None,
            progress: Box::new(|_| ()),
            pending: Pending::default(),
            programs: Vec::new(),
            copies: Vec::new(),
            memory: Memory::default(),
            max_active: MAX_ACTIVE,
            stacks: WantedStacks::default(),
            force_returns: false,
            language: None,
        }
    }
}

/// What programs need of memory, beside counters and rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of the tables that every thread has for itself ([`crate::program::Home::Thread`]).
    pub tables: u32,
    /// Bytes of scratch memory of the largest program.
    pub scratch: u32,
    /// Bytes of the tables that all processes share ([`crate::program::Home::Session`]).
    pub maps: u64,
}

/// Told what is being worked on, and nothing when that is done.
pub type Progress = Box<dyn Fn(Option<&str>) + Send>;

/// What becomes of probes that name nothing that is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pending {
    /// They wait for what may be mapped later, and are named at the end; but something must match.
    #[default]
    Warn,
    /// Nothing is traced.
    Error,
    /// They wait, also when nothing else is left to trace.
    Ignore,
}
