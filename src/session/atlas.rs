//! Which files were ever mapped where, for whoever names addresses after the processes are gone.
//! Files are kept open: their paths may mean nothing later, or nothing to us.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Addr, LinkAddr, Pid, Span};
use crate::symbols::{self, Image};

/// Where what is mapped comes from.
#[derive(Clone, Debug)]
enum Content {
    File(Arc<File>),
    /// No file: these bytes, which are the process's own.
    Bytes(Arc<[u8]>),
}

/// A file that was mapped.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pid: Pid,
    /// All it occupies.
    pub(super) span: Span,
    /// What is added to its link addresses.
    pub(super) bias: u64,
    /// Its name.
    pub(super) name: String,
    /// Its path as the process knows it, and the process's root.
    path: (PathBuf, PathBuf),
    content: Content,
}

/// What tells one file from another: device and inode, or process and address of what is none.
pub(super) type Identity = (u64, u64);

impl Mapped {
    /// Which file it is.
    pub(super) fn identity(&self) -> Option<Identity> {
        match &self.content {
            Content::File(file) => {
                let data = file.metadata().ok()?;
                Some((data.dev(), data.ino()))
            }
            Content::Bytes(_) => Some((
                u64::MAX - u64::from(self.pid.0.unsigned_abs()),
                self.span.start.0,
            )),
        }
    }

    /// The file read.
    fn image(&self) -> Option<Image> {
        match &self.content {
            Content::File(file) => {
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                Image::read(&path).ok()
            }
            Content::Bytes(bytes) => Image::from_bytes(bytes.to_vec(), &self.name).ok(),
        }
    }

    /// The file read, with its debug file where there is one.
    pub(super) fn images(&self) -> Option<(Image, Option<Image>)> {
        let image = self.image()?;
        let (path, root) = &self.path;
        // Of a process that is gone the root is ours.
        let root = if root.exists() { root } else { Path::new("/") };
        let beside = path.parent().unwrap_or(Path::new("/"));
        let debug = symbols::debug_file(&image, root, beside);
        Some((image, debug))
    }

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
    /// A process maps a file, whose path is `path` below `root`.
    pub(super) fn add(
        &self,
        pid: Pid,
        (span, bias): (Span, u64),
        name: &str,
        (path, root): (&str, &Path),
    ) {
        let from = root.join(path.trim_start_matches('/'));
        self.put(pid, (span, bias), name, (path, root), || {
            Some(Content::File(Arc::new(File::open(from).ok()?)))
        });
    }

    /// A process has code that no file holds: these bytes.
    pub(super) fn add_bytes(&self, pid: Pid, place: (Span, u64), name: &str, bytes: Vec<u8>) {
        let path = (name, Path::new("/"));
        self.put(pid, place, name, path, || {
            Some(Content::Bytes(bytes.into()))
        });
    }

    fn put(
        &self,
        pid: Pid,
        (span, bias): (Span, u64),
        name: &str,
        (path, root): (&str, &Path),
        content: impl FnOnce() -> Option<Content>,
    ) {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |m: &Mapped| m.pid == pid && m.span == span && m.name == name;
        if mapped.iter().any(same) {
            return;
        }
        if let Some(content) = content() {
            mapped.push(Mapped {
                pid,
                span,
                bias,
                name: name.to_owned(),
                path: (PathBuf::from(path), root.to_owned()),
                content,
            });
        }
    }

    /// How many there are, and those that this process has mapped since there were `seen`; of one that
    /// has mapped none, those of all others: it has its code from one of them.
    pub(super) fn since(&self, pid: Pid, seen: usize) -> (usize, Vec<Mapped>) {
        let mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let any = mapped.iter().any(|m| m.pid == pid);
        let new = mapped.iter().skip(seen);
        let new = new.filter(|m| !any || m.pid == pid).cloned();
        (mapped.len(), new.collect())
    }

    /// The file at an address: of this process, else of any. The latest counts.
    pub(super) fn at(&self, pid: Pid, at: Addr) -> Option<Mapped> {
        let mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let there = || mapped.iter().rev().filter(|m| m.span.contains(at));
        let own = there().find(|m| m.pid == pid);
        own.or_else(|| there().next()).cloned()
    }
}
