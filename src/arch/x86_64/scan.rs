//! Where a 5-byte jump fits: one sweep over a file's code finds every address where control may
//! arrive other than by fall-through; a window is the whole instructions that a jump displaces.
//!
//! Works on plain bytes and numbers; knows neither files nor processes. Keeps invariant 4: no known
//! branch target, function start or return address lies strictly inside a displaced range.

mod bits;
mod copied_stack;
mod input;
mod live;
mod movable;
mod padding;
mod refusal;
mod return_address;
mod sweep;
mod tables;
mod targets;
mod window;

#[cfg(test)]
mod tests;

pub use copied_stack::returning_twice;
pub use input::{Code, Input, boundary, boundary_from, function_end};
pub use padding::{unused, unused_inside};
pub use refusal::{Refusal, Unmovable};
pub use return_address::{Look, return_address};
pub use sweep::sweep;
pub use targets::{Arrival, Reached, Targets};
pub use window::{JUMP, SHORT_JUMP, Window, WindowKind, first, springboard, window};
