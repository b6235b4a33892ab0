//! Text to a checked probe: the grammar of `-p`. Pure: it never sees an address of a target nor a
//! file; what needs symbols or debug information is named in the tree and resolved by others.
//!
//! ```text
//! PROBE    = [MODULE:]NAME[@VERSION][+OFFSET][KIND] ARG...
//!          | [MODULE:]FILE.c:LINE[KIND] ARG...
//!          | MODULE+0xADDR[KIND] ARG...  | MODULE:0xADDR[KIND] ARG...     (link address)
//!          | 0xADDR[KIND] ARG...                                          (run-time address)
//!            also MODULE!NAME and NAME@MODULE; NAME@X is a version where X looks like GLIBC_2.2.5
//! NAME     = symbol | glob with * and ? | /regex/ | "quoted, exact" | 'quoted, exact'
//! KIND     = %stop                                   (%return and %call come in a later release)
//! ARG      = [NAME=]EXPR[:TYPE] | $args
//! EXPR     = %REG | $argN | $stack | $stackN | NUMBER | \NUMBER | variable | ±OFFSET(EXPR)
//! TYPE     = u8..u64 | s8..s64 | x8..x64 | char | bool | string | bWIDTH@OFFSET/CONTAINER
//! ```
//!
//! One `:` splits off the module, `::` never does. In globs only `*` and `?` are special: brackets
//! are part of C++ and Rust names.

mod arg;
mod diagnostic;
mod location;
mod lower;
mod parse;
mod pattern;
mod print;
mod tree;
mod words;

pub use diagnostic::{Diagnostic, Place};
pub use lower::{STRING_MAX, lower};
pub use parse::{parse_file, parse_pattern, parse_probe};
pub use pattern::Pattern;
pub use tree::{ArgExpr, ArgSpec, Format, Kind, Location, ModuleName, NameText, ProbeSpec};
