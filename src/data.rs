//! Our side of the shared region: rings drained, records decoded, counters summed, and [`Sink`],
//! through which the session tells what happened without knowing how it is printed.

mod catalogue;
mod clock;
mod counters;
mod datum;
mod directory;
mod drain;
mod durations;
mod event;
mod name;
mod record;
mod ring;
mod script;
mod source;
mod tables;
mod value;

pub use catalogue::{Catalogue, Known};
pub use clock::Clock;
pub use counters::{count, fates, ring_losses};
pub use datum::Names;
pub use directory::Directory;
pub use drain::{Command, Drain, Drained, Feed, Recorded};
pub use durations::{Calls, Durations};
pub use event::{
    ArgValue, Cost, End, Ends, Hit, Missed, ProbeInfo, ProbeKind, ProbeSummary, ProcessSummary,
    Return, Sink, SiteState, Summary,
};
pub use name::Name;
pub use record::Decoder;
pub use ring::Ring;
pub use script::{Interval, Own, Script};
pub use value::{Cell, Datum, MapData};
