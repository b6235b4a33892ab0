//! What of a file can be patched.
