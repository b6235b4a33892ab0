//! `.eh_frame`: where functions (and their cold parts) start and end, what frame they start with,
//! and where their exception tables are. Knows no symbols.
//!
//! Invariant: a broken entry costs itself only; the walk goes by entry lengths, inside the section.
//! Layout: LSB 5.0 core, section 10.6 (exception frames).

use std::collections::HashMap;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameOffset, EndianSlice, LittleEndian, Pointer,
    RegisterRule, UnwindContext, UnwindSection, X86_64,
};

use super::bytes::{u32_at, u64_at};
use super::elf::{BROKEN_CAP, Image};
use crate::base::LinkAddr;

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Cie<'a> = gimli::CommonInformationEntry<Slice<'a>>;

/// One unwind entry: a range of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fde {
    /// First address.
    pub start: LinkAddr,
    /// Length in bytes.
    pub len: u64,
    /// Where its exception table (LSDA) is.
    pub lsda: Option<LinkAddr>,
    /// Whether the row at its start says CFA = rsp + 8 and the return address on top: the frame of
    /// a function that was just called. A cold part of a function with a frame has another.
    pub fresh_frame: bool,
    /// A signal frame: `__restore_rt`.
    pub signal: bool,
}

/// All unwind entries of a file.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// By start address.
    pub list: Vec<Fde>,
    /// What was broken and left out.
    pub broken: Vec<String>,
}

impl Frames {
    /// Reads every `.eh_frame` section, or what the unwind header points to when there are no
    /// section headers.
    pub fn of(image: &Image) -> Frames {
        let mut frames = Frames::default();
        let mut pieces: Vec<(LinkAddr, &[u8])> = image
            .sections()
            .iter()
            .filter(|s| s.name == ".eh_frame" && s.is_alloc())
            .map(|s| (s.at, image.section_bytes(s)))
            .collect();
        if pieces.is_empty() {
            pieces.extend(by_header(image));
        }
        for (at, bytes) in pieces {
            frames.read(image, at, bytes);
        }
        frames.list.sort_by_key(|f| (f.start, f.len));
        frames.list.dedup();
        frames
    }

    fn read(&mut self, image: &Image, at: LinkAddr, bytes: &[u8]) {
        let section = EhFrame::new(bytes, LittleEndian);
        let mut bases = BaseAddresses::default().set_eh_frame(at.0);
        if let Some(text) = image.section(".text") {
            bases = bases.set_text(text.at.0);
        }
        if let Some(got) = image.section(".got") {
            bases = bases.set_got(got.at.0);
        }
        let mut cies: HashMap<usize, Option<Cie>> = HashMap::new();
        let mut context = UnwindContext::new();
        let mut next = 0_usize;
        while let Some(length) = u32_at(bytes, next) {
            let offset = next;
            let (head, length) = match length {
                0 => (4, 0),
                0xffff_ffff => (
                    12,
                    u64_at(bytes, offset.saturating_add(4)).unwrap_or(u64::MAX),
                ),
                n => (4, u64::from(n)),
            };
            let end = usize::try_from(length)
                .ok()
                .and_then(|l| l.checked_add(head)?.checked_add(offset))
                .filter(|&end| end <= bytes.len());
            let Some(end) = end else {
                self.note(format!(
                    ".eh_frame+{offset:#x}: an entry reaches past the end"
                ));
                return;
            };
            next = end;
            // A terminator; linkers that concatenate leave some in the middle.
            if length == 0 || u32_at(bytes, offset.saturating_add(head)) == Some(0) {
                continue;
            }
            let fde = section.fde_from_offset(&bases, EhFrameOffset(offset), |s, b, o| {
                cies.entry(o.0)
                    .or_insert_with(|| s.cie_from_offset(b, o).ok())
                    .clone()
                    .ok_or(gimli::Error::NotCiePointer(o.0 as u64))
            });
            match fde {
                Ok(fde) if fde.len() > 0 => {
                    let row = fde
                        .rows(&section, &bases, &mut context)
                        .and_then(|mut rows| Ok(rows.next_row()?.is_some_and(fresh)));
                    self.list.push(Fde {
                        start: LinkAddr(fde.initial_address()),
                        len: fde.len(),
                        lsda: fde.lsda().and_then(|p| follow(image, p)),
                        fresh_frame: row.unwrap_or(false),
                        signal: fde.is_signal_trampoline(),
                    });
                }
                Ok(_) => {}
                Err(error) => self.note(format!(".eh_frame+{offset:#x}: {error}")),
            }
        }
    }

    fn note(&mut self, what: String) {
        if self.broken.len() < BROKEN_CAP {
            self.broken.push(what);
        }
    }
}

/// Of the functions that are at least so long, at most so many: how many say somewhere that `rbp` leads to
/// their frame, and how many there are.
pub(super) fn framed(image: &Image, long: u64, most: usize) -> (usize, usize) {
    let section = image.section(".eh_frame");
    let section = section.map(|s| (s.at, image.section_bytes(s)));
    let Some((at, bytes)) = section.or_else(|| by_header(image)) else {
        return (0, 0);
    };
    let section = EhFrame::new(bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(at.0);
    let mut context = UnwindContext::new();
    let mut entries = section.entries(&bases);
    let (mut framed, mut all) = (0, 0);
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(fde) = entry else {
            continue;
        };
        let Ok(fde) = fde.parse(EhFrame::cie_from_offset) else {
            continue;
        };
        if fde.len() < long {
            continue;
        }
        let Ok(mut rows) = fde.rows(&section, &bases, &mut context) else {
            continue;
        };
        let (mut by_pointer, mut computed) = (false, false);
        while let Ok(Some(row)) = rows.next_row() {
            match row.cfa() {
                CfaRule::RegisterAndOffset { register, .. } => {
                    by_pointer |= *register == X86_64::RBP;
                }
                // Of linkage tables, which have no frame.
                CfaRule::Expression(_) => computed = true,
            }
        }
        if computed {
            continue;
        }
        all += 1;
        framed += usize::from(by_pointer);
        if all == most {
            break;
        }
    }
    (framed, all)
}

/// Whether a row is that of a function just called.
fn fresh(row: &gimli::UnwindTableRow<usize>) -> bool {
    let cfa = matches!(
        row.cfa(),
        CfaRule::RegisterAndOffset { register, offset: 8 } if *register == X86_64::RSP
    );
    let back = row.register(X86_64::RA);
    cfa && matches!(back, Some(RegisterRule::Offset(-8)))
}

fn follow(image: &Image, pointer: Pointer) -> Option<LinkAddr> {
    match pointer {
        Pointer::Direct(at) => Some(LinkAddr(at)),
        Pointer::Indirect(at) => u64_at(image.bytes_at(LinkAddr(at), 8)?, 0).map(LinkAddr),
    }
}

/// `.eh_frame` from where the unwind header says to the end of its segment.
pub(super) fn by_header(image: &Image) -> Option<(LinkAddr, &[u8])> {
    let (at, _) = image.eh_frame_hdr()?;
    let header = gimli::EhFrameHdr::new(image.bytes_from(at)?, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame_hdr(at.0);
    let start = follow(image, header.parse(&bases, 8).ok()?.eh_frame_ptr())?;
    let bytes = image.bytes_from(start)?;
    // Without a section only the terminator says where the entries end.
    let mut end = 0_usize;
    while let Some(length) = u32_at(bytes, end).filter(|&l| l != 0 && l != u32::MAX) {
        end = end.checked_add(4)?.checked_add(length as usize)?;
    }
    Some((start, bytes.get(..end).unwrap_or(bytes)))
}
