//! Time stamp counter to wall time, calibrated against `CLOCK_MONOTONIC` while we run. Time never
//! goes back, whatever the wall clock does meanwhile.

use crate::sys::clock;

/// Ticks that must pass before a slope is believed: a few milliseconds.
const ENOUGH: u64 = 1 << 23;

/// A line through (ticks, nanoseconds), renewed while it is used.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    invariant: bool,
    start_ticks: u64,
    start_monotonic: u64,
    anchor_ticks: u64,
    anchor_wall: u64,
    /// Nanoseconds for 2^32 ticks.
    slope: u64,
    /// The latest time that was told.
    told: u64,
}

impl Clock {
    /// Starts now; wall time is read once.
    pub fn start() -> Clock {
        let ticks = clock::ticks();
        Clock {
            invariant: clock::ticks_are_invariant(),
            start_ticks: ticks,
            start_monotonic: clock::monotonic(),
            anchor_ticks: ticks,
            anchor_wall: clock::wall(),
            // Until there is better: 1 ns a tick.
            slope: 1 << 32,
            told: 0,
        }
    }

    /// Takes a new slope from all the time since the start; the line stays in one piece.
    pub fn renew(&mut self) {
        self.renew_at(clock::ticks(), clock::monotonic());
    }

    fn renew_at(&mut self, ticks: u64, monotonic: u64) {
        let passed = ticks.wrapping_sub(self.start_ticks);
        let time = monotonic.saturating_sub(self.start_monotonic);
        if !self.invariant {
            // Records then carry the time at which they were read.
            self.anchor_wall += time.saturating_sub(self.slope);
            self.slope = time;
            return;
        }
        if passed < ENOUGH {
            return;
        }
        let slope = (u128::from(time) << 32) / u128::from(passed);
        if self.anchor_ticks == self.start_ticks {
            // Nothing was converted by the first guess: the start is still the anchor.
            self.slope = u64::try_from(slope).unwrap_or(self.slope);
            self.anchor_ticks = self.start_ticks.wrapping_add(1);
            return;
        }
        self.anchor_wall = self.wall(ticks);
        self.anchor_ticks = ticks;
        self.slope = u64::try_from(slope).unwrap_or(self.slope);
    }

    /// Whether ticks can be converted yet.
    pub fn is_ready(&self) -> bool {
        !self.invariant || self.anchor_ticks != self.start_ticks
    }

    /// [`Clock::wall`] for ticks that come in order: what lies before the last change of slope must not be
    /// told to be before what was told already.
    pub fn next_wall(&mut self, ticks: u64) -> u64 {
        self.told = self.told.max(self.wall(ticks));
        self.told
    }

    /// Nanoseconds from one tick to a later one, where they can be told.
    pub fn between(&self, from: u64, to: u64) -> Option<u64> {
        let ticks = u128::from(to.saturating_sub(from));
        let nanoseconds = (ticks * u128::from(self.slope)) >> 32;
        self.invariant
            .then(|| u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since 1970 at this tick.
    pub fn wall(&self, ticks: u64) -> u64 {
        if !self.invariant {
            return self.anchor_wall;
        }
        let distance = i128::from(ticks.wrapping_sub(self.anchor_ticks).cast_signed());
        let nanoseconds = (distance * i128::from(self.slope)) >> 32;
        u64::try_from(i128::from(self.anchor_wall) + nanoseconds).unwrap_or(self.anchor_wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock {
            invariant: true,
            start_ticks: 1000,
            start_monotonic: 50,
            anchor_ticks: 1000,
            anchor_wall: 7_000_000_000,
            slope: 1 << 32,
            told: 0,
        }
    }

    #[test]
    fn time_does_not_go_back_when_the_slope_becomes_less() {
        let mut clock = clock();
        clock.renew_at(1000 + (1 << 24), 50 + (1 << 24));
        let (first, second) = (1000 + (1 << 25), 1000 + (1 << 25) + 1);
        let told = clock.next_wall(first);
        // Half the speed, from a later anchor: a steeper line back to what comes next.
        clock.renew_at(1000 + (1 << 30), 50 + (1 << 31));
        assert!(clock.wall(second) < told);
        assert!(clock.next_wall(second) >= told);
    }

    #[test]
    fn ticks_become_nanoseconds_at_the_measured_rate() {
        let mut clock = clock();
        // 2 GHz: half a nanosecond a tick.
        clock.renew_at(1000 + (1 << 24), 50 + (1 << 23));
        let passed = clock.wall(1000 + 4000) - 7_000_000_000;
        assert!((1998..=2001).contains(&passed), "{passed}");
    }

    #[test]
    fn a_new_slope_does_not_move_the_present() {
        let mut clock = clock();
        clock.renew_at(1000 + (1 << 24), 50 + (1 << 23));
        let now = 1000 + (1 << 30);
        let before = clock.wall(now);
        clock.renew_at(now, 50 + (1 << 29) + 12345);
        assert_eq!(clock.wall(now), before);
        assert!(clock.wall(now + 10) >= before);
    }
}
