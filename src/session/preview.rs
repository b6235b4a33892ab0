//! The detour that a probe would get, as text. Nothing is written anywhere: the code is made for
//! addresses that a target might give it.

use super::detours::{Displaced, free_register};
use super::plan::Plan;
use crate::abi::{Activations, Layout};
use crate::arch::native::emit::{Environment, Template, listing};
use crate::arch::native::scan::WindowKind;
use crate::base::{Addr, ProbeId};
use crate::program::Program;

const SHARED_BLOCK: u32 = 0x1000_0000;
/// Where the detour lies, from its site.
const DISTANCE: u64 = 0x1000_0000;

/// Addresses that a target might give.
pub(super) fn environment(plan: &Plan) -> Environment {
    let probes = u32::try_from(plan.probes.len()).unwrap_or(u32::MAX >> 8);
    let largest = plan.largest_record();
    let ring = Layout::smallest_ring(largest);
    Environment {
        shared_block: SHARED_BLOCK,
        alive: SHARED_BLOCK - 4096,
        layout: Layout {
            probes,
            ring_size: ring,
            largest,
            blocks: 2,
            tables: plan.memory.tables.next_multiple_of(64),
            scratch: plan.memory.scratch.next_multiple_of(64),
            returns: plan.classes.iter().any(Program::at_return),
        },
        own_blocks: true,
        loads: true,
        maps: SHARED_BLOCK >> 1,
        activations: Some(Activations {
            thunks: SHARED_BLOCK >> 2,
            words: SHARED_BLOCK >> 3,
            pools: 1,
            pool_size: 1 << 16,
            unwind: SHARED_BLOCK >> 4,
        }),
    }
}

/// The instructions of a probe's detour, one a line; `None` for a probe that is refused.
pub fn preview(plan: &Plan, id: ProbeId) -> Option<Vec<String>> {
    let planned = plan.wanted.iter().find(|planned| planned.id == id)?;
    let ground = plan.ground.get(&planned.at)?;
    let class = *plan.class.get(id.0 as usize)?;
    let program = plan.classes.get(class as usize)?.clone();
    let environment = environment(plan);
    let window = ground.window;
    let free = free_register(window.dead_regs);
    let template = Template::new(&[program], &environment, !window.flags_dead, free).ok()?;
    let start = planned.at.0.wrapping_add(DISTANCE);
    let copy = start.wrapping_add(template.hot_len() as u64);
    let bytes = ground.original().get(..usize::from(window.len))?;
    let displaced = Displaced {
        at: planned.at,
        bytes,
        flags_live: !window.flags_dead,
        dead: window.dead_regs,
        nops: window.kind == WindowKind::Nop,
    };
    let displaced = displaced.copy(Addr(copy)).ok()?;
    let cold_at = copy.wrapping_add(displaced.bytes.len() as u64);
    let (hot, cold) = template.place(&[(id, 0)], planned.at.0, start, cold_at)?;
    let mut lines = Vec::new();
    for (title, bytes, at) in [
        ("handlers", &hot, start),
        ("displaced instructions", &displaced.bytes, copy),
        ("seldom", &cold, cold_at),
    ] {
        if !bytes.is_empty() {
            lines.push(format!("; {title}"));
        }
        let code = listing(bytes, at).into_iter();
        lines.extend(code.map(|(at, text)| format!("{at:#x}  {text}")));
    }
    Some(lines)
}
