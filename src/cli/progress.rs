//! A line that says what is being worked on, for work longer than a second; only on a terminal.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::session;
use indicatif::{ProgressBar, ProgressStyle};

/// How long work may take before anything is shown.
const QUIET: Duration = Duration::from_secs(1);

/// Something to be told what is being worked on, and nothing when that is done; `shown` on a terminal
/// that wants to hear.
pub(super) fn progress(shown: bool) -> session::Progress {
    let work = RefCell::new(None);
    Box::new(move |what| match what {
        Some(what) => work
            .borrow_mut()
            .get_or_insert_with(|| Progress::new(shown))
            .at(what),
        None => drop(work.borrow_mut().take()),
    })
}

/// Progress of one piece of work.
struct Progress {
    begun: Instant,
    shown: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl Progress {
    fn new(shown: bool) -> Progress {
        Progress {
            begun: Instant::now(),
            shown,
            bar: RefCell::new(None),
        }
    }

    fn at(&self, what: &str) {
        if !self.shown || self.begun.elapsed() < QUIET {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} analysing {msg} ({elapsed})");
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        bar.set_message(crate::output::escaped(what));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
