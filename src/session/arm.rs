//! From a plan to probes that are live: memory in the target, detours, sites, the drain.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;

use super::arguments::largest_record;
use super::detours::{Detours, most};
use super::dispositions::Dispositions;
use super::land::Landed;
use super::plan::{Age, Planned};
use super::tasks::unless_gone;
use super::tracee::{Stage, Tracee};
use crate::abi::{self, Activations, Layout};
use crate::arch::native::emit::{Environment, Template};
use crate::base::{Addr, Span, Tid};
use crate::data::{Command, Decoder, Directory, Feed, Known};
use crate::probe::Refusal;
use crate::program::Program;
use crate::spec::ProbeSpec;
use crate::sys::clock;
use crate::sys::errno::is_gone;
use crate::sys::procfs;
use crate::sys::ptrace;
use crate::target::{InjectRequest, Injected, Landing};

/// Most blocks in one object; threads beyond share one.
const MOST_BLOCKS: u32 = 4096;
/// No ring is larger, unless its records are.
const LARGEST_RING: u32 = 1 << 23;
/// But where records are large, room for so many.
const MOST_RECORDS: u32 = 1 << 13;
/// Memory is shared out among so many threads at least, and where returns are probed, which only a
/// thread with memory of its own sees.
const FEWEST: u64 = 7;
const FEWEST_CALLING: u64 = 15;
/// Room for probes that may come later: where patterns name functions of libraries, for each other
/// probe, and in all.
const MANY: u32 = 1 << 18;
const FEW: u32 = 256;
/// Room for probes that are added while it runs.
const ADDED: u32 = 4096;
const MOST_PROBES: u32 = 1 << abi::PROBE_BITS;
/// Most bytes of a detour of our own.
const HOOK: u64 = 512;
/// How often a thread is looked for that can make calls: seconds, as a vfork's child may take.
const ATTEMPTS: u32 = 20_000;
/// Offset in a block's header that nothing else uses: for results of calls made in the target.
const SCRATCH: u64 = 0x100;
const _: () = assert!(SCRATCH >= abi::STACK_END as u64 + 8 && SCRATCH + 32 <= abi::COUNTERS as u64);

/// Where activations might lie, to size code by.
const SOMEWHERE: Activations = Activations {
    thunks: 1 << 28,
    words: 1 << 29,
    pools: 1,
    pool_size: 1 << 16,
    unwind: 1 << 27,
};
/// Most pools of activations; threads beyond have none.
const MOST_POOLS: u32 = 1024;
/// Pools for threads that may come, beside two for each that is there.
const MORE_POOLS: u32 = 60;

/// What stands in the target while probes are armed.
pub(super) struct Live {
    pub(super) injected: Injected,
    pub(super) detours: Rc<Detours>,
    /// Whether threads get blocks of their own.
    pub(super) own_blocks: bool,
    /// Whether detours do their work, or pass straight through.
    pub(super) alive: bool,
    /// Sites that are breakpoints.
    pub(super) traps: BTreeSet<Addr>,
    /// Whether breakpoints would survive us.
    pub(super) landed: Landed,
}

impl Tracee {
    /// Puts what is needed into the target and arms the whole plan.
    pub(super) fn arm(&mut self) -> anyhow::Result<()> {
        // Before the thread is stopped: these take milliseconds.
        let requests = self.requests()?;
        self.process.prepare_calls();
        let begun = clock::monotonic();
        let tid = self.one_stopped().context("stopping a thread")?;
        let fsgsbase = self.process.auxv.hwcap2 & procfs::HWCAP2_FSGSBASE != 0;
        // A program that uses gs keeps it; a base left by a session that died leads nowhere.
        let gs = ptrace::regs(tid)?.gs_base();
        let used = gs != 0 && self.process.memory.word(Addr(gs)).is_ok();
        let own_blocks = fsgsbase && !used;
        let (layout, injected) = self.inject(tid, &requests)?;
        let low = |at: Addr| u32::try_from(at.0).context("the shared block is not low");
        let environment = Environment {
            shared_block: low(injected.shared_block)?,
            alive: low(injected.alive)?,
            layout,
            own_blocks,
            loads: true,
            maps: injected.tables().map_or(Ok(0), low)?,
            activations: injected.activations,
        };
        self.dispositions =
            Dispositions::read(&mut self.process, tid, injected.shared_block + SCRATCH)
                .context("reading its signal actions")?;
        let shadow_stack = procfs::status(self.process.pid, tid).is_ok_and(|s| s.shadow_stack);
        let landing = Landing::new(&injected, 0).context("no place for its breakpoints")?;
        let detours = Detours::new(environment, &injected.slabs, shadow_stack);
        injected
            .set_alive(&self.process, true)
            .context("writing the alive word")?;
        self.directory = Arc::new(Directory::new(layout.blocks));
        self.counters = Some((Arc::clone(&injected.shared), layout));
        self.live = Some(Live {
            injected,
            detours: Rc::new(detours),
            own_blocks,
            alive: true,
            traps: BTreeSet::new(),
            landed: Landed::default(),
        });
        self.tell_unwinders()?;
        self.watch_last_calls();
        self.process.set_landing(Some(landing));
        self.guard_target();
        self.land_by(tid)?;
        self.open_feed();
        self.tell_facts()?;
        for (tid, _) in self.process.stopped() {
            unless_gone(self.own_block(tid))?;
        }
        // What follows takes a while, and is nobody's business yet.
        self.act_on_stopped()?;
        self.note_pause(begun);
        let hooks: Vec<_> = self.hooks.all().collect();
        for (at, id) in hooks {
            self.add_hook(at, id);
        }
        if self.stage == Stage::Begun {
            // Libraries may have come and gone since it was looked; from here on the loader tells.
            self.extend(&[])?;
            if self.is_over() || self.live.is_none() {
                return Ok(());
            }
            self.plan_modules(Age::Relocated)?;
        }
        let wanted = self.plan.wanted.clone();
        self.extend(&wanted)?;
        self.tell_of_traps();
        Ok(())
    }

    /// What is to be asked of the target, best first. Room for counters of what may come later takes
    /// addresses only; a target that has few of these gets less.
    fn requests(&self) -> anyhow::Result<[InjectRequest; 2]> {
        let known = u32::try_from(self.plan.probes.len()).unwrap_or(u32::MAX);
        let request = |capacity: u32| -> anyhow::Result<InjectRequest> {
            let layout = self.layout(capacity);
            let slabs = |own_blocks: bool| {
                let environment = Environment {
                    shared_block: 1 << 20,
                    alive: 1 << 19,
                    layout,
                    own_blocks,
                    loads: true,
                    maps: 0,
                    activations: layout.returns.then_some(SOMEWHERE),
                };
                self.slabs(&environment, 0)
            };
            // Whether threads get blocks of their own is not known yet. Where not, returns are refused.
            let other = if layout.returns {
                slabs(true)?
            } else {
                slabs(false)?
            };
            let larger = |((span, a), (_, b)): ((Span, u64), (Span, u64))| (span, a.max(b));
            Ok(InjectRequest {
                layout,
                slabs: slabs(true)?.into_iter().zip(other).map(larger).collect(),
                table: Landing::size(self.sites()),
                maps: self.common.maps.clone(),
                pools: self.pools(layout),
            })
        };
        Ok([request(self.capacity())?, request(known)?])
    }

    /// Pools of activations, and how many each holds, if returns are probed.
    fn pools(&self, layout: Layout) -> Option<(u32, u32)> {
        let threads = u32::try_from(self.process.threads.len()).unwrap_or(MOST_POOLS);
        let pools = threads.saturating_mul(2).saturating_add(MORE_POOLS);
        let pools = pools.min(layout.blocks).min(MOST_POOLS);
        layout
            .returns
            .then_some((pools, self.common.wanted.borrow().max_active))
    }

    /// Our memory in the target.
    fn inject(
        &mut self,
        tid: Tid,
        requests: &[InjectRequest],
    ) -> anyhow::Result<(Layout, Injected)> {
        let mut first = None;
        for request in requests {
            match Injected::new(&mut self.process, tid, request) {
                Ok(injected) => return Ok((request.layout, injected)),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| anyhow::anyhow!("no room for anything")))
    }

    /// How many sites there are.
    fn sites(&self) -> usize {
        self.plan.ground.len() + self.hooks.addresses().len()
    }

    /// How many probes there may ever be.
    fn capacity(&self) -> u32 {
        let wanted = self.common.wanted.borrow();
        let known = u32::try_from(self.plan.probes.len()).unwrap_or(u32::MAX);
        let open = |spec: &ProbeSpec| spec.is_pattern() && spec.module.is_some();
        let more = match wanted.max_probes {
            Some(most) => most,
            None if wanted.specs.iter().any(open) => MANY,
            None => FEW.saturating_mul(u32::try_from(wanted.specs.len()).unwrap_or(u32::MAX)),
        };
        known.saturating_add(more.max(ADDED)).min(MOST_PROBES)
    }

    /// Arms what was planned since: code memory, programs and the registry learn of it first.
    pub(super) fn extend(&mut self, wanted: &[Planned]) -> anyhow::Result<()> {
        let Some(live) = &self.live else {
            return Ok(());
        };
        let have = live.injected.slabs.len();
        if have < self.plan.slabs.len() {
            let environment = *live.detours.environment();
            let slabs = self.slabs(&environment, have)?;
            let tid = if slabs.iter().any(|(_, size)| *size > 0) {
                Some(self.one_stopped().context("stopping a thread")?)
            } else {
                None
            };
            let Some(live) = &mut self.live else {
                return Ok(());
            };
            let added = match tid {
                Some(tid) => live.injected.add_slabs(&mut self.process, tid, &slabs),
                None => {
                    live.injected.slabs.resize(self.plan.slabs.len(), None);
                    Ok(())
                }
            };
            added.context("mapping code memory into it")?;
            let more = live.injected.slabs.get(have..).unwrap_or_default();
            Rc::make_mut(&mut live.detours).add_slabs(more);
        }
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let layout = live.injected.layout;
        let known = live.detours.classes();
        if known < self.plan.classes.len() {
            let more = self.plan.classes.get(known..).unwrap_or_default();
            Rc::make_mut(&mut live.detours).add_classes(more);
        }
        if known < self.plan.classes.len() {
            self.tell_facts()?;
        }
        self.publish();
        self.widen_landing(self.sites())?;
        for planned in wanted {
            let Some(ground) = self.plan.ground.get(&planned.at) else {
                continue;
            };
            let fits =
                planned.id.0 < layout.probes && self.plan.record_of(planned.id) <= layout.largest;
            let added = if fits {
                let facts = ground.facts.clone();
                self.registry
                    .add(planned.at, facts, planned.id, planned.stop)
            } else {
                Err(Refusal::Window(
                    "it came later, and there is no room for its counters and records".into(),
                ))
            };
            if let Err(why) = added {
                self.plan.refused.insert(planned.id, why);
            }
        }
        if self.live.is_some() {
            self.settle()?;
        }
        Ok(())
    }

    /// Lets the drain know of probes, before the first of them is armed.
    pub(super) fn publish(&mut self) {
        let of_class = |class: Option<&u32>| {
            let program = class.and_then(|&class| self.plan.classes.get(class as usize));
            let records = program.map_or_else(Vec::new, Program::records);
            let ends = program.map_or_else(Vec::new, Program::ends);
            let ends = ends.iter().flat_map(Program::records);
            Decoder::by_action(&records.into_iter().chain(ends).collect::<Vec<_>>())
        };
        let mut decoders: HashMap<Option<&u32>, Arc<[Option<Decoder>]>> = HashMap::new();
        let known = self.catalogue.len();
        let more = self.plan.probes.iter().enumerate().skip(known);
        let more: Vec<Known> = more
            .map(|(index, info)| {
                // One that is refused leaves no records.
                let refused = self.plan.refused.contains_key(&info.id);
                let class = self.plan.class.get(index).filter(|_| !refused);
                let decoders = decoders.entry(class).or_insert_with(|| of_class(class));
                Known {
                    info: Arc::clone(info),
                    decoders: Arc::clone(decoders),
                }
            })
            .collect();
        self.catalogue.extend(more);
    }

    /// Lets the drain know of our rings.
    pub(super) fn open_feed(&self) {
        let Some((shared, layout)) = &self.counters else {
            return;
        };
        let feed = Feed {
            shared: Arc::clone(shared),
            layout: *layout,
            directory: Arc::clone(&self.directory),
            catalogue: Arc::clone(&self.catalogue),
            pid: self.process.pid,
            comm: self.comm.clone(),
            durations: Arc::clone(&self.durations),
        };
        let _ = self.common.drain.send(Command::Open(self.feed, feed));
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
            if self.is_over() {
                break;
            }
            self.act_on_stopped()?;
            clock::pause(attempt);
        }
        anyhow::bail!("it has ended")
    }

    /// Rings as large as the memory allows for twice the threads there are.
    fn layout(&self, capacity: u32) -> Layout {
        let probes = u32::try_from(self.plan.probes.len()).unwrap_or(u32::MAX);
        let largest = largest_record(&self.common.wanted.borrow()).max(self.plan.largest_record());
        let memory = self.common.options.memory;
        let needs = self.common.wanted.borrow().memory;
        let layout = Layout {
            probes: capacity,
            ring_size: 0,
            largest,
            blocks: 2,
            tables: needs.tables.next_multiple_of(64),
            scratch: needs.scratch.next_multiple_of(64),
            returns: self.common.wanted.borrow().returns(),
        };
        let ring = if largest == 0 {
            0
        } else {
            // Those that will come have no memory of their own where none is left.
            let least = if layout.returns {
                FEWEST_CALLING
            } else {
                FEWEST
            };
            let threads = (2 * self.process.threads.len() as u64 + 2).max(least);
            let share = (memory / threads).saturating_sub(layout.of_budget(probes));
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            let smallest = Layout::smallest_ring(largest);
            // The largest power of two within the share.
            let most = LARGEST_RING.max(largest.saturating_mul(MOST_RECORDS));
            1 << share.clamp(smallest, most.max(smallest)).ilog2()
        };
        let layout = Layout {
            ring_size: ring,
            ..layout
        };
        layout.fit(probes, MOST_BLOCKS, memory)
    }

    /// Code memory for each slab of the plan from `first` on: what its detours can take at most.
    fn slabs(&self, environment: &Environment, first: usize) -> anyhow::Result<Vec<(Span, u64)>> {
        let mut most_of: HashMap<u32, u64> = HashMap::new();
        for (class, program) in self.plan.classes.iter().enumerate() {
            let size = |programs: &[Program]| Template::new(programs, environment, true, None);
            let template = size(std::slice::from_ref(program))
                .map_err(|error| anyhow::anyhow!("the arguments cannot be read: {error}"))?;
            most_of.insert(u32::try_from(class)?, most(&template));
        }
        let mut sizes = vec![0; self.plan.slabs.len()];
        let fresh = |at: &Addr| {
            let ground = self.plan.ground.get(at)?;
            (ground.slab >= first && ground.built.is_none()).then_some(ground.slab)
        };
        for wanted in &self.plan.wanted {
            let class = self.plan.class.get(wanted.id.0 as usize);
            let most = class.and_then(|class| most_of.get(class));
            if let Some(size) = fresh(&wanted.at).and_then(|slab| sizes.get_mut(slab)) {
                // Twice, for detours that are built again when neighbours come and go.
                *size += 2 * most.copied().unwrap_or(256);
            }
        }
        for at in self.hooks.addresses() {
            if let Some(size) = fresh(&at).and_then(|slab| sizes.get_mut(slab)) {
                *size += 2 * HOOK;
            }
        }
        let sizes = sizes
            .into_iter()
            .map(|size| if size > 0 { size + 4096 } else { 0 });
        let slabs = self.plan.slabs.iter().copied().zip(sizes);
        Ok(slabs.skip(first).collect())
    }
}
