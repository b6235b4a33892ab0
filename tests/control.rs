//! Sessions that are controlled while they run: what `ctl` says, what it does, who may use it. Targets
//! let any process trace them. Needs a C and a C++ compiler, no root.

mod support;

#[path = "control/life.rs"]
mod life;
#[path = "control/load.rs"]
mod load;
#[path = "attach/looks.rs"]
mod looks;
#[path = "programs/redis.rs"]
mod redis;
#[path = "control/session.rs"]
mod session;
#[path = "control/switches.rs"]
mod switches;
#[path = "control/talks.rs"]
mod talks;
