//! The handler of SIGTRAP in the target, for the time when breakpoints stand there and nobody traces
//! it any more: while we live a breakpoint never reaches it. It is there before the first breakpoint
//! is written and goes when the last is gone, and only where the program has no action of its own.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use anyhow::Context as _;

use super::arm::Live;
use super::tracee::Tracee;
use crate::base::{Addr, Tid};
use crate::sys::errno::{is_gone, sig};
use crate::sys::procfs;
use crate::sys::wait::Status;
use crate::target::{Landing as Table, Process, Remote, State, Thread, is_landing};

/// When the handler is put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// Where it can be.
    Auto,
    /// Where it can be; no breakpoint stays, so nothing is to be told where it cannot.
    Silent,
    /// Always: where it cannot be, nothing is armed.
    Required,
}

/// Whether the handler is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Landed {
    /// No, and nothing is in its way.
    #[default]
    Not,
    /// Yes.
    There,
    /// It cannot be, for this reason.
    Never(String),
}

const BIT: u64 = 1 << (sig::TRAP - 1);

impl Tracee {
    /// Puts the handler there by a call of this stopped thread, unless it is there.
    pub(super) fn land_by(&mut self, tid: Tid) -> anyhow::Result<()> {
        let (Some(live), Some(landing)) = (&self.live, self.process.landing().cloned()) else {
            return Ok(());
        };
        if live.landed != Landed::Not {
            return Ok(());
        }
        let why = match self.dispositions.action(sig::TRAP) {
            None => Some("its action for SIGTRAP cannot be read".to_owned()),
            Some(action) => match action.first_chunk().copied().map_or(0, u64::from_le_bytes) {
                0 => None,
                1 => Some("it ignores SIGTRAP".to_owned()),
                _ if is_landing(&self.process.memory, &action) => None,
                _ => Some("it handles SIGTRAP itself".to_owned()),
            },
        };
        let landed = match why {
            Some(why) => Landed::Never(why),
            None => match act(&mut self.process, tid, landing.action_at()) {
                Ok(()) => {
                    self.dispositions.set(sig::TRAP, landing.action());
                    Landed::There
                }
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => Landed::Never(error.to_string()),
            },
        };
        if let (Landing::Required, Landed::Never(why)) = (self.common.options.landing, &landed) {
            anyhow::bail!(
                "--trap landing: no handler can be put into the target: {why} (--trap auto arms all \
                 the same, --trap never only what can jump)"
            );
        }
        if let Some(live) = &mut self.live {
            live.landed = landed;
        }
        Ok(())
    }

    /// The handler must be there: breakpoints are about to be written, if only for a moment.
    pub(super) fn land(&mut self) -> anyhow::Result<()> {
        if self
            .live
            .as_ref()
            .is_none_or(|live| live.landed != Landed::Not)
        {
            return Ok(());
        }
        let tid = match self.idle() {
            Some(tid) => tid,
            None => self.one_stopped()?,
        };
        self.land_by(tid)
    }

    /// A thread that is stopped for nothing.
    fn idle(&self) -> Option<Tid> {
        let pid = self.process.pid;
        let idle = |thread: &Thread| {
            thread.process == pid && thread.state == State::Stopped(Status::Interrupted)
        };
        let mut threads = self.process.threads.iter();
        threads
            .find(|(_, thread)| idle(thread))
            .map(|(&tid, _)| tid)
    }

    /// Makes room in the table for so many sites, before the first of them is armed, and tells it of
    /// code that was added.
    pub(super) fn widen_landing(&mut self, sites: usize) -> anyhow::Result<()> {
        if let (Some(landing), Some(live)) = (self.process.landing(), &self.live) {
            landing.learn_code(&live.injected);
        }
        let small = |landing: &Arc<Table>| !landing.has_room_for(sites);
        let Some(old) = self.process.landing().cloned().filter(small) else {
            return Ok(());
        };
        let tid = self.one_stopped()?;
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        // Twice: libraries come one by one.
        live.injected
            .add_table(&mut self.process, tid, Table::size(2 * sites))
            .context("more room for its breakpoints")?;
        let wide =
            Table::new(&live.injected, old.used()).context("no place for its breakpoints")?;
        old.copy_to(&wide);
        let there = live.landed == Landed::There;
        if there {
            act(&mut self.process, tid, wide.action_at()).context("setting its SIGTRAP handler")?;
            self.dispositions.set(sig::TRAP, wide.action());
        }
        self.process.set_landing(Some(wide));
        Ok(())
    }

    /// Takes the handler away when no breakpoint of the user's is left, if there is a thread to do it.
    /// One of our own is hit when a library is loaded: hardly in the moment before the guardian has
    /// taken it back.
    pub(super) fn leave_landing(&mut self) -> anyhow::Result<()> {
        let needed = self.users_traps().next().is_some();
        match self.idle().filter(|_| !needed) {
            Some(tid) => self.unland(tid),
            None => Ok(()),
        }
    }

    /// Takes the handler away by a call of this stopped thread.
    pub(super) fn unland(&mut self, tid: Tid) -> anyhow::Result<()> {
        let (Some(live), Some(landing)) = (&self.live, self.process.landing().cloned()) else {
            return Ok(());
        };
        if live.landed != Landed::There {
            return Ok(());
        }
        let scratch = self.dispositions.scratch();
        match reset(
            &mut self.process,
            tid,
            scratch,
            landing.action(),
            landing.default_at(),
        ) {
            Ok(true) => self.dispositions.set(sig::TRAP, [0; 32]),
            Ok(false) => {}
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let why = format!("a handler of SIGTRAP was left in the target: {error}");
                self.notes.push(why);
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(live) = &mut self.live {
            live.landed = Landed::Not;
        }
        Ok(())
    }

    /// The actions were read anew. If the program has set one of its own, ours is gone and stays so;
    /// the default is what the kernel leaves where a breakpoint was hit with the signal blocked, and
    /// there ours is put back: to the program it does the same.
    pub(super) fn still_landed(&mut self, tid: Tid) -> anyhow::Result<()> {
        let landing = self.process.landing();
        let there = |live: &&mut Live| live.landed == Landed::There;
        let (Some(landing), Some(live)) = (landing, self.live.as_mut().filter(there)) else {
            return Ok(());
        };
        let ours = landing.action();
        let now = self.dispositions.action(sig::TRAP).unwrap_or(ours);
        if now[..8] == ours[..8] {
            return Ok(());
        }
        live.landed = Landed::Not;
        if now[..8] == [0; 8] {
            return self.land_by(tid);
        }
        live.landed = Landed::Never("it has set an action for SIGTRAP of its own".to_owned());
        self.tell_of_traps();
        Ok(())
    }

    /// Breakpoints that are there for a user's probes.
    fn users_traps(&self) -> impl Iterator<Item = Addr> {
        let traps = self.live.iter().flat_map(|live| live.traps.iter().copied());
        traps.filter(|at| {
            let probes = self.registry.probes_at(*at);
            probes.iter().any(|id| !self.hooks.is_hook(*id))
        })
    }

    /// Says what the end of kptrace would do to a target in which breakpoints of the user's stay. Our
    /// own are hit when a library is loaded, which is seldom, and the guardian takes them back.
    pub(super) fn tell_of_traps(&self) {
        let Some(live) = &self.live else {
            return;
        };
        if self.common.options.landing == Landing::Silent {
            return;
        }
        let what = match (&live.landed, self.users_traps().count()) {
            (_, 0) => return,
            (Landed::Never(why), traps) => format!(
                "{} must stay; if kptrace is killed, the next hit there ends the target, since {why} \
                 (--trap never leaves such sites out)",
                counted(traps, "breakpoint")
            ),
            _ => {
                let threads = self.process.threads.iter();
                let blocked = threads.filter(|(tid, thread)| {
                    procfs::status(thread.process, **tid).is_ok_and(|s| s.blocked & BIT != 0)
                });
                match blocked.count() {
                    0 => return,
                    n => format!(
                        "{} with SIGTRAP blocked: if kptrace is killed, a breakpoint that is hit there \
                         ends the target (--trap never leaves such sites out)",
                        counted(n, "thread")
                    ),
                }
            }
        };
        self.common.warn(&what);
    }

    /// Takes the handler out of a forked child whose text is clean.
    pub(super) fn unland_child(&self, remote: &mut Remote<'_>, sp: Addr) -> io::Result<()> {
        let (Some(live), Some(landing)) = (&self.live, self.process.landing()) else {
            return Ok(());
        };
        if live.landed != Landed::There {
            return Ok(());
        }
        // Blocks are not inherited: its own stack, far below what is in use.
        let scratch = Addr(sp.0.wrapping_sub(1024) & !15);
        let ours = landing.action();
        // Where there is no stack it cannot have set one of its own since it was born.
        if remote.sigaction(sig::TRAP, Addr(0), scratch).is_ok() {
            let mut now = [0; 8];
            remote.process().memory.read(scratch, &mut now)?;
            if now != ours[..8] {
                return Ok(());
            }
        }
        remote.sigaction(sig::TRAP, landing.default_at(), Addr(0))
    }
}

fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn act(process: &mut Process, tid: Tid, action: Addr) -> io::Result<()> {
    let mut remote = Remote::begin(process, tid)?;
    let result = remote.sigaction(sig::TRAP, action, Addr(0));
    remote.finish()?;
    result
}

/// Makes SIGTRAP's action the default if it is `ours`; whether it was.
fn reset(
    process: &mut Process,
    tid: Tid,
    scratch: Addr,
    ours: [u8; 32],
    default: Addr,
) -> io::Result<bool> {
    let mut remote = Remote::begin(process, tid)?;
    let result = remote
        .sigaction(sig::TRAP, Addr(0), scratch)
        .and_then(|()| {
            let mut now = [0; 8];
            remote.process().memory.read(scratch, &mut now)?;
            if now != ours[..8] {
                return Ok(false);
            }
            remote.sigaction(sig::TRAP, default, Addr(0)).map(|()| true)
        });
    remote.finish()?;
    result
}
