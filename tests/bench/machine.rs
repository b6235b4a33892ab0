//! The machine: which processors there are for the target and for the rest, and how loaded it is.

use std::fmt;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// What the tables' head says, and where things run.
pub struct Machine {
    all: CpuSet,
    /// The processor of the measured thread.
    pub target: usize,
    /// The processor of everything else; the same one if there is no other.
    pub rest: usize,
    model: String,
}

impl Machine {
    /// Looks at the machine.
    pub fn look() -> Machine {
        let all = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let mut processors = (0..CpuSet::count()).filter(|&n| all.is_set(n).unwrap_or(false));
        let rest = processors.next().unwrap_or(0);
        let target = processors.next().unwrap_or(rest);
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, model)| model)
            .to_owned();
        Machine {
            all,
            target,
            rest,
            model,
        }
    }

    /// From here on this thread, and what it starts, stays off the target's processor.
    pub fn step_aside(&self) {
        let mut set = CpuSet::new();
        if set.set(self.rest).is_ok() {
            let _ = sched_setaffinity(Pid::from_raw(0), &set);
        }
    }

    /// This thread, and what it starts, runs anywhere again.
    pub fn run_anywhere(&self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.all);
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let kernel = word("/proc/sys/kernel/osrelease");
        let load = word("/proc/loadavg");
        let load: Vec<&str> = load.split(' ').take(3).collect();
        write!(
            f,
            "{}, Linux {}, load {}; the target runs on processor {}, tracers on {}",
            self.model,
            kernel.trim(),
            load.join(" "),
            self.target,
            self.rest
        )
    }
}
