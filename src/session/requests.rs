//! What may be asked of a session while it runs, and what is done about it. Everything concerns the
//! process whose socket it came by. Knows no sockets.
//!
//! Invariant: what cannot be read or done is answered with the reason, and changes nothing.

use serde::Deserialize;
use serde_json::{Value, json};

use super::run::Session;
use super::tracee::Tracee;
use crate::base::Pid;
use crate::data::{Missed, ProbeSummary};

/// A request.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    /// Every probe: where, how it stands, what it counted.
    List,
}

impl Session {
    /// Does what a line asks for, for a process. The answer, without the end of its line.
    pub(super) fn request(&mut self, pid: Pid, line: &str) -> anyhow::Result<String> {
        let answer = match serde_json::from_str(line) {
            Ok(request) => self.carry_out(pid, request)?,
            Err(error) => json!({ "error": format!("this is no request: {error}") }),
        };
        Ok(answer.to_string())
    }

    fn carry_out(&mut self, pid: Pid, request: Request) -> anyhow::Result<Value> {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return Ok(json!({ "error": format!("process {pid} is not traced any more") }));
        };
        Ok(match request {
            Request::List => tracee.listing(),
        })
    }
}

impl Tracee {
    /// Every probe, and how many sites stand how.
    fn listing(&self) -> Value {
        let summary = self.summary();
        json!({
            "ok": true, "pid": self.process.pid.0, "comm": self.comm,
            "armed": summary.armed, "jump": summary.jump, "trap": summary.trap,
            "probes": summary.probes.iter().map(listed).collect::<Vec<_>>(),
        })
    }
}

/// One probe of a list.
fn listed(probe: &ProbeSummary) -> Value {
    let info = &probe.info;
    let (symbol, offset) = parts(&info.name);
    let Missed {
        ring_full,
        abandoned,
        trap,
        untracked,
    } = probe.missed;
    json!({
        "id": info.id.0, "address": info.address.map(|at| at.to_string()),
        "kind": info.kind.name(), "symbol": symbol, "offset": offset, "module": info.module,
        "state": probe.state.name(), "reason": probe.reason, "hits": probe.hits,
        "missed": {
            "ring_full": ring_full, "abandoned": abandoned, "trap": trap, "untracked": untracked,
        },
    })
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
