//! What of a file can be patched: for every entry the displaced instructions of a jump, or why none
//! can stand there. Kept in the user's cache by build-id.

mod build;
mod cache;
mod file;
mod holes;
mod stored;
mod text;

pub use build::Source;
pub use cache::{Cache, Key};
pub use file::{Entry, EntryFact, File};
pub use text::Text;
