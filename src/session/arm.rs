//! From a plan to probes that are live: memory in the target, detours, sites, the drain.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;

use super::detours::{Detours, most};
use super::dispositions::Dispositions;
use super::land::Landed;
use super::run::Session;
use super::tasks::unless_gone;
use crate::abi::{self, Layout};
use crate::arch::native::emit::{Environment, Template};
use crate::base::{Addr, Tid};
use crate::data::{Directory, Drain, Feed, Sink};
use crate::program::Program;
use crate::sys::clock;
use crate::sys::errno::is_gone;
use crate::sys::procfs;
use crate::sys::ptrace;
use crate::sys::wait::Status;
use crate::target::{InjectRequest, Injected, Landing, State};

/// Most blocks in one object; threads beyond share one.
const MOST_BLOCKS: u32 = 4096;
/// No ring is larger, unless its records are.
const LARGEST_RING: u32 = 1 << 23;
/// How often a thread is looked for that can make calls: seconds, as a vfork's child may take.
const ATTEMPTS: u32 = 20_000;
/// Offset in a block's header that nothing else uses: for results of calls made in the target.
const SCRATCH: u64 = 0x50;
const _: () = assert!(SCRATCH > abi::TAIL as u64 + 8 && SCRATCH + 32 <= abi::COUNTERS as u64);

/// What stands in the target while probes are armed.
pub(super) struct Live {
    pub(super) injected: Injected,
    pub(super) detours: Detours,
    /// Whether threads get blocks of their own.
    pub(super) own_blocks: bool,
    /// Whether detours do their work, or pass straight through.
    pub(super) alive: bool,
    /// How many sites are breakpoints.
    pub(super) traps: usize,
    /// Whether breakpoints would survive us.
    pub(super) landed: Landed,
}

impl Session {
    /// The entry breakpoint was hit: everything the loader maps is there, nobody is inside it.
    pub(super) fn begin_at_entry(&mut self, tid: Tid) -> anyhow::Result<()> {
        if let Some(thread) = self.process.threads.get_mut(&tid) {
            thread.state = State::Stopped(Status::Interrupted);
        }
        self.begin()
    }

    /// Arms the whole plan.
    pub(super) fn arm(&mut self, sink: Option<Box<dyn Sink>>) -> anyhow::Result<()> {
        let tid = self.one_stopped().context("stopping a thread")?;
        let fsgsbase = self.process.auxv.hwcap2 & procfs::HWCAP2_FSGSBASE != 0;
        // A program that uses gs keeps it; a base left by a session that died leads nowhere.
        let gs = ptrace::regs(tid)?.gs_base();
        let used = gs != 0 && self.process.memory.word(Addr(gs)).is_ok();
        let own_blocks = fsgsbase && !used;
        let layout = self.layout();
        let environment = |shared_block, alive| Environment {
            shared_block,
            alive,
            layout,
            own_blocks,
        };
        let mut slabs = self.slabs(&environment(1 << 20, 1 << 19))?;
        let sites = self.plan.ground.len();
        let anywhere = slabs.first().map(|(near, _)| *near);
        slabs.extend(anywhere.map(|near| (near, Landing::size(sites))));
        let request = InjectRequest { layout, slabs };
        let injected = Injected::new(&mut self.process, tid, &request)?;
        let low = |at: Addr| u32::try_from(at.0).context("the shared block is not low");
        let environment = environment(low(injected.shared_block)?, low(injected.alive)?);
        self.dispositions =
            Dispositions::read(&mut self.process, tid, injected.shared_block + SCRATCH)
                .context("reading its signal actions")?;
        let landing = injected
            .slabs
            .last()
            .copied()
            .flatten()
            .and_then(|slab| Landing::new(&injected, slab, sites));
        anyhow::ensure!(
            landing.is_some(),
            "no room for the table of its breakpoints"
        );
        let shadow_stack = procfs::status(self.process.pid, tid).is_ok_and(|s| s.shadow_stack);
        let classes = self.plan.classes.clone();
        let detours = Detours::new(environment, classes, &injected, shadow_stack);
        injected
            .set_alive(&self.process, true)
            .context("writing the alive word")?;
        self.directory = Arc::new(Directory::new(layout.blocks));
        let sink = sink.context("no place for results")?;
        self.counters = Some((Arc::clone(&injected.shared), layout));
        self.live = Some(Live {
            injected,
            detours,
            own_blocks,
            alive: true,
            traps: 0,
            landed: Landed::default(),
        });
        self.process.landing = landing.map(Arc::new);
        self.guard_target();
        self.land_by(tid)?;
        for (tid, _) in self.process.stopped() {
            unless_gone(self.own_block(tid))?;
        }
        if self.begun {
            // What follows takes a while, and is nobody's business yet.
            self.act_on_stopped()?;
        }
        for wanted in &self.plan.wanted {
            let Some(ground) = self.plan.ground.get(&wanted.at) else {
                continue;
            };
            if let Err(why) =
                self.registry
                    .add(wanted.at, ground.facts.clone(), wanted.id, wanted.stop)
            {
                self.plan.refused.insert(wanted.id, why);
            }
        }
        if self.live.is_some()
            && let Err(error) = self.settle()
        {
            self.sink = Some(sink);
            return Err(error);
        }
        self.tell_of_traps();
        // Last: it says that everything is armed. What is hit meanwhile waits in the rings.
        self.start_drain(sink)
    }

    /// A thread that can make calls for us. One that waits for the child of its vfork cannot, and
    /// the child may have stopped because it is new: it must go on first.
    pub(super) fn one_stopped(&mut self) -> anyhow::Result<Tid> {
        for attempt in 0..ATTEMPTS {
            match self.process.stop_one(&mut self.backlog) {
                Err(error) if is_gone(&error) && attempt + 1 < ATTEMPTS => {}
                other => return Ok(other?),
            }
            self.take_backlog()?;
            if self.ended.is_some() {
                break;
            }
            self.act_on_stopped()?;
            clock::pause(attempt);
        }
        anyhow::bail!("it has ended")
    }

    fn start_drain(&mut self, mut sink: Box<dyn Sink>) -> anyhow::Result<()> {
        sink.armed(self.plan.wanted.len())
            .context("writing output")?;
        let Some((shared, layout)) = self.counters.clone() else {
            return Ok(());
        };
        let programs = self.plan.class.iter().map(|&class| {
            self.plan
                .classes
                .get(class as usize)
                .cloned()
                .unwrap_or_default()
        });
        let feed = Feed {
            shared,
            layout,
            directory: Arc::clone(&self.directory),
            probes: Arc::new(self.plan.probes.clone()),
            programs: Arc::new(programs.collect()),
            pid: self.process.pid,
            comm: procfs::comm(self.process.pid),
        };
        self.drain = Some(Drain::start(feed, sink).context("starting a thread")?);
        Ok(())
    }

    /// Rings as large as the memory allows for twice the threads there are.
    fn layout(&self) -> Layout {
        let probes = u32::try_from(self.plan.probes.len()).unwrap_or(u32::MAX);
        let largest = self.plan.largest_record();
        let memory = self.options.memory;
        let ring = if largest == 0 {
            0
        } else {
            let threads = 2 * self.process.threads.len() as u64 + 2;
            let share = u32::try_from(memory / threads).unwrap_or(u32::MAX);
            let smallest = Layout::smallest_ring(largest);
            // The largest power of two within the share.
            1 << share.clamp(smallest, LARGEST_RING.max(smallest)).ilog2()
        };
        Layout::fit(probes, ring, largest, MOST_BLOCKS, memory)
    }

    /// Code memory for each slab of the plan: what its detours can take at most.
    fn slabs(&self, environment: &Environment) -> anyhow::Result<Vec<(crate::base::Span, u64)>> {
        let mut most_of: HashMap<u32, u64> = HashMap::new();
        for (class, program) in self.plan.classes.iter().enumerate() {
            let size = |programs: &[Program]| Template::new(programs, environment, true, None);
            let template = size(std::slice::from_ref(program))
                .map_err(|error| anyhow::anyhow!("the arguments cannot be read: {error}"))?;
            most_of.insert(u32::try_from(class)?, most(&template));
        }
        let mut sizes = vec![4096; self.plan.slabs.len()];
        for wanted in &self.plan.wanted {
            let class = self
                .plan
                .class
                .get(wanted.id.0 as usize)
                .copied()
                .unwrap_or(0);
            let slab = self
                .plan
                .ground
                .get(&wanted.at)
                .map_or(0, |ground| ground.slab);
            if let Some(size) = sizes.get_mut(slab) {
                // Twice, for detours that are built again when neighbours come and go.
                *size += 2 * most_of.get(&class).copied().unwrap_or(256);
            }
        }
        Ok(self.plan.slabs.iter().copied().zip(sizes).collect())
    }
}
