//! The command line as its users meet it, on programs that are always there and on targets of
//! our own. Needs a C compiler, no root.

mod support;

#[path = "command_line/agree.rs"]
mod agree;
#[path = "command_line/arguments.rs"]
mod arguments;
#[path = "command_line/bpftrace.rs"]
mod bpftrace;
#[path = "command_line/calls.rs"]
mod calls;
#[path = "command_line/counts.rs"]
mod counts;
#[path = "command_line/debug_info.rs"]
mod debug_info;
#[path = "command_line/ends.rs"]
mod ends;
#[path = "command_line/formats.rs"]
mod formats;
#[path = "command_line/hostile.rs"]
mod hostile;
#[path = "command_line/inspect.rs"]
mod inspect;
#[path = "command_line/lost.rs"]
mod lost;
#[path = "command_line/programs.rs"]
mod programs;
#[path = "command_line/spellings.rs"]
mod spellings;
#[path = "command_line/wrong.rs"]
mod wrong;
