//! ELF, DWARF and names: what is in a file. Does no tracing.
//!
//! Pure over bytes, but for the small file layer of [`Image::read`] and [`debug_file`]. Everything
//! read is hostile until checked: what is broken is skipped and noted, never trusted, and nothing
//! here panics on it or allocates more than a small multiple of the file.

mod bytes;
mod computed;
mod debugfile;
mod demangle;
mod dwarf;
mod elf;
mod entries;
mod facts;
mod frames;
mod header;
#[cfg(test)]
mod hostile;
mod lines;
mod lookup;
mod lsda;
mod matching;
mod names;
mod needed;
mod read;
mod relocs;
mod reserved;
mod source;
mod suggest;
mod table;
#[cfg(test)]
mod testing;
mod types;
mod unwind;
mod usdt;

pub use debugfile::{debug_file, debug_file_trusting};
pub use demangle::demangle;
pub use dwarf::{DebugInfo, Param, ParamClass, params};
pub use elf::{Image, Kind, Section, Segment};
pub use entries::{Entry, Name, Symbols};
pub use facts::{CodeFacts, CodeRange, DataRange, FunctionSpan, code_facts};
pub use frames::{Fde, Frames};
pub use lines::line_addresses;
pub use names::{NamePattern, PatternError};
pub use read::{Stamp, stamp};
pub use relocs::indirect_slots;
pub use source::{SourceFrame, SourceMap};
pub use types::{Field, Record, Shape};
pub use unwind::{Start, UnwindTables, Unwinder, keeps_frame_pointers};
pub use usdt::{Note, usdt_notes};
