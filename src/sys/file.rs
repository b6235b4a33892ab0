//! Files of ours: output that replaces nothing it should not, limits raised.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

/// Opens `path` for output: created 0600, or the caller's own regular file replaced, or a FIFO or
/// device written to. A link, or somebody else's file, is refused.
pub fn create_output(path: &Path) -> io::Result<File> {
    let open = |flags: i32, new: bool| {
        OpenOptions::new()
            .write(true)
            .create_new(new)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY | flags)
            .open(path)
    };
    let file = match open(0, true) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match open(0, false) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "it is a symbolic link",
                ));
            }
            other => other?,
        },
        other => return other,
    };
    let meta = file.metadata()?;
    let kind = meta.file_type();
    if kind.is_file() {
        if meta.uid() != user() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is another user's file",
            ));
        }
        if meta.nlink() > 1 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it has more than one name",
            ));
        }
        file.set_len(0)?;
    } else if !(kind.is_fifo() || kind.is_char_device() || kind.is_block_device()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no file, FIFO or device",
        ));
    }
    Ok(file)
}

/// The effective group.
pub fn group() -> u32 {
    nix::unistd::getegid().as_raw()
}

/// The name of a user, where there is one.
pub fn user_name(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map(|user| user.name)
}

/// The effective user.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The user's cache directory for kptrace, made 0700; `None` when there is no place that is the
/// user's own and closed to others.
pub fn cache_dir() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if Path::new(&dir).is_absolute() => PathBuf::from(dir),
        _ => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    let dir = base.join("kptrace");
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700)
        .create(&dir)
        .ok()?;
    let meta = std::fs::symlink_metadata(&dir).ok()?;
    (meta.is_dir() && meta.uid() == user() && meta.mode() & 0o077 == 0).then_some(dir)
}

/// Opens the memory object behind a descriptor of the target.
pub fn open_target_fd(tid: crate::base::Tid, fd: i64) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{tid}/fd/{fd}"))
}

/// Which file a descriptor of the target is: device and inode.
pub fn identity_of_target_fd(tid: crate::base::Tid, fd: i64) -> io::Result<(u64, u64)> {
    let meta = std::fs::metadata(format!("/proc/{tid}/fd/{fd}"))?;
    Ok((meta.dev(), meta.ino()))
}
