//! `.gcc_except_table`: the landing pads of one function. Knows nothing of unwinding beyond that.
//!
//! Invariant: every pad comes from a record that lies inside the bytes given.
//! Layout: gcc's `unwind-pe.h` encodings and the call-site table of the Itanium C++ ABI's level II.

use super::bytes::{Cursor, u64_at};
use super::elf::Image;
use super::frames::Fde;
use crate::base::LinkAddr;

/// `DW_EH_PE_omit`.
const OMIT: u8 = 0xff;

/// The landing pads of a function; `None` when its table is broken.
pub(super) fn landing_pads(image: &Image, fde: &Fde) -> Option<Vec<LinkAddr>> {
    let Some(at) = fde.lsda.filter(|at| at.0 != 0) else {
        return Some(Vec::new());
    };
    let mut cursor = Cursor::new(image.bytes_from(at)?);
    let start_encoding = cursor.u8()?;
    let start = match start_encoding {
        OMIT => fde.start.0,
        encoding => pointer(image, &mut cursor, encoding, at, fde)?,
    };
    if cursor.u8()? != OMIT {
        cursor.uleb()?;
    }
    let encoding = cursor.u8()?;
    let len = usize::try_from(cursor.uleb()?).ok()?;
    let table_at = LinkAddr(at.0.checked_add(cursor.offset() as u64)?);
    let mut sites = Cursor::new(cursor.take(len)?);
    let mut pads = Vec::new();
    while !sites.is_empty() {
        for _ in 0..2 {
            pointer(image, &mut sites, encoding, table_at, fde)?;
        }
        let pad = pointer(image, &mut sites, encoding, table_at, fde)?;
        sites.uleb()?;
        if pad != 0 {
            pads.push(LinkAddr(start.wrapping_add(pad)));
        }
    }
    pads.sort_unstable();
    pads.dedup();
    Some(pads)
}

/// One encoded pointer (`DW_EH_PE_*`); `base` is the address of the cursor's first byte.
fn pointer(
    image: &Image,
    cursor: &mut Cursor,
    encoding: u8,
    base: LinkAddr,
    fde: &Fde,
) -> Option<u64> {
    let here = base.0.checked_add(cursor.offset() as u64)?;
    let value = match encoding & 0x0f {
        0x00 | 0x04 | 0x0c => u64::from_le_bytes(cursor.fixed()?),
        0x01 => cursor.uleb()?,
        0x02 => u64::from(u16::from_le_bytes(cursor.fixed()?)),
        0x03 => u64::from(u32::from_le_bytes(cursor.fixed()?)),
        0x09 => cursor.sleb()?.cast_unsigned(),
        0x0a => i64::from(i16::from_le_bytes(cursor.fixed()?)).cast_unsigned(),
        0x0b => i64::from(i32::from_le_bytes(cursor.fixed()?)).cast_unsigned(),
        _ => return None,
    };
    if value == 0 {
        return Some(0);
    }
    let value = match encoding & 0x70 {
        0x00 => value,
        0x10 => value.wrapping_add(here),
        0x40 => value.wrapping_add(fde.start.0),
        _ => return None,
    };
    if encoding & 0x80 == 0 {
        return Some(value);
    }
    u64_at(image.bytes_at(LinkAddr(value), 8)?, 0)
}
