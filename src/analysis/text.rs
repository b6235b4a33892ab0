//! The text of one file, swept: answers for any address. Knows no names and reads no files.

use crate::arch::native::scan::{self, Input, Refusal, Targets, Window};

/// A file's code with every address where control may arrive.
pub struct Text<'a> {
    input: Input<'a>,
    targets: Targets,
    /// For each function of the input: of those up to it, the end of the one that reaches farthest,
    /// and its start.
    reach: Vec<(u64, u64)>,
}

impl<'a> Text<'a> {
    /// Sweeps the code: about 15 ns a byte of text on one core.
    pub fn new(input: Input<'a>) -> Text<'a> {
        let mut farthest = (0, 0);
        let reach = input.functions.iter().map(|&(start, end)| {
            farthest = farthest.max((end, start));
            farthest
        });
        Text {
            reach: reach.collect(),
            targets: scan::sweep(&input),
            input,
        }
    }

    /// Whether a symbol at `addr` can be believed: where it lies inside another function, an
    /// instruction of that must start there.
    pub fn is_sound(&self, addr: u64) -> bool {
        let before = self.input.functions.partition_point(|f| f.0 < addr);
        let around = before.checked_sub(1).and_then(|last| self.reach.get(last));
        match around {
            Some(&(end, start)) if end > addr => {
                scan::boundary_from(&self.input, start, addr) != Some(false)
            }
            _ => true,
        }
    }

    /// The window at an entry; `size` is 0 when unknown.
    pub fn entry(&self, addr: u64, size: u64) -> Result<Window, Refusal> {
        let end = (size > 0).then(|| addr.saturating_add(size));
        scan::window(&self.input, &self.targets, addr, end)
    }

    /// The window of a short jump at an entry, for a springboard; its hole is not assigned.
    pub fn springboard(&self, addr: u64, size: u64) -> Result<Window, Refusal> {
        let end = (size > 0).then(|| addr.saturating_add(size));
        scan::springboard(&self.input, &self.targets, addr, end)
    }

    /// Unused bytes between functions that share a byte with one of the spans, which ascend by
    /// start: `(start, end)`, ascending.
    pub fn gaps(&self, near: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let functions = self.input.functions;
        let mut gaps = Vec::new();
        let mut done = 0;
        for (from, to) in near {
            let first = functions.partition_point(|f| f.0 <= from);
            for behind in first.max(done).max(1)..=functions.len() {
                let Some(&(end, start)) = self.reach.get(behind - 1) else {
                    break;
                };
                if end >= to {
                    break;
                }
                done = behind + 1;
                let next = functions.get(behind).map_or(u64::MAX, |f| f.0);
                let gap = scan::unused(&self.input, &self.targets, (start, end), next);
                gaps.extend(gap.filter(|gap| from < gap.1));
            }
        }
        gaps
    }

    /// No-ops inside functions that nobody runs, of the functions that share a byte with one of the
    /// spans: `(start, end)`, ascending.
    pub fn inner_gaps(&self, near: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let functions = self.input.functions;
        let mut gaps = Vec::new();
        let mut done = 0;
        for (from, to) in near {
            // The one around the start too.
            let first = functions.partition_point(|f| f.0 <= from).saturating_sub(1);
            let last = functions.partition_point(|f| f.0 < to);
            for &function in functions.get(first.max(done)..last).unwrap_or_default() {
                gaps.extend(scan::unused_inside(&self.input, &self.targets, function));
            }
            done = done.max(last);
        }
        gaps.sort_unstable();
        let mut end = 0;
        gaps.retain(|gap| {
            let apart = gap.0 >= end;
            end = end.max(gap.1);
            apart
        });
        gaps
    }

    /// What a breakpoint displaces at `addr`, which must be the start of an instruction.
    pub fn trap(&self, addr: u64) -> Result<Window, Refusal> {
        scan::first(&self.input, addr)
    }

    /// The window at any address.
    ///
    /// # Errors
    /// The reasons of an entry, and [`Refusal::NotABoundary`] where no instruction is known to
    /// start: then not even a breakpoint may stand there.
    pub fn window_at(&self, addr: u64) -> Result<Window, Refusal> {
        let end = self.check_boundary(addr)?;
        scan::window(&self.input, &self.targets, addr, end)
    }

    /// What a breakpoint displaces at any address.
    ///
    /// # Errors
    /// As [`Text::window_at`].
    pub fn trap_at(&self, addr: u64) -> Result<Window, Refusal> {
        self.check_boundary(addr)?;
        scan::first(&self.input, addr)
    }

    /// Whether a start that only the unwind tables know is the cold part of another function and
    /// no entry: reached by branches or exceptions alone. `previous_end` is where the unwind entry
    /// before it ends.
    pub fn is_fragment(&self, start: u64, end: u64, previous_end: u64) -> bool {
        let reached = self.targets.reached(start);
        if reached.landing {
            return true;
        }
        if reached.called || reached.pointed {
            return false;
        }
        // Compilers align functions, and pack cold parts.
        let packed = !start.is_multiple_of(16) || previous_end == start;
        let cold = !start.is_multiple_of(16) && self.targets.entered_sideways(start, end);
        packed && (reached.crossed || cold)
    }

    /// Checks that an instruction starts at `addr`; gives the end of its function where known.
    fn check_boundary(&self, addr: u64) -> Result<Option<u64>, Refusal> {
        match scan::boundary(&self.input, addr) {
            Some(true) => Ok(scan::function_end(&self.input, addr)),
            Some(false) => Err(Refusal::NotABoundary),
            None if self.targets.in_code(addr) => Err(Refusal::NotABoundary),
            None => Err(Refusal::NotCode),
        }
    }
}
