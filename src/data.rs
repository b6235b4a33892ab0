//! Our side of the shared region: rings drained, records decoded, counters summed, and [`Sink`],
//! through which the session tells what happened without knowing how it is printed.

mod event;

pub use event::{ArgValue, Hit, Missed, ProbeInfo, ProbeSummary, Sink, SiteState, Summary};
