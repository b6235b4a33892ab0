//! Calls whose returns are probed, from outside: which thread takes activations from which pool, and
//! what becomes of those that are outstanding when we leave.
//!
//! Invariant: a return address is written only where the thunk's stands, in a process none of whose
//! threads runs.

use anyhow::Context as _;

use super::arm::Live;
use super::tracee::Tracee;
use crate::abi::Activations;
use crate::sys::mem::Memory;
use crate::sys::ptrace;
use crate::target::{State, outstanding, prepare_pool};

impl Tracee {
    /// The owner of a block takes from the pool of the same number, if there is one.
    pub(super) fn give_pool(&self, live: &Live, block: u32) -> anyhow::Result<()> {
        let pool = |activations: Activations| Some((activations, activations.pool(block)?));
        let Some((activations, pool)) = live.injected.activations.and_then(pool) else {
            return Ok(());
        };
        prepare_pool(&activations, &self.process.memory, pool)
            .context("writing to its memory for calls")?;
        live.injected.heads().tell_pool(block, pool);
        Ok(())
    }

    /// Stops the threads that are blocked in the kernel too, when calls are outstanding: their return
    /// addresses can be put back only while nobody runs.
    pub(super) fn stop_for_returns(&mut self) -> anyhow::Result<()> {
        let Some(activations) = self
            .live
            .as_ref()
            .and_then(|live| live.injected.activations)
        else {
            return Ok(());
        };
        if outstanding(&activations, &self.process.memory)?.is_empty() {
            return Ok(());
        }
        let running = self.process.threads.iter();
        let running: Vec<_> = running
            .filter(|(_, thread)| thread.state == State::Running)
            .map(|(&tid, _)| tid)
            .collect();
        for tid in running {
            if ptrace::interrupt(tid).is_ok() {
                if let Some(thread) = self.process.threads.get_mut(&tid) {
                    thread.interrupted = true;
                }
                self.process.await_stop(tid, &mut self.backlog)?;
            }
        }
        Ok(())
    }

    /// Puts return addresses back where they stood. Says whether some are left whose place is not known.
    pub(super) fn put_returns_back(&self) -> anyhow::Result<bool> {
        match &self.live {
            Some(Live { injected, .. }) => match &injected.activations {
                Some(activations) => put_back(activations, &self.process.memory),
                None => Ok(false),
            },
            None => Ok(false),
        }
    }
}

/// The same in any process that has these activations.
pub(super) fn put_back(activations: &Activations, memory: &Memory) -> anyhow::Result<bool> {
    let mut left = false;
    for call in outstanding(activations, memory).context("reading its calls")? {
        let point = activations.return_point(call.words);
        if memory.word(call.slot).is_ok_and(|word| word == point.0) {
            memory
                .write(call.slot, &call.returns_to.0.to_le_bytes())
                .context("putting back a return address")?;
            memory.write(call.words, &0_u64.to_le_bytes())?;
        } else {
            left = true;
        }
    }
    Ok(left)
}
