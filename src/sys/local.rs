//! Sockets that have a name in a directory of the user's own, who is at their other end, and waiting
//! for several of them at once. Nothing here blocks, except for who asks ([`Stream::connect`]).
//!
//! Invariant: a directory is used only if it is the user's, no link, and closed to everybody else; a
//! name is taken away only by who made it, or when nobody listens behind it any more.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::file::user;

/// Longest name of a socket that the kernel takes, with room for a number behind it.
const LONGEST: usize = 90;
/// How many names of a directory are looked at.
const MOST: usize = 4096;
/// How many events are taken at once.
const EVENTS: usize = 32;

/// Where a user's sockets are: in the directory `runtime`, if that is one, else in `/tmp`.
pub fn places(uid: u32, runtime: Option<PathBuf>) -> Vec<PathBuf> {
    let runtime = runtime
        .filter(|dir| dir.is_absolute() && dir.as_os_str().len() < LONGEST)
        .map(|dir| dir.join("kptrace"));
    let temporary = PathBuf::from(format!("/tmp/kptrace-{uid}"));
    runtime.into_iter().chain([temporary]).collect()
}

/// Whether a directory is a user's own and closed to others.
///
/// # Errors
/// Why not.
pub fn is_private(dir: &Path, uid: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(dir)?;
    let refuse = |why: &str| Err(io::Error::new(ErrorKind::PermissionDenied, why));
    if !meta.is_dir() {
        return refuse("it is no directory");
    }
    if meta.uid() != uid {
        return refuse("it is another user's");
    }
    if meta.mode() & 0o077 != 0 {
        return refuse("others may enter it");
    }
    Ok(())
}

/// The first of these directories that can be the calling user's alone; made 0700 if it is not there.
///
/// # Errors
/// Why the last of them cannot.
pub fn private(places: &[PathBuf]) -> io::Result<PathBuf> {
    let mut why = io::Error::from(ErrorKind::NotFound);
    for dir in places {
        let made = match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        match made.and_then(|()| is_private(dir, user())) {
            Ok(()) => return Ok(dir.clone()),
            Err(error) => {
                why = io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
            }
        }
    }
    Err(why)
}

/// A socket with a name, which goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl Listener {
    /// Listens at `path`; what a process left there that has ended is replaced.
    ///
    /// # Errors
    /// Somebody listens there, something else is there, or it cannot be made.
    pub fn at(path: &Path) -> io::Result<Listener> {
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)?
            }
            other => other?,
        };
        socket.set_nonblocking(true)?;
        let meta = fs::symlink_metadata(path)?;
        Ok(Listener {
            socket,
            path: path.to_owned(),
            identity: (meta.dev(), meta.ino()),
        })
    }

    /// Who wants to talk, if somebody does.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn accept(&self) -> io::Result<Option<Stream>> {
        match self.socket.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true)?;
                Ok(Some(Stream(socket)))
            }
            Err(error) if is_later(&error) || error.kind() == ErrorKind::ConnectionAborted => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "something is there that is no socket",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

/// Takes away the sockets of a directory that nobody listens at and whose name `gone` says is of nobody
/// any more: a process that is killed leaves them.
pub fn remove_dead(dir: &Path, gone: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().take(MOST) {
        if entry.file_name().to_str().is_some_and(&gone) {
            let _ = remove_stale(&entry.path());
        }
    }
}

/// One end of a talk; closed at exec.
#[derive(Debug)]
pub struct Stream(UnixStream);

impl Stream {
    /// Calls who listens at `path`. This end waits when it reads or writes, for as long as it is told.
    ///
    /// # Errors
    /// Nobody listens, or may be called.
    pub fn connect(path: &Path, patience: Duration) -> io::Result<Stream> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        Ok(Stream(socket))
    }

    /// The user at the other end when it was made.
    ///
    /// # Errors
    /// It is not known.
    pub fn peer(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.0, PeerCredentials)?.uid())
    }

    /// Reads what is there: how much; nothing when the other end is closed, `None` when it has sent
    /// nothing.
    ///
    /// # Errors
    /// The talk is over.
    pub fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        later((&self.0).read(into))
    }

    /// Writes what finds room: how much; `None` when nothing does.
    ///
    /// # Errors
    /// The talk is over.
    pub fn write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        later((&self.0).write(bytes))
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn later(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if is_later(&error) => Ok(None),
        other => other.map(Some),
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Several descriptors, each with a number, of which some are ready.
#[derive(Debug)]
pub struct Several(Epoll);

impl Several {
    /// Without any.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn new() -> io::Result<Several> {
        Ok(Several(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Takes one more, of which is told when it can be read.
    ///
    /// # Errors
    /// It is there already, or there is no memory.
    pub fn add(&self, descriptor: &impl AsFd, number: u64) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        Ok(self.0.add(descriptor, event)?)
    }

    /// From here on tells when a descriptor can be written, not read, or the other way round.
    ///
    /// # Errors
    /// It is not there.
    pub fn wants_write(&self, descriptor: &impl AsFd, number: u64, write: bool) -> io::Result<()> {
        let flags = if write {
            EpollFlags::EPOLLOUT
        } else {
            EpollFlags::EPOLLIN
        };
        let mut event = EpollEvent::new(flags, number);
        Ok(self.0.modify(descriptor, &mut event)?)
    }

    /// Forgets one.
    pub fn remove(&self, descriptor: &impl AsFd) {
        let _ = self.0.delete(descriptor);
    }

    /// Numbers of those that are ready now, or whose other end is closed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ready(&self) -> io::Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let found = match self.0.wait(&mut events, EpollTimeout::ZERO) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        Ok(events.iter().take(found).map(EpollEvent::data).collect())
    }
}

impl AsFd for Several {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_others_may_enter_or_a_link_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("mine");
        assert_eq!(private(std::slice::from_ref(&dir)).unwrap(), dir);
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert!(private(std::slice::from_ref(&link)).is_err());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
        let other = place.path().join("other");
        assert_eq!(private(&[link, dir.clone(), other.clone()]).unwrap(), other);
        assert!(is_private(&other, user() + 1).is_err());
    }

    #[test]
    fn a_name_goes_with_its_socket_and_a_stale_one_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("1");
        // Dropped without its name being taken away, as when its process is killed.
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::at(&path).unwrap();
        assert!(Listener::at(&path).is_err(), "somebody listens there");
        let stream = Stream::connect(&path, Duration::from_secs(1)).unwrap();
        assert_eq!(stream.peer().unwrap(), user());
        // Whoever looked whether somebody listens called, too.
        let met: Vec<Stream> = std::iter::from_fn(|| listener.accept().unwrap()).collect();
        assert_eq!(met.len(), 2);
        assert!(met.iter().all(|met| met.peer().unwrap() == user()));
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert!(Listener::at(&path).is_err(), "a file is left alone");
        assert!(path.exists());
    }

    #[test]
    fn sockets_of_the_dead_are_taken_away_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        drop(UnixListener::bind(path("1")).unwrap());
        drop(UnixListener::bind(path("2")).unwrap());
        fs::write(path("3"), "").unwrap();
        let _listener = Listener::at(&path("4")).unwrap();
        remove_dead(place.path(), |name| name != "2");
        let left = ["1", "2", "3", "4"].map(|name| path(name).exists());
        assert_eq!(left, [false, true, true, true]);
    }

    #[test]
    fn of_several_those_that_are_ready_are_told() {
        let several = Several::new().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let one = Stream(one);
        several.add(&one, 7).unwrap();
        assert_eq!(several.ready().unwrap(), [0; 0]);
        (&other).write_all(b"x").unwrap();
        assert_eq!(several.ready().unwrap(), [7]);
        assert_eq!(one.read(&mut [0; 4]).unwrap(), Some(1));
        assert_eq!(one.read(&mut [0; 4]).unwrap(), None);
        several.wants_write(&one, 7, true).unwrap();
        assert_eq!(several.ready().unwrap(), [7]);
        several.wants_write(&one, 7, false).unwrap();
        drop(other);
        assert_eq!(several.ready().unwrap(), [7]);
        assert_eq!(one.read(&mut [0; 4]).unwrap(), Some(0));
        several.remove(&one);
        assert_eq!(several.ready().unwrap(), [0; 0]);
    }
}
