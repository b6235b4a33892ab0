//! Streams of hits, made by hand or at random.

use crate::base::{Addr, Pid, ProbeId, Tid};
use crate::data::{ArgValue, End, Hit, ProbeInfo, ProbeKind, Return, Sink};
use crate::program::{IntFormat, Width};

/// One record.
#[derive(Clone, Debug)]
pub(in crate::output) struct Event {
    pub(in crate::output) tid: i32,
    pub(in crate::output) time: u64,
    pub(in crate::output) end: Option<Return>,
    info: ProbeInfo,
    values: Vec<u64>,
    returns: bool,
}

impl Event {
    pub(in crate::output) fn with<T>(&self, use_it: impl FnOnce(&Hit<'_>) -> T) -> T {
        let values = self.values.iter();
        let values: Vec<ArgValue<'_>> = values
            .map(|value| ArgValue::Int(*value, IntFormat::Hex(Width::W64)))
            .collect();
        use_it(&Hit {
            probe: &self.info,
            time: Some(self.time),
            pid: Pid(10),
            tid: Some(Tid(self.tid)),
            comm: "prog",
            values: &values,
            end: self.end,
            returns: self.returns,
            stack: &[],
        })
    }
}

/// Records in the order they are delivered.
#[derive(Clone, Debug, Default)]
pub(in crate::output) struct Events(pub(in crate::output) Vec<Event>);

type Args<'a> = &'a [(&'a str, u64)];

impl Events {
    fn add(&mut self, tid: i32, name: &str, time: u64, end: Option<Return>, args: Args<'_>) {
        let hash = name.bytes().fold(7_u32, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        });
        let kind = match end {
            None => ProbeKind::Entry,
            Some(_) => ProbeKind::Return,
        };
        self.0.push(Event {
            tid,
            time,
            end,
            info: ProbeInfo {
                id: ProbeId(2 * (hash % 1000) + u32::from(end.is_some())),
                name: name.into(),
                module: "prog".into(),
                address: Some(Addr(hash.into())),
                offset: None,
                args: args.iter().map(|(name, _)| (*name).to_owned()).collect(),
                kind,
            },
            values: args.iter().map(|(_, value)| *value).collect(),
            returns: true,
        });
    }

    pub(in crate::output) fn enter(&mut self, tid: i32, name: &str, time: u64, args: Args<'_>) {
        self.add(tid, name, time, None, args);
    }

    /// A hit at the entry of a function whose return is not probed.
    pub(in crate::output) fn pass(&mut self, tid: i32, name: &str, time: u64) {
        self.add(tid, name, time, None, &[]);
        if let Some(event) = self.0.last_mut() {
            event.returns = false;
        }
    }

    pub(in crate::output) fn leave(
        &mut self,
        tid: i32,
        name: &str,
        time: u64,
        duration: u64,
        args: Args<'_>,
    ) {
        let end = Return {
            end: End::Returned(0),
            duration: Some(duration),
        };
        self.add(tid, name, time, Some(end), args);
    }

    pub(in crate::output) fn end(
        &mut self,
        tid: i32,
        name: &str,
        time: u64,
        duration: u64,
        end: End,
    ) {
        let end = Return {
            end,
            duration: Some(duration),
        };
        self.add(tid, name, time, Some(end), &[]);
    }

    pub(in crate::output) fn play(&self, sink: &mut dyn Sink) {
        for event in &self.0 {
            event.with(|hit| sink.hit(hit)).unwrap();
        }
    }
}
