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
