//! Reading files whole. They are read, never mapped: a file may shrink, which would be SIGBUS.

use std::fs::{Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};

/// Largest file that is read.
const FILE_CAP: u64 = 4 << 30;
/// `O_NONBLOCK` of x86-64 Linux: opening a FIFO in place of a file must not hang.
const NONBLOCK: i32 = 0o4000;

/// Which file, in which state: nobody can make another file look like it (`inode(7)`: the change
/// time cannot be set).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device.
    pub device: u64,
    /// Inode on it.
    pub inode: u64,
    /// Time of the last change of anything, in nanoseconds since 1970.
    pub changed: i64,
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            changed: meta
                .ctime()
                .wrapping_mul(1_000_000_000)
                .wrapping_add(meta.ctime_nsec()),
        }
    }
}

/// Which file a path leads to now; `None` where that cannot be told.
pub fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|meta| Stamp::of(&meta))
}

/// The bytes of a regular file.
pub(super) fn read_file(path: &Path) -> anyhow::Result<(Vec<u8>, Stamp)> {
    let name = path.display();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path)
        .with_context(|| format!("{name}: cannot open it"))?;
    let meta = file
        .metadata()
        .with_context(|| format!("{name}: cannot read it"))?;
    if meta.is_dir() {
        bail!("{name}: a directory; name a program or a shared library");
    }
    if !meta.is_file() {
        bail!("{name}: not a regular file; name a program or a shared library");
    }
    if meta.len() > FILE_CAP {
        bail!(
            "{name}: {} bytes, more than the {FILE_CAP} that are read",
            meta.len()
        );
    }
    let mut data = Vec::new();
    data.try_reserve_exact(usize::try_from(meta.len())?.saturating_add(1))
        .with_context(|| format!("{name}: no memory for {} bytes", meta.len()))?;
    file.take(FILE_CAP)
        .read_to_end(&mut data)
        .with_context(|| format!("{name}: cannot read it"))?;
    Ok((data, Stamp::of(&meta)))
}
