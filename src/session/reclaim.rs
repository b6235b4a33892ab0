//! Activations of calls that never return, since `longjmp` or a stack that was thrown away left them:
//! when a pool runs low, those that nobody refers to are free again, and are told as unwound.
//!
//! Invariants: an activation is freed only when two looks, one after the other, found nobody that
//! could return by it, each with every thread stopped or asleep; looking takes a bounded part of the
//! target's time.

use std::collections::{BTreeSet, HashMap};

use super::tracee::{Stage, Tracee};
use crate::abi::{self, Activations};
use crate::base::{Addr, ProbeId};
use crate::sys::clock;
use crate::target::{Found, Outstanding, Referenced, outstanding};

/// Nanoseconds between two looks whether a pool runs low.
const OFTEN: u64 = 10_000_000;
/// The target is stopped for one part in so many of its time, and never longer than this.
const SHARE: u64 = 20;
const LONG: u64 = 100_000_000;
/// Nanoseconds between the two looks at least.
const SOON: u64 = 1_000_000;
/// How often the time between looks that freed nothing is doubled.
const DOUBLE: u32 = 9;
/// How often blocked threads are looked at again when one of them woke up meanwhile.
const LOOKS: usize = 4;

/// What is known of calls that were left.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    last: u64,
    wait: u64,
    /// For how long it was stopped since it had a long time for itself.
    stopped: u64,
    fruitless: u32,
    /// Nobody referred to these when it was looked last.
    suspects: BTreeSet<Outstanding>,
    /// How many calls of each probe were left.
    pub(super) left: HashMap<ProbeId, u64>,
    told: bool,
}

impl Reclaim {
    /// The target was stopped from `begun` on: how long it runs before it is looked again. Who is
    /// suspect now is looked at soon.
    fn now_wait(&mut self, begun: u64, freed: bool) {
        self.last = clock::monotonic();
        self.stopped += self.last - begun;
        if !freed && self.fruitless == 0 && !self.suspects.is_empty() {
            self.fruitless = 1;
            self.wait = self.stopped.max(SOON);
            return;
        }
        self.fruitless = if freed {
            0
        } else {
            (self.fruitless + 1).min(DOUBLE)
        };
        self.wait = (SHARE * self.stopped).max(OFTEN) << self.fruitless.saturating_sub(1);
        self.stopped = 0;
    }
}

impl Tracee {
    /// When it is looked whether a pool runs low.
    pub(super) fn reclaim_due(&self) -> Option<u64> {
        self.activations().map(|_| {
            let Reclaim { last, wait, .. } = self.reclaim;
            last + if wait == 0 { OFTEN } else { wait }
        })
    }

    fn activations(&self) -> Option<Activations> {
        let live = self.live.as_ref()?;
        live.injected
            .activations
            .filter(|_| self.stage == Stage::Begun)
    }

    /// Frees activations that nobody can return by, if a pool runs low and it is time to.
    pub(super) fn look_at_pools(&mut self) -> anyhow::Result<()> {
        let now = clock::monotonic();
        let Some(activations) = self.activations() else {
            return Ok(());
        };
        let Some((shared, _)) = self.counters.clone() else {
            return Ok(());
        };
        if self.reclaim_due().is_none_or(|due| due > now) {
            return Ok(());
        }
        self.reclaim.last = now;
        if shared.load(abi::LOW.into()) == 0 {
            self.reclaim.wait = OFTEN;
            return Ok(());
        }
        shared.store(abi::LOW.into(), 0);
        if !is_low(
            &activations,
            &outstanding(&activations, &self.process.memory)?,
        ) {
            return Ok(());
        }
        self.rest()?;
        if self.is_over() || self.live.is_none() {
            return Ok(());
        }
        let begun = clock::monotonic();
        let freed = self.reclaim_now(&activations, begun + LONG)?;
        self.act_on_stopped()?;
        self.note_pause(begun);
        self.reclaim.now_wait(begun, freed > 0);
        Ok(())
    }

    /// Stops the target, looks, and frees what was suspect before.
    fn reclaim_now(&mut self, activations: &Activations, until: u64) -> anyhow::Result<usize> {
        let mut freed = 0;
        for _ in 0..LOOKS {
            self.process.stop_running(&mut self.backlog)?;
            self.take_exec()?;
            let Some(live) = self.live.as_ref().filter(|_| !self.is_over()) else {
                break;
            };
            let ours = live.injected.mapped.clone();
            match self.process.referenced(activations, &ours, until)? {
                Found::Referenced(referenced) => {
                    freed = self.free(activations, &referenced)?;
                    break;
                }
                Found::TooMuch => {
                    self.reclaim.suspects.clear();
                    self.note_too_much();
                    break;
                }
                Found::Woke => {}
            }
        }
        Ok(freed)
    }

    fn free(
        &mut self,
        activations: &Activations,
        referenced: &Referenced,
    ) -> anyhow::Result<usize> {
        let memory = &self.process.memory;
        let calls = outstanding(activations, memory)?.into_iter();
        let unreferenced: BTreeSet<Outstanding> =
            calls.filter(|call| !referenced.holds(call.words)).collect();
        let (dead, suspects): (BTreeSet<Outstanding>, BTreeSet<Outstanding>) = unreferenced
            .into_iter()
            .partition(|call| self.reclaim.suspects.contains(call));
        self.reclaim.suspects = suspects;
        let taken = dead
            .iter()
            .map(|call| call.words + u64::from(abi::ACT_TAKEN));
        memory.clear_words(&taken.collect::<Vec<Addr>>())?;
        for (id, calls) in self.by_probe(&dead) {
            *self.reclaim.left.entry(id).or_default() += calls;
        }
        Ok(dead.len())
    }

    fn note_too_much(&mut self) {
        if !std::mem::replace(&mut self.reclaim.told, true) {
            let note = "calls that longjmp left are not looked for: the target has too much memory \
                        to look through while it waits";
            self.notes.push(note.to_owned());
        }
    }
}

/// Whether more than half of a pool is taken.
fn is_low(activations: &Activations, calls: &[Outstanding]) -> bool {
    let size = u64::from(activations.pool_size);
    let most = activations.offsets().count();
    let mut pools: HashMap<u64, usize> = HashMap::new();
    for call in calls {
        *pools.entry(call.words.0 / size).or_default() += 1;
    }
    pools.values().any(|&taken| taken > most / 2)
}
