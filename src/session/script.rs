//! A program of the language made ready to run: its blocks at probes become part of what is wanted, its
//! own blocks are compiled for memory of ours. Knows no process.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;

use super::atlas::Atlas;
use super::facts::Facts;
use super::module::Module;
use super::names::Registrar;
use super::titles::Titles;
use super::tracee::Tracee;
use super::wanted::Wanted;
use crate::abi::Layout;
use crate::arch::native::emit::{Called, Environment, Template};
use crate::arch::native::regs;
use crate::base::{Pid, ProbeId};
use crate::data::Script;
use crate::data::{
    Catalogue, Decoder, Directory, Feed, Interval, Known, Name, Own, ProbeInfo, ProbeKind,
};
use crate::language::lower::{Lowered, Unsupported, lower};
use crate::language::typed::{Attach, Checked};
use crate::program::{Inst, Known as Asked, Program};
use crate::sys::clock::Line;
use crate::sys::file;
use crate::sys::native::Native;
use crate::sys::shm::Shared;
use crate::target::Heads;

/// Most bytes of our own ring.
const RING: u32 = 1 << 20;

/// Lowers a program for this machine.
///
/// # Errors
/// Everything in it that cannot be compiled.
pub fn lowered(checked: &Checked) -> Result<Lowered, Vec<Unsupported>> {
    lower(checked, &|name| regs::parse(name).map(|named| named.id))
}

/// A compiled program of the language.
pub struct Language {
    /// What it says.
    pub checked: Checked,
    /// What it was compiled to.
    pub lowered: Arc<Lowered>,
    pub(super) atlas: Arc<Atlas>,
    pub(super) titles: Arc<Titles>,
    /// How the full name of each probe begins, by the number of its text; `None` for other probes.
    pub(super) kinds: Vec<Option<String>>,
}

impl Language {
    /// A program, and its probes put among those wanted.
    pub fn add(checked: Checked, lowered: Lowered, wanted: &mut Wanted) -> Language {
        wanted.programs.resize(wanted.specs.len(), None);
        wanted.copies.resize(wanted.specs.len(), None);
        let mut kinds = vec![None; wanted.specs.len()];
        let programs = lowered.blocks.iter().zip(&lowered.copies);
        for (block, (program, copy)) in checked.blocks.iter().zip(programs) {
            for attach in &block.attach {
                let (Attach::Entry(point) | Attach::Usdt(point) | Attach::Return(point)) = attach
                else {
                    continue;
                };
                wanted.specs.push(point.spec.clone());
                wanted.programs.push(Some(Program {
                    moment: attach.moment(),
                    ..program.clone()
                }));
                wanted.copies.push(copy.as_ref().map(|copy| Program {
                    moment: attach.moment(),
                    ..wanted.stacks.sized(copy)
                }));
                let kind = point.text.split(':').next().unwrap_or("uprobe");
                kinds.push(Some(kind.to_owned()));
            }
        }
        wanted.memory.tables = lowered.memory.thread;
        wanted.memory.maps = lowered.memory.session;
        wanted.memory.scratch = lowered.memory.scratch;
        Language {
            checked,
            lowered: Arc::new(lowered),
            atlas: Arc::clone(&wanted.stacks.atlas),
            titles: Arc::default(),
            kinds,
        }
    }

    /// Makes it ready: what the drain runs, and the rings of its own blocks. `maps` are the session's
    /// tables.
    pub(super) fn prepare(
        &self,
        maps: Option<Arc<Shared>>,
        facts: &Facts,
    ) -> anyhow::Result<(Script, Feed)> {
        let own = || {
            let blocks = self.checked.blocks.iter().zip(&self.lowered.blocks);
            let all = blocks
                .flat_map(|(block, program)| block.attach.iter().map(move |at| (at, program)));
            all.filter(|(at, _)| !at.is_in_target())
        };
        let largest = own().map(|(_, program)| program.largest_record()).max();
        let largest = largest.unwrap_or(0);
        let layout = Layout {
            probes: 1,
            ring_size: Layout::smallest_ring(largest).max(RING),
            largest,
            blocks: 1,
            tables: self.lowered.memory.thread,
            scratch: self.lowered.memory.scratch,
            returns: false,
        };
        let memory = "making memory for BEGIN, END and interval";
        let (block, _) = Shared::create_low(layout.size()).context(memory)?;
        let (alive, _) = Shared::create_low(4096).context(memory)?;
        alive.store(0, 1);
        let clocked = own()
            .flat_map(|(_, program)| &program.values)
            .any(|inst| matches!(inst, Inst::Known(Asked::Nanos | Asked::Elapsed)));
        let line = clocked.then(|| facts.line()).transpose()?;
        let heads = Heads {
            shared: &block,
            layout: &layout,
        };
        tell(heads, line.as_ref(), facts);
        let low = |at: u64| u32::try_from(at).context("our own memory is not low");
        let environment = Environment {
            shared_block: low(block.address())?,
            alive: low(alive.address())?,
            layout,
            own_blocks: false,
            loads: false,
            maps: maps.as_ref().map_or(Ok(0), |maps| low(maps.address()))?,
            activations: None,
        };
        let mut blocks = Own::default();
        for (at, program) in own() {
            let code = native(program, &environment)?;
            match at {
                Attach::Begin => blocks.begin.push(code),
                Attach::End => blocks.end.push(code),
                Attach::Interval(nanos) => blocks.intervals.push(Interval {
                    nanos: *nanos,
                    code,
                }),
                _ => {}
            }
        }
        let script = Script {
            maps: self.checked.maps.clone(),
            lowered: Arc::clone(&self.lowered),
            session: maps,
            own: blocks,
            alive,
            epoch: Arc::clone(&facts.epoch),
            print_at_end: self.checked.config.print_maps_on_exit.unwrap_or(true),
            names: Box::new(Registrar::new(
                Arc::clone(&self.atlas),
                Arc::clone(&self.titles),
                Arc::clone(&self.lowered),
            )),
        };
        let catalogue = Catalogue::default();
        let records: Vec<_> = own().flat_map(|(_, program)| program.records()).collect();
        catalogue.extend([Known {
            info: Arc::new(ProbeInfo {
                id: ProbeId(0),
                name: Name::from("kptrace"),
                module: String::new(),
                address: None,
                offset: None,
                args: Vec::new(),
                kind: ProbeKind::Entry,
            }),
            decoders: Decoder::by_action(&records),
        }]);
        let feed = Feed {
            shared: Arc::new(block),
            layout,
            directory: Arc::new(Directory::new(1)),
            catalogue: Arc::new(catalogue),
            pid: ourselves(),
            comm: "kptrace".to_owned(),
            durations: Arc::default(),
        };
        Ok((script, feed))
    }
}

fn ourselves() -> Pid {
    Pid(std::process::id().cast_signed())
}

/// What our own blocks know of where they run.
fn tell(heads: Heads<'_>, line: Option<&Line>, facts: &Facts) {
    heads.prepare(0);
    heads.tell_process(
        ourselves(),
        facts.child(),
        facts.epoch.load(Ordering::Acquire),
    );
    heads.tell_user(file::user(), file::group());
    heads.tell_name(0, b"kptrace\0\0\0\0\0\0\0\0\0");
    if let Some(line) = line {
        heads.tell_clock(line);
    }
}

impl Tracee {
    /// What programs call a probe.
    pub(super) fn called(&self, id: ProbeId) -> Called {
        let wanted = self.common.wanted.borrow();
        let Some(language) = &wanted.language else {
            return Called::default();
        };
        let index = id.0 as usize;
        let (Some(info), Some(spec)) = (self.plan.probes.get(index), self.plan.spec_of(id)) else {
            return Called::default();
        };
        let Some(Some(kind)) = language.kinds.get(spec) else {
            return Called::default();
        };
        let module = |module: &&Module| info.address.is_some_and(|at| module.span.contains(at));
        let module = self.plan.modules.iter().find(module);
        let path = module.map_or(info.module.as_str(), |module| module.path.as_str());
        let number = |full: String| {
            let title = (info.name.to_string(), full);
            let number = language.titles.number(title.clone());
            language.lowered.named(number, (&title.0, &title.1))
        };
        Called {
            probe: number(format!("{kind}:{path}:{}", info.name)),
            function: number(String::new()),
        }
    }
}

/// A program as code in our own memory.
fn native(program: &Program, environment: &Environment) -> anyhow::Result<Native> {
    const RET: u8 = 0xc3;
    let template = Template::new(std::slice::from_ref(program), environment, false, None)?;
    let cold_at = (template.hot_len() as u64 + 1).next_multiple_of(16);
    let len = cold_at as usize + template.cold_len();
    let code = |at: u64| {
        let (mut code, cold) =
            template.place(&[(ProbeId(0), Called::default())], at, at, at + cold_at)?;
        code.push(RET);
        code.resize(cold_at as usize, RET);
        code.extend_from_slice(&cold);
        Some(code)
    };
    Native::new(len, code).context("making code for BEGIN, END and interval")
}
