//! Which calls are shown. A call that is left out is as if it had not been recorded: its time is
//! that of the call around it.

/// Which calls are shown; by default all.
#[derive(Default)]
pub struct CallFilter {
    /// Only so many levels, from the outermost that is shown.
    pub depth: Option<u32>,
    /// Only calls that last so many nanoseconds; those that have not ended, by what is known.
    pub at_least: u64,
    /// Only calls of these functions and what they call: by name and by module.
    pub within: Option<Within>,
}

/// Whether a function is meant, by its name and its module's.
pub type Within = Box<dyn Fn(&str, &str) -> bool + Send>;

impl CallFilter {
    /// Whether a call at this level may be shown: `None` is outside of all that is.
    pub(super) fn shows(&self, level: Option<u32>) -> bool {
        level.is_some_and(|level| self.depth.is_none_or(|depth| level < depth))
    }

    pub(super) fn means(&self, name: &str, module: &str) -> bool {
        self.within
            .as_ref()
            .is_none_or(|within| within(name, module))
    }
}
