//! One file a format, each a [`crate::data::Sink`], and the report at the end. Everything that
//! comes from the target (names, strings, command names) is untrusted: no control character,
//! escape sequence or direction mark of it reaches a terminal.

mod bpftrace;
mod escape;
mod json;
mod language;
mod number;
mod report;
mod style;
mod summary;
mod text;

pub use bpftrace::Bpftrace;
pub use escape::{escaped, json_line};
pub use json::Json;
pub use report::{Verbosity, counted, report};
pub use style::{ColorChoice, Style};
pub use summary::SummaryTable;
pub use text::Text;

/// Bytes gathered before they are written; a sink writes earlier when it is flushed.
const BUFFER: usize = 64 << 10;
