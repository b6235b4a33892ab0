//! The cut-out for breakpoints that are hit too often: a token bucket for each trap site. Pure;
//! time is passed in. A hit through a breakpoint stops its thread for 8 to 40 us, so a hot one
//! slows the target more than a trace is worth.
//!
//! Invariant: within any t seconds a site passes at most `burst + rate * t` hits before it is
//! reported as too hot.

use std::collections::BTreeMap;

use crate::base::Addr;

/// How often a breakpoint may be hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Hits per second that may go on for ever; 0 means no limit.
    pub rate: u32,
    /// Hits beyond that which may come at once.
    pub burst: u32,
}

impl Limit {
    /// No limit.
    pub const NONE: Limit = Limit { rate: 0, burst: 0 };

    /// A limit of `rate` hits a second, over two seconds.
    pub fn per_second(rate: u32) -> Limit {
        Limit {
            rate,
            burst: rate.saturating_mul(2),
        }
    }
}

impl Default for Limit {
    /// 10,000 hits a second: a tenth to two fifths of a core spent in stops.
    fn default() -> Self {
        Limit::per_second(10_000)
    }
}

/// Hits are counted in billionths, so that a refill of `ns * rate` is exact.
const HIT: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: u64,
    seen: u64,
}

/// The buckets of all trap sites that were hit.
#[derive(Clone, Debug)]
pub struct Throttle {
    limit: Limit,
    buckets: BTreeMap<Addr, Bucket>,
}

impl Throttle {
    /// With full buckets.
    pub fn new(limit: Limit) -> Throttle {
        Throttle {
            limit,
            buckets: BTreeMap::new(),
        }
    }

    /// Counts a hit of the breakpoint at `addr` at time `now`, in ns of a monotonic clock. False:
    /// it is hit too often and should be switched off (`Registry::too_hot`).
    pub fn hit(&mut self, addr: Addr, now: u64) -> bool {
        if self.limit.rate == 0 {
            return true;
        }
        let full = u64::from(self.limit.burst.max(1)).saturating_mul(HIT);
        let bucket = self.buckets.entry(addr).or_insert(Bucket {
            level: full,
            seen: now,
        });
        let passed = now.saturating_sub(bucket.seen);
        bucket.seen = bucket.seen.max(now);
        bucket.level = passed
            .saturating_mul(self.limit.rate.into())
            .saturating_add(bucket.level)
            .min(full);
        match bucket.level.checked_sub(HIT) {
            Some(rest) => {
                bucket.level = rest;
                true
            }
            None => false,
        }
    }

    /// Forgets a site: it was switched on again, became a jump or left.
    pub fn forget(&mut self, addr: Addr) {
        self.buckets.remove(&addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_rate_at_the_limit_goes_on_for_ever() {
        let mut throttle = Throttle::new(Limit {
            rate: 1000,
            burst: 1,
        });
        assert!((0..10_000).all(|i| throttle.hit(Addr(1), i * SECOND / 1000)));
    }

    #[test]
    fn a_burst_passes_and_the_hit_after_it_does_not() {
        let mut throttle = Throttle::new(Limit { rate: 10, burst: 3 });
        assert!((0..3).all(|_| throttle.hit(Addr(1), 5)));
        assert!(!throttle.hit(Addr(1), 5));
        assert!(throttle.hit(Addr(2), 5), "sites do not share a bucket");
        assert!(!throttle.hit(Addr(1), 5 + SECOND / 10 - 1));
        assert!(throttle.hit(Addr(1), 5 + SECOND / 10));
    }

    #[test]
    fn time_that_goes_back_or_leaps_is_harmless() {
        let mut throttle = Throttle::new(Limit {
            rate: u32::MAX,
            burst: 1,
        });
        assert!(throttle.hit(Addr(1), u64::MAX));
        assert!(!throttle.hit(Addr(1), 0));
        assert!(!throttle.hit(Addr(1), u64::MAX));
    }

    #[test]
    fn rate_zero_is_no_limit_and_forgetting_refills() {
        let mut throttle = Throttle::new(Limit::NONE);
        assert!((0..1000).all(|_| throttle.hit(Addr(1), 0)));
        let mut throttle = Throttle::new(Limit { rate: 1, burst: 1 });
        assert!(throttle.hit(Addr(1), 0) && !throttle.hit(Addr(1), 0));
        throttle.forget(Addr(1));
        assert!(throttle.hit(Addr(1), 0));
    }
}
