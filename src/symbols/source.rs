//! An address to functions, inlined ones included, files and lines. Knows no run-time addresses.
//!
//! Invariant: what is broken in debug information gives less, never an error.

use std::sync::Arc;

use gimli::{EndianArcSlice, LittleEndian, SectionId};

use super::demangle::demangle;
use super::dwarf::{debug_holder, section_bytes};
use super::elf::Image;
use crate::base::LinkAddr;

type Slice = EndianArcSlice<LittleEndian>;

/// Most functions that are inlined into one another at one place.
const MOST_INLINED: usize = 64;

/// A function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFrame {
    /// Its name, demangled.
    pub function: Option<String>,
    /// The file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
}

/// The debug information of one file, by address.
pub struct SourceMap {
    context: addr2line::Context<Slice>,
}

impl SourceMap {
    /// That of the debug file when it has some, else of the image; `None` when neither has.
    pub fn load(image: &Image, debug: Option<&Image>) -> Option<SourceMap> {
        let holder = debug_holder(image, debug)?;
        let load = |id: SectionId| -> Result<Slice, std::convert::Infallible> {
            let bytes = section_bytes(holder, id.name()).unwrap_or_default();
            Ok(EndianArcSlice::new(Arc::from(&*bytes), LittleEndian))
        };
        let Ok(dwarf) = gimli::Dwarf::load(load);
        let context = addr2line::Context::from_dwarf(dwarf).ok()?;
        Some(SourceMap { context })
    }

    /// The functions at an address, the innermost first: all but the last are inlined.
    pub fn find(&self, at: LinkAddr) -> Vec<SourceFrame> {
        let mut found = Vec::new();
        let Ok(mut frames) = self.context.find_frames(at.0).skip_all_loads() else {
            return found;
        };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref();
            let name = name.and_then(|name| name.raw_name().ok().map(|raw| raw.into_owned()));
            let shown = |raw: String| demangle(&raw).unwrap_or(raw);
            let location = frame.location.as_ref();
            found.push(SourceFrame {
                function: name.map(shown),
                file: location.and_then(|l| l.file).map(str::to_owned),
                line: location.and_then(|l| l.line).filter(|line| *line > 0),
            });
            if found.len() == MOST_INLINED {
                break;
            }
        }
        found
    }
}
