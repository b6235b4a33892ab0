//! One test for each rule of a site's life.

use super::model::Target;
use super::queue::MAX_TRIES;
use super::registry::{Policy, Registry, TrapPolicy};
use super::state::{Outcome, Step, Text};
use super::{Counts, Facts, Refusal, Status};
use crate::base::{Addr, ProbeId, Span};

const A: Addr = Addr(0x1000);
const B: Addr = Addr(0x1003);
const C: Addr = Addr(0x1006);

const fn id(n: u32) -> ProbeId {
    ProbeId(n)
}

struct World {
    registry: Registry,
    target: Target,
    now: u64,
}

impl World {
    fn new() -> World {
        World::with(Policy::default())
    }

    fn with(policy: Policy) -> World {
        World {
            registry: Registry::new(policy),
            target: Target::default(),
            now: 0,
        }
    }

    fn without_traps() -> World {
        let (optimise, traps) = (true, TrapPolicy::Never);
        World::with(Policy { optimise, traps })
    }

    fn add(&mut self, addr: Addr, n: u32) {
        self.registry
            .add(addr, Facts::jump(5), id(n), false)
            .unwrap();
    }

    fn drain(&mut self) {
        self.target.drain(&mut self.registry, &mut self.now);
    }

    fn batch(&mut self) -> Vec<Step> {
        self.registry.next_batch(self.now).steps
    }

    fn done(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.target.perform(&mut self.registry, step, Outcome::Done);
        }
    }

    /// Expects these steps, carries them out.
    fn expect(&mut self, steps: &[Step]) {
        let batch = self.batch();
        assert_eq!(batch, steps);
        self.done(batch);
    }

    fn one(&mut self, step: Step, outcome: Outcome) {
        assert_eq!(self.batch(), [step]);
        self.target.perform(&mut self.registry, step, outcome);
    }

    fn state(&self, n: u32) -> (Status, Option<Refusal>) {
        self.registry.state_of(id(n)).unwrap()
    }
}

#[test]
fn a_quiescent_site_goes_to_a_jump_in_one_stop_and_back() {
    let mut world = World::new();
    world.add(A, 1);
    assert_eq!(world.state(1), (Status::Pending, None));
    world.expect(&[Step::ArmJump(A)]);
    assert_eq!(world.state(1), (Status::Jump, None));
    assert!(world.batch().is_empty());
    assert!(world.registry.remove(id(1)));
    world.expect(&[Step::DisarmJump(A)]);
    assert!(world.target.is_clean());
    assert_eq!(world.registry.sites().count(), 0);
}

#[test]
fn a_site_that_cannot_jump_is_a_trap_with_the_reason() {
    let mut world = World::new();
    let why = Refusal::Window("branch from +0x4c into the window".into());
    let facts = Facts::trap_only(why.clone());
    world.registry.add(A, facts, id(1), false).unwrap();
    world.expect(&[Step::Arm(A)]);
    assert_eq!(world.state(1), (Status::Trap, Some(why)));
    world.registry.remove(id(1));
    world.expect(&[Step::Disarm(A)]);
}

#[test]
fn what_cannot_even_be_a_trap_is_refused_and_no_site_is_made() {
    let mut world = World::new();
    let why = Refusal::Window("inside an rseq critical section".into());
    let facts = Facts {
        trap: Err(why.clone()),
        ..Facts::jump(5)
    };
    assert_eq!(world.registry.add(A, facts, id(1), false), Err(why));
    assert!(world.registry.site(A).is_none() && world.batch().is_empty());
}

#[test]
fn a_displaced_range_out_of_bounds_is_no_window() {
    for n in [0, 33, 255] {
        let mut world = World::new();
        world.registry.add(A, Facts::jump(n), id(1), false).unwrap();
        world.expect(&[Step::Arm(A)]);
        assert_eq!(world.state(1).0, Status::Trap);
    }
}

#[test]
fn second_probe_at_same_address_shares_the_site() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(A, 2);
    world.expect(&[Step::ArmJump(A)]);
    assert_eq!(world.registry.probes_at(A), [id(1), id(2)]);
    assert_eq!(world.registry.sites().count(), 1);
    world.registry.remove(id(1));
    world.expect(&[Step::Redirect(A)]);
    assert_eq!(world.registry.probes_at(A), [id(2)]);
    assert_eq!(world.target.text(A), Text::Jump);
}

#[test]
fn a_probe_that_joins_an_armed_site_sends_it_to_a_new_detour() {
    let mut world = World::new();
    world.add(A, 1);
    world.drain();
    world.add(A, 2);
    let batch = world.batch();
    assert_eq!(batch, [Step::Redirect(A)]);
    let detour = world.registry.detour(A).unwrap();
    assert_eq!((detour.probes, detour.whole), (vec![id(1), id(2)], true));
    // One more joins while that is under way: the detour being built does not know it.
    world.add(A, 3);
    world.done(batch);
    world.expect(&[Step::Redirect(A)]);
    assert!(world.batch().is_empty());
}

#[test]
fn a_probe_is_added_once() {
    let mut world = World::new();
    world.add(A, 1);
    let again = world.registry.add(B, Facts::jump(5), id(1), false);
    assert_eq!(again, Err(Refusal::Known(A)));
}

#[test]
fn a_neighbour_sends_a_jump_back_to_int3_before_it_is_armed_and_both_stay_traps() {
    let mut world = World::new();
    world.add(A, 1);
    world.drain();
    world.add(B, 2);
    assert_eq!(
        world.state(2),
        (Status::Pending, Some(Refusal::BlockedBy(A)))
    );
    world.expect(&[Step::Unoptimise(A)]);
    assert!(!world.registry.detour(A).unwrap().whole);
    world.expect(&[Step::Arm(B)]);
    assert!(world.batch().is_empty());
    assert_eq!(world.state(1), (Status::Trap, Some(Refusal::BlockedBy(B))));
    assert_eq!(world.state(2), (Status::Trap, Some(Refusal::BlockedBy(A))));
}

#[test]
fn a_neighbour_below_whose_window_reaches_a_jump_does_the_same() {
    let mut world = World::new();
    world.add(B, 2);
    world.drain();
    world.add(A, 1);
    let batch = world.batch();
    assert_eq!(batch, [Step::Unoptimise(B), Step::Arm(A)]);
    world.done(batch);
    assert!(world.batch().is_empty());
    assert_eq!(world.state(2), (Status::Trap, Some(Refusal::BlockedBy(A))));
}

#[test]
fn a_trap_whose_detour_runs_past_a_new_site_is_redirected_first() {
    let mut world = World::new();
    world.add(A, 1);
    world.one(Step::ArmJump(A), Outcome::NotQuiescent);
    world.add(B, 2);
    world.expect(&[Step::Redirect(A)]);
    world.expect(&[Step::Arm(B)]);
}

#[test]
fn when_one_leaves_the_other_is_queued_at_once_and_jumps_after_the_removal() {
    for (gone, stays, other) in [(1, 2, A), (2, 1, B)] {
        let mut world = World::new();
        world.add(A, 1);
        world.add(B, 2);
        world.drain();
        assert_eq!(world.registry.counts().trap, 2);
        world.registry.remove(id(gone));
        assert_eq!(world.state(stays), (Status::Queued, None));
        let first = world.batch();
        assert!(first.contains(&Step::Disarm(other)), "{first:?}");
        world.done(first);
        world.drain();
        assert_eq!(world.state(stays), (Status::Jump, None));
    }
}

#[test]
fn the_middle_of_three_frees_both_and_an_outer_one_frees_none() {
    let mut world = World::new();
    for (n, addr) in [A, B, C].into_iter().enumerate() {
        world.add(addr, n as u32);
    }
    world.drain();
    assert_eq!(world.registry.counts().trap, 3);
    world.registry.remove(id(0));
    world.drain();
    assert_eq!(world.registry.counts().trap, 2);
    world.add(A, 0);
    world.registry.remove(id(1));
    world.drain();
    assert_eq!(
        (world.registry.counts().jump, world.registry.counts().trap),
        (2, 0)
    );
}

#[test]
fn a_trap_only_neighbour_is_no_obstacle_from_below() {
    let mut world = World::new();
    let facts = Facts::trap_only(Refusal::Unreachable);
    world.registry.add(A, facts, id(1), false).unwrap();
    world.add(B, 2);
    world.drain();
    assert_eq!(world.state(1).0, Status::Trap);
    assert_eq!(world.state(2), (Status::Jump, None));
}

#[test]
fn windows_that_touch_do_not_collide() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(A + 5, 2);
    world.expect(&[Step::ArmJump(A), Step::ArmJump(A + 5)]);
    assert_eq!(world.registry.owner_of(A + 4), Some(A));
    assert_eq!(world.registry.owner_of(A + 5), Some(A + 5));
    assert_eq!(world.registry.owner_of(A + 10), None);
}

#[test]
fn a_jump_over_padding_owns_the_padding_it_overwrites() {
    let mut world = World::new();
    world.registry.add(A, Facts::jump(1), id(1), false).unwrap();
    world.add(B, 2);
    world.drain();
    assert_eq!(world.state(1), (Status::Trap, Some(Refusal::BlockedBy(B))));
}

#[test]
fn unregistering_what_is_still_queued_just_dequeues_it() {
    let mut world = World::new();
    world.add(A, 1);
    assert!(world.registry.remove(id(1)));
    assert!(world.batch().is_empty());
    assert!(world.registry.site(A).is_none());
    assert!(!world.registry.remove(id(1)));
}

#[test]
fn a_stop_probe_keeps_the_trap_until_it_leaves() {
    let mut world = World::new();
    world.add(A, 1);
    world.drain();
    world.registry.add(A, Facts::jump(5), id(2), true).unwrap();
    world.expect(&[Step::Unoptimise(A)]);
    assert_eq!(world.state(1), (Status::Trap, Some(Refusal::Stop)));
    world.registry.remove(id(2));
    assert_eq!(world.state(1), (Status::Queued, None));
    world.expect(&[Step::Optimise(A)]);
}

#[test]
fn the_last_probe_switched_off_restores_the_site() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(A, 2);
    world.drain();
    world.registry.set_enabled(id(1), false);
    world.expect(&[Step::Redirect(A)]);
    assert_eq!(world.state(1).0, Status::Disabled);
    assert_eq!(world.state(2).0, Status::Jump);
    world.registry.set_enabled(id(2), false);
    world.registry.set_enabled(id(2), false);
    world.expect(&[Step::DisarmJump(A)]);
    assert!(world.target.is_clean());
    assert_eq!(world.registry.probes_at(A).len(), 2);
    world.registry.set_enabled(id(1), true);
    world.expect(&[Step::ArmJump(A)]);
}

#[test]
fn a_disabled_neighbour_is_no_obstacle() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(B, 2);
    world.registry.set_enabled(id(2), false);
    world.expect(&[Step::ArmJump(A)]);
    world.registry.set_enabled(id(2), true);
    world.expect(&[Step::Unoptimise(A)]);
    world.expect(&[Step::Arm(B)]);
}

#[test]
fn opt_off_turns_jumps_into_traps_and_opt_on_queues_them() {
    let mut world = World::new();
    world.add(A, 1);
    world.drain();
    world.registry.set_optimise(false);
    world.expect(&[Step::Unoptimise(A)]);
    assert_eq!(
        world.state(1),
        (Status::Trap, Some(Refusal::OptimisationOff))
    );
    world.registry.set_optimise(true);
    assert_eq!(world.state(1), (Status::Queued, None));
    world.expect(&[Step::Optimise(A)]);
}

#[test]
fn off_and_on_keep_the_state_of_each_probe() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(A + 16, 2);
    world.registry.set_enabled(id(2), false);
    world.drain();
    world.registry.disarm_all();
    assert_eq!(world.state(1), (Status::Disabled, Some(Refusal::Off)));
    world.drain();
    assert!(world.target.is_clean());
    world.registry.arm_all();
    world.expect(&[Step::ArmJump(A)]);
    assert_eq!(world.state(2), (Status::Disabled, None));
}

#[test]
fn a_postponed_site_is_a_trap_and_tried_again_later() {
    let mut world = World::new();
    world.add(A, 1);
    world.one(Step::ArmJump(A), Outcome::NotQuiescent);
    assert_eq!(world.state(1), (Status::Queued, None));
    assert!(world.batch().is_empty());
    world.now = world.registry.next_due().unwrap() - 1;
    assert!(world.batch().is_empty());
    world.now += 1;
    world.expect(&[Step::Optimise(A)]);
}

#[test]
fn a_thread_that_stays_inside_makes_it_a_trap_until_circumstances_change() {
    let mut world = World::new();
    world.add(A, 1);
    world.one(Step::ArmJump(A), Outcome::NotQuiescent);
    for _ in 1..MAX_TRIES {
        world.now = world.registry.next_due().unwrap();
        world.one(Step::Optimise(A), Outcome::NotQuiescent);
    }
    assert_eq!(world.state(1), (Status::Trap, Some(Refusal::Occupied)));
    assert_eq!(world.registry.next_due(), None);
    assert!(world.batch().is_empty());
    world.registry.retry();
    world.expect(&[Step::Optimise(A)]);
}

#[test]
fn a_refused_jump_stays_a_trap_and_only_a_passing_reason_is_retried() {
    for (why, again) in [(Refusal::NoRoom, true), (Refusal::Unreachable, false)] {
        let mut world = World::new();
        world.add(A, 1);
        world.one(Step::ArmJump(A), Outcome::Refused(why.clone()));
        assert_eq!(world.state(1), (Status::Trap, Some(why)));
        assert!(world.batch().is_empty());
        world.registry.retry();
        assert_eq!(!world.batch().is_empty(), again);
    }
}

#[test]
fn a_site_that_cannot_be_armed_is_refused_and_no_obstacle() {
    let mut world = World::new();
    world.add(A, 1);
    world.one(Step::ArmJump(A), Outcome::Unarmed(Refusal::NoRoom));
    assert_eq!(world.state(1), (Status::Refused, Some(Refusal::NoRoom)));
    world.add(B, 2);
    world.expect(&[Step::ArmJump(B)]);
}

#[test]
fn foreign_bytes_are_never_written_and_kept_in_mind() {
    let mut world = World::new();
    world.add(A, 1);
    world.drain();
    world.registry.remove(id(1));
    world.one(Step::DisarmJump(A), Outcome::Foreign);
    world.registry.disarm_all();
    world.registry.arm_all();
    world.registry.retry();
    assert!(world.batch().is_empty());
    assert_eq!(world.registry.counts().foreign, 1);
    let again = world.registry.add(A, Facts::jump(5), id(2), false);
    assert_eq!(again, Err(Refusal::Foreign));
    // A site whose bytes it holds is not armed; one below it is, and does not jump over it.
    world.add(B, 3);
    world.add(Addr(A.0 - 2), 4);
    world.drain();
    assert_eq!(
        world.state(3),
        (Status::Pending, Some(Refusal::BlockedBy(A)))
    );
    assert_eq!(world.state(4), (Status::Trap, Some(Refusal::BlockedBy(A))));
}

#[test]
fn bytes_that_are_ours_again_are_cleaned_up() {
    let mut world = World::new();
    world.add(A, 1);
    world.drain();
    world.registry.foreign(A);
    assert_eq!(world.state(1), (Status::Foreign, Some(Refusal::Foreign)));
    world.registry.remove(id(1));
    assert!(world.batch().is_empty());
    world.registry.ours_again(A, Text::Jump);
    world.expect(&[Step::DisarmJump(A)]);
    assert!(world.registry.site(A).is_none());
}

#[test]
fn what_vanished_is_not_restored_and_its_address_can_be_used_anew() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(A + 0x1000, 2);
    world.drain();
    world.target.forget(A);
    world.registry.gone(Span::new(A, 0x1000));
    assert!(world.batch().is_empty());
    assert_eq!(world.state(1), (Status::Gone, None));
    assert_eq!(world.state(2).0, Status::Jump);
    assert_eq!(world.registry.site_of(id(1)), Some(A));
    assert_eq!(world.registry.counts().gone, 1);
    world.add(A, 3);
    world.add(A, 1);
    world.expect(&[Step::ArmJump(A)]);
    assert_eq!(world.state(1).0, Status::Jump);
}

#[test]
fn a_jump_whose_tail_was_unmapped_is_taken_back() {
    let mut world = World::new();
    world.add(A, 1);
    world.drain();
    world.registry.gone(Span::new(A + 4, 0x1000));
    world.expect(&[Step::Unoptimise(A)]);
    world.registry.retry();
    assert!(world.batch().is_empty());
}

#[test]
fn a_vanished_neighbour_frees_the_other() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(B, 2);
    world.drain();
    world.target.forget(A);
    world.registry.gone(Span::new(A, 1));
    world.drain();
    assert_eq!(world.state(2), (Status::Jump, None));
}

#[test]
fn a_hot_trap_is_switched_off_until_it_is_switched_on() {
    let mut world = World::new();
    let facts = Facts::trap_only(Refusal::Unreachable);
    world.registry.add(A, facts, id(1), false).unwrap();
    world.drain();
    assert!(world.registry.too_hot(A));
    world.expect(&[Step::Disarm(A)]);
    assert_eq!(world.state(1), (Status::Disabled, Some(Refusal::TooHot)));
    world.registry.retry();
    assert!(world.batch().is_empty());
    world.registry.set_enabled(id(1), true);
    world.expect(&[Step::Arm(A)]);
}

#[test]
fn a_hot_trap_that_was_switched_off_is_no_obstacle() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(B, 2);
    world.drain();
    assert!(world.registry.too_hot(A));
    world.drain();
    assert_eq!(world.state(1).0, Status::Disabled);
    assert_eq!(world.state(2), (Status::Jump, None));
    world.registry.set_enabled(id(1), true);
    world.drain();
    assert_eq!(world.registry.counts().trap, 2);
}

#[test]
fn a_jump_is_never_too_hot() {
    let mut world = World::new();
    world.add(A, 1);
    world.drain();
    assert!(!world.registry.too_hot(A) && !world.registry.too_hot(B));
    assert!(world.batch().is_empty());
}

#[test]
fn trap_never_refuses_sites_that_cannot_jump() {
    let mut world = World::without_traps();
    let add = |world: &mut World, addr, facts, n, stop| {
        let refused = world.registry.add(addr, facts, id(n), stop).unwrap_err();
        assert!(matches!(refused, Refusal::TrapsOff(_)), "{refused}");
        refused.to_string()
    };
    let short = Facts::trap_only(Refusal::Window("too short, no padding".into()));
    assert_eq!(
        add(&mut world, A, short, 1, false),
        "cannot jump: too short, no padding, and traps are off"
    );
    add(&mut world, A, Facts::jump(5), 1, true);
    world.add(A, 2);
    add(&mut world, B, Facts::jump(5), 3, false);
    world.expect(&[Step::JumpOnly(A)]);
    assert!(world.target.traps_seen.is_empty());
}

#[test]
fn trap_never_leaves_no_int3_behind() {
    let mut world = World::without_traps();
    world.add(A, 1);
    world.one(Step::JumpOnly(A), Outcome::NotQuiescent);
    assert_eq!(world.state(1).0, Status::Pending);
    world.drain();
    assert_eq!(world.state(1).0, Status::Jump);
    world.registry.set_optimise(false);
    world.expect(&[Step::DisarmJump(A)]);
    assert_eq!(world.state(1).0, Status::Refused);
    world.registry.set_optimise(true);
    world.one(Step::JumpOnly(A), Outcome::Refused(Refusal::NoRoom));
    assert_eq!(world.state(1).0, Status::Refused);
    assert!(world.batch().is_empty() && world.target.traps_seen.is_empty());
}

#[test]
fn a_report_nobody_waits_for_changes_nothing() {
    let mut world = World::new();
    world.add(A, 1);
    assert!(!world.registry.report(A, Outcome::Done));
    assert!(!world.registry.report(B, Outcome::Gone));
    world.expect(&[Step::ArmJump(A)]);
    assert!(!world.registry.report(A, Outcome::Foreign));
    assert_eq!(world.state(1).0, Status::Jump);
}

#[test]
fn counts_add_up() {
    let mut world = World::new();
    world.add(A, 1);
    world.add(B, 2);
    world.add(A + 16, 3);
    world.add(A + 32, 4);
    world.registry.set_enabled(id(4), false);
    world.drain();
    let expected = Counts {
        armed: 3,
        jump: 1,
        trap: 2,
        disabled: 1,
        ..Counts::default()
    };
    assert_eq!(world.registry.counts(), expected);
    assert_eq!(world.registry.under_way(), 0);
}
