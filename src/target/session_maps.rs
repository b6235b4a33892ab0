//! The object with the maps of a session. It is ours; a target comes to it by a descriptor that is
//! passed to a socket of the target's (`unix(7)`, `SCM_RIGHTS`): that works whatever namespaces it
//! lives in, and without `/proc` there.
//!
//! Knows no tables. Invariants: what is received is compared with what was sent, as names of sockets
//! can be seen by others, who may be faster; the socket is closed, also when we die.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::remote::Remote;
use crate::abi;
use crate::base::Addr;
use crate::sys::shm::{HEAD_PAGE, Shared};
use crate::sys::{apart, errno, file, packets};

/// `struct sockaddr_un` (`unix(7)`): the family, then the name behind a zero.
const AF_UNIX: u16 = 1;
/// A control message with one descriptor (`cmsg(3)`).
const CONTROL: usize = 20;
/// Behind `struct msghdr` (`recvmsg(2)`), of 56 bytes, stand a buffer's `struct iovec`, room for a
/// control message, and the buffer: one byte.
const BUFFER_AT: u64 = 64;
const CONTROL_AT: u64 = 96;
const BYTE_AT: u64 = 128;
/// `SOL_SOCKET` and `SCM_RIGHTS`.
const RIGHTS: u64 = 1 | 1 << 32;
/// Most messages that are looked at.
const MESSAGES: usize = 16;

/// What calls are made by while there is a socket: when we die the thread goes on here, and closes it.
/// `socket` first: `syscall; mov %eax,%edi; mov $3,%eax; syscall; ret`. Then those that have it for
/// their first argument: the same without the move.
pub(super) const CLOSES: [u8; 22] = [
    0x0f, 0x05, 0x89, 0xc7, 0xb8, 3, 0, 0, 0, 0x0f, 0x05, 0xc3, //
    0x0f, 0x05, 0xb8, 3, 0, 0, 0, 0x0f, 0x05, 0xc3,
];
/// Where the second part begins.
const CLOSES_OWN: u64 = 12;

const _: () = assert!(abi::MAPS_HEAD == HEAD_PAGE);

/// The object, and our mapping of its tables.
#[derive(Debug)]
pub struct SessionMaps {
    file: File,
    shared: Arc<Shared>,
}

impl SessionMaps {
    /// An object with `len` bytes of tables, all zero.
    pub fn create(len: u64) -> io::Result<SessionMaps> {
        let mut head = [0; 64];
        let words = [
            (abi::VERSION_AT, u64::from(abi::VERSION)),
            (abi::MAGIC_AT, abi::MAPS_MAGIC),
        ];
        for (at, word) in words {
            head[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
        }
        let len = len.next_multiple_of(HEAD_PAGE);
        let (shared, file) = Shared::create_behind(&head, len)?;
        let shared = Arc::new(shared);
        Ok(SessionMaps { file, shared })
    }

    /// The tables.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Size of the whole object.
    pub(super) fn size(&self) -> u64 {
        abi::MAPS_HEAD + self.shared.len()
    }

    /// Gives the target a descriptor of it, closed at exec. `room` is memory of ours in the target, of
    /// a few hundred bytes; [`CLOSES`] lies at `code`.
    pub(super) fn pass(
        &self,
        remote: &mut Remote<'_>,
        room: Addr,
        code: Addr,
    ) -> anyhow::Result<i64> {
        remote.may_receive()?;
        remote.calls_by(Some(code));
        let socket = remote.socket();
        remote.calls_by(Some(code + CLOSES_OWN));
        let socket = socket.context("socket in the target");
        let passed = socket.map(|socket| (socket, self.pass_by(remote, room, socket)));
        remote.calls_by(None);
        let (socket, passed) = passed?;
        let closed = remote.close(socket).context("closing the socket in it");
        let descriptor = passed?;
        if closed.is_err() {
            // The first error is the one to tell.
            let _ = remote.close(descriptor);
        }
        closed.map(|()| descriptor)
    }

    fn pass_by(&self, remote: &mut Remote<'_>, room: Addr, socket: i64) -> anyhow::Result<i64> {
        let name = name();
        let mut address = AF_UNIX.to_le_bytes().to_vec();
        address.push(0);
        address.extend_from_slice(name.as_bytes());
        let memory = Arc::clone(&remote.process().memory);
        memory.write(room, &address)?;
        let bound = remote.bind(socket, room, address.len() as u64);
        bound.context("bind in the target")?;
        self.send(remote, socket, name.as_bytes())?;
        for _ in 0..MESSAGES {
            memory.write(room, &message(room))?;
            remote
                .receive(socket, room)
                .context("recvmsg in the target")?;
            let mut control = [0; CONTROL];
            memory.read(room + CONTROL_AT, &mut control)?;
            let [len, kind, descriptor] = words(&control);
            if len != CONTROL as u64 || kind != RIGHTS {
                // It was refused for want of a number to give it, or none was sent.
                let error = io::Error::from_raw_os_error(errno::EMFILE);
                return Err(error).context("receiving a descriptor in the target");
            }
            let descriptor = i64::from(descriptor as u32);
            if self.is_it(remote, descriptor)? {
                return Ok(descriptor);
            }
            remote.close(descriptor)?;
        }
        bail!("others sent descriptors to the target")
    }

    /// The target's socket lives in its network namespace: where that is not ours, what is sent goes
    /// through the socket itself.
    fn send(&self, remote: &Remote<'_>, socket: i64, name: &[u8]) -> anyhow::Result<()> {
        let Err(other) = packets::pass(self.file.as_fd(), name) else {
            return Ok(());
        };
        let own = apart::descriptor_of(remote.process().pid, remote.tid(), socket);
        own.and_then(|own| packets::pass_by(own.as_fd(), self.file.as_fd(), name))
            .with_context(|| format!("passing a descriptor to the target ({other})"))
    }

    fn is_it(&self, remote: &Remote<'_>, descriptor: i64) -> io::Result<bool> {
        let own = self.file.metadata()?;
        let there = file::identity_of_target_fd(remote.tid(), descriptor)?;
        Ok(there == (own.dev(), own.ino()))
    }
}

/// A name that nobody can guess.
fn name() -> String {
    use std::hash::{BuildHasher, RandomState};
    let [one, two] = [(); 2].map(|()| RandomState::new().hash_one(0));
    format!("kptrace-{one:016x}{two:016x}")
}

/// What `recvmsg` is given when it lies at `room`.
fn message(room: Addr) -> Vec<u8> {
    let mut bytes = vec![0; CONTROL_AT as usize + CONTROL.next_multiple_of(8)];
    let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    // msg_iov, msg_iovlen, msg_control, msg_controllen.
    put(16, room.0 + BUFFER_AT);
    put(24, 1);
    put(32, room.0 + CONTROL_AT);
    put(40, CONTROL as u64);
    // iov_base, iov_len.
    put(BUFFER_AT as usize, room.0 + BYTE_AT);
    put(BUFFER_AT as usize + 8, 1);
    bytes
}

/// Length, level and kind, descriptor.
fn words(control: &[u8; CONTROL]) -> [u64; 3] {
    let word = |at: usize| {
        let mut word = [0; 8];
        let from = control.get(at..).unwrap_or_default();
        let len = from.len().min(8);
        word[..len].copy_from_slice(&from[..len]);
        u64::from_le_bytes(word)
    };
    [word(0), word(8), word(16)]
}
