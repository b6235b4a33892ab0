//! The probes of one process by number, with how their records are read. It grows when libraries
//! come; what it held once stays.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::event::ProbeInfo;
use super::record::Decoder;

/// One probe: what is known of it, and how its records are read, if it leaves any.
#[derive(Clone, Debug)]
pub struct Known {
    /// The probe.
    pub info: Arc<ProbeInfo>,
    /// What reads its records, by action; none for one that leaves none.
    pub decoders: Arc<[Option<Decoder>]>,
}

impl Known {
    /// What reads the records of this action.
    pub fn decoder(&self, action: u16) -> Option<&Decoder> {
        self.decoders.get(usize::from(action))?.as_ref()
    }
}

/// Probes by number, shared by the thread that traces and the one that drains.
#[derive(Debug, Default)]
pub struct Catalogue {
    known: RwLock<Vec<Known>>,
}

impl Catalogue {
    /// Takes in more probes; they get the numbers that follow. Done before the first of them is
    /// armed: a record of an unknown probe is no record.
    pub fn extend(&self, more: impl IntoIterator<Item = Known>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(more);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.look().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn look(&self) -> RwLockReadGuard<'_, Vec<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}
