//! How long the calls of a process's probed functions lasted, as far as they were delivered: for whoever
//! looks while it runs. Shared by the thread that traces and the one that drains.
//!
//! Invariant: of a probe that was never delivered with a duration nothing is kept; of others a few KiB.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{ProbeId, histogram};

/// Each power of two is cut into 2^BITS: durations are known within 1/16.
const BITS: u8 = 4;

/// What the calls of one function came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// How many.
    pub calls: u64,
    /// All durations together, in ns.
    pub total: u64,
    /// What 99 of 100 did not exceed, in ns, within 1/16.
    pub p99: u64,
}

#[derive(Debug, Default)]
struct Times {
    calls: u64,
    total: u64,
    buckets: Vec<u32>,
}

/// Durations by return probe.
#[derive(Debug, Default)]
pub struct Durations(Mutex<HashMap<ProbeId, Times>>);

impl Durations {
    fn lock(&self) -> MutexGuard<'_, HashMap<ProbeId, Times>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one call.
    pub(super) fn add(&self, probe: ProbeId, duration: u64) {
        let mut all = self.lock();
        let times = all.entry(probe).or_default();
        times.calls += 1;
        times.total = times.total.saturating_add(duration);
        let bucket = histogram::bucket(i64::try_from(duration).unwrap_or(i64::MAX), BITS);
        if times.buckets.len() <= bucket {
            times.buckets.resize(bucket + 1, 0);
        }
        if let Some(count) = times.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    /// What was taken in of a probe, if anything was.
    pub fn of(&self, probe: ProbeId) -> Option<Calls> {
        let all = self.lock();
        let times = all.get(&probe)?;
        let beyond = times.calls / 100;
        let mut above = 0;
        let mut p99 = 0;
        for (bucket, &count) in times.buckets.iter().enumerate().rev() {
            above += u64::from(count);
            if above > beyond {
                p99 = histogram::start(bucket + 1, BITS).saturating_sub(1);
                break;
            }
        }
        Some(Calls {
            calls: times.calls,
            total: times.total,
            p99,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_is_beyond_the_percentile() {
        let durations = Durations::default();
        let probe = ProbeId(3);
        assert_eq!(durations.of(probe), None);
        for n in 1..=1000 {
            durations.add(probe, n);
        }
        let calls = durations.of(probe).unwrap();
        assert_eq!((calls.calls, calls.total), (1000, 500_500));
        assert!((990..990 + 990 / 16).contains(&calls.p99), "{calls:?}");
        durations.add(ProbeId(4), u64::MAX);
        assert_eq!(durations.of(ProbeId(4)).unwrap().calls, 1);
        durations.add(ProbeId(5), 0);
        assert_eq!(durations.of(ProbeId(5)).unwrap().p99, 0);
    }
}
