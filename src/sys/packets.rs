//! Packets between two processes of ours, with descriptors in them (`unix(7)`, `SCM_RIGHTS`), and
//! descriptors for a socket that a target made for us. Nothing here blocks: who does not read must not hold up who writes.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use std::io;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socket, socketpair,
};

/// Most descriptors in one packet.
pub const DESCRIPTORS: usize = 2;

/// One end of a connection; closed at exec.
#[derive(Debug)]
pub struct Packets(OwnedFd);

/// What came.
#[derive(Debug)]
pub enum Came {
    /// A packet: how many bytes of the buffer it fills, and its descriptors.
    Packet(usize, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// The other end is closed, and everything was read.
    End,
}

impl Packets {
    /// Two connected ends.
    pub fn pair() -> io::Result<(Packets, Packets)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Packets(one), Packets(other)))
    }

    /// Sends a packet; `EPIPE` when nobody is there, `EAGAIN` when nobody reads.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(bytes)],
            rights,
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        Ok(())
    }

    /// The next packet, if one is there.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Came> {
        let mut space = nix::cmsg_space!([i32; DESCRIPTORS]);
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message = match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags)
        {
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {
                return Ok(Came::Nothing);
            }
            other => other?,
        };
        let mut descriptors = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
                descriptors.extend(raw.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Ok(match message.bytes {
            0 if descriptors.is_empty() => Came::End,
            bytes => Came::Packet(bytes, descriptors),
        })
    }
}

/// Sends a descriptor to the socket that is bound to this name (`unix(7)`, abstract names) in our
/// network namespace. `ECONNREFUSED` where there is none.
pub fn pass(descriptor: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    pass_by(socket.as_fd(), descriptor, name)
}

/// The same through a socket, in the network namespace where that was made.
pub fn pass_by(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let to = UnixAddr::new_abstract(name)?;
    let raw = [descriptor.as_raw_fd()];
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &[ControlMessage::ScmRights(&raw)],
        MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
        Some(&to),
    )?;
    Ok(())
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_come_through_and_the_end_is_told() {
        let (one, other) = Packets::pair().unwrap();
        let mut buffer = [0; 8];
        assert!(matches!(other.receive(&mut buffer).unwrap(), Came::Nothing));
        let (mut read, mut write) = std::io::pipe().unwrap();
        one.send(b"abc", &[write.as_fd()]).unwrap();
        one.send(b"d", &[]).unwrap();
        let Came::Packet(3, mut rights) = other.receive(&mut buffer).unwrap() else {
            panic!("no packet");
        };
        write.write_all(b"x").unwrap();
        drop(write);
        let mut passed = std::fs::File::from(rights.pop().unwrap());
        passed.write_all(b"y").unwrap();
        drop(passed);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), &buffer[..3]), ("xy", &b"abc"[..]));
        drop(one);
        assert!(matches!(
            other.receive(&mut buffer).unwrap(),
            Came::Packet(1, _)
        ));
        assert!(matches!(other.receive(&mut buffer).unwrap(), Came::End));
        assert!(other.send(b"z", &[]).is_err());
    }
}
