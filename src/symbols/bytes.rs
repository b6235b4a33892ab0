//! Checked little-endian reads from bytes nobody vouches for. Knows nothing of ELF.
//!
//! Invariant: no read outside the slice, no arithmetic that wraps.

/// A cursor over a slice: every read either stays inside or is `None`.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

/// The `N` bytes at `at`.
fn array<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The byte at `at`.
pub(super) fn u8_at(data: &[u8], at: usize) -> Option<u8> {
    data.get(at).copied()
}

/// The little-endian 16-bit word at `at`.
pub(super) fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    array(data, at).map(u16::from_le_bytes)
}

/// The little-endian 32-bit word at `at`.
pub(super) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    array(data, at).map(u32::from_le_bytes)
}

/// The little-endian 64-bit word at `at`.
pub(super) fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    array(data, at).map(u64::from_le_bytes)
}

/// The zero-terminated string at `at`, without its zero; `None` when it does not end.
pub(super) fn string_at(data: &[u8], at: usize) -> Option<&[u8]> {
    let text = std::ffi::CStr::from_bytes_until_nul(data.get(at..)?);
    text.ok().map(std::ffi::CStr::to_bytes)
}

impl<'a> Cursor<'a> {
    pub(super) fn new(data: &'a [u8]) -> Cursor<'a> {
        Cursor { data, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.data.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let value = u8_at(self.data, self.at)?;
        self.at = self.at.checked_add(1)?;
        Some(value)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// An unsigned LEB128 number; `None` past 64 bits.
    pub(super) fn uleb(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A signed LEB128 number; `None` past 64 bits.
    pub(super) fn sleb(&mut self) -> Option<i64> {
        let mut value = 0_i64;
        for shift in (0..64_u32).step_by(7) {
            let byte = self.u8()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let used = shift.checked_add(7)?;
                if used < 64 && byte & 0x40 != 0 {
                    value |= -1_i64 << used;
                }
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb128_numbers_end_or_are_refused() {
        assert_eq!(Cursor::new(&[0xe5, 0x8e, 0x26]).uleb(), Some(624_485));
        assert_eq!(Cursor::new(&[0x7f]).sleb(), Some(-1));
        assert_eq!(Cursor::new(&[0x80, 0x7f]).sleb(), Some(-128));
        assert_eq!(Cursor::new(&[0xff; 32]).uleb(), None);
        assert_eq!(Cursor::new(&[0xff; 32]).sleb(), None);
        assert_eq!(Cursor::new(&[0x80]).uleb(), None);
    }

    #[test]
    fn reads_past_the_end_are_none() {
        assert_eq!(u32_at(&[1, 2, 3], 0), None);
        assert_eq!(u16_at(&[1, 2, 3], usize::MAX), None);
        assert_eq!(string_at(b"abc", 0), None);
        assert_eq!(string_at(b"abc\0", 1), Some(&b"bc"[..]));
    }
}
