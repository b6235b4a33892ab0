//! What stands at a site, as its file has it: the displaced instructions, the bytes that are written
//! over, the padding of a springboard. Changes nothing.

use std::ops::{Deref, DerefMut};

use super::jump::Jump;
use super::module::Module;
use crate::arch::native::relocate::instruction_len;
use crate::arch::native::scan::{Refusal as ScanRefusal, Window, WindowKind};
use crate::base::{Addr, LinkAddr, ProbeId};
use crate::probe::{Facts, Refusal};

/// Most bytes of a site that are kept.
const KEPT: usize = 24;

/// What stands at a site, as its file has it.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The displaced instructions of a jump or, where none fits, of a breakpoint.
    pub window: Window,
    /// What the registry is told.
    pub facts: Facts,
    /// The slab whose code is within reach.
    pub slab: usize,
    original: Kept,
    /// The padding that a springboard jumps through.
    pub(super) hole: Option<Hole>,
    /// The jump that stands there.
    pub(super) jump: Option<Jump>,
    /// What its present detour was built for.
    pub(super) built: Option<(Vec<ProbeId>, bool)>,
}

impl Ground {
    /// Where an instruction of the file is to be a breakpoint of our own, whatever else is there.
    pub(super) fn of_hook(module: &Module, at: LinkAddr, slab: usize) -> Result<Ground, Refusal> {
        let bytes = module.image().bytes_at(at, 16).unwrap_or_default();
        let len = instruction_len(bytes).and_then(|len| u8::try_from(len).ok());
        let window = Window {
            len: len.ok_or_else(|| Refusal::Window("not an instruction".into()))?,
            kind: WindowKind::Trap,
            flags_dead: false,
            dead_regs: 0,
            syscall: false,
            hole: 0,
        };
        ground(
            module,
            at,
            (Err(ScanRefusal::Undecodable), Ok(window)),
            slab,
        )
    }

    /// Whether a detour that was built for the one serves the other.
    pub(super) fn same_code(&self, other: &Ground) -> bool {
        *self.original == *other.original && self.window == other.window
    }

    /// The file's bytes from the site on: all that a jump overwrites or displaces.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// What a jump overwrites at the site: of a springboard, two bytes.
    pub(super) fn head(&self) -> &[u8] {
        let most = if self.hole.is_some() { 2 } else { 5 };
        self.original.get(..most).unwrap_or(&self.original)
    }

    /// Where the padding is that a springboard jumps through.
    pub fn hole(&self) -> Option<Addr> {
        self.hole.map(|hole| hole.at)
    }

    /// The same, with what its file has there.
    pub(super) fn padding(&self) -> Option<(Addr, &[u8])> {
        self.hole.as_ref().map(|hole| (hole.at, &hole.original[..]))
    }

    /// The bytes of the site, to keep.
    pub(super) fn kept(&self) -> Kept {
        self.original
    }
}

/// Padding that a jump is written into, as its file has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub(super) at: Addr,
    pub(super) original: [u8; 5],
}

/// A few bytes of text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    bytes: [u8; KEPT],
    len: u8,
}

impl Kept {
    /// Keeps at most [`KEPT`] bytes.
    fn new(from: &[u8]) -> Kept {
        let mut bytes = [0; KEPT];
        let len = from.len().min(KEPT);
        bytes[..len].copy_from_slice(&from[..len]);
        Kept {
            bytes,
            len: u8::try_from(len).unwrap_or(0),
        }
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len)]
    }
}

/// The windows of a jump and of a breakpoint at a place, or why there is none.
pub(super) type Verdict = (Result<Window, ScanRefusal>, Result<Window, ScanRefusal>);

/// What stands at a place, by its verdict.
pub(super) fn ground(
    module: &Module,
    at: LinkAddr,
    verdict: Verdict,
    slab: usize,
) -> Result<Ground, Refusal> {
    let words = |why: ScanRefusal| Refusal::Window(why.to_string().into());
    let (window, facts) = match verdict {
        (Ok(window), _) if window.kind == WindowKind::Springboard => {
            (window, Facts::springboard(window.len, window.hole))
        }
        (Ok(window), _) => (window, Facts::jump(window.len)),
        (Err(why), Ok(trap)) => (trap, Facts::trap_only(words(why))),
        (Err(why), Err(_)) => return Err(words(why)),
    };
    let len = usize::from(window.len.max(window.patched())).min(KEPT);
    let bytes = module
        .image()
        .bytes_at(at, len)
        .ok_or_else(|| Refusal::Window("the file does not hold its bytes".into()))?;
    // Returning from a signal handler: unwinders know this code by its bytes (gcc's
    // `x86_64_fallback_frame_state`, gdb's `amd64_linux_sigtramp_start`).
    if bytes.starts_with(&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0]) {
        return Err(Refusal::Window(
            "signal handlers return through it, unwinders know its bytes".into(),
        ));
    }
    let hole = |distance: i16| {
        let hole = LinkAddr(at.0.wrapping_add_signed(distance.into()));
        let bytes = module.image().bytes_at(hole, 5);
        let original = bytes.and_then(|bytes| <[u8; 5]>::try_from(bytes).ok());
        let original =
            original.ok_or_else(|| Refusal::Window("its padding is not in the file".into()));
        original.map(|original| Hole {
            at: hole.at(module.bias),
            original,
        })
    };
    let hole = facts.hole.map(hole).transpose()?;
    Ok(Ground {
        window,
        facts,
        slab,
        original: Kept::new(bytes),
        hole,
        jump: None,
        built: None,
    })
}
