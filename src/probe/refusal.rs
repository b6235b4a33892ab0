//! Why a site stays a breakpoint, or is not armed at all, in words a user understands, and whether
//! it is worth trying again. Does not know who found the reason, nor the names of addresses.

use std::borrow::Cow;
use std::fmt;

use crate::base::Addr;

/// Why a site is not a jump (or not even a breakpoint).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The code there does not take a jump; the analysis says why, such as
    /// `branch from +0x4c into the window`.
    Window(Cow<'static, str>),
    /// Another site stands in the bytes the jump would displace, or displaces the bytes of this.
    BlockedBy(Addr),
    /// A probe here stops the target for a debugger, which only a breakpoint can.
    Stop,
    /// No detour memory within reach of a jump.
    NoRoom,
    /// A displaced instruction refers to memory that its copy cannot reach.
    Unreachable,
    /// A thread did not leave the displaced instructions, or may come back into them.
    Occupied,
    /// Jumps are switched off.
    OptimisationOff,
    /// The bytes are not what they should be: somebody else changed them.
    Foreign,
    /// Its breakpoint was hit too often.
    TooHot,
    /// All probes are switched off.
    Off,
    /// This probe is registered already, at this address.
    Known(Addr),
    /// It cannot jump, for this reason, and `--trap never` allows no breakpoint.
    TrapsOff(Box<Refusal>),
}

impl Refusal {
    /// Whether it holds as long as the code stays mapped. Others may end: a neighbour leaves, room
    /// is found, a thread moves on, a switch is turned.
    pub fn permanent(&self) -> bool {
        match self {
            Refusal::Window(_) | Refusal::Unreachable | Refusal::Known(_) => true,
            Refusal::BlockedBy(_)
            | Refusal::Stop
            | Refusal::NoRoom
            | Refusal::Occupied
            | Refusal::OptimisationOff
            | Refusal::Foreign
            | Refusal::TooHot
            | Refusal::Off => false,
            Refusal::TrapsOff(why) => why.permanent(),
        }
    }

    /// The reason, with addresses named by `name`: `blocked by read+0x3`.
    pub fn words(&self, name: impl Fn(Addr) -> String) -> String {
        match self {
            Refusal::BlockedBy(addr) => format!("blocked by {}", name(*addr)),
            Refusal::Known(addr) => format!("this probe is already at {}", name(*addr)),
            Refusal::TrapsOff(why) => {
                format!("cannot jump: {}, and traps are off", why.words(name))
            }
            Refusal::Window(why) => why.clone().into_owned(),
            Refusal::Stop => "a %stop probe is here".into(),
            Refusal::NoRoom => "no room within 2 GiB".into(),
            Refusal::Unreachable => "an operand is out of the detour's reach".into(),
            Refusal::Occupied => "a thread stays inside the displaced instructions".into(),
            Refusal::OptimisationOff => "jumps are switched off".into(),
            Refusal::Foreign => "its bytes were changed by somebody else".into(),
            Refusal::TooHot => "switched off: its breakpoint was hit too often".into(),
            Refusal::Off => "all probes are switched off".into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(|addr| addr.to_string()))
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_named_by_the_caller() {
        let why = Refusal::TrapsOff(Box::new(Refusal::BlockedBy(Addr(0x1003))));
        assert_eq!(
            why.to_string(),
            "cannot jump: blocked by 0x1003, and traps are off"
        );
        assert_eq!(
            why.words(|a| format!("f+{:#x}", a.0 - 0x1000)),
            "cannot jump: blocked by f+0x3, and traps are off"
        );
    }

    #[test]
    fn traps_being_off_is_as_lasting_as_its_cause() {
        let window = Refusal::Window("too short, no padding".into());
        assert!(window.permanent());
        assert!(Refusal::TrapsOff(Box::new(window)).permanent());
        assert!(!Refusal::TrapsOff(Box::new(Refusal::Occupied)).permanent());
        assert!(!Refusal::NoRoom.permanent());
    }
}
