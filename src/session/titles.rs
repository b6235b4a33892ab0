//! Names of probes as programs of the language show them (`func`, `probe`), by numbers that are the
//! same for all processes of a session: they stand in maps that these share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A probe's function, and its full name; empty when the title is of all probes of the function.
pub type Title = (String, String);

/// All titles so far, shared by the thread that traces and the one that drains.
#[derive(Debug, Default)]
pub struct Titles {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    titles: Vec<Title>,
    numbers: HashMap<Title, u32>,
}

impl Titles {
    /// The number of a title: that which it has, or a new one.
    pub(super) fn number(&self, title: Title) -> u32 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(inner.titles.len()).unwrap_or(u32::MAX);
        if let Some(&number) = inner.numbers.get(&title) {
            return number;
        }
        inner.titles.push(title.clone());
        inner.numbers.insert(title, next);
        next
    }

    /// The title of a number.
    pub(super) fn title(&self, number: u64) -> Option<Title> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(number).ok()?;
        inner.titles.get(index).cloned()
    }
}
