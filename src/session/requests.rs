//! What may be asked of a session while it runs, and what is done about it. Everything concerns the
//! process whose socket it came by. Knows no sockets.
//!
//! Invariant: what cannot be read or done is answered with the reason, and changes nothing.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::PlanError;
use super::run::Session;
use super::switch::Unknown;
use super::tracee::Tracee;
use crate::base::{Pid, ProbeId};
use crate::data::{Calls, Missed, ProbeSummary, SiteState};
use crate::spec::{ProbeSpec, parse_probe};

/// A request.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    /// Every probe: where, how it stands, what it counted.
    List {},
    /// All sites armed again.
    On {},
    /// All text original.
    Off {},
    /// Jumps allowed or not.
    Opt { on: bool },
    /// A probe switched on: its number, its name, a pattern.
    Enable { probe: Word },
    /// A probe switched off.
    Disable { probe: Word },
    /// A probe, as after -p.
    Add { probe: String },
    /// A probe taken away.
    Remove { probe: Word },
    /// The process let go.
    Detach {},
}

/// What names probes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Number(u32),
    Text(String),
}

impl Word {
    fn text(self) -> String {
        match self {
            Word::Number(number) => number.to_string(),
            Word::Text(text) => text,
        }
    }
}

fn failed(why: impl std::fmt::Display) -> Value {
    json!({ "error": why.to_string() })
}

impl Session {
    /// Does what a line asks for, for a process. The answer, without the end of its line.
    pub(super) fn request(&mut self, pid: Pid, line: &str) -> anyhow::Result<String> {
        let answer = match serde_json::from_str(line) {
            Ok(request) => self.carry_out(pid, request)?,
            Err(error) => json!({ "error": format!("this is no request: {error}"), "status": 2 }),
        };
        Ok(answer.to_string())
    }

    fn carry_out(&mut self, pid: Pid, request: Request) -> anyhow::Result<Value> {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return Ok(failed(format!("process {pid} is not traced any more")));
        };
        if let Request::List {} = request {
            return Ok(tracee.listing());
        }
        if let Request::Detach {} = request {
            return self.let_go(pid);
        }
        let request = match request {
            Request::Add { probe } if tracee.is_steady() => return self.add(pid, &probe),
            other => other,
        };
        if !tracee.is_steady() {
            return Ok(failed("it has only just begun, or is about to end"));
        }
        let done = match request {
            Request::List {} | Request::Detach {} | Request::Add { .. } => Ok(failed("not now")),
            Request::On {} => tracee.switch_on().map(|()| tracee.standing_now()),
            Request::Off {} => tracee.switch_off().map(|restored| {
                json!({
                    "ok": true, "restored": restored.sites, "foreign": restored.foreign,
                    "left": restored.left,
                })
            }),
            Request::Opt { on } => tracee.switch_jumps(on).map(|()| tracee.standing_now()),
            Request::Enable { probe } => {
                tracee.for_those(probe, |tracee, ids| tracee.switch_probes(ids, true))
            }
            Request::Disable { probe } => {
                tracee.for_those(probe, |tracee, ids| tracee.switch_probes(ids, false))
            }
            Request::Remove { probe } => {
                tracee.for_those(probe, |tracee, ids| tracee.remove_probes(ids))
            }
        };
        match done {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let answer = failed(format!("{error:#}"));
                self.bear(pid, Err(error))?;
                Ok(answer)
            }
        }
    }

    /// Adds a probe to a process. Others are not concerned, but for children that it has from now on.
    fn add(&mut self, pid: Pid, text: &str) -> anyhow::Result<Value> {
        let spec = match parse_probe(text) {
            Ok(spec) => spec,
            Err(wrong) => return Ok(json!({ "error": wrong.to_string(), "status": 2 })),
        };
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return Ok(failed("it has ended"));
        };
        if let Some(why) = tracee.cannot_add(&spec) {
            return Ok(failed(why));
        }
        let common = Rc::clone(&self.common);
        let known = {
            let wanted = common.wanted.borrow();
            let same = |(number, other): (usize, &ProbeSpec)| {
                let same = other.text == spec.text && other.kind == spec.kind;
                (same && wanted.program(number).is_none()).then_some(number)
            };
            wanted.specs.iter().enumerate().find_map(same)
        };
        let number = known.unwrap_or_else(|| {
            let mut wanted = common.wanted.borrow_mut();
            wanted.specs.push(spec);
            wanted.specs.len() - 1
        });
        if known.is_none() {
            let others = self.tracees.iter_mut().filter(|(other, _)| **other != pid);
            others.for_each(|(_, other)| {
                other.plan.others.insert(number);
            });
        }
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return Ok(failed("it has ended"));
        };
        tracee.plan.others.remove(&number);
        let why = match tracee.add_spec(number) {
            Ok(Ok(ids)) => {
                let mut answer = tracee.standing_now();
                answer["probes"] = ids.len().into();
                answer["ids"] = ids.iter().map(|id| id.0).collect();
                return Ok(answer);
            }
            Ok(Err(why)) => why,
            Err(error) => {
                let answer = failed(format!("{error:#}"));
                self.bear(pid, Err(error))?;
                return Ok(answer);
            }
        };
        if known.is_none() && matches!(why, PlanError::NoMatch(_) | PlanError::Spec(_)) {
            common.wanted.borrow_mut().specs.truncate(number);
            for tracee in self.tracees.values_mut() {
                tracee.plan.others.remove(&number);
                tracee.plan.asked.truncate(number);
            }
        }
        let status = match &why {
            PlanError::NoMatch(_) => 3,
            PlanError::Spec(_) => 2,
            PlanError::Other(_) => 1,
        };
        Ok(json!({ "error": why.to_string(), "status": status }))
    }

    /// Lets go of a process, and of all with the only one that was asked for.
    fn let_go(&mut self, pid: Pid) -> anyhow::Result<Value> {
        let only = self.roots.holds(pid) && !self.roots.are_many();
        if only || self.tracees.len() == 1 {
            self.detach()?;
        } else {
            self.release(pid);
        }
        self.route()?;
        Ok(json!({ "ok": true }))
    }

    /// Switches all sites of all processes, and says what came of it.
    pub(super) fn switch_all(&mut self, on: bool) -> anyhow::Result<()> {
        let pids: Vec<Pid> = self.tracees.keys().copied().collect();
        for pid in pids {
            let request = if on { Request::On {} } else { Request::Off {} };
            let answer = self.carry_out(pid, request)?;
            let said = match answer["error"].as_str() {
                Some(error) => error.to_owned(),
                None => words(&answer),
            };
            self.common.warn(&format!("process {pid}: {said}"));
        }
        self.route()
    }
}

/// What an answer says, in words.
pub fn words(answer: &Value) -> String {
    let number = |key: &str| answer[key].as_u64();
    let counted = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut said = Vec::new();
    if let Some(sites) = number("restored") {
        said.push(format!(
            "off: {} restored and verified",
            counted(sites, "site")
        ));
    }
    if let Some(probes) = number("probes") {
        said.push(counted(probes, "probe"));
    }
    if let Some(armed) = number("armed") {
        said.push(match answer["on"] == false {
            true => "all is switched off".to_owned(),
            false => format!(
                "armed {}: {}, {}",
                counted(armed, "site"),
                counted(number("jump").unwrap_or(0), "jump"),
                counted(number("trap").unwrap_or(0), "trap")
            ),
        });
    }
    for (key, why) in [
        ("foreign", "with somebody else's bytes, and left alone"),
        (
            "left",
            "still there, while calls are under way or threads are inside",
        ),
    ] {
        if let Some(sites) = number(key).filter(|&sites| sites > 0) {
            said.push(format!("{} {why}", counted(sites, "site")));
        }
    }
    said.join("; ")
}

impl Tracee {
    /// Every probe, and how many sites stand how.
    fn listing(&self) -> Value {
        let summary = self.summary();
        let probes = summary.probes.iter();
        let probes = probes.filter(|probe| !self.plan.is_removed(probe.info.id));
        let rows = probes.map(|probe| listed(probe, self.durations.of(probe.info.id)));
        let rows: Vec<Value> = rows.chain(self.waiting()).collect();
        json!({
            "ok": true, "pid": self.process.pid.0, "comm": self.comm,
            "armed": summary.armed, "jump": summary.jump, "trap": summary.trap,
            "on": self.registry.is_on(), "optimise": self.registry.optimises(),
            "probes": rows,
        })
    }

    /// Probes that name nothing yet.
    fn waiting(&self) -> Vec<Value> {
        let wanted = self.common.wanted.borrow();
        let specs = wanted.specs.iter().zip(&self.plan.asked).enumerate();
        let waits = specs.filter(|(number, (_, asked))| {
            asked.matched == 0 && !self.plan.others.contains(number)
        });
        let row = |(_, (spec, _)): (usize, (&ProbeSpec, _))| {
            let (module, name) = spec.text.split_once(':').unwrap_or(("", &spec.text));
            json!({
                "id": null, "address": null, "kind": "entry", "symbol": name, "offset": 0,
                "module": module, "state": SiteState::Pending.name(),
                "reason": "it names nothing that is mapped", "hits": 0,
                "missed": { "ring_full": 0, "abandoned": 0, "trap": 0, "untracked": 0 },
            })
        };
        waits.map(row).collect()
    }

    /// How many sites stand how.
    fn standing_now(&self) -> Value {
        let counts = self.user_counts();
        json!({
            "ok": true, "armed": counts.armed, "jump": counts.jump, "trap": counts.trap,
            "on": self.registry.is_on(),
        })
    }

    /// Does something with the probes that a word means.
    fn for_those(
        &mut self,
        word: Word,
        work: impl FnOnce(&mut Tracee, &[ProbeId]) -> anyhow::Result<usize>,
    ) -> anyhow::Result<Value> {
        let ids = match self.meant(&word.text()) {
            Ok(ids) => ids,
            Err(Unknown::Word(why)) => return Ok(json!({ "error": why, "status": 2 })),
            Err(Unknown::Nothing(why)) => return Ok(json!({ "error": why, "status": 3 })),
        };
        let probes = work(self, &ids)?;
        let mut answer = self.standing_now();
        answer["probes"] = probes.into();
        Ok(answer)
    }
}

/// One probe of a list, with what is known of its calls.
fn listed(probe: &ProbeSummary, calls: Option<Calls>) -> Value {
    let info = &probe.info;
    let (symbol, offset) = parts(&info.name);
    let Missed {
        ring_full,
        abandoned,
        trap,
        untracked,
        crowded,
        runtime,
    } = probe.missed;
    let mut row = json!({
        "id": info.id.0, "address": info.address.map(|at| at.to_string()),
        "kind": info.kind.name(), "symbol": symbol, "offset": offset, "module": info.module,
        "state": probe.state.name(), "reason": probe.reason, "hits": probe.hits,
        "missed": {
            "ring_full": ring_full, "abandoned": abandoned, "trap": trap, "untracked": untracked,
            "crowded": crowded, "runtime": runtime,
        },
    });
    if let Some(calls) = calls {
        row["calls"] = calls.calls.into();
        row["total_ns"] = calls.total.into();
        row["p99_ns"] = calls.p99.into();
    }
    row
}

/// A name as symbol and offset.
fn parts(name: &str) -> (&str, u64) {
    let offset = |text: &str| u64::from_str_radix(text, 16).ok();
    match name.rsplit_once("+0x") {
        Some((symbol, text)) => match offset(text) {
            Some(offset) => (symbol, offset),
            None => (name, 0),
        },
        None => (name, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_told_from_a_name_that_looks_like_one() {
        assert_eq!(parts("f"), ("f", 0));
        assert_eq!(parts("f+0x1c"), ("f", 0x1c));
        assert_eq!(parts("a::f(+0xg)"), ("a::f(+0xg)", 0));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for line in [
            "",
            "{}",
            "[]",
            "{\"do\":\"dance\"}",
            "{\"do\":\"list\",\"x\":1}",
            "list",
        ] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
        assert!(serde_json::from_str::<Request>("{\"do\":\"list\"}").is_ok());
    }
}
