//! ELF, DWARF and names: what is in a file. Does no tracing.
