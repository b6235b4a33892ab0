//! Sequences of operations: all short ones on three crowded addresses, and long random ones with
//! every outcome. The model panics on whatever the invariants forbid; here it is checked that all
//! ends where it should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::model::Target;
use super::registry::{Policy, Registry, TrapPolicy};
use super::state::{Outcome, Step, Text};
use super::{Facts, Refusal, Status};
use crate::base::{Addr, ProbeId, Span};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Op {
    /// Adds the probe when it is absent, removes it when it is there.
    Toggle(usize),
    /// Switches the probe.
    Switch(usize),
    Optimise(bool),
    AllOff,
    AllOn,
    Retry,
    TooHot(usize),
    Gone(usize),
    Foreign(usize),
    /// A batch; its outcomes are taken in turn, backwards when told so.
    Batch(Vec<Outcome>, bool),
    /// A batch whose first steps are done at once, and the rest after the next batch.
    Slow(Vec<Outcome>),
    Wait,
}

/// A probe that may be added, at an address, and what is known there.
#[derive(Clone, Debug)]
struct Slot {
    addr: Addr,
    facts: Facts,
    stop: bool,
}

#[derive(Clone)]
struct World {
    registry: Registry,
    target: Target,
    now: u64,
    policy: Policy,
    all_on: bool,
    slots: Vec<Slot>,
    /// Probes that were added and not removed, with their switch.
    present: BTreeMap<usize, bool>,
    unreported: Vec<(Step, Outcome)>,
}

impl World {
    fn new(policy: Policy, slots: Vec<Slot>) -> World {
        World {
            registry: Registry::new(policy),
            target: Target::default(),
            now: 0,
            policy,
            all_on: true,
            slots,
            present: BTreeMap::new(),
            unreported: Vec::new(),
        }
    }

    fn apply(&mut self, op: &Op) {
        let late = match op {
            Op::Batch(..) | Op::Slow(_) => std::mem::take(&mut self.unreported),
            _ => Vec::new(),
        };
        match op {
            Op::Toggle(i) => {
                let id = ProbeId(*i as u32);
                if self.present.remove(i).is_some() {
                    assert!(self.registry.remove(id));
                } else {
                    let slot = self.slots[*i].clone();
                    let added = self.registry.add(slot.addr, slot.facts, id, slot.stop);
                    if added.is_ok() {
                        self.present.insert(*i, true);
                    }
                }
            }
            Op::Switch(i) => {
                if let Some(on) = self.present.get_mut(i) {
                    *on = !*on;
                    assert!(self.registry.set_enabled(ProbeId(*i as u32), *on));
                }
            }
            Op::Optimise(on) => {
                self.policy.optimise = *on;
                self.registry.set_optimise(*on);
            }
            Op::AllOff => {
                self.all_on = false;
                self.registry.disarm_all();
            }
            Op::AllOn => {
                self.all_on = true;
                self.registry.arm_all();
            }
            Op::Retry => self.registry.retry(),
            Op::TooHot(i) => {
                self.registry.too_hot(self.slots[*i].addr);
            }
            // Both are seen between batches: what is under way finds out by itself.
            Op::Gone(i) if self.unreported.is_empty() => {
                let addr = self.slots[*i].addr;
                self.target.forget(addr);
                self.registry.gone(Span::new(addr, 1));
            }
            Op::Foreign(i) if self.unreported.is_empty() => {
                let addr = self.slots[*i].addr;
                let free = self
                    .registry
                    .owner_of(addr)
                    .is_none_or(|owner| owner == addr);
                if free && self.registry.site(addr).is_some() {
                    self.target.become_foreign(addr);
                    self.registry.foreign(addr);
                }
            }
            Op::Gone(_) | Op::Foreign(_) => {}
            Op::Batch(outcomes, backwards) => {
                let mut steps = self.registry.next_batch(self.now).steps;
                if *backwards {
                    steps.reverse();
                }
                for (step, outcome) in steps.into_iter().zip(outcomes.iter().cycle()) {
                    self.target
                        .perform(&mut self.registry, step, outcome.clone());
                }
            }
            Op::Slow(outcomes) => {
                let steps = self.registry.next_batch(self.now).steps;
                let now = steps.len() / 2;
                for (i, (step, outcome)) in steps.iter().zip(outcomes.iter().cycle()).enumerate() {
                    if i < now {
                        self.target
                            .perform(&mut self.registry, *step, outcome.clone());
                    } else {
                        self.unreported.push((*step, outcome.clone()));
                    }
                }
            }
            Op::Wait => self.now = self.registry.next_due().unwrap_or(self.now),
        }
        for (step, outcome) in late {
            self.target.perform(&mut self.registry, step, outcome);
        }
        self.target.agrees_with(&self.registry);
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        for (step, outcome) in std::mem::take(&mut self.unreported) {
            self.target.perform(&mut self.registry, step, outcome);
        }
        self.target.drain(&mut self.registry, &mut self.now);
        assert_eq!(self.registry.under_way(), 0);
    }

    /// The text each site should have come to, said once more in other words. Only for worlds in
    /// which nothing was refused, lost or too hot.
    fn expected(&self) -> BTreeMap<Addr, Text> {
        let mut wanted: BTreeMap<Addr, (&Facts, bool, bool)> = BTreeMap::new();
        for (&i, &on) in &self.present {
            let slot = &self.slots[i];
            let entry = wanted
                .entry(slot.addr)
                .or_insert((&slot.facts, false, false));
            entry.1 |= on && self.all_on;
            entry.2 |= slot.stop && on;
        }
        wanted.retain(|_, (_, on, _)| *on);
        let spans = |addr: Addr, facts: &Facts| {
            let reach = match (&facts.window, facts.hole) {
                (Err(_), _) => 1,
                (Ok(_), Some(_)) => 2,
                (Ok(n), None) => u64::from((*n).max(5)),
            };
            let hole = facts
                .hole
                .map(|hole| addr.0.wrapping_add_signed(hole.into()));
            let head = Some(addr.0..addr.0 + reach);
            head.into_iter().chain(hole.map(|hole| hole..hole + 5))
        };
        let text = |(&addr, &(facts, _, stop)): (&Addr, &(&Facts, bool, bool))| {
            let crowded = wanted.iter().any(|(&other, &(theirs, _, _))| {
                let overlap = |ours: &std::ops::Range<u64>| {
                    spans(other, theirs).any(|t| t.start < ours.end && ours.start < t.end)
                };
                other != addr && spans(addr, facts).any(|ours| overlap(&ours))
            });
            let jumps = facts.window.is_ok() && !stop && !crowded && self.policy.optimise;
            (addr, if jumps { Text::Jump } else { Text::Trap })
        };
        wanted.iter().map(text).collect()
    }

    fn is_as_expected(&self) {
        let expected = self.expected();
        for slot in &self.slots {
            let wanted = expected.get(&slot.addr).copied().unwrap_or(Text::Original);
            let found = self.target.text(slot.addr);
            assert_eq!(found, wanted, "{} among {expected:?}", slot.addr);
            let here = |(&i, &on): (&usize, &bool)| {
                (on && self.slots[i].addr == slot.addr).then_some(ProbeId(i as u32))
            };
            let enabled: BTreeSet<ProbeId> = self.present.iter().filter_map(here).collect();
            let served = self.target.served(slot.addr);
            assert!(
                found == Text::Original || served == enabled,
                "{}",
                slot.addr
            );
        }
    }

    /// Removes all probes and checks that nothing is left.
    fn leave(&mut self) {
        for i in 0..self.slots.len() {
            self.registry.remove(ProbeId(i as u32));
        }
        self.settle();
        assert!(self.target.is_clean(), "{:?}", self.target);
        assert!(self.registry.sites().all(|site| site.text().is_none()));
        assert_eq!(self.registry.next_due().filter(|&due| due > self.now), None);
    }
}

const BASE: u64 = 0x40_0000;

fn slot(offset: u64, displaced: u8) -> Slot {
    Slot {
        addr: Addr(BASE + offset),
        facts: Facts::jump(displaced),
        stop: false,
    }
}

/// Goes through all sequences of up to `depth` operations; from each of them everything must come
/// to rest where it should, and nothing stay behind.
fn explore(world: &World, ops: &[Op], depth: usize, visited: &mut usize) {
    *visited += 1;
    let mut end = world.clone();
    end.settle();
    end.is_as_expected();
    end.leave();
    if depth == 0 {
        return;
    }
    for op in ops {
        let mut next = world.clone();
        next.apply(op);
        explore(&next, ops, depth - 1, visited);
    }
}

fn small_ops() -> Vec<Op> {
    let mut ops: Vec<Op> = (0..3)
        .flat_map(|i| [Op::Toggle(i), Op::Switch(i)])
        .collect();
    ops.extend([
        Op::Batch(vec![Outcome::Done], false),
        Op::Batch(vec![Outcome::NotQuiescent, Outcome::Done], true),
        Op::Slow(vec![Outcome::Done]),
    ]);
    ops
}

#[test]
fn every_short_sequence_on_three_crowded_addresses_keeps_the_invariants() {
    let mut visited = 0;
    for (second, third) in [(1, 3), (3, 6), (4, 7), (5, 7)] {
        for lengths in [[5, 5, 5], [7, 5, 6], [6, 7, 5]] {
            let slots = vec![
                slot(0, lengths[0]),
                slot(second, lengths[1]),
                slot(third, lengths[2]),
            ];
            let world = World::new(Policy::default(), slots);
            explore(&world, &small_ops(), 4, &mut visited);
        }
    }
    assert_eq!(visited, 12 * (1 + 9 + 81 + 729 + 6561));
}

#[test]
fn every_sequence_of_six_additions_removals_and_batches_keeps_the_invariants() {
    let mut visited = 0;
    let mut ops: Vec<Op> = (0..3).map(Op::Toggle).collect();
    ops.push(Op::Batch(vec![Outcome::Done], false));
    ops.push(Op::Batch(vec![Outcome::Done, Outcome::NotQuiescent], false));
    let world = World::new(Policy::default(), vec![slot(0, 7), slot(3, 5), slot(6, 6)]);
    explore(&world, &ops, 6, &mut visited);
    assert_eq!(visited, (5usize.pow(7) - 1) / 4);
}

#[test]
fn every_short_sequence_of_all_that_can_be_asked_for_ends_where_it_should() {
    let mut visited = 0;
    let mut ops = small_ops();
    ops.extend([
        Op::Optimise(false),
        Op::Optimise(true),
        Op::AllOff,
        Op::AllOn,
    ]);
    for (second, third) in [(0, 3), (3, 3), (4, 6)] {
        let slots = vec![slot(0, 6), slot(second, 5), slot(third, 5)];
        let mut world = World::new(Policy::default(), slots);
        // From a site that is armed, too: most orders begin with that.
        explore(&world, &ops, 3, &mut visited);
        world.apply(&Op::Toggle(0));
        world.settle();
        explore(&world, &ops, 4, &mut visited);
    }
    assert_eq!(
        visited,
        3 * ((13usize.pow(4) - 1) / 12 + (13usize.pow(5) - 1) / 12)
    );
}

#[test]
fn every_short_sequence_with_stops_and_switches_keeps_the_invariants() {
    let mut visited = 0;
    let ops = [
        Op::Toggle(0),
        Op::Toggle(1),
        Op::Toggle(2),
        Op::Optimise(false),
        Op::Optimise(true),
        Op::AllOff,
        Op::AllOn,
        Op::Batch(vec![Outcome::Done], true),
        Op::Slow(vec![Outcome::NotQuiescent]),
    ];
    let mut stop = slot(0, 5);
    stop.stop = true;
    let world = World::new(Policy::default(), vec![slot(0, 5), stop, slot(2, 1)]);
    explore(&world, &ops, 5, &mut visited);
    assert_eq!(visited, (9usize.pow(6) - 1) / 8);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        8 => Just(Outcome::Done),
        3 => Just(Outcome::NotQuiescent),
        1 => Just(Outcome::Refused(Refusal::NoRoom)),
        1 => Just(Outcome::Unarmed(Refusal::Unreachable)),
        1 => Just(Outcome::Foreign),
        1 => Just(Outcome::Gone),
    ]
}

fn gentle_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![3 => Just(Outcome::Done), 1 => Just(Outcome::NotQuiescent)]
}

fn op(outcome: impl Strategy<Value = Outcome> + 'static, rough: bool) -> impl Strategy<Value = Op> {
    let outcomes = prop::collection::vec(outcome, 1..6).boxed();
    let probe = 0..SLOTS;
    let loss = move |op: fn(usize) -> Op, i| if rough { op(i) } else { Op::Wait };
    prop_oneof![
        8 => probe.clone().prop_map(Op::Toggle),
        4 => probe.clone().prop_map(Op::Switch),
        1 => any::<bool>().prop_map(Op::Optimise),
        1 => Just(Op::AllOff),
        2 => Just(Op::AllOn),
        1 => Just(Op::Retry),
        1 => probe.clone().prop_map(move |i| loss(Op::TooHot, i)),
        1 => probe.clone().prop_map(move |i| loss(Op::Gone, i)),
        1 => probe.prop_map(move |i| loss(Op::Foreign, i)),
        8 => (outcomes.clone(), any::<bool>()).prop_map(|(o, back)| Op::Batch(o, back)),
        4 => outcomes.prop_map(Op::Slow),
        2 => Just(Op::Wait),
    ]
}

const SLOTS: usize = 10;

fn slots() -> impl Strategy<Value = Vec<Slot>> {
    let one = (0u64..24, 1u8..10, 0u8..8, 5i16..20, any::<bool>());
    prop::collection::vec(one, SLOTS).prop_map(|all| {
        // The facts of an address are the same for all its probes.
        let mut known: BTreeMap<u64, Facts> = BTreeMap::new();
        all.into_iter()
            .map(|(offset, displaced, dice, hole, behind)| {
                let facts = known.entry(offset).or_insert(match dice {
                    0 => Facts::trap_only(Refusal::Window("too short".into())),
                    2..5 => Facts::springboard(displaced, if behind { hole } else { -hole }),
                    _ => Facts::jump(displaced),
                });
                Slot {
                    addr: Addr(BASE + offset),
                    facts: facts.clone(),
                    stop: dice == 1,
                }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn long_random_sequences_end_where_they_should(
        slots in slots(),
        ops in prop::collection::vec(op(gentle_outcome(), false), 0..150),
    ) {
        let mut world = World::new(Policy::default(), slots);
        for op in &ops {
            world.apply(op);
        }
        world.registry.retry();
        world.settle();
        world.is_as_expected();
        world.leave();
    }

    #[test]
    fn every_outcome_at_any_time_leaves_nothing_behind(
        slots in slots(),
        ops in prop::collection::vec(op(outcome(), true), 0..150),
    ) {
        let mut world = World::new(Policy::default(), slots);
        for op in &ops {
            world.apply(op);
        }
        world.settle();
        world.leave();
    }

    #[test]
    fn with_traps_off_no_int3_ever_stays(
        slots in slots(),
        ops in prop::collection::vec(op(outcome(), true), 0..150),
    ) {
        let policy = Policy { optimise: true, traps: TrapPolicy::Never };
        let mut world = World::new(policy, slots);
        for op in &ops {
            world.apply(op);
        }
        world.settle();
        world.leave();
        prop_assert!(world.target.traps_seen.is_empty());
    }
}

/// Time to add `sites` sites `apart` bytes from each other and to make one batch of them.
fn time_of(sites: u64, apart: u64) -> (Duration, usize) {
    let start = Instant::now();
    let mut registry = Registry::new(Policy::default());
    for i in 0..sites {
        let addr = Addr(BASE + i * apart);
        registry
            .add(addr, Facts::jump(5), ProbeId(i as u32), false)
            .unwrap();
    }
    let batch = registry.next_batch(0);
    (start.elapsed(), batch.steps.len())
}

#[test]
fn the_cost_of_a_site_does_not_grow_with_their_number() {
    // Crowded as no real program is: each site collides with eight others. Generous bounds, for
    // a busy machine; quadratic costs would exceed them by orders of magnitude.
    let fast = if cfg!(debug_assertions) { 20 } else { 1 };
    let (took, steps) = time_of(100_000, 16);
    assert_eq!(steps, 100_000);
    println!("100,000 sites 16 bytes apart: {took:?}");
    assert!(took < Duration::from_millis(500) * fast);
    let (took, steps) = time_of(100_000, 1);
    assert_eq!(steps, 100_000);
    println!("100,000 sites at neighbouring bytes: {took:?}");
    assert!(took < Duration::from_millis(2000) * fast);
}

#[test]
fn removing_all_of_many_sites_takes_one_batch() {
    let mut registry = Registry::new(Policy::default());
    for i in 0..10_000 {
        let addr = Addr(BASE + u64::from(i) * 16);
        registry
            .add(addr, Facts::jump(5), ProbeId(i), false)
            .unwrap();
    }
    for step in registry.next_batch(0).steps {
        registry.report(step.addr(), Outcome::Done);
    }
    assert_eq!(registry.counts().jump, 10_000);
    assert_eq!(registry.state_of(ProbeId(7)), Some((Status::Jump, None)));
    registry.disarm_all();
    let batch = registry.next_batch(0);
    assert_eq!(batch.steps.len(), 10_000);
    assert!(batch.steps.iter().all(|s| matches!(s, Step::DisarmJump(_))));
    assert!(!batch.needs_quiescence());
    for step in batch.steps {
        registry.report(step.addr(), Outcome::Done);
    }
    assert!(registry.next_batch(0).is_empty());
}
