//! Panics that are caught, on many frames, in threads and in destructors' sight; prints what it computed.

use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Counts(u64);

impl Drop for Counts {
    fn drop(&mut self) {
        DROPPED.fetch_add(self.0, Ordering::Relaxed);
    }
}

#[inline(never)]
fn leaf(n: u64) -> u64 {
    let _here = Counts(1);
    if n % 3 == 0 {
        panic!("thrown {n}");
    }
    n + 1
}

#[inline(never)]
fn nested(n: u64, depth: u32) -> u64 {
    let _here = Counts(2);
    let below = if depth == 0 { leaf(n) } else { nested(n, depth - 1) };
    std::hint::black_box(below) + 1
}

#[inline(never)]
fn again(n: u64) -> u64 {
    match catch_unwind(|| nested(n, 20)) {
        Ok(sum) => sum,
        Err(payload) => resume_unwind(payload),
    }
}

fn all() -> (u64, u64) {
    let (mut sum, mut caught) = (0, 0);
    for n in 0..600 {
        match catch_unwind(|| again(n)) {
            Ok(value) => sum += value,
            Err(payload) => caught += payload.downcast_ref::<String>().map_or(0, |text| text.len() as u64),
        }
    }
    (sum, caught)
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(all)).collect();
    for thread in threads {
        println!("{:?}", thread.join().ok());
    }
    let ended = std::thread::spawn(|| nested(3, 5)).join();
    println!("{} {}", ended.is_err(), DROPPED.load(Ordering::Relaxed));
}
