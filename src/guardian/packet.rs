//! What the tracer tells its guardian.

use crate::base::{Addr, Pid, Tid};

/// Bytes of a packet.
pub(super) const SIZE: usize = 40;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// A new target; its memory and its journal come with it.
    Watch {
        id: u64,
        pid: Pid,
        /// The thread that its memory was opened through, and when that started.
        tid: Tid,
        started: u64,
        alive: Addr,
    },
    /// This target is as it was, or is gone.
    Forget { id: u64 },
}

impl Packet {
    pub(super) fn bytes(&self) -> [u8; SIZE] {
        let words = match *self {
            Packet::Watch {
                id,
                pid,
                tid,
                started,
                alive,
            } => {
                let task =
                    u64::from(pid.0.cast_unsigned()) << 32 | u64::from(tid.0.cast_unsigned());
                [1, id, task, started, alive.0]
            }
            Packet::Forget { id } => [2, id, 0, 0, 0],
        };
        let mut bytes = [0; SIZE];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn of(bytes: &[u8]) -> Option<Packet> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let mut words = bytes
            .chunks_exact(8)
            .map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || words.next().unwrap_or(0);
        let (kind, id, task, started, alive) = (next(), next(), next(), next(), next());
        match kind {
            1 => Some(Packet::Watch {
                id,
                pid: Pid(((task >> 32) as u32).cast_signed()),
                tid: Tid((task as u32).cast_signed()),
                started,
                alive: Addr(alive),
            }),
            2 => Some(Packet::Forget { id }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_were() {
        let watch = Packet::Watch {
            id: 3,
            pid: Pid(40),
            tid: Tid(41),
            started: 7,
            alive: Addr(0x1000),
        };
        for packet in [watch, Packet::Forget { id: 9 }] {
            assert_eq!(Packet::of(&packet.bytes()), Some(packet));
        }
        assert_eq!(Packet::of(&[1; SIZE]), None);
        assert_eq!(Packet::of(&[1; 8]), None);
    }
}
