//! Stored analyses: one small file for each build-id, in a directory of the user's own. Everything
//! in it may be deleted at any time; what is damaged or foreign is ignored and written anew.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{File, stored};
use crate::symbols::Stamp;

/// No analysis is larger: ten million entries.
const MOST_BYTES: u64 = 256 << 20;
/// Longest build-id taken; those in use have 8 to 32 bytes.
const MOST_ID: usize = 64;

/// What makes an analysis belong to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The file's build-id. Without one nothing is stored.
    pub build_id: Vec<u8>,
    /// The file's size in bytes.
    pub file_size: u64,
    /// The build-id of the separate debug file whose symbols were used; empty without one.
    pub debug_id: Vec<u8>,
    /// Which file it was: a file that claims another's build-id must not speak for it.
    pub stamp: Stamp,
}

/// A directory of stored analyses.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens the directory, creating it (and its parents) for the user alone.
    ///
    /// # Errors
    /// It cannot be created, is no directory, belongs to somebody else, or others may enter it.
    pub fn open(dir: &Path) -> io::Result<Cache> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir)?;
        let meta = fs::symlink_metadata(dir)?;
        let refuse = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        if !meta.is_dir() {
            return refuse("the cache is no directory");
        }
        if meta.uid() != own_uid()? {
            return refuse("the cache directory belongs to another user");
        }
        if meta.mode() & 0o077 != 0 {
            return refuse("others may enter the cache directory");
        }
        Ok(Cache {
            dir: dir.to_owned(),
        })
    }

    /// The stored analysis of a file, if there is a sound one.
    pub fn load(&self, key: &Key) -> Option<File> {
        let path = self.path(key)?;
        let file = fs::File::open(path).ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.len() > MOST_BYTES || meta.uid() != own_uid().ok()? {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).ok()?);
        file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        stored::decode(key, &bytes)
    }

    /// Stores an analysis; without a build-id it does nothing.
    ///
    /// # Errors
    /// Those of the file system. Nothing half-written is ever left under the final name.
    pub fn store(&self, key: &Key, file: &File) -> io::Result<()> {
        let Some(path) = self.path(key) else {
            return Ok(());
        };
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut options = OpenOptions::new();
            let mut out = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            out.write_all(&stored::encode(key, file))?;
            drop(out);
            fs::rename(&temporary, &path)
        };
        write().inspect_err(|_| {
            // The failure itself is what the caller hears of.
            let _ = fs::remove_file(&temporary);
        })
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        if key.build_id.is_empty() || key.build_id.len() > MOST_ID || key.debug_id.len() > MOST_ID {
            return None;
        }
        let id: String = key.build_id.iter().map(|b| format!("{b:02x}")).collect();
        Some(self.dir.join(format!("{id}.{}", stored::VERSION)))
    }
}

/// The user that files of this process belong to.
fn own_uid() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

#[cfg(test)]
mod tests {
    use super::super::stored::tests::sample;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_stored_analysis_comes_back_and_a_damaged_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("a/b")).unwrap();
        let (key, file) = sample();
        assert_eq!(cache.load(&key), None);
        cache.store(&key, &file).unwrap();
        assert_eq!(cache.load(&key), Some(file.clone()));

        let path = cache.path(&key).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::write(&path, b"something else").unwrap();
        assert_eq!(cache.load(&key), None);
        cache.store(&key, &file).unwrap();
        assert_eq!(cache.load(&key), Some(file));
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_others_may_enter_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Cache::open(dir.path()).is_err());
        let link = dir.path().join("link");
        let real = dir.path().join("real");
        Cache::open(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(Cache::open(&link).is_err());
    }

    #[test]
    fn without_a_build_id_nothing_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("c")).unwrap();
        let (key, file) = sample();
        let key = Key {
            build_id: vec![],
            ..key
        };
        cache.store(&key, &file).unwrap();
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 0);
    }
}
