//! Other tools on the same target, those that are installed.

use anyhow::Result;

use super::Bench;
use super::per_hit::Floor;

/// Runs the rows that are wanted.
pub fn run(_bench: &Bench, _floor: &Floor) -> Result<()> {
    Ok(())
}
