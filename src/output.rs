//! One file a format, each a [`crate::data::Sink`], and the report at the end. Everything that
//! comes from the target (names, strings, command names) is untrusted: no control character,
//! escape sequence or direction mark of it reaches a terminal.

mod bpftrace;
mod calls;
mod chrome;
mod escape;
mod folded;
mod frames;
mod json;
mod language;
mod number;
mod report;
mod several;
mod style;
mod summary;
mod text;
mod times;
mod tree;

pub use bpftrace::Bpftrace;
pub use calls::{CallFilter, Within};
pub use chrome::Chrome;
pub use escape::{escaped, json_line};
pub use folded::Folded;
pub use json::Json;
pub use number::duration_text as duration;
pub use report::{Verbosity, counted, report};
pub use several::Several;
pub use style::{ColorChoice, Style};
pub use summary::SummaryTable;
pub use text::Text;
pub use tree::Tree;

use crate::data::{ProbeInfo, ProbeKind};

/// Bytes gathered before they are written; a sink writes earlier when it is flushed.
const BUFFER: usize = 64 << 10;

/// A probe in a table: `libc.so.6:malloc`, `libc.so.6:malloc%return`.
fn label(probe: &ProbeInfo) -> String {
    let mut label = String::new();
    if !probe.module.is_empty() {
        label = escaped(&probe.module) + ":";
    }
    label += &escaped(&probe.name);
    if probe.kind == ProbeKind::Return {
        label += "%return";
    }
    label
}
