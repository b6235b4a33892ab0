//! Clocks: the time stamp counter, monotonic and wall time.

use nix::libc;

fn now(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable for the call; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec
        .cast_unsigned()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec.cast_unsigned())
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic() -> u64 {
    now(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_REALTIME` in nanoseconds since 1970.
pub fn wall() -> u64 {
    now(libc::CLOCK_REALTIME)
}

/// The time stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: `rdtsc` is available in user mode on every x86-64 Linux that does not set
    // PR_TSC_SIGSEGV for this process; we never do.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Ticks and `CLOCK_MONOTONIC` at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time stamp counter.
    pub ticks: u64,
    /// Nanoseconds.
    pub nanos: u64,
}

/// Both clocks now: of several looks at them that which took least, as we may be interrupted
/// between the two.
pub fn moment() -> Moment {
    const LOOKS: u32 = 64;
    let look = |_| {
        let before = ticks();
        let nanos = monotonic();
        let took = ticks().wrapping_sub(before);
        let ticks = before.wrapping_add(took / 2);
        (took, Moment { ticks, nanos })
    };
    let looks = (0..LOOKS).map(look).min_by_key(|(took, _)| *took);
    looks.map_or_else(|| look(0).1, |(_, moment)| moment)
}

/// Ticks to nanoseconds: `(ticks - start.ticks) * slope >> 32 + start.nanos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// A moment on it.
    pub start: Moment,
    /// Nanoseconds for 2^32 ticks.
    pub slope: u64,
}

impl Line {
    /// The line through two moments; a nanosecond a tick where they are the same.
    pub fn through(start: Moment, end: Moment) -> Line {
        let ticks = end.ticks.wrapping_sub(start.ticks);
        let nanos = u128::from(end.nanos.saturating_sub(start.nanos));
        let slope = (nanos << 32).checked_div(u128::from(ticks));
        Line {
            start,
            slope: slope.map_or(1 << 32, |slope| u64::try_from(slope).unwrap_or(1 << 32)),
        }
    }

    /// Nanoseconds at these ticks, as generated code computes them.
    pub fn nanos(&self, ticks: u64) -> u64 {
        let passed = u128::from(ticks.wrapping_sub(self.start.ticks));
        let nanos = (passed * u128::from(self.slope)) >> 32;
        self.start.nanos.wrapping_add(nanos as u64)
    }
}

/// Waits until so many nanoseconds have passed since a moment.
pub fn wait_since(start: Moment, nanos: u64) {
    let passed = monotonic().saturating_sub(start.nanos);
    std::thread::sleep(std::time::Duration::from_nanos(
        nanos.saturating_sub(passed),
    ));
}

/// Whether the time stamp counter runs at one rate in every state (CPUID 0x8000_0007, edx bit 8).
pub fn ticks_are_invariant() -> bool {
    let max = std::arch::x86_64::__cpuid(0x8000_0000).eax;
    max >= 0x8000_0007 && std::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) != 0
}

/// Gives other threads a chance: at once the first times, later by sleeping a little.
pub fn pause(times: u32) {
    if times < 256 {
        std::thread::yield_now();
    } else {
        nap();
    }
}

/// Sleeps a little.
pub fn nap() {
    std::thread::sleep(std::time::Duration::from_micros(50));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_two_moments_leads_to_later_ones() {
        if !ticks_are_invariant() {
            return;
        }
        let start = moment();
        wait_since(start, 16_000_000);
        let line = Line::through(start, moment());
        wait_since(start, 200_000_000);
        let later = moment();
        let passed = later.nanos - start.nanos;
        let off = line.nanos(later.ticks).abs_diff(later.nanos);
        assert!(off * 100_000 < passed, "{off} ns off after {passed} ns");
    }

    #[test]
    fn moments_that_are_the_same_make_a_line() {
        let moment = Moment {
            ticks: 5,
            nanos: 100,
        };
        let line = Line::through(moment, moment);
        assert_eq!((line.nanos(5), line.nanos(15)), (100, 110));
    }
}
