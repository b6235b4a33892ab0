//! What the integration tests share: targets compiled from `tests/targets`, the kptrace that was
//! just built, and waits that end. Knows nothing of what is tested. Invariant: nothing here waits
//! without a limit, and what it started is gone when a test ends, also when it fails.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses its own part"
)]

pub mod build;
pub mod json;
pub mod launch;
pub mod lines;
pub mod random;

pub use build::{Source, c, has, targets};
pub use json::{hits, objects, probe, summary};
pub use launch::{Ended, Running, command, kptrace, plain_path, start};
pub use lines::Lines;
pub use random::Rng;

use std::time::Duration;

/// How long a test waits for something that takes an instant: a debug build on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);
