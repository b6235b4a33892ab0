//! Returns: every way in which a call ends, and targets that do not notice. Needs a C compiler, no root.

mod support;

#[path = "returns/durations.rs"]
mod durations;
#[path = "returns/ends.rs"]
mod ends;
#[path = "returns/everything.rs"]
mod everything;
#[path = "returns/leaving.rs"]
mod leaving;
#[path = "returns/refused.rs"]
mod refused;
#[path = "returns/stacks.rs"]
mod stacks;
