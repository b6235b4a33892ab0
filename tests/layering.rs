//! The map of `src/` is what the code does.
