//! What arming a plan in a running process would take, before anything is touched. Sizes are those
//! that arming asks for; the pause is a guess from what arming took elsewhere.

use super::detours::most;
use super::patch::CHUNK;
use super::plan::Plan;
use super::preview::environment;
use crate::abi;
use crate::arch::native::emit::Template;

/// Nanoseconds that the longest pause takes for our memory to be put there, for each site, and for all
/// sites at most: those of a chunk. Medians of the report's longest pause at seven attaches each to a
/// busy thread, on an AMD EPYC guest with Linux 6.18: one site 2.7 ms, 3,578 sites 5.1 ms, 10,950 sites
/// 9.7 ms, 77,109 sites 17 ms.
const STOP: u64 = 2_700_000;
const WRITE: u64 = 650;
const MOST: u64 = 15_000_000;

/// What arming would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of code memory.
    pub code: u64,
    /// Bytes of counters and tables for each thread.
    pub counters: u64,
    /// How long the process stands still at a time, in nanoseconds.
    pub pause: u64,
    /// How often.
    pub pauses: u64,
}

/// What arming this plan would take.
pub fn estimate(plan: &Plan) -> Estimate {
    let environment = environment(plan);
    let sizes = plan.classes.iter().map(|program| {
        let template = Template::new(std::slice::from_ref(program), &environment, true, None);
        template.map_or(0, |template| most(&template))
    });
    let sizes: Vec<u64> = sizes.collect();
    let class = |id: crate::base::ProbeId| plan.class.get(id.0 as usize);
    let size = |planned: &super::plan::Planned| {
        let class = class(planned.id).map_or(usize::MAX, |&class| class as usize);
        // As arming does: twice, for detours that are built again.
        2 * sizes.get(class).copied().unwrap_or(0)
    };
    let all = plan.ground.len() as u64 * WRITE;
    Estimate {
        code: plan.wanted.iter().map(size).sum(),
        counters: u64::from(abi::COUNTERS)
            + 16 * plan.probes.len() as u64
            + u64::from(plan.memory.tables),
        pause: STOP + all.min(MOST),
        // One for our memory, and one for each chunk.
        pauses: 1 + (plan.ground.len() as u64).div_ceil(CHUNK as u64),
    }
}
