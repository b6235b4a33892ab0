//! What of a file can be patched: for every entry the displaced instructions of a jump, or why none
//! can stand there. Kept in the user's cache by build-id.

mod cache;
mod file;
mod source;
mod stored;
mod text;

pub use cache::{Cache, Key};
pub use file::{Entry, EntryFact, File};
pub use source::{Source, entry_facts};
pub use text::Text;
