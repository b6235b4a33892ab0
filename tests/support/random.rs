//! Numbers that are the same each time for a seed, which `KPTRACE_SEED` sets.

/// splitmix64.
pub struct Rng(pub u64);

impl Rng {
    /// Of the seed that is given, or of this one; `random` is one that nobody used yet. It is printed.
    pub fn seeded(otherwise: u64) -> Rng {
        let seed = match std::env::var("KPTRACE_SEED").as_deref() {
            Err(_) => otherwise,
            Ok("random") => {
                let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970");
                now.as_nanos() as u64
            }
            Ok(text) => text.parse().expect("KPTRACE_SEED is a number or `random`"),
        };
        println!("KPTRACE_SEED={seed}");
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
