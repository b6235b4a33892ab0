//! What the registry tells about its sites and probes: where they are, how they stand and why, who
//! owns a byte, what a detour must do. Changes nothing.

use std::collections::BTreeSet;

use super::Refusal;
use super::overlap;
use super::registry::Registry;
use super::site::{Detour, Site, Status};
use super::state::{State, Text};
use crate::base::{Addr, ProbeId};

/// How many sites there are, by what stands there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sites that are breakpoints or jumps.
    pub armed: usize,
    /// Jumps.
    pub jump: usize,
    /// Breakpoints, the queued ones included.
    pub trap: usize,
    /// Breakpoints that wait to become jumps.
    pub queued: usize,
    /// Wanted, not armed yet.
    pub pending: usize,
    /// Switched off.
    pub disabled: usize,
    /// Not armed, for a reason.
    pub refused: usize,
    /// Somebody else's bytes.
    pub foreign: usize,
    /// Probes whose mapping vanished.
    pub gone: usize,
}

impl Registry {
    /// The site at an address.
    pub fn site(&self, addr: Addr) -> Option<&Site> {
        self.sites.get(&addr)
    }
    /// All sites, by address. Those without probes are leaving, or foreign.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.sites.values()
    }
    /// Sites that are breakpoints or jumps now, from an address on.
    pub fn standing(&self, from: Addr) -> impl Iterator<Item = (Addr, Text)> {
        let still = |(&at, site): (&Addr, &Site)| match site.state {
            State::Still(text) if text != Text::Original => Some((at, text)),
            _ => None,
        };
        self.sites.range(from..).filter_map(still)
    }
    /// Where a probe is, or was when its mapping vanished.
    pub fn site_of(&self, id: ProbeId) -> Option<Addr> {
        self.probes.get(&id).map(|probe| probe.addr)
    }
    /// The probes of a site, oldest first.
    pub fn probes_at(&self, addr: Addr) -> &[ProbeId] {
        self.sites.get(&addr).map_or(&[], Site::probes)
    }
    /// The site whose int3 or jump a text byte is, will be, or was when it became foreign.
    pub fn owner_of(&self, byte: Addr) -> Option<Addr> {
        overlap::owner(&self.sites, byte).map(Site::addr)
    }
    /// Whether sites are armed at all.
    pub fn is_on(&self) -> bool {
        self.armed
    }
    /// Sites that stay armed when all others are not.
    pub fn staying(&self) -> &BTreeSet<Addr> {
        &self.stays
    }
    /// Whether breakpoints become jumps.
    pub fn optimises(&self) -> bool {
        self.policy.optimise
    }
    /// Whether a probe is switched on (its own switch).
    pub fn is_enabled(&self, id: ProbeId) -> Option<bool> {
        self.probes.get(&id).map(|probe| probe.enabled)
    }

    /// The detour that a site must have: of the step that is under way, else of its present state.
    pub fn detour(&self, addr: Addr) -> Option<Detour> {
        let site = self.sites.get(&addr)?;
        let built = match site.state {
            State::Moving { .. } => site.building,
            _ => site.built,
        };
        let enabled = |id: &ProbeId| self.is_enabled(*id).unwrap_or(false);
        Some(Detour {
            probes: site.probes.iter().copied().filter(enabled).collect(),
            whole: built.whole,
        })
    }

    /// How a probe stands, and why it is not a jump.
    pub fn state_of(&self, id: ProbeId) -> Option<(Status, Option<Refusal>)> {
        let probe = self.probes.get(&id)?;
        if probe.gone {
            return Some((Status::Gone, None));
        }
        let site = self.sites.get(&probe.addr)?;
        if !probe.enabled && !site.foreign() {
            return Some((Status::Disabled, None));
        }
        Some(self.status(site))
    }

    /// How a site stands, and why it is not a jump.
    pub fn status(&self, site: &Site) -> (Status, Option<Refusal>) {
        let (goal, why) = self.goal(site, overlap::surroundings(&self.sites, site).blocker);
        let text = match site.state {
            State::Gone => return (Status::Gone, None),
            State::Foreign(_) => return (Status::Foreign, Some(Refusal::Foreign)),
            State::Still(text) | State::Moving { from: text, .. } => text,
        };
        match (text, goal) {
            (_, Text::Original) => match why {
                Some(Refusal::Off | Refusal::TooHot) | None => (Status::Disabled, why),
                Some(_) => (Status::Refused, why),
            },
            (Text::Original, _) => {
                let owner = overlap::owner(&self.sites, site.addr)
                    .map(Site::addr)
                    .filter(|&owner| owner != site.addr);
                (Status::Pending, owner.map(Refusal::BlockedBy).or(why))
            }
            (Text::Trap, Text::Jump) => (Status::Queued, None),
            (Text::Trap, _) => (Status::Trap, why),
            (Text::Jump, _) => (Status::Jump, why),
        }
    }

    /// Sites that have probes, by status. Takes time proportional to their number.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            gone: self.probes.values().filter(|probe| probe.gone).count(),
            ..Counts::default()
        };
        for site in self.sites.values() {
            let (status, _) = self.status(site);
            if site.probes.is_empty() && status != Status::Foreign {
                continue;
            }
            let field = match status {
                Status::Pending => &mut counts.pending,
                Status::Trap => &mut counts.trap,
                Status::Queued => &mut counts.queued,
                Status::Jump => &mut counts.jump,
                Status::Disabled => &mut counts.disabled,
                Status::Gone => &mut counts.gone,
                Status::Foreign => &mut counts.foreign,
                Status::Refused => &mut counts.refused,
            };
            *field += 1;
        }
        counts.trap += counts.queued;
        counts.armed = counts.trap + counts.jump;
        counts
    }
}
