//! The whole life of a process: from the first instruction to the last, libraries that come and go,
//! children, other programs. Needs a C and a C++ compiler, no root.

mod support;

#[path = "life/children.rs"]
mod children;
#[path = "life/early.rs"]
mod early;
#[path = "life/libraries.rs"]
mod libraries;
#[path = "life/usdt.rs"]
mod usdt;
