//! Our side of the shared region: rings drained, records decoded, counters summed, and [`Sink`],
//! through which the session tells what happened without knowing how it is printed.

mod clock;
mod counters;
mod drain;
mod event;
mod name;
mod record;
mod ring;

pub use clock::Clock;
pub use counters::{count, ring_losses};
pub use drain::{Command, Directory, Drain, Drained, Feed};
pub use event::{ArgValue, Hit, Missed, ProbeInfo, ProbeSummary, Sink, SiteState, Summary};
pub use name::Name;
pub use ring::Ring;
