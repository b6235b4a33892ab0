//! Vocabulary without behaviour: addresses, identifiers, spans, time. Imports nothing of ours.

mod addr;
pub mod histogram;
mod id;
mod ranges;
pub mod suggest;

pub use addr::{Addr, LinkAddr, Span};
pub use id::{FeedId, Pid, ProbeId, Tid};
pub use ranges::Ranges;
