//! The detour that a probe would get, as text. Nothing is written anywhere: the code is made for
//! addresses that a target might give it.

use super::detours::{Displaced, free_register};
use super::plan::Plan;
use super::wanted::Memory;
use crate::abi::{Activations, Layout};
use crate::arch::native::emit::{Called, Environment, Template, listing};
use crate::arch::native::scan::WindowKind;
use crate::base::{Addr, ProbeId};
use crate::language::lower::Lowered;

const SHARED_BLOCK: u32 = 0x1000_0000;
/// Where the detour lies, from its site.
const DISTANCE: u64 = 0x1000_0000;
/// Where the code of a block lies that has no site.
const ALONE: u64 = 0x4000_0000;

/// Addresses that a target might give.
pub(super) fn environment(plan: &Plan) -> Environment {
    let probes = u32::try_from(plan.probes.len()).unwrap_or(u32::MAX >> 8);
    made(probes, plan.largest_record(), plan.memory)
}

fn made(probes: u32, largest: u32, memory: Memory) -> Environment {
    Environment {
        shared_block: SHARED_BLOCK,
        alive: SHARED_BLOCK - 4096,
        layout: Layout {
            probes,
            ring_size: Layout::smallest_ring(largest),
            largest,
            blocks: 2,
            tables: memory.tables.next_multiple_of(64),
            scratch: memory.scratch.next_multiple_of(64),
            returns: true,
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
    let (hot, cold) = template.place(&[(id, Called::default())], planned.at.0, start, cold_at)?;
    Some(listed(&[
        ("handlers", &hot, start),
        ("displaced instructions", &displaced.bytes, copy),
        ("seldom", &cold, cold_at),
    ]))
}

/// The instructions of a block of a program where nothing is known of its site: flags are kept, no
/// register is free. `own`: it runs in the tracer. `None` where there is no such block.
pub fn preview_block(lowered: &Lowered, index: usize, own: bool) -> Option<Vec<String>> {
    let program = lowered.blocks.get(index)?;
    let memory = Memory {
        tables: lowered.memory.thread,
        maps: lowered.memory.session,
        scratch: lowered.memory.scratch,
    };
    let environment = Environment {
        own_blocks: !own,
        loads: !own,
        ..made(1, program.largest_record(), memory)
    };
    let programs = std::slice::from_ref(program);
    let template = Template::new(programs, &environment, !own, None).ok()?;
    let cold_at = ALONE + template.hot_len() as u64;
    let (hot, cold) = template.place(&[(ProbeId(0), Called::default())], 0, ALONE, cold_at)?;
    Some(listed(&[
        ("handlers", &hot, ALONE),
        ("seldom", &cold, cold_at),
    ]))
}

fn listed(parts: &[(&str, &Vec<u8>, u64)]) -> Vec<String> {
    let mut lines = Vec::new();
    for &(title, bytes, at) in parts {
        if !bytes.is_empty() {
            lines.push(format!("; {title}"));
        }
        let code = listing(bytes, at).into_iter();
        lines.extend(code.map(|(at, text)| format!("{at:#x}  {text}")));
    }
    lines
}
