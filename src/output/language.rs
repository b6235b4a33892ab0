//! What programs of the probe language print, as bpftrace prints it: `printf`, values, maps and
//! histograms, as text and as JSON. Where releases of bpftrace differ, this follows the newest.
//! Pure: from plain data to bytes; knows neither streams nor the order of events.
//!
//! What differs from bpftrace on purpose:
//! * Text: bytes that come from the target (strings, symbols, frames) are escaped as everywhere in
//!   [`crate::output`], newline, tab and backslash included; the text of a format, and of a
//!   separator, stands as it is. What is escaped counts for a width as it is shown.
//! * Entries with equal values come in the order of their keys; negative `min` and `max` sort as
//!   what they are.
//! * JSON has no spaces between tokens; spaces inside of keys stay; `buf` is a string.
//! * What could not be read is `<fault 0x..>`, in JSON `{"fault":"0x.."}`.

mod format;
#[cfg(test)]
mod golden;
mod histogram;
pub(super) mod json;
mod order;
#[cfg(test)]
mod testing;
pub(super) mod text;
mod value;

/// The methods of a sink that print what programs print, in one of the ways above. The sink has a
/// `print` that takes what appends it to a buffer. What stands before maps at the end is its own.
macro_rules! prints {
    ($way:ident) => {
        fn printed(
            &mut self,
            format: &[$crate::language::typed::Piece],
            args: &[$crate::data::Datum],
        ) -> std::io::Result<()> {
            self.print(|out| $crate::output::language::$way::printf(out, format, args))
        }

        fn map(&mut self, map: &$crate::data::MapData, top: u64, div: u64) -> std::io::Result<()> {
            self.print(|out| $crate::output::language::$way::map(out, map, top, div))
        }

        fn value(&mut self, value: &$crate::data::Cell) -> std::io::Result<()> {
            self.print(|out| $crate::output::language::$way::value(out, value))
        }

        fn time(&mut self, text: &str) -> std::io::Result<()> {
            self.print(|out| $crate::output::language::$way::time(out, text))
        }

        fn join(&mut self, parts: &[Vec<u8>], separator: &str) -> std::io::Result<()> {
            self.print(|out| $crate::output::language::$way::join(out, parts, separator))
        }

        fn cat(&mut self, bytes: &[u8]) -> std::io::Result<()> {
            self.print(|out| $crate::output::language::$way::cat(out, bytes))
        }

        fn system(&mut self, bytes: &[u8]) -> std::io::Result<()> {
            self.print(|out| $crate::output::language::$way::system(out, bytes))
        }
    };
}
pub(super) use prints;
