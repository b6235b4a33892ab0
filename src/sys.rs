//! The operating system: the only unsafe, the only raw libc.
