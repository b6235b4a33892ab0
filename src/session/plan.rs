//! From what the user asked to what is to be armed: which modules, which entries, which program
//! each probe runs, what stands at each site. Knows the target's mappings, changes nothing.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};

use super::jump::Jump;
use super::module::Module;
use crate::analysis::Cache;
use crate::arch::native::scan::{Refusal as ScanRefusal, Window, WindowKind};
use crate::base::{Addr, LinkAddr, ProbeId, Span};
use crate::data::{Name, ProbeInfo};
use crate::probe::{Facts, Refusal};
use crate::program::Program;
use crate::spec::{Diagnostic, ProbeSpec};

/// Modules within this many bytes share a slab of code.
const GROUP: u64 = 1 << 30;
/// Most bytes of a site that are kept.
const KEPT: usize = 24;

/// Why there is nothing to trace.
#[derive(Debug)]
pub enum PlanError {
    /// No probe matched anything; what to say.
    NoMatch(String),
    /// A probe's text is wrong for what it names.
    Spec(Vec<Diagnostic>),
    /// Anything else.
    Other(anyhow::Error),
}

impl std::fmt::Display for PlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PlanError::NoMatch(text) => write!(f, "no probe matched: {text}"),
            PlanError::Spec(wrong) => wrong.iter().try_for_each(|diagnostic| diagnostic.fmt(f)),
            PlanError::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for PlanError {}

impl From<anyhow::Error> for PlanError {
    fn from(error: anyhow::Error) -> Self {
        PlanError::Other(error)
    }
}

/// What the user asked for.
pub struct Wanted<'a> {
    /// The probes.
    pub specs: &'a [ProbeSpec],
    /// Names that are left out.
    pub exclude: &'a [super::resolve::Exclude],
    /// Whether hits are only counted.
    pub count_only: bool,
    /// Most probes.
    pub max_probes: Option<u32>,
    /// Where analyses are kept.
    pub cache: Option<&'a Cache>,
    /// Called with what is being worked on.
    pub progress: &'a dyn Fn(&str),
}

/// One probe of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Its number.
    pub id: ProbeId,
    /// Where it is.
    pub at: Addr,
    /// Whether it stops the target.
    pub stop: bool,
}

/// What stands at a site, as its file has it.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The displaced instructions of a jump or, where none fits, of a breakpoint.
    pub window: Window,
    /// What the registry is told.
    pub facts: Facts,
    /// The slab whose code is within reach.
    pub slab: usize,
    original: Kept,
    /// The padding that a springboard jumps through.
    pub(super) hole: Option<Hole>,
    /// The jump that stands there.
    pub(super) jump: Option<Jump>,
    /// What its present detour was built for.
    pub(super) built: Option<(Vec<ProbeId>, bool)>,
}

impl Ground {
    /// The file's bytes from the site on: all that a jump overwrites or displaces.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// Where the padding is that a springboard jumps through.
    pub fn hole(&self) -> Option<Addr> {
        self.hole.map(|hole| hole.at)
    }

    /// The same, to keep.
    pub(super) fn kept(&self) -> Kept {
        self.original
    }
}

/// Padding that a jump is written into, as its file has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub(super) at: Addr,
    pub(super) original: [u8; 5],
}

/// A few bytes of text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    bytes: [u8; KEPT],
    len: u8,
}

impl Kept {
    /// Keeps at most [`KEPT`] bytes.
    fn new(from: &[u8]) -> Kept {
        let mut bytes = [0; KEPT];
        let len = from.len().min(KEPT);
        bytes[..len].copy_from_slice(&from[..len]);
        Kept {
            bytes,
            len: u8::try_from(len).unwrap_or(0),
        }
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len)]
    }
}

/// What is to be armed.
#[derive(Default)]
pub struct Plan {
    /// Every probe, by number.
    pub probes: Vec<ProbeInfo>,
    /// Where the probes go that can be armed.
    pub wanted: Vec<Planned>,
    /// Class of each probe's program.
    pub class: Vec<u32>,
    /// Distinct programs.
    pub classes: Vec<Program>,
    /// What stands at each site.
    pub ground: HashMap<Addr, Ground>,
    /// What each slab of code must reach.
    pub slabs: Vec<Span>,
    /// Sites that stop the target.
    pub stops: HashSet<Addr>,
    /// Probes that cannot be armed, and why.
    pub refused: HashMap<ProbeId, Refusal>,
    /// What a user should know.
    pub notes: Vec<String>,
}

impl Plan {
    /// Bytes of the largest record that a program leaves; 0 when none does.
    pub fn largest_record(&self) -> u32 {
        let records = self.classes.iter().filter_map(Program::record);
        records.map(|record| record.layout().1).max().unwrap_or(0)
    }

    /// How messages call an address: the name of a probe there, or the address.
    pub fn name_at(&self, at: Addr) -> String {
        let probe = self.wanted.iter().find(|wanted| wanted.at == at);
        match probe.and_then(|wanted| self.probes.get(wanted.id.0 as usize)) {
            Some(info) => format!("{}:{}", info.module, info.name),
            None => at.to_string(),
        }
    }
}

/// One place that a probe goes to.
pub(super) struct Site {
    pub(super) module: usize,
    pub(super) at: LinkAddr,
    pub(super) name: Name,
    pub(super) program: Program,
    pub(super) args: Vec<String>,
    pub(super) stop: bool,
}

/// Makes the plan for these modules.
pub fn plan(modules: &[Module], wanted: &Wanted<'_>) -> Result<Plan, PlanError> {
    let mut notes = Vec::new();
    let sites = super::resolve::resolve(modules, wanted, &mut notes)?;
    if let Some(most) = wanted
        .max_probes
        .filter(|&most| sites.len() > most as usize)
    {
        return Err(PlanError::Other(anyhow::anyhow!(
            "{} probes match, more than --max-probes {most} allows",
            sites.len()
        )));
    }
    let mut plan = Plan {
        notes,
        ..Plan::default()
    };
    let mut used: Vec<usize> = sites.iter().map(|site| site.module).collect();
    used.sort_unstable();
    used.dedup();
    let slab_of = slabs(modules, &used, &mut plan.slabs);
    let mut class_of: HashMap<Program, u32> = HashMap::new();
    // Probes inside functions need the whole file swept: once for each module.
    let mut inside: HashMap<usize, Vec<LinkAddr>> = HashMap::new();
    for site in &sites {
        if modules[site.module]
            .file(wanted.cache)
            .at(site.at)
            .is_none()
        {
            inside.entry(site.module).or_default().push(site.at);
        }
    }
    let mut windows: HashMap<(usize, LinkAddr), Verdict> = HashMap::new();
    for (module, addresses) in inside {
        (wanted.progress)(&modules[module].name);
        modules[module].with_text(|text| {
            for at in addresses {
                let verdict = (text.window_at(at.0), text.trap_at(at.0));
                windows.insert((module, at), verdict);
            }
        });
    }
    for site in sites {
        let module = &modules[site.module];
        let id = ProbeId(u32::try_from(plan.probes.len()).unwrap_or(u32::MAX));
        let at = site.at.at(module.bias);
        plan.probes.push(ProbeInfo {
            id,
            name: site.name,
            module: module.name.clone(),
            address: Some(at),
            offset: Some(site.at),
            args: site.args,
        });
        let next = u32::try_from(class_of.len()).unwrap_or(u32::MAX);
        let class = *class_of.entry(site.program.clone()).or_insert_with(|| {
            plan.classes.push(site.program);
            next
        });
        plan.class.push(class);
        let verdict = match module.file(wanted.cache).at(site.at) {
            Some(entry) => (entry.verdict, entry.trap.ok_or(ScanRefusal::Undecodable)),
            None => windows
                .get(&(site.module, site.at))
                .copied()
                .unwrap_or((Err(ScanRefusal::NotCode), Err(ScanRefusal::NotCode))),
        };
        match ground(
            module,
            site.at,
            verdict,
            slab_of.get(&site.module).copied().unwrap_or(0),
        ) {
            Ok(ground) => {
                plan.ground.entry(at).or_insert(ground);
                plan.wanted.push(Planned {
                    id,
                    at,
                    stop: site.stop,
                });
                if site.stop {
                    plan.stops.insert(at);
                }
            }
            Err(why) => {
                plan.refused.insert(id, why);
            }
        }
    }
    Ok(plan)
}

type Verdict = (Result<Window, ScanRefusal>, Result<Window, ScanRefusal>);

fn ground(module: &Module, at: LinkAddr, verdict: Verdict, slab: usize) -> Result<Ground, Refusal> {
    let words = |why: ScanRefusal| Refusal::Window(why.to_string().into());
    let (window, facts) = match verdict {
        (Ok(window), _) if window.kind == WindowKind::Springboard => {
            (window, Facts::springboard(window.len, window.hole))
        }
        (Ok(window), _) => (window, Facts::jump(window.len)),
        (Err(why), Ok(trap)) => (trap, Facts::trap_only(words(why))),
        (Err(why), Err(_)) => return Err(words(why)),
    };
    let len = usize::from(window.len.max(window.patched())).min(KEPT);
    let bytes = module
        .image()
        .bytes_at(at, len)
        .ok_or_else(|| Refusal::Window("the file does not hold its bytes".into()))?;
    // Returning from a signal handler: unwinders know this code by its bytes (gcc's
    // `x86_64_fallback_frame_state`, gdb's `amd64_linux_sigtramp_start`).
    if bytes.starts_with(&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0]) {
        return Err(Refusal::Window(
            "signal handlers return through it, unwinders know its bytes".into(),
        ));
    }
    let hole = |distance: i16| {
        let hole = LinkAddr(at.0.wrapping_add_signed(distance.into()));
        let bytes = module.image().bytes_at(hole, 5);
        let original = bytes.and_then(|bytes| <[u8; 5]>::try_from(bytes).ok());
        let original =
            original.ok_or_else(|| Refusal::Window("its padding is not in the file".into()));
        original.map(|original| Hole {
            at: hole.at(module.bias),
            original,
        })
    };
    let hole = facts.hole.map(hole).transpose()?;
    Ok(Ground {
        window,
        facts,
        slab,
        original: Kept::new(bytes),
        hole,
        jump: None,
        built: None,
    })
}

/// Groups modules that one slab can reach; fills the spans, gives each module its slab.
fn slabs(modules: &[Module], used: &[usize], spans: &mut Vec<Span>) -> HashMap<usize, usize> {
    let mut order: Vec<usize> = used.to_vec();
    order.sort_by_key(|&index| modules[index].span.start);
    let mut slab_of = HashMap::new();
    for index in order {
        let span = modules[index].span;
        match spans.last_mut() {
            Some(last) if span.end.0.saturating_sub(last.start.0) < GROUP => {
                last.end = last.end.max(span.end);
            }
            _ => spans.push(span),
        }
        slab_of.insert(index, spans.len() - 1);
    }
    slab_of
}
