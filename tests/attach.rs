//! Attaching to running programs and letting go of them: afterwards they are as they were. Targets
//! let any process trace them, so that this works under yama too. Needs a C compiler, no root.

mod support;

#[path = "attach/calls.rs"]
mod calls;
#[path = "attach/every.rs"]
mod every;
#[path = "attach/filters.rs"]
mod filters;
#[path = "attach/foreign.rs"]
mod foreign;
#[path = "attach/left.rs"]
mod left;
#[path = "attach/looks.rs"]
mod looks;
#[path = "attach/many.rs"]
mod many;
#[path = "programs/redis.rs"]
mod redis;
#[path = "attach/refused.rs"]
mod refused;
#[path = "attach/springs.rs"]
mod springs;
#[path = "attach/states.rs"]
mod states;
#[path = "attach/storm.rs"]
mod storm;
#[path = "attach/top.rs"]
mod top;
