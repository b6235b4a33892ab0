//! One traced process.
