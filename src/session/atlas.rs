//! Which files were ever mapped where, for whoever names addresses after the processes are gone.
//! Files are kept open: their paths may mean nothing later, or nothing to us.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Addr, LinkAddr, Pid, Span};

/// A file that was mapped.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pid: Pid,
    span: Span,
    bias: u64,
    /// Its name.
    pub(super) name: String,
    /// The file.
    pub(super) file: Arc<File>,
}

impl Mapped {
    /// An address as the file counts it.
    pub(super) fn link(&self, at: Addr) -> LinkAddr {
        LinkAddr(at.0.wrapping_sub(self.bias))
    }
}

/// All of them, shared by the thread that traces and the one that drains.
#[derive(Debug, Default)]
pub struct Atlas {
    mapped: Mutex<Vec<Mapped>>,
}

impl Atlas {
    /// A process maps a file, which we come to by `path`.
    pub(super) fn add(&self, pid: Pid, (span, bias): (Span, u64), name: &str, path: &Path) {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        if mapped
            .iter()
            .any(|m| m.pid == pid && m.span == span && m.name == name)
        {
            return;
        }
        if let Ok(file) = File::open(path) {
            mapped.push(Mapped {
                pid,
                span,
                bias,
                name: name.to_owned(),
                file: Arc::new(file),
            });
        }
    }

    /// The file at an address: of this process, else of any. The latest counts.
    pub(super) fn at(&self, pid: Pid, at: Addr) -> Option<Mapped> {
        let mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let there = || mapped.iter().rev().filter(|m| m.span.contains(at));
        let own = there().find(|m| m.pid == pid);
        own.or_else(|| there().next()).cloned()
    }
}
