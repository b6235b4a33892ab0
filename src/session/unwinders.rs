//! Unwinders of the target: they are told of the frames of thunks, so that exceptions, backtraces and
//! cancellation pass through calls whose returns are probed. Knows libgcc's, by its symbols.

use anyhow::Context as _;

use super::hooks::Hook;
use super::module::Module;
use super::tracee::Tracee;
use crate::abi;
use crate::arch::native::emit::unwind::slot;
use crate::base::Addr;
use crate::data::ProbeKind;
use crate::program::Program;
use crate::symbols::NamePattern;

/// The function that looks for the unwind information of an address, and that which tells the address
/// of a frame (libgcc's `unwind-dw2-fde.c`, `unwind-dw2.c`).
const FIND: &str = "_Unwind_Find_FDE";
const GET_IP: &str = "_Unwind_GetIP";

/// LLVM's has both, for others to call, and does not use the first; these it has alone.
const OF_LLVM: [&str; 3] = ["__unw_add_dynamic_fde", "unw_step", "__unw_step"];

/// Whether a file has an unwinder that can be told of thunks.
pub(super) fn is_known(module: &Module) -> bool {
    let has = |name: &&str| function(module, name).is_some();
    has(&FIND) && !OF_LLVM.iter().any(has)
}

/// One unwinder.
#[derive(Clone, Copy, Debug)]
struct Unwinder {
    find: Addr,
    get_ip: Addr,
    class: u32,
}

/// Those that were found in a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Unwinders(Vec<Unwinder>);

impl Unwinders {
    /// The program of the detour at an unwinder's function.
    pub(super) fn class_at(&self, at: Addr) -> Option<u32> {
        let unwinder = self.0.iter().rfind(|unwinder| unwinder.find == at);
        unwinder.map(|unwinder| unwinder.class)
    }
}

fn function(module: &Module, name: &str) -> Option<Addr> {
    let symbols = module.symbols();
    let found = symbols.matching(&NamePattern::exact(name));
    let entry = found.into_iter().find_map(|i| symbols.entries().get(i))?;
    Some(entry.at.at(module.bias))
}

impl Tracee {
    /// Looks for unwinders among what is mapped.
    pub(super) fn find_unwinders(&mut self) -> anyhow::Result<()> {
        if !self.common.wanted.borrow().returns() {
            return Ok(());
        }
        let both = |module: &Module| Some((function(module, FIND)?, function(module, GET_IP)?));
        let known = self.plan.modules.iter().filter(|module| is_known(module));
        let mut found: Vec<(Addr, Addr)> = known.filter_map(both).collect();
        found.retain(|(find, _)| !self.hooks.at(*find).contains(&Hook::Unwinder));
        for (find, get_ip) in found {
            let known = self
                .unwinders
                .0
                .iter()
                .position(|u| (u.find, u.get_ip) == (find, get_ip));
            if known.is_none() {
                let number = u32::try_from(self.unwinders.0.len()).unwrap_or(u32::MAX);
                if number >= abi::UNWIND_SLOTS {
                    self.notes.push(
                        "the program has more unwinders than can be told of calls under way"
                            .to_owned(),
                    );
                    return Ok(());
                }
                let class = self.plan.class(Program::answer(number));
                self.unwinders.0.push(Unwinder {
                    find,
                    get_ip,
                    class,
                });
            }
            self.tell_unwinders()?;
            self.hook(find, Hook::Unwinder);
        }
        Ok(())
    }

    /// An unwinder that is not known may have come with a library: exceptions would end at calls whose
    /// returns are probed, so none is from here on.
    pub(super) fn give_returns_up(&mut self) {
        let Some(why) = self.plan.no_returns.clone() else {
            return;
        };
        for info in &self.plan.probes {
            if info.kind == ProbeKind::Return && self.registry.remove(info.id) {
                self.plan.refused.insert(info.id, why.clone());
            }
        }
    }

    /// Writes what unwinders are told, once there is memory for it.
    pub(super) fn tell_unwinders(&self) -> anyhow::Result<()> {
        let Some(live) = &self.live else {
            return Ok(());
        };
        let Some(activations) = live.injected.activations else {
            return Ok(());
        };
        for (unwinder, number) in self.unwinders.0.iter().zip(0..) {
            let slot = slot(&activations, number, unwinder.get_ip.0)
                .context("making what an unwinder is told")?;
            let at = Addr(activations.unwind_slot(number).into());
            anyhow::ensure!(
                live.injected.write_code(at, &slot.bytes),
                "no room for what an unwinder is told"
            );
        }
        Ok(())
    }
}
