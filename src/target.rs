//! One traced process: its threads, its memory, calls made inside it, and what we put there. Knows
//! neither probes nor symbols; `session` says what is to be done.

mod attach;
mod facts;
mod inject;
mod insure;
mod landing;
mod last_calls;
mod launch;
mod leftover;
mod loader;
mod mapping;
mod pools;
mod process;
mod quiesce;
mod referenced;
mod remote;
mod room;
mod session_maps;
mod thread;

pub use attach::attach;
pub use facts::Heads;
pub use inject::{Injected, Request as InjectRequest, Slab};
pub use insure::{Insurance, far_end};
pub use landing::{ACTION, Landing, is_landing};
pub use last_calls::{LastCalls, Watched};
pub use launch::{LaunchError, launch};
pub use leftover::Leftover;
pub use loader::{LoaderState, loader_state};
pub use pools::{Outstanding, outstanding, prepare as prepare_pool};
pub use process::{Kin, Kinship, Process, Reports};
pub use quiesce::Occupied;
pub use referenced::{Found, Referenced};
pub use remote::{Remote, restart_call, seccomp};
pub use session_maps::SessionMaps;
pub use thread::{State, Thread};
