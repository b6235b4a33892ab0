//! Why displaced instructions cannot be moved, in words a user understands.

use std::fmt;

/// Why instructions stay where they are. Offsets count from the first displaced byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unrelocatable {
    /// A branch target, a RIP-relative operand or the way back is beyond 2 GiB from the detour.
    /// Another detour address may help.
    OutOfReach {
        /// The address that must be reached.
        operand: u64,
    },
    /// A call whose target is found through the stack pointer.
    CallThroughStackPointer,
    /// Bytes that are no instruction known here, or cut off.
    Undecodable {
        /// Where.
        offset: u8,
    },
    /// A branch leads into the bytes that the jump displaces.
    BranchInside {
        /// Where to.
        offset: u8,
    },
    /// The return address of a call would lie inside the displaced bytes.
    ReturnInside {
        /// The return address.
        offset: u8,
    },
    /// Instructions follow a jump or return: they are not reached from here.
    CodeBehindEnd {
        /// Where.
        offset: u8,
    },
    /// `call` to another segment pushes an address that cannot be emulated.
    FarCall,
    /// A branch with an operand-size prefix: processors disagree on its target.
    AmbiguousBranch,
    /// A breakpoint instruction: its trap reports the address.
    Breakpoint,
    /// More bytes than a detour has room for.
    TooLong,
    /// The copy, decoded again, does not equal the original. A defect of kptrace; the site is left
    /// alone.
    Mismatch {
        /// The instruction that differs.
        offset: u8,
    },
}

impl fmt::Display for Unrelocatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach { operand } => {
                write!(f, "{operand:#x} is more than 2 GiB away from the detour")
            }
            Self::CallThroughStackPointer => f.write_str("calls through the stack pointer"),
            Self::Undecodable { offset } => write!(f, "unknown instruction at +{offset:#x}"),
            Self::BranchInside { offset } => write!(f, "branch into the window, to +{offset:#x}"),
            Self::ReturnInside { offset } => {
                write!(f, "a call returns into the window, to +{offset:#x}")
            }
            Self::CodeBehindEnd { offset } => {
                write!(f, "other code in the window, at +{offset:#x}")
            }
            Self::FarCall => f.write_str("far call"),
            Self::AmbiguousBranch => f.write_str("branch with a 16-bit operand size"),
            Self::Breakpoint => f.write_str("breakpoint instruction in the window"),
            Self::TooLong => f.write_str("too many instruction bytes in the window"),
            Self::Mismatch { offset } => {
                write!(f, "the moved instruction at +{offset:#x} failed its check")
            }
        }
    }
}

impl std::error::Error for Unrelocatable {}
