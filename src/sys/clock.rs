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
