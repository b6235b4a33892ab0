//! What the session tells a [`Sink`]: hits as they happen, what programs print, and a summary at the
//! end. Plain data; knows neither text nor JSON.

use std::io;
use std::sync::Arc;

use super::drain::Feed;
use super::name::Name;
use super::stack::Frame;
use super::value::{Cell, Datum, MapData};
use crate::base::{Addr, LinkAddr, Pid, ProbeId, Tid};
use crate::language::typed::Piece;
use crate::program::IntFormat;

/// The value of one argument at a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgValue<'a> {
    /// An integer and how to show it.
    Int(u64, IntFormat),
    /// A string's bytes, and whether its end was cut off. Anything may be in them.
    Str(&'a [u8], bool),
    /// Reading it faulted at this address.
    Fault(u64),
}

/// When a probe is hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// When control arrives.
    #[default]
    Entry,
    /// When the function returns.
    Return,
}

impl ProbeKind {
    /// The word in every output.
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Entry => "entry",
            ProbeKind::Return => "return",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned this.
    Returned(u64),
    /// In a call of another probed function, which returns in its place.
    Tail,
    /// An unwinder took its frame: an exception, or its thread ended.
    Unwound,
}

/// What is known of a call when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// How.
    pub end: End,
    /// Nanoseconds since the entry, where both times were taken.
    pub duration: Option<u64>,
}

/// What is known of a probe before it is hit. `name` and `module` come from untrusted files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeInfo {
    /// Its number.
    pub id: ProbeId,
    /// The bare demangled symbol, with `+0x..` when the probe is not at its entry.
    pub name: Name,
    /// File name of the module, such as `libc.so.6`.
    pub module: String,
    /// Run-time address; `None` while it is not resolved.
    pub address: Option<Addr>,
    /// Address in its file, as `MODULE+0x..` takes it; `None` while it is not resolved.
    pub offset: Option<LinkAddr>,
    /// Names of its arguments, in the order of a hit's values.
    pub args: Vec<String>,
    /// When it is hit.
    pub kind: ProbeKind,
}

/// One recorded hit.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    /// The probe.
    pub probe: &'a ProbeInfo,
    /// Wall-clock time in nanoseconds since 1970, when the record took one.
    pub time: Option<u64>,
    /// The process.
    pub pid: Pid,
    /// The thread; `None` where it could not be told.
    pub tid: Option<Tid>,
    /// The process's command name (`/proc/PID/comm`), untrusted.
    pub comm: &'a str,
    /// One value for each of the probe's arguments; none when a call did not return.
    pub values: &'a [ArgValue<'a>],
    /// Of a return probe, how the call ended.
    pub end: Option<Return>,
    /// Of a probe at an entry, whether the function's return is probed too.
    pub returns: bool,
    /// Who called whom, the innermost first, where that was asked for: each with what is inlined there.
    pub stack: &'a [Arc<[Frame]>],
}

/// State of a site as users see it (design, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SiteState {
    /// Named, not mapped yet.
    Pending,
    /// A breakpoint.
    Trap,
    /// A breakpoint that waits to become a jump.
    Queued,
    /// A jump.
    Jump,
    /// Switched off.
    Disabled,
    /// Its mapping went away.
    Gone,
    /// Its bytes are somebody else's.
    Foreign,
    /// Never armed: it was refused, for the reason beside it.
    Refused,
}

impl SiteState {
    /// The word in every output.
    pub fn name(self) -> &'static str {
        match self {
            SiteState::Pending => "pending",
            SiteState::Trap => "trap",
            SiteState::Queued => "queued",
            SiteState::Jump => "jump",
            SiteState::Disabled => "disabled",
            SiteState::Gone => "gone",
            SiteState::Foreign => "foreign",
            SiteState::Refused => "refused",
        }
    }
}

/// Hits that were not delivered, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// The ring had no room.
    pub ring_full: u64,
    /// The record was begun and never finished: its thread died or jumped out of a signal handler.
    pub abandoned: u64,
    /// A breakpoint was taken back before its hit was dealt with.
    pub trap: u64,
    /// The return was not seen: the thread has no memory of its own.
    pub untracked: u64,
    /// The return was not seen: too many calls of the thread were under way.
    pub crowded: u64,
    /// The return was not seen: it is to code that a runtime made.
    pub runtime: u64,
}

impl Missed {
    /// All causes together.
    pub fn total(self) -> u64 {
        self.ring_full
            .saturating_add(self.abandoned)
            .saturating_add(self.trap)
            .saturating_add(self.unseen())
    }

    /// Calls whose return was not seen.
    pub fn unseen(self) -> u64 {
        self.untracked
            .saturating_add(self.crowded)
            .saturating_add(self.runtime)
    }
}

/// How one probe fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSummary {
    /// The probe.
    pub info: Arc<ProbeInfo>,
    /// The state its site had when tracing ended, before disarming.
    pub state: SiteState,
    /// Why it is not a jump.
    pub reason: Option<String>,
    /// How often it was hit, the missed ones included; `None` where that is not counted, as a program
    /// of the language counts what it says only.
    pub hits: Option<u64>,
    /// How many of these were not delivered.
    pub missed: Missed,
    /// Of a return probe, the calls that ended otherwise: they are no hits.
    pub ends: Ends,
}

/// Calls of a function whose return is probed that did not return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// They ended in a call of another probed function, which returned in their place.
    pub tail: u64,
    /// An unwinder took their frames.
    pub unwound: u64,
    /// They were under way when their process ended, began another program or was let go; `None` where
    /// that is not known.
    pub inside: Option<u64>,
    /// Calls that were under way when their process was forked: no entry of theirs was counted in it.
    pub inherited: u64,
}

/// What arming and disarming took of the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of text that were written to, by whole pages: each became a copy of its own.
    pub text_bytes: u64,
    /// How often it was stopped after it had begun.
    pub pauses: u64,
    /// The longest of these stops in nanoseconds.
    pub longest_pause: u64,
}

/// How one process fared while it ran one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSummary {
    /// The process.
    pub pid: Pid,
    /// Its command name, untrusted.
    pub comm: String,
    /// Hits of all probes that count them, the missed ones included; `None` where there are only others.
    pub hits: Option<u64>,
    /// How many of these were not delivered.
    pub missed: u64,
}

/// The end of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Every probe, in the order of their numbers.
    pub probes: Vec<ProbeSummary>,
    /// Sites that were armed.
    pub armed: usize,
    /// Of these, how many were jumps when tracing ended.
    pub jump: usize,
    /// And how many were breakpoints.
    pub trap: usize,
    /// What arming and disarming took.
    pub cost: Cost,
    /// The command name of the process, when it is about one.
    pub comm: String,
    /// Every program of every process that was traced, in the order they ended.
    pub processes: Vec<ProcessSummary>,
    /// Notes that a user must know: foreign bytes, memory left behind, sites switched off.
    pub notes: Vec<String>,
}

/// Where a session's results go. Implementations print; they may be slow, but see every hit. What
/// programs of the language print has methods of its own, which do nothing unless written.
pub trait Sink: Send {
    /// Says how many probes there are, before the first hit.
    fn armed(&mut self, probes: usize) -> io::Result<()>;
    /// One recorded hit.
    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()>;
    /// `printf(format, ...)`
    fn printed(&mut self, _format: &[Piece], _args: &[Datum]) -> io::Result<()> {
        Ok(())
    }
    /// `print(@m, top, div)`: only the `top` largest, divided by `div`; 0 for all, undivided. A map
    /// without keys that holds nothing is given with the zero of what it would hold.
    fn map(&mut self, _map: &MapData, _top: u64, _div: u64) -> io::Result<()> {
        Ok(())
    }
    /// `print(value)`, `print(@m[key])`
    fn value(&mut self, _value: &Cell) -> io::Result<()> {
        Ok(())
    }
    /// `time(format)`, formatted.
    fn time(&mut self, _text: &str) -> io::Result<()> {
        Ok(())
    }
    /// `join(array, separator)`
    fn join(&mut self, _parts: &[Vec<u8>], _separator: &str) -> io::Result<()> {
        Ok(())
    }
    /// `cat(path)`: what the file holds.
    fn cat(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
    /// `system(command)`: what the command wrote.
    fn system(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
    /// The programs have ended, their `END` blocks too: the maps to be shown, in any order.
    fn maps_at_end(&mut self, _maps: &[MapData]) -> io::Result<()> {
        Ok(())
    }
    /// Hits lost since the last call, as soon as it is known.
    fn lost(&mut self, events: u64) -> io::Result<()>;
    /// A process has ended, begun another program or was let go, and its records were delivered:
    /// what its blocks hold is not written any more, and forgotten after this.
    fn closed(&mut self, _feed: &Feed) -> io::Result<()> {
        Ok(())
    }
    /// The end.
    fn summary(&mut self, summary: &Summary) -> io::Result<()>;
    /// Everything written so far reaches its reader.
    fn flush(&mut self) -> io::Result<()>;
}
