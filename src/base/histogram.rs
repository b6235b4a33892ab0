//! Buckets of `hist`: each power of two is cut into 2^bits of equal width, as bpftrace's
//! `hist(n, bits)` does. Generated code computes the same; the output asks for a bucket's range.

/// Most bits a power of two is cut by.
pub const MAX_BITS: u8 = 5;

/// How many buckets there are: one for negative values, one for 0, and so on up to 2^63 - 1.
pub fn buckets(bits: u8) -> usize {
    bucket(i64::MAX, bits) + 1
}

/// The bucket of a value: 0 for a negative one.
pub fn bucket(value: i64, bits: u8) -> usize {
    let bits = bits.min(MAX_BITS);
    let Ok(value) = u64::try_from(value) else {
        return 0;
    };
    if value < 1 << bits {
        return value as usize + 1;
    }
    let shift = value.ilog2() - u32::from(bits);
    let within = (value >> shift) as usize & ((1 << bits) - 1);
    ((shift as usize + 1) << bits) + within + 1
}

/// First value of a bucket; for [`buckets`] itself, 2^63, where the last one ends. Bucket 0, of the
/// negative values, ends at 0 and begins nowhere.
pub fn start(bucket: usize, bits: u8) -> u64 {
    let bits = bits.min(MAX_BITS);
    let Some(above) = bucket.checked_sub(1) else {
        return 0;
    };
    if above < 1 << bits {
        return above as u64;
    }
    let shift = (above >> bits) - 1;
    let within = above & ((1 << bits) - 1);
    ((1 << bits | within) as u64)
        .checked_shl(u32::try_from(shift).unwrap_or(u32::MAX))
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_starts_where_the_one_before_ends() {
        for bits in 0..=MAX_BITS {
            for index in 1..buckets(bits) {
                let from = i64::try_from(start(index, bits)).expect("within");
                assert_eq!(bucket(from, bits), index, "{bits} bits");
                assert_eq!(bucket(from - 1, bits), index - 1, "{bits} bits");
            }
            assert_eq!(start(buckets(bits), bits), 1 << 63);
            assert_eq!(bucket(i64::MIN, bits), 0);
        }
    }

    #[test]
    fn without_bits_buckets_are_powers_of_two() {
        let of = [-1, 0, 1, 2, 3, 4, 1023, 1024].map(|value| bucket(value, 0));
        assert_eq!(of, [0, 1, 2, 3, 3, 4, 11, 12]);
        assert_eq!(buckets(0), 65);
    }
}
