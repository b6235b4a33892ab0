//! Why a jump cannot stand at an address, in words a user understands.

use std::fmt;

/// Why there is no window at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not in the file's code.
    NotCode,
    /// No instruction starts there.
    NotABoundary,
    /// The function ends before five bytes, and what follows is not padding.
    TooShort,
    /// Control ends (a return, a jump) before five bytes, and other code of the function follows.
    TerminatorInside,
    /// A branch leads into the window.
    BranchInto {
        /// Where the branch is, relative to the refused address; `None` where it was not found again.
        from: Option<i32>,
    },
    /// An address that the file takes (jump table, label, landing pad, data in text) lies in the
    /// window.
    PointerInto {
        /// That address, relative to the refused one.
        at: u8,
    },
    /// Another function or symbol starts in the window.
    StartInside {
        /// Its start, relative to the refused address.
        at: u8,
    },
    /// A call returns into the window.
    ReturnInside,
    /// The bytes are no known instruction.
    Undecodable,
    /// An instruction in the window works only where it is.
    Unmovable(Unmovable),
}

/// Why an instruction cannot run from another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmovable {
    /// A breakpoint or software interrupt.
    Interrupt,
    /// A far call, jump or return, or an interrupt return.
    Far,
    /// The start or end of a memory transaction.
    Transaction,
    /// A call through the stack pointer, which the emulated call moves.
    StackCall,
    /// A call of the next instruction: code that asks for its own address.
    OwnAddress,
    /// An operand relative to the low 32 bits of the instruction pointer.
    Eip,
    /// A branch whose target is cut to 16 bits.
    ShortPointer,
    /// `enter`, which may touch the stack more than once.
    Enter,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::NotCode => f.write_str("not in the code of the file"),
            Refusal::NotABoundary => f.write_str("no instruction starts here"),
            Refusal::TooShort => f.write_str("too short, no padding"),
            Refusal::TerminatorInside => f.write_str("returns inside the window, code behind it"),
            Refusal::BranchInto { from: None } => f.write_str("branch into the window"),
            Refusal::BranchInto { from: Some(from) } => {
                let sign = if from < 0 { '-' } else { '+' };
                write!(
                    f,
                    "branch from {sign}{:#x} into the window",
                    from.unsigned_abs()
                )
            }
            Refusal::PointerInto { at } => {
                write!(
                    f,
                    "jump table or pointer leads to +{at:#x}, inside the window"
                )
            }
            Refusal::StartInside { at } => {
                write!(f, "another function starts at +{at:#x}, inside the window")
            }
            Refusal::ReturnInside => f.write_str("a call returns into the window"),
            Refusal::Undecodable => f.write_str("unknown instruction in the window"),
            Refusal::Unmovable(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Unmovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unmovable::Interrupt => "breakpoint or interrupt instruction in the window",
            Unmovable::Far => "far branch in the window",
            Unmovable::Transaction => "memory transaction in the window",
            Unmovable::StackCall => "call through the stack pointer in the window",
            Unmovable::OwnAddress => "code in the window reads its own address",
            Unmovable::Eip => "32-bit instruction pointer operand in the window",
            Unmovable::ShortPointer => "16-bit branch in the window",
            Unmovable::Enter => "enter instruction in the window",
        })
    }
}

impl Refusal {
    /// Two numbers that stand for the refusal in a stored analysis; [`Refusal::from_code`] reads
    /// them back.
    pub fn code(self) -> (u8, i32) {
        match self {
            Refusal::NotCode => (1, 0),
            Refusal::NotABoundary => (2, 0),
            Refusal::TooShort => (3, 0),
            Refusal::TerminatorInside => (4, 0),
            Refusal::BranchInto { from: None } => (5, 0),
            Refusal::BranchInto { from: Some(from) } => (6, from),
            Refusal::PointerInto { at } => (7, at.into()),
            Refusal::StartInside { at } => (8, at.into()),
            Refusal::ReturnInside => (9, 0),
            Refusal::Undecodable => (10, 0),
            Refusal::Unmovable(why) => (11, why as i32),
        }
    }

    /// The refusal that two numbers stand for; `None` for numbers that stand for none.
    pub fn from_code(kind: u8, detail: i32) -> Option<Refusal> {
        let small = u8::try_from(detail);
        let refusal = match kind {
            1 => Refusal::NotCode,
            2 => Refusal::NotABoundary,
            3 => Refusal::TooShort,
            4 => Refusal::TerminatorInside,
            5 => Refusal::BranchInto { from: None },
            6 => Refusal::BranchInto { from: Some(detail) },
            7 => Refusal::PointerInto { at: small.ok()? },
            8 => Refusal::StartInside { at: small.ok()? },
            9 => Refusal::ReturnInside,
            10 => Refusal::Undecodable,
            11 => Refusal::Unmovable(Unmovable::ALL.get(usize::from(small.ok()?)).copied()?),
            _ => return None,
        };
        (refusal.code() == (kind, detail)).then_some(refusal)
    }
}

impl Unmovable {
    /// Every reason, in the order of its number.
    const ALL: [Unmovable; 8] = [
        Unmovable::Interrupt,
        Unmovable::Far,
        Unmovable::Transaction,
        Unmovable::StackCall,
        Unmovable::OwnAddress,
        Unmovable::Eip,
        Unmovable::ShortPointer,
        Unmovable::Enter,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_its_numbers() {
        let plain = (1..=10).filter_map(|kind| Refusal::from_code(kind, 0));
        let unmovable = Unmovable::ALL.map(Refusal::Unmovable);
        let branch = [Refusal::BranchInto { from: Some(-76) }];
        let all: Vec<_> = plain.chain(unmovable).chain(branch).collect();
        assert_eq!(all.len(), 19);
        for refusal in all {
            let (kind, detail) = refusal.code();
            assert_eq!(Refusal::from_code(kind, detail), Some(refusal));
        }
        assert_eq!(Refusal::from_code(0, 0), None);
        assert_eq!(Refusal::from_code(3, 1), None);
        assert_eq!(Refusal::from_code(11, 8), None);
    }

    #[test]
    fn a_branch_is_named_by_its_distance() {
        let from = |from| Refusal::BranchInto { from }.to_string();
        assert_eq!(from(Some(0x4c)), "branch from +0x4c into the window");
        assert_eq!(from(Some(-16)), "branch from -0x10 into the window");
    }
}
