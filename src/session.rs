//! The event loop and what it carries out.
