//! Sites by address, and probes by number: adding, removing, switching; what each site should be,
//! and what is to be done about it next. Does not know bytes, threads or clocks.
//!
//! Invariant: a site is dropped only when nothing of ours can stand in memory there and no probe
//! refers to it. Whatever may change a decision puts the site, and those it collides with, into
//! the queue.

use std::collections::{BTreeSet, HashMap};

use super::Refusal;
use super::overlap::{self, Sites};
use super::queue::{Batch, Held, MAX_TRIES, Queue};
use super::site::{Built, Facts, Site};
use super::state::{Action, Event, Outcome, State, Text, Want, transition};
use crate::base::{Addr, ProbeId, Span};

/// Whether a site that cannot jump may be a breakpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrapPolicy {
    /// It may.
    #[default]
    Allow,
    /// It is left out: if the tracer dies, no int3 is left in the target.
    Never,
}

/// What holds for all sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether breakpoints become jumps.
    pub optimise: bool,
    /// Whether breakpoints may stay.
    pub traps: TrapPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            optimise: true,
            traps: TrapPolicy::Allow,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) addr: Addr,
    pub(super) enabled: bool,
    stop: bool,
    own: bool,
    pub(super) gone: bool,
}

/// The table of sites.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(super) policy: Policy,
    pub(super) armed: bool,
    /// Sites that stay armed all the same.
    pub(super) stays: BTreeSet<Addr>,
    pub(super) sites: Sites,
    pub(super) probes: HashMap<ProbeId, Probe>,
    queue: Queue,
    moving: usize,
    now: u64,
}

impl Registry {
    /// Without sites.
    pub fn new(policy: Policy) -> Registry {
        Registry {
            policy,
            armed: true,
            stays: BTreeSet::new(),
            sites: Sites::new(),
            probes: HashMap::new(),
            queue: Queue::default(),
            moving: 0,
            now: 0,
        }
    }

    /// Adds a probe at `addr`; sites are shared, and keep the facts they were made with. It is enabled,
    /// unless it was not when its mapping vanished.
    /// Probes that `needs_stop` keep their site a breakpoint.
    ///
    /// # Errors
    /// Why it cannot be probed. Nothing was added then.
    pub fn add(
        &mut self,
        addr: Addr,
        facts: Facts,
        id: ProbeId,
        needs_stop: bool,
    ) -> Result<(), Refusal> {
        self.admit_and_join(addr, facts, id, (needs_stop, false))
    }

    /// Adds a probe of our own, which needs a breakpoint for as long as it is there, also where none
    /// may stay.
    ///
    /// # Errors
    /// As for [`Registry::add`].
    pub fn add_own(&mut self, addr: Addr, facts: Facts, id: ProbeId) -> Result<(), Refusal> {
        self.admit_and_join(addr, facts, id, (true, true))
    }

    fn admit_and_join(
        &mut self,
        addr: Addr,
        facts: Facts,
        id: ProbeId,
        (needs_stop, own): (bool, bool),
    ) -> Result<(), Refusal> {
        if let Some(probe) = self.probes.get(&id).filter(|probe| !probe.gone) {
            return Err(Refusal::Known(probe.addr));
        }
        let enabled = self.probes.get(&id).is_none_or(|probe| probe.enabled);
        match self.sites.get(&addr) {
            Some(site) if site.foreign() => return Err(Refusal::Foreign),
            Some(site) => {
                if !own {
                    self.admit(site, needs_stop)?;
                }
                if let Some(site) = self.sites.get_mut(&addr) {
                    site.join(id, enabled, (needs_stop, own));
                }
            }
            None => {
                facts.trap.clone()?;
                let mut site = Site::new(addr, facts.checked());
                if !own {
                    self.admit(&site, needs_stop)?;
                }
                site.join(id, enabled, (needs_stop, own));
                self.sites.insert(addr, site);
            }
        }
        let probe = Probe {
            addr,
            enabled,
            stop: needs_stop,
            own,
            gone: false,
        };
        self.probes.insert(id, probe);
        self.touch(addr);
        Ok(())
    }

    /// Whether one more probe may come to `site` when no breakpoint may stay.
    fn admit(&self, site: &Site, needs_stop: bool) -> Result<(), Refusal> {
        if self.policy.traps == TrapPolicy::Allow {
            return Ok(());
        }
        let why = match &site.facts.window {
            Err(why) => Some(why.clone()),
            Ok(_) if needs_stop => Some(Refusal::Stop),
            Ok(_) if !self.policy.optimise => Some(Refusal::OptimisationOff),
            // Also one that is disabled: it may be enabled again.
            Ok(_) => overlap::neighbours(&self.sites, site)
                .find(|other| !other.probes.is_empty() || other.foreign())
                .map(|other| Refusal::BlockedBy(other.addr)),
        };
        why.map_or(Ok(()), |why| Err(Refusal::TrapsOff(Box::new(why))))
    }

    /// Removes a probe. With its last one, a site goes back to its original bytes and leaves; a
    /// site that was not armed yet leaves at once. False: there is no such probe.
    pub fn remove(&mut self, id: ProbeId) -> bool {
        let Some(probe) = self.probes.remove(&id) else {
            return false;
        };
        if probe.gone {
            return true;
        }
        if let Some(site) = self.sites.get_mut(&probe.addr) {
            site.probes.retain(|&other| other != id);
            site.enabled -= u32::from(probe.enabled);
            site.stops -= u32::from(probe.stop && probe.enabled);
            site.own -= u32::from(probe.own);
            site.revision = site.revision.wrapping_add(1);
        }
        self.touch(probe.addr);
        self.drop_if_idle(probe.addr);
        true
    }

    /// Switches one probe. A site without enabled probes gets its original bytes back; where others
    /// are enabled, a new detour knows no more of it. Switching on also gives another chance to what was switched off for being hit too often, or could not
    /// jump. False: there is no such probe.
    pub fn set_enabled(&mut self, id: ProbeId, enabled: bool) -> bool {
        let Some(probe) = self.probes.get_mut(&id) else {
            return false;
        };
        let changed = probe.enabled != enabled;
        probe.enabled = enabled;
        let (addr, gone, stop) = (probe.addr, probe.gone, u32::from(probe.stop));
        if gone {
            return true;
        }
        if let Some(site) = self.sites.get_mut(&addr) {
            match (changed, enabled) {
                (true, true) => {
                    site.enabled += 1;
                    site.stops += stop;
                }
                (true, false) => {
                    site.enabled -= 1;
                    site.stops -= stop;
                }
                (false, _) => {}
            }
            if changed {
                site.revision = site.revision.wrapping_add(1);
            }
            if enabled {
                site.hot = false;
                second_chance(site);
            }
        }
        self.touch(addr);
        true
    }

    /// `opt on`, `opt off`.
    pub fn set_optimise(&mut self, on: bool) {
        self.policy.optimise = on;
        self.retry();
    }

    /// Every site gets its original bytes back; probes keep their own state.
    pub fn disarm_all(&mut self) {
        self.disarm_all_but(BTreeSet::new());
    }

    /// The same, but for these sites.
    pub fn disarm_all_but(&mut self, stays: BTreeSet<Addr>) {
        self.armed = false;
        self.stays = stays;
        self.touch_all();
    }

    /// Undoes `disarm_all`.
    pub fn arm_all(&mut self) {
        self.armed = true;
        self.touch_all();
    }

    /// Circumstances changed: refusals that are not permanent are tried again, at once.
    pub fn retry(&mut self) {
        for site in self.sites.values_mut() {
            second_chance(site);
        }
        self.touch_all();
    }

    /// The mapping of `span` vanished: nothing there is ever written or restored.
    pub fn gone(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let lost: Vec<Addr> = self
            .sites
            .range(span.start..span.end)
            .map(|(&a, _)| a)
            .collect();
        for addr in lost {
            self.apply(addr, Event::Gone);
        }
        // Windows that ran on into it, or jumped through padding there, cannot be jumps any more.
        let cut: Vec<Addr> = overlap::around(&self.sites, span).map(Site::addr).collect();
        for addr in cut {
            if let Some(site) = self.sites.get_mut(&addr) {
                site.refusal = Some(Refusal::Window("a part of its bytes was unmapped".into()));
            }
            self.touch(addr);
        }
    }

    /// The bytes of a site were seen to be somebody else's. It is kept and never written again.
    pub fn foreign(&mut self, addr: Addr) {
        self.apply(addr, Event::Foreign);
    }

    /// The bytes of a foreign site are ours again, and these.
    pub fn ours_again(&mut self, addr: Addr, text: Text) {
        if let Some(site) = self.sites.get_mut(&addr)
            && site.foreign()
        {
            // Which detour it enters is not known: take the one that needs most care, and send it
            // to a new one.
            site.built.whole = true;
            site.revision = site.revision.wrapping_add(1);
        }
        self.apply(addr, Event::Ours(text));
        self.drop_if_idle(addr);
    }

    /// A breakpoint is hit too often: its site is switched off until one of its probes is switched
    /// on again. False: it is no breakpoint (any more), and nothing was done.
    pub fn too_hot(&mut self, addr: Addr) -> bool {
        match self.sites.get_mut(&addr) {
            Some(site) if site.live() && site.state.widest() == Some(Text::Trap) => {
                site.hot = true;
            }
            _ => return false,
        }
        self.touch(addr);
        true
    }

    /// A jump cannot stay here after all, for this reason, and none will be tried again.
    pub fn confine(&mut self, addr: Addr, why: Refusal) {
        if let Some(site) = self.sites.get_mut(&addr) {
            site.facts.window = Err(why);
            // A site that may not claim more than a breakpoint frees what its jump displaced.
            self.touch(addr);
            self.touch_all();
        }
    }

    /// What must be done next, at time `now` (ns, monotonic). Empty when nothing can be done until
    /// steps under way are reported, or until [`Registry::next_due`].
    pub fn next_batch(&mut self, now: u64) -> Batch {
        self.now = self.now.max(now);
        let mut steps = Vec::new();
        for addr in self.queue.take(self.now) {
            let Some(site) = self.sites.get(&addr) else {
                continue;
            };
            let (want, building) = self.want(site);
            let Some(site) = self.sites.get_mut(&addr) else {
                continue;
            };
            site.dirty = false;
            let (state, action) = transition(site.state, Event::Pursue(want));
            if let Some(Action::Perform(kind)) = action {
                site.state = state;
                site.building = building;
                self.moving += 1;
                steps.push(kind.at(addr));
            }
        }
        steps.sort_unstable();
        Batch { steps }
    }

    /// When to call `next_batch` again although nothing happened, in ns: a postponed step is due.
    pub fn next_due(&self) -> Option<u64> {
        self.queue.next_due()
    }

    /// How many steps were given out and not reported.
    pub fn under_way(&self) -> usize {
        self.moving
    }

    /// How a step of a batch went. False: no step was under way there.
    pub fn report(&mut self, addr: Addr, outcome: Outcome) -> bool {
        let moving = |site: &Site| matches!(site.state, State::Moving { .. });
        if !self.sites.get(&addr).is_some_and(moving) {
            return false;
        }
        self.apply(addr, Event::Report(outcome));
        self.drop_if_idle(addr);
        true
    }

    /// What a site should be, and why not a jump.
    pub(super) fn goal(&self, site: &Site, blocker: Option<Addr>) -> (Text, Option<Refusal>) {
        if !self.armed && !self.stays.contains(&site.addr) {
            return (Text::Original, Some(Refusal::Off));
        }
        if site.enabled == 0 {
            return (Text::Original, None);
        }
        if site.hot {
            return (Text::Original, Some(Refusal::TooHot));
        }
        if let Some(why) = &site.unarmed {
            return (Text::Original, Some(why.clone()));
        }
        let why = match &site.facts.window {
            Err(why) => Some(why.clone()),
            Ok(_) if !self.policy.optimise => Some(Refusal::OptimisationOff),
            Ok(_) if site.stops > 0 => Some(Refusal::Stop),
            Ok(_) => blocker
                .map(Refusal::BlockedBy)
                .or_else(|| site.refusal.clone()),
        };
        match (why, self.policy.traps) {
            (None, _) => (Text::Jump, None),
            (Some(why), TrapPolicy::Allow) => (Text::Trap, Some(why)),
            (Some(why), TrapPolicy::Never) if site.own > 0 => (Text::Trap, Some(why)),
            (Some(why), TrapPolicy::Never) => {
                (Text::Original, Some(Refusal::TrapsOff(Box::new(why))))
            }
        }
    }

    /// What the circumstances ask of a site now, and the detour that a step would build.
    fn want(&self, site: &Site) -> (Want, Built) {
        let around = overlap::surroundings(&self.sites, site);
        let held = site.held.filter(|held| held.due > self.now);
        let want = Want {
            goal: self.goal(site, around.blocker).0,
            head_clear: around.head_clear,
            jump_clear: around.jump_clear,
            stale: site.built.revision != site.revision || (site.built.whole && !around.whole),
            traps: self.policy.traps == TrapPolicy::Allow || site.own > 0,
            held: held.map(|held| held.kind),
        };
        let building = Built {
            revision: site.revision,
            whole: around.whole,
        };
        (want, building)
    }

    /// Runs the transition function on a site and does what it asks of the registry.
    fn apply(&mut self, addr: Addr, event: Event) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(&addr) else {
            return;
        };
        let before = site.state;
        let (after, action) = transition(before, event);
        site.state = after;
        let count = |state| usize::from(matches!(state, State::Moving { .. }));
        self.moving = (self.moving + count(after)).saturating_sub(count(before));
        match action {
            // Only `next_batch` pursues.
            None | Some(Action::Perform(_)) => return,
            Some(Action::Settle(_)) => {
                site.held = None;
                site.built = site.building;
            }
            Some(Action::Postpone(kind)) => {
                let held = Held::again(site.held, kind, now);
                site.held = Some(held);
                if matches!(
                    before,
                    State::Moving {
                        from: Text::Original,
                        ..
                    }
                ) {
                    site.built = site.building;
                }
                if kind.makes_jump() && held.tries >= MAX_TRIES {
                    site.held = None;
                    site.refusal = Some(Refusal::Occupied);
                } else {
                    self.queue.push_later(held.due, addr);
                }
            }
            Some(Action::Refuse(why)) => {
                if matches!(
                    before,
                    State::Moving {
                        from: Text::Original,
                        ..
                    }
                ) {
                    site.built = site.building;
                }
                site.held = None;
                site.refusal = Some(why);
            }
            Some(Action::Unarm(why)) => site.unarmed = Some(why),
            Some(Action::Lose) => site.held = None,
        }
        self.touch(addr);
        if after == State::Gone
            && let Some(site) = self.sites.remove(&addr)
        {
            for id in site.probes {
                if let Some(probe) = self.probes.get_mut(&id) {
                    probe.gone = true;
                }
            }
        }
    }

    /// A site that nothing stands at and no probe is at leaves.
    fn drop_if_idle(&mut self, addr: Addr) {
        let idle =
            |site: &Site| site.probes.is_empty() && site.state == State::Still(Text::Original);
        if self.sites.get(&addr).is_some_and(idle) {
            self.sites.remove(&addr);
        }
    }

    /// Puts a site, and those it collides with, into the queue.
    fn touch(&mut self, addr: Addr) {
        let Some(site) = self.sites.get(&addr) else {
            return;
        };
        let (claim, hole) = (site.claim(), site.hole());
        self.touch_claim(claim);
        if let Some(hole) = hole {
            self.touch_claim(hole);
        }
    }

    /// Puts every site that claims a byte of `claim` into the queue.
    fn touch_claim(&mut self, claim: Span) {
        for (&other, site) in self.sites.range_mut(overlap::near(claim)) {
            if !site.dirty && site.claims(claim) {
                site.dirty = true;
                self.queue.push(other);
            }
        }
    }

    fn touch_all(&mut self) {
        for (&addr, site) in &mut self.sites {
            if !site.dirty {
                site.dirty = true;
                self.queue.push(addr);
            }
        }
    }
}

/// Forgets what may have changed meanwhile.
fn second_chance(site: &mut Site) {
    let lasting = |why: &Refusal| why.permanent();
    site.refusal = site.refusal.take().filter(lasting);
    site.unarmed = site.unarmed.take().filter(lasting);
    site.held = None;
}
