//! Time stamp counter to wall time, calibrated against `CLOCK_MONOTONIC` while we run. Time never
//! goes back, whatever the wall clock does meanwhile.
//!
//! Invariant: what was told of a tick is told of it again, so that a duration is the difference of the
//! times of its ends; only calls that last longer than what is kept of the past are told by its oldest
//! slope.

use std::collections::VecDeque;

use crate::sys::clock;

/// Ticks that must pass before a slope is believed: a few milliseconds.
const ENOUGH: u64 = 1 << 23;
/// Ticks after which a slope is renewed at the latest: a second or two.
const LONG: u64 = 1 << 32;
/// Pieces of the past that are kept.
const PAST: usize = 4096;

/// From a tick on, until the next.
#[derive(Clone, Copy, Debug)]
struct Piece {
    ticks: u64,
    wall: u64,
    /// Nanoseconds for 2^32 ticks.
    slope: u64,
}

impl Piece {
    fn wall(&self, ticks: u64) -> u64 {
        let distance = i128::from(ticks.wrapping_sub(self.ticks).cast_signed());
        let nanoseconds = (distance * i128::from(self.slope)) >> 32;
        u64::try_from(i128::from(self.wall) + nanoseconds).unwrap_or(self.wall)
    }
}

/// A line in pieces through (ticks, nanoseconds), which grows at its end.
#[derive(Clone, Debug)]
pub struct Clock {
    invariant: bool,
    start_ticks: u64,
    start_monotonic: u64,
    start_wall: u64,
    /// Wall time of the last look, where ticks tell nothing.
    looked: u64,
    pieces: VecDeque<Piece>,
    /// The latest time that was told.
    told: u64,
}

impl Clock {
    /// Starts now; wall time is read once.
    pub fn start() -> Clock {
        let start = clock::moment();
        let wall = clock::wall();
        Clock {
            invariant: clock::ticks_are_invariant(),
            start_ticks: start.ticks,
            start_monotonic: start.nanos,
            start_wall: wall,
            looked: wall,
            pieces: VecDeque::new(),
            told: 0,
        }
    }

    /// Takes a new slope from all the time since the start, when it is much better than the last; the line
    /// stays in one piece.
    pub fn renew(&mut self) {
        if self.is_due(clock::ticks()) {
            let now = clock::moment();
            self.renew_at(now.ticks, now.nanos);
        }
    }

    fn is_due(&self, ticks: u64) -> bool {
        let passed = ticks.wrapping_sub(self.start_ticks);
        let enough = |last: &Piece| {
            let since = ticks.wrapping_sub(last.ticks);
            since >= LONG.min(passed / 2)
        };
        !self.invariant || (passed >= ENOUGH && self.pieces.back().is_none_or(enough))
    }

    fn renew_at(&mut self, ticks: u64, monotonic: u64) {
        let time = monotonic.saturating_sub(self.start_monotonic);
        if !self.invariant {
            // Records then carry the time at which they were read.
            self.looked = self.looked.max(self.start_wall.saturating_add(time));
            return;
        }
        if !self.is_due(ticks) {
            return;
        }
        let passed = ticks.wrapping_sub(self.start_ticks);
        let slope = (u128::from(time) << 32) / u128::from(passed.max(1));
        let slope = u64::try_from(slope).unwrap_or(u64::MAX);
        // Nothing was converted without a slope: the first holds from the start.
        let (from, wall) = match self.pieces.is_empty() {
            true => (self.start_ticks, self.start_wall),
            false => (ticks, self.wall(ticks)),
        };
        if self.pieces.len() == PAST {
            self.pieces.pop_front();
        }
        self.pieces.push_back(Piece {
            ticks: from,
            wall,
            slope,
        });
    }

    /// Whether ticks can be converted yet.
    pub fn is_ready(&self) -> bool {
        !self.invariant || !self.pieces.is_empty()
    }

    /// [`Clock::wall`] for ticks that come in order: what is told does not go back.
    pub fn next_wall(&mut self, ticks: u64) -> u64 {
        self.told = self.told.max(self.wall(ticks));
        self.told
    }

    /// Nanoseconds from one tick to a later one, where they can be told.
    pub fn between(&self, from: u64, to: u64) -> Option<u64> {
        let nanoseconds = || self.wall(to).saturating_sub(self.wall(from));
        self.invariant.then(nanoseconds)
    }

    /// Nanoseconds since 1970 at this tick.
    pub fn wall(&self, ticks: u64) -> u64 {
        if !self.invariant {
            return self.looked;
        }
        // Most are new.
        let last = self.pieces.back().filter(|last| last.ticks <= ticks);
        let holds = || {
            let after = self.pieces.partition_point(|piece| piece.ticks <= ticks);
            self.pieces.get(after.saturating_sub(1))
        };
        match last.or_else(holds) {
            Some(piece) => piece.wall(ticks),
            // Until there is better: 1 ns a tick.
            None => Piece {
                ticks: self.start_ticks,
                wall: self.start_wall,
                slope: 1 << 32,
            }
            .wall(ticks),
        }
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
            start_wall: 7_000_000_000,
            looked: 7_000_000_000,
            pieces: VecDeque::new(),
            told: 0,
        }
    }

    #[test]
    fn what_was_told_is_told_again_when_the_slope_changes() {
        let mut clock = clock();
        clock.renew_at(1000 + (1 << 24), 50 + (1 << 24));
        let (first, second) = (1000 + (1 << 25), 1000 + (1 << 25) + 1);
        let told = clock.next_wall(first);
        // Half the speed.
        clock.renew_at(1000 + (1 << 30), 50 + (1 << 31));
        assert_eq!(clock.wall(first), told);
        assert!(clock.next_wall(second) >= told);
        let last = 1000 + (1 << 31);
        let end = clock.next_wall(last);
        assert_eq!(clock.between(first, last), Some(end - told));
    }

    #[test]
    fn the_past_is_bounded() {
        let mut clock = clock();
        let mut told = 0;
        for n in 1..2 * PAST as u64 {
            clock.renew_at(1000 + n * LONG, 50 + n * LONG + n % 7);
            let now = clock.next_wall(1000 + n * LONG);
            assert!(now > told);
            told = now;
        }
        assert_eq!(clock.pieces.len(), PAST);
        assert!(clock.between(1000, 1000 + 2 * PAST as u64 * LONG).is_some());
    }

    #[test]
    fn ticks_become_nanoseconds_at_the_measured_rate() {
        let mut clock = clock();
        assert!(!clock.is_ready());
        // 2 GHz: half a nanosecond a tick.
        clock.renew_at(1000 + (1 << 24), 50 + (1 << 23));
        assert!(clock.is_ready());
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
