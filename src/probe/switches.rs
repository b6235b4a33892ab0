//! What switching single probes does to their site: rules, one by one.

use super::model::Target;
use super::registry::{Policy, Registry};
use super::state::{Step, Text};
use super::{Facts, Refusal, Status};
use crate::base::{Addr, ProbeId, Span};

const A: Addr = Addr(0x1000);
const B: Addr = Addr(0x1010);

fn registry(probes: &[(Addr, bool)]) -> (Registry, Target, u64) {
    let (mut registry, mut target, mut now) =
        (Registry::new(Policy::default()), Target::default(), 0);
    for (&(at, stop), id) in probes.iter().zip(0..) {
        registry.add(at, Facts::jump(5), ProbeId(id), stop).unwrap();
    }
    target.drain(&mut registry, &mut now);
    (registry, target, now)
}

#[test]
fn a_disabled_probe_at_a_shared_site_is_not_in_its_detour() {
    let (mut registry, mut target, mut now) = registry(&[(A, false), (A, false)]);
    registry.set_enabled(ProbeId(0), false);
    assert_eq!(registry.next_batch(now).steps, [Step::Redirect(A)]);
    assert_eq!(registry.detour(A).unwrap().probes, [ProbeId(1)]);
    target.perform(&mut registry, Step::Redirect(A), super::Outcome::Done);
    registry.set_enabled(ProbeId(0), true);
    target.drain(&mut registry, &mut now);
    let both = [ProbeId(0), ProbeId(1)];
    assert_eq!(registry.detour(A).unwrap().probes, both);
    assert!(target.served(A).into_iter().eq(both));
}

#[test]
fn a_disabled_probe_that_needs_a_stop_keeps_no_site_a_breakpoint() {
    let (mut registry, mut target, mut now) = registry(&[(A, false), (A, true)]);
    assert_eq!(
        registry.state_of(ProbeId(0)),
        Some((Status::Trap, Some(Refusal::Stop)))
    );
    registry.set_enabled(ProbeId(1), false);
    target.drain(&mut registry, &mut now);
    assert_eq!(registry.state_of(ProbeId(0)), Some((Status::Jump, None)));
    registry.set_enabled(ProbeId(1), true);
    target.drain(&mut registry, &mut now);
    assert_eq!(target.text(A), Text::Trap);
    // Removed while it is disabled: it is not counted twice.
    registry.set_enabled(ProbeId(1), false);
    registry.remove(ProbeId(1));
    target.drain(&mut registry, &mut now);
    assert_eq!(target.text(A), Text::Jump);
}

#[test]
fn a_site_that_stays_is_armed_while_all_is_off_until_it_may_leave() {
    let (mut registry, mut target, mut now) = registry(&[(A, false), (B, false)]);
    registry.disarm_all_but([A].into());
    target.drain(&mut registry, &mut now);
    assert_eq!(
        (target.text(A), target.text(B)),
        (Text::Jump, Text::Original)
    );
    assert!(!registry.is_on());
    registry.disarm_all();
    target.drain(&mut registry, &mut now);
    assert!(target.is_clean());
    registry.arm_all();
    target.drain(&mut registry, &mut now);
    assert_eq!((target.text(A), target.text(B)), (Text::Jump, Text::Jump));
}

#[test]
fn a_probe_that_was_disabled_is_so_when_its_module_comes_again() {
    let (mut registry, mut target, mut now) = registry(&[(A, false)]);
    registry.set_enabled(ProbeId(0), false);
    target.drain(&mut registry, &mut now);
    target.forget(A);
    registry.gone(Span::new(A, 1));
    registry.add(A, Facts::jump(5), ProbeId(0), false).unwrap();
    target.drain(&mut registry, &mut now);
    assert_eq!(
        registry.state_of(ProbeId(0)),
        Some((Status::Disabled, None))
    );
    assert_eq!(target.text(A), Text::Original);
    registry.set_enabled(ProbeId(0), true);
    target.drain(&mut registry, &mut now);
    assert_eq!(target.text(A), Text::Jump);
}
