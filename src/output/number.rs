//! Numbers as digits, into a byte buffer and without `fmt`: hits come by the million.

use crate::program::{IntFormat, Width};

/// Appends `n` in decimal.
pub(super) fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (n % 10) as u8;
        n /= 10;
        at -= 1;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends `n` in decimal with its sign.
pub(super) fn signed(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    decimal(out, n.unsigned_abs());
}

/// Appends `n` as `0x2a`.
pub(super) fn hex(out: &mut Vec<u8>, n: u64) {
    let mut digits = *b"0x0000000000000000";
    let count = (64 - n.leading_zeros()).div_ceil(4).max(1) as usize;
    for (index, slot) in digits.iter_mut().skip(2).take(count).enumerate() {
        *slot = hex_digit(n >> (4 * (count - 1 - index)));
    }
    out.extend_from_slice(digits.get(..2 + count).unwrap_or_default());
}

/// Appends nanoseconds in the unit that suits them: `812ns`, `1.2us`.
pub(super) fn duration(out: &mut Vec<u8>, nanoseconds: u64) {
    let (unit, name): (u64, &[u8]) = match nanoseconds {
        0..1_000 => {
            decimal(out, nanoseconds);
            return out.extend_from_slice(b"ns");
        }
        1_000..1_000_000 => (1_000, b"us"),
        1_000_000..1_000_000_000 => (1_000_000, b"ms"),
        _ => (1_000_000_000, b"s"),
    };
    decimal(out, nanoseconds / unit);
    out.push(b'.');
    decimal(out, nanoseconds % unit / (unit / 10));
    out.extend_from_slice(name);
}

/// Nanoseconds in the unit that suits them.
pub fn duration_text(nanoseconds: u64) -> String {
    let mut out = Vec::new();
    duration(&mut out, nanoseconds);
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends nanoseconds as microseconds with three decimals: `1.204`.
pub(super) fn micros(out: &mut Vec<u8>, nanoseconds: u64) {
    decimal(out, nanoseconds / 1000);
    out.push(b'.');
    padded(out, (nanoseconds % 1000) as u32, 3);
}

/// The lowest four bits as a digit.
pub(super) fn hex_digit(n: u64) -> u8 {
    match (n & 15) as u8 {
        n @ 0..=9 => b'0' + n,
        n => b'a' + n - 10,
    }
}

/// Appends exactly `width` decimal digits.
pub(super) fn padded(out: &mut Vec<u8>, n: u32, width: u32) {
    for place in (0..width).rev() {
        let digit = n / 10_u32.saturating_pow(place) % 10;
        out.push(b'0' + digit as u8);
    }
}

/// An integer argument without the bits above its width.
pub(super) enum Shown {
    /// In hex.
    Hex(u64),
    /// In decimal.
    Unsigned(u64),
    /// In decimal with its sign.
    Signed(i64),
    /// As a character.
    Char(u8),
    /// As a word.
    Bool(bool),
}

/// Cuts a value to its format.
pub(super) fn shown(value: u64, format: IntFormat) -> Shown {
    match format {
        IntFormat::Hex(width) => Shown::Hex(cut(value, width)),
        IntFormat::Unsigned(width) => Shown::Unsigned(cut(value, width)),
        IntFormat::Signed(width) => {
            let unused = 64 - width.bits();
            Shown::Signed((value << unused).cast_signed() >> unused)
        }
        IntFormat::Char => Shown::Char((value & 0xff) as u8),
        IntFormat::Bool => Shown::Bool(value & 0xff != 0),
    }
}

fn cut(value: u64, width: Width) -> u64 {
    value & (u64::MAX >> (64 - width.bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_are_those_of_fmt(n in any::<u64>(), shift in 0_u32..64) {
            let n = n >> shift;
            let mut out = Vec::new();
            decimal(&mut out, n);
            out.push(b' ');
            signed(&mut out, n.cast_signed());
            out.push(b' ');
            hex(&mut out, n);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{n} {} {n:#x}", n.cast_signed()));
        }
    }

    #[test]
    fn extremes_have_all_their_digits() {
        let mut out = Vec::new();
        signed(&mut out, i64::MIN);
        hex(&mut out, u64::MAX);
        decimal(&mut out, 0);
        hex(&mut out, 0);
        padded(&mut out, 42, 6);
        assert_eq!(out, b"-92233720368547758080xffffffffffffffff00x0000042");
    }
}
